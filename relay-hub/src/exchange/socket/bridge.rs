//! A socket whose account speaks no Responses: each `response.create` on it is a call over HTTP, by the same spine as any
//! other, and each event of its answer a message. Knows no account and no money.

use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use relay_protocol::{
    Asked, Bridge, Code, Endpoint, Frame, Payload, Refusal, Reply, Wire,
    ws::{Item, Messages, Opcode, encode_pong, encode_text},
};
use relay_shared::call::CallId;
use serde_json::{Value, json};

use super::{
    REFUSAL_BYTES,
    close::{End, tell},
    ends::{ClientEnd, Sink, Source},
    session::TURNS,
};
use crate::{
    admission::SocketTicket,
    exchange::{
        Exchange, Inbound,
        body::{ClientBody, ReplyBody},
        unix_seconds,
    },
    identity::{Caller, Credential},
    ledger::Link,
    refusal::Refused,
};

/// What is of the socket alone, and no call's.
static OF_THE_SOCKET: [header::HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::HeaderName::from_static("idempotency-key"),
];

/// One socket, and the conversation on it.
pub(super) struct Bridged {
    exchange: Arc<Exchange>,
    caller: Caller,
    _ticket: SocketTicket,
    /// Of each call.
    head: Parts,
    socket: CallId,
    link: Link,
    address: IpAddr,
    bridge: Bridge,
}

impl Bridged {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        caller: Caller,
        ticket: SocketTicket,
        mut head: Parts,
        (socket, link, address): (CallId, Link, IpAddr),
    ) -> Self {
        head.method = Method::POST;
        head.uri = Uri::from_static(Endpoint::Responses.path());
        for name in &OF_THE_SOCKET {
            head.headers.remove(name);
        }
        let json = HeaderValue::from_static("application/json");
        head.headers.insert(header::CONTENT_TYPE, json);
        Self {
            bridge: Bridge::new(exchange.limits.body_bytes),
            exchange,
            caller,
            _ticket: ticket,
            head,
            socket,
            link,
            address,
        }
    }

    pub(super) async fn run(mut self, client: ClientEnd) {
        let Ok((source, mut to_client)) = client.open().await else {
            return;
        };
        let mut client = FromClient {
            source,
            messages: Messages::new(self.exchange.limits.body_bytes),
            waiting: VecDeque::new(),
        };
        let tenant = self.caller.tenant.clone();
        let (end, is_running) = loop {
            let next = tokio::select! {
                biased;
                why = tenant.stop.asked() => Err(End::Stopped(why)),
                next = client.next(&mut to_client) => next,
            };
            let message = match next {
                Ok(message) => message,
                Err(end) => break (end, false),
            };
            if let Err(end) = self.turn(&message, &mut client, &mut to_client).await {
                break (end, true);
            }
        };
        tell(end, is_running, &self.socket.to_string(), to_client).await;
    }

    /// One message of the client, to the end of its answer.
    async fn turn(&mut self, message: &Payload, client: &mut FromClient, to_client: &mut Sink) -> Result<(), End> {
        let call = CallId::random();
        let asked = match self.asked(call, message) {
            Ok(asked) => asked,
            Err(refused) => return send(to_client, &refused.public.socket_frame(&call.to_string())).await,
        };
        let body = match asked {
            Asked::Call(body) => body,
            Asked::Told(messages) => return send_all(to_client, &messages).await,
        };
        let (mut record, mut body) = (None, ClientBody::Message(Some(body.into())));
        let inbound = self.inbound(call, &body);
        let exchange = self.exchange.clone();
        let answer = client
            .unless_gone(to_client, exchange.relay(inbound, &mut body, &mut record))
            .await?;
        match answer {
            Ok(answer) if answer.status().is_success() => self.pass(answer, client, to_client).await,
            Ok(refusal) => send(to_client, &told(refusal).await).await,
            Err(refused) => {
                if let Some(record) = record {
                    record.note(&exchange.ledger, &refused);
                }
                send(to_client, &refused.public.socket_frame(&call.to_string())).await
            }
        }
    }

    fn asked(&mut self, call: CallId, message: &Payload) -> Result<Asked, Refused> {
        let Frame::Create(envelope) = Frame::read(message.as_slice())? else {
            let message = "This socket takes `response.create` and nothing else.";
            return Err(Refusal::new(Code::InvalidRequest, message).param("type").into());
        };
        let reply = Reply {
            id: String::from_utf8_lossy(&call.digits()).into_owned(),
            model: envelope.model,
            created: unix_seconds(),
            wants_usage: false,
        };
        Ok(self.bridge.ask(message.as_slice(), reply)?)
    }

    fn inbound(&self, call: CallId, body: &ClientBody) -> Inbound {
        let mut head = self.head.clone();
        let length = http_body::Body::size_hint(body).lower();
        head.headers.insert(header::CONTENT_LENGTH, length.into());
        Inbound {
            call,
            endpoint: Endpoint::Responses,
            wire: Wire::Responses,
            credential: Some(Credential::from(&self.caller)),
            head,
            socket: None,
            address: self.address,
            link: self.link,
            started: Instant::now(),
        }
    }

    /// Passes an answer on, event by event.
    async fn pass(
        &mut self,
        answer: Response<ReplyBody>,
        client: &mut FromClient,
        to_client: &mut Sink,
    ) -> Result<(), End> {
        let mut body = answer.into_body();
        loop {
            let frame = client.unless_gone(to_client, body.frame()).await?;
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                None => return Ok(()),
                Some(Ok(Ok(piece))) => send_all(to_client, &self.bridge.push(&piece)).await?,
                Some(Ok(Err(_trailers))) => {}
                Some(Err(_cut)) => return Err(End::VendorGone),
            }
        }
    }
}

/// What a client writes. Read while its answer runs too: so a client that leaves is noticed.
struct FromClient {
    source: Source,
    messages: Messages,
    /// Not dealt with yet.
    waiting: VecDeque<Item>,
}

impl FromClient {
    /// Its next message. What is said about the socket itself is answered on the way.
    async fn next(&mut self, to_client: &mut Sink) -> Result<Payload, End> {
        loop {
            match self.waiting.pop_front() {
                Some(Item::Text { text, .. }) => return Ok(text),
                Some(Item::Binary { .. }) => return Err(End::Violation(1003)),
                Some(Item::Close { .. }) => return Err(End::ClientClosed),
                Some(Item::Control { opcode, data, .. }) => pong(opcode, &data, to_client).await?,
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), End> {
        let chunk = self.source.next().await.ok_or(End::ClientGone)?;
        let items = self.messages.push(chunk);
        let items = items.map_err(|error| End::Violation(error.close_code()))?;
        self.waiting.extend(items);
        Ok(())
    }

    /// Does something as long as the client is there; its pings are answered meanwhile.
    async fn unless_gone<T>(&mut self, to_client: &mut Sink, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                read = self.read(), if self.waiting.len() < TURNS => read?,
            }
            while let Some(at) = self.waiting.iter().position(|item| !matches!(item, Item::Text { .. })) {
                match self.waiting.remove(at) {
                    Some(Item::Control { opcode, data, .. }) => pong(opcode, &data, to_client).await?,
                    Some(Item::Close { .. }) => return Err(End::ClientClosed),
                    Some(Item::Binary { .. }) => return Err(End::Violation(1003)),
                    Some(Item::Text { .. }) | None => break,
                }
            }
        }
    }
}

async fn pong(opcode: Opcode, data: &Payload, to_client: &mut Sink) -> Result<(), End> {
    if opcode == Opcode::Pong {
        return Ok(());
    }
    let pong = encode_pong(data.as_slice(), None);
    to_client.send(pong).await.map_err(|_| End::ClientGone)
}

async fn send(to_client: &mut Sink, message: &[u8]) -> Result<(), End> {
    let sent = to_client.send(encode_text(message, None)).await;
    sent.map_err(|_| End::ClientGone)
}

async fn send_all(to_client: &mut Sink, messages: &[Vec<u8>]) -> Result<(), End> {
    for message in messages {
        send(to_client, message).await?;
    }
    Ok(())
}

/// A refusal as a message has it: the error of its body beside its status, and how long to wait.
async fn told(refusal: Response<ReplyBody>) -> Bytes {
    let (head, body) = refusal.into_parts();
    let body = Limited::new(body, REFUSAL_BYTES).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let error: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut message = json!({"type": "error", "status": head.status.as_u16(), "error": error.get("error")});
    let headers = waits(&head.headers);
    if !headers.is_empty() {
        message["headers"] = headers.into();
    }
    message.to_string().into()
}

fn waits(headers: &HeaderMap) -> serde_json::Map<String, Value> {
    let wait = headers.get(header::RETRY_AFTER).and_then(|wait| wait.to_str().ok());
    wait.map(|wait| ("retry-after".to_owned(), wait.into()))
        .into_iter()
        .collect()
}
