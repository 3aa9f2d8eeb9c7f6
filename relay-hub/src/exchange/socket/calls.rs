//! The calls of a socket that go over HTTP, by the same spine as any other, and each event of their answers a message: all
//! of a socket whose account speaks no Responses, and of another one those that another account serves. Knows no account
//! and no money.

use std::{net::IpAddr, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, Uri, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use relay_protocol::{Asked, Bridge, Code, Endpoint, Envelope, Frame, Payload, Refusal, Reply, Wire};
use relay_shared::call::CallId;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{REFUSAL_BYTES, close::End, ends::Sink, from_client::send};
use crate::{
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

/// The calls, and the conversation on them.
pub(super) struct Calls {
    exchange: Arc<Exchange>,
    caller: Caller,
    /// Of each call.
    head: Parts,
    link: Link,
    address: IpAddr,
    bridge: Bridge,
}

impl Calls {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        caller: Caller,
        mut head: Parts,
        (link, address): (Link, IpAddr),
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
            head,
            link,
            address,
        }
    }

    /// One message of the client, to the end of its answer.
    pub(super) async fn turn(&mut self, message: &Payload, to_client: &Mutex<Sink>) -> Result<(), End> {
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
        let inbound = Box::new(self.inbound(call, &body));
        // Boxed: a socket is idle most of its life, and would keep room for it.
        let answer = Box::pin(self.exchange.relay(inbound, &mut body, &mut record)).await;
        match answer {
            Ok(answer) if answer.status().is_success() => self.pass(answer, to_client).await,
            Ok(refusal) => send(to_client, &told(refusal).await).await,
            Err(refused) => {
                if let Some(record) = record {
                    record.note(&self.exchange.ledger, &refused);
                }
                send(to_client, &refused.public.socket_frame(&call.to_string())).await
            }
        }
    }

    /// Whether a call goes on from the last answer here.
    pub(super) fn are_behind(&self, envelope: &Envelope) -> bool {
        let id = envelope.previous_response.as_deref();
        id.is_some_and(|id| self.bridge.knows(id))
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
    async fn pass(&mut self, answer: Response<ReplyBody>, to_client: &Mutex<Sink>) -> Result<(), End> {
        let mut body = answer.into_body();
        loop {
            match body.frame().await.map(|frame| frame.map(http_body::Frame::into_data)) {
                None => return Ok(()),
                Some(Ok(Ok(piece))) => send_all(to_client, &self.bridge.push(&piece)).await?,
                Some(Ok(Err(_trailers))) => {}
                Some(Err(_cut)) => return Err(End::VendorGone),
            }
        }
    }
}

async fn send_all(to_client: &Mutex<Sink>, messages: &[Vec<u8>]) -> Result<(), End> {
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
