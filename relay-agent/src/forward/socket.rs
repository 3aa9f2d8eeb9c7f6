//! A client's WebSocket over the tunnel: one full-duplex call whose two bodies are the bytes of its two directions.
//!
//! The client gets its 101 only when the vendor's socket is up, so that a refusal keeps its status. Towards the client
//! only whole messages go out; our own (a sign of life, the reason of a break) go between them.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use relay_protocol::{Code, Endpoint, Meter, Refusal, Wire, sse, ws};
use relay_shared::call::CallId;
use relay_shared::tunnel::SOCKET;
use relay_shared::tunnel::body::{BodyError, OutBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::calls::Running;
use super::events::lost;
use super::frames::FrameWalk;
use super::uplink::{BoxError, Uplink};
use super::{Forward, LocalBody, head, hub_path, hub_uri, refused, text, unanswered};
use crate::tunnel::LinkDown;

impl<U: Uplink> Forward<U> {
    /// Carries one WebSocket; `request` asked for an upgrade.
    pub(crate) async fn socket(&self, mut request: Request<Incoming>) -> Response<LocalBody> {
        let (call, running) = (CallId::random(), self.calls.begin());
        let Some(accept) = accept_key(request.headers()) else {
            return refused(Wire::Responses, &not_a_handshake(), call);
        };
        let (up, upload) = mpsc::channel(QUEUE);
        let sent = as_call(
            &request,
            call,
            SocketUpload {
                frames: upload,
                ended: false,
            },
        );
        let answer = match self.opened(sent).await {
            Ok(answer) => answer,
            Err(refusal) => return refused(Wire::Responses, &refusal, call),
        };
        if answer.status() != StatusCode::OK {
            // A request that is cut would take the words of the refusal with it.
            up.try_send(Up::End).ok();
            return self.refused_upgrade(answer).await;
        }
        let (answer_head, down) = answer.into_parts();
        let client = hyper::upgrade::on(&mut request);
        let (keepalive, stop) = (self.patience.keepalive, self.tasks.token());
        self.tasks.spawn("socket", async move {
            match client.await {
                Ok(client) => {
                    let socket = Socket {
                        call,
                        keepalive,
                        stop,
                        busy: AtomicBool::new(false),
                        _running: running,
                    };
                    socket.run(client, up, down).await;
                }
                Err(error) => tracing::debug!(%call, %error, "a client left before its socket was up"),
            }
        });
        switching(&answer_head.headers, accept)
    }

    /// A refusal goes out whole, with its length: WebSocket clients take what follows the head for the body, so that
    /// the marks of chunks would be part of its words.
    async fn refused_upgrade(&self, answer: Response<U::Answer>) -> Response<LocalBody> {
        let (answer_head, body) = answer.into_parts();
        let words = timeout(
            self.patience.socket_answer,
            Limited::new(body, LONGEST_REFUSAL).collect(),
        )
        .await;
        let words = words.ok().and_then(Result::ok).map(Collected::to_bytes);
        let mut response = Response::new(text(words.unwrap_or_default()));
        *response.status_mut() = answer_head.status;
        *response.headers_mut() = head::to_client(&answer_head.headers);
        response.headers_mut().remove(CONTENT_LENGTH);
        response
    }

    /// The hub's answer to the upgrade. A client waits for it with its user looking on, so a link that is down is
    /// reported sooner than for a call.
    async fn opened(&self, sent: Request<OutBody>) -> Result<Response<U::Answer>, Refusal> {
        let sending = self.uplink.send(sent);
        tokio::pin!(sending);
        let first = timeout(self.patience.socket_link, &mut sending).await;
        let answer = match first {
            Ok(answer) => answer,
            Err(_) if !self.uplink.is_up() => return Err(unanswered(&no_link())),
            Err(_) => timeout(self.patience.socket_answer, sending)
                .await
                .map_err(|_| too_slow())?,
        };
        answer.map_err(|down| unanswered(&down))
    }
}

fn no_link() -> LinkDown {
    LinkDown {
        reason: "no connection in time for a WebSocket".to_owned(),
        retry_after: COME_BACK,
        is_sent: false,
        is_full: false,
    }
}

/// One socket that is up.
struct Socket {
    call: CallId,
    keepalive: Duration,
    stop: CancellationToken,
    /// The client sent something that has no complete answer yet.
    busy: AtomicBool,
    _running: Running,
}

/// Why one direction of a socket is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// With a closing handshake, or because the other side ended its body.
    Closed,
    /// The client is gone.
    ClientGone,
    /// The tunnel or the hub broke off, or sent what is no WebSocket.
    HubGone,
    /// The agent is stopping.
    Stopping,
}

impl Socket {
    async fn run<B>(self, client: Upgraded, up: mpsc::Sender<Up>, down: B)
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin,
    {
        let (read, mut write) = tokio::io::split(TokioIo::new(client));
        let over = self.until_over(read, &mut write, up, down).await;
        tracing::debug!(call = %self.call, ?over, "a socket is over");
        let goodbye = self.goodbye(over);
        let saying = async {
            write.write_all(&goodbye).await?;
            write.shutdown().await
        };
        if !matches!(timeout(GOODBYE, saying).await, Ok(Ok(()))) {
            tracing::trace!(call = %self.call, "the client was gone first");
        }
    }

    /// Both directions at once. When it returns, both bodies are dropped: the hub knows.
    async fn until_over<B>(
        &self,
        read: ReadHalf<TokioIo<Upgraded>>,
        write: &mut WriteHalf<TokioIo<Upgraded>>,
        up: mpsc::Sender<Up>,
        down: B,
    ) -> Over
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin,
    {
        let upwards = self.upwards(read, &up);
        let downwards = self.downwards(write, down);
        tokio::pin!(upwards, downwards);
        tokio::select! {
            over = &mut downwards => over,
            over = &mut upwards => match over {
                // The client said goodbye: give the vendor's own goodbye a moment to arrive.
                Over::Closed => timeout(GOODBYE, downwards).await.unwrap_or(Over::Closed),
                Over::ClientGone | Over::HubGone | Over::Stopping => over,
            },
        }
    }

    /// The client's bytes, as they come. Ends when the client does.
    async fn upwards(&self, mut client: ReadHalf<TokioIo<Upgraded>>, up: &mpsc::Sender<Up>) -> Over {
        let (mut walk, mut said_goodbye) = (FrameWalk::default(), false);
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ);
            match client.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ if said_goodbye => return self.end_upload(up).await,
                _ => return Over::ClientGone,
            }
            let bytes = buffer.split().freeze();
            let seen = walk.walk(&bytes);
            if seen.message {
                self.busy.store(true, Ordering::Relaxed);
            }
            said_goodbye |= seen.close;
            if up.send(Up::Bytes(bytes)).await.is_err() {
                // The hub takes no more; what it has to say about that comes down.
                return std::future::pending().await;
            }
        }
    }

    async fn end_upload(&self, up: &mpsc::Sender<Up>) -> Over {
        if up.send(Up::End).await.is_err() {
            tracing::trace!(call = %self.call, "the hub had stopped reading");
        }
        Over::Closed
    }

    /// The vendor's messages, and a sign of life when they are long in coming.
    async fn downwards<B>(&self, client: &mut WriteHalf<TokioIo<Upgraded>>, mut down: B) -> Over
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin,
    {
        let mut messages = ws::Messages::new(LARGEST_MESSAGE);
        let mut meter = Meter::new(Wire::Responses);
        let mut last = Instant::now();
        loop {
            let out = tokio::select! {
                frame = down.frame() => match frame {
                    None => return Over::Closed,
                    Some(Err(_)) => return Over::HubGone,
                    Some(Ok(frame)) => {
                        let Ok(chunk) = frame.into_data() else { continue };
                        match self.whole_messages(&mut messages, &mut meter, chunk) {
                            Some(out) => out,
                            None => return Over::HubGone,
                        }
                    }
                },
                () = sleep_until(last + self.keepalive) => self.sign_of_life(),
                () = self.stop.cancelled(), if !self.is_busy() => return Over::Stopping,
            };
            last = Instant::now();
            for bytes in out {
                if client.write_all(&bytes).await.is_err() {
                    return Over::ClientGone;
                }
            }
            if client.flush().await.is_err() {
                return Over::ClientGone;
            }
        }
    }

    /// The wire bytes of the messages that are complete; `None` when this is no WebSocket any more.
    fn whole_messages(&self, messages: &mut ws::Messages, meter: &mut Meter, chunk: Bytes) -> Option<Vec<Bytes>> {
        let items = match messages.push(chunk) {
            Ok(items) => items,
            Err(error) => {
                tracing::warn!(call = %self.call, %error, "the hub broke the WebSocket protocol");
                return None;
            }
        };
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            out.push(match item {
                ws::Item::Text { raw, text } => {
                    if meter.message(text.as_slice()) {
                        self.busy.store(false, Ordering::Relaxed);
                        *meter = Meter::new(Wire::Responses);
                    }
                    raw
                }
                ws::Item::Binary { raw } | ws::Item::Control { raw, .. } | ws::Item::Close { raw, .. } => raw,
            });
        }
        Some(out)
    }

    fn sign_of_life(&self) -> Vec<Bytes> {
        if !self.is_busy() {
            return Vec::new();
        }
        vec![ws::encode_text(sse::KEEPALIVE_MESSAGE.as_bytes(), None)]
    }

    /// What the client is told at the end. An error is only sent when something is unanswered: a client that reads it
    /// later would take it for the answer to its next request.
    fn goodbye(&self, over: Over) -> Bytes {
        match over {
            Over::Closed | Over::ClientGone => Bytes::new(),
            Over::Stopping => ws::encode_close(1001, "relay-agent is stopping", None),
            Over::HubGone => {
                let mut out = BytesMut::new();
                if self.is_busy() {
                    let frame = lost().socket_frame(&self.call.to_string());
                    out.extend_from_slice(&ws::encode_text(&frame, None));
                }
                out.extend_from_slice(&ws::encode_close(1011, "the connection to the hub was lost", None));
                out.freeze()
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }
}

/// A part of what the client sends.
enum Up {
    Bytes(Bytes),
    /// The client ended with a closing handshake.
    End,
}

/// The client's direction as a request body. Without `Up::End` its end is an error: the client is gone.
struct SocketUpload {
    frames: mpsc::Receiver<Up>,
    ended: bool,
}

impl Body for SocketUpload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.frames.poll_recv(cx)) {
            Some(Up::Bytes(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Up::End) => {
                self.ended = true;
                Poll::Ready(None)
            }
            None => {
                self.ended = true;
                Poll::Ready(Some(Err(BodyError::Source("the client is gone".to_owned()))))
            }
        }
    }
}

/// Whether a GET asks for a WebSocket.
pub(crate) fn asks_for_socket(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, b"upgrade") && has_token(headers, &UPGRADE, b"websocket")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// The answer to the client's handshake key (RFC 6455, 4.2.2); `None` when the handshake is not as it should be.
fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let is_version_13 = headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_version_13)?.as_bytes();
    if STANDARD.decode(key).ok()?.len() != 16 {
        return None;
    }
    let salted = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    HeaderValue::try_from(STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &salted))).ok()
}

fn as_call(request: &Request<Incoming>, call: CallId, upload: SocketUpload) -> Request<OutBody> {
    let mut sent = Request::new(upload.boxed_unsync());
    *sent.method_mut() = Method::POST;
    *sent.uri_mut() = hub_uri(
        hub_path(Endpoint::Responses, request.uri().path()),
        request.uri().query(),
    );
    *sent.headers_mut() = head::to_hub(request.headers(), call);
    for name in [CONTENT_LENGTH, CONTENT_TYPE] {
        sent.headers_mut().remove(name);
    }
    sent.headers_mut().insert(SOCKET, HeaderValue::from_static("websocket"));
    sent
}

fn switching(hub: &HeaderMap, accept: HeaderValue) -> Response<LocalBody> {
    let mut response = Response::new(text(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = head::to_socket_client(hub);
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response
        .headers_mut()
        .insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn not_a_handshake() -> Refusal {
    Refusal::new(Code::InvalidRequest, "This is not a WebSocket handshake of version 13.")
}

/// 426 makes clients fall back to HTTP at once; letting an upgrade hang costs them minutes.
fn too_slow() -> Refusal {
    Refusal::new(Code::NoWebSocket, "The hub did not open a WebSocket in time; use HTTP.")
}

const LARGEST_MESSAGE: usize = 64 << 20;
/// A refusal is a few hundred bytes of JSON or text.
const LONGEST_REFUSAL: usize = 256 << 10;
const QUEUE: usize = 8;
const READ: usize = 16 << 10;
const GOODBYE: Duration = Duration::from_secs(1);
const COME_BACK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_answered_as_the_rfc_computes_it() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert_eq!(accept_key(&headers), None, "no version");
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        assert_eq!(accept_key(&headers).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("c2hvcnQ="));
        assert_eq!(accept_key(&headers), None, "a key of 16 bytes");
    }

    #[test]
    fn an_upgrade_is_recognised_in_any_case_and_list() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        assert!(asks_for_socket(&headers));
        headers.insert(UPGRADE, HeaderValue::from_static("h2c"));
        assert!(!asks_for_socket(&headers));
    }
}
