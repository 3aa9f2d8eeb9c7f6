//! One local call over the tunnel: head and body up, answer down, errors in the client's dialect.
//! Knows neither the listener nor the transport.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use relay_protocol::{Code, Endpoint, Prefix, Refusal, Wire, asked_model};
use relay_shared::call::CallId;
use relay_shared::tasks::Tasks;
use relay_shared::tls::HUB_NAME;
use relay_shared::tunnel::CALL_ID;

mod calls;
mod events;
mod frames;
mod head;
mod socket;
#[cfg(test)]
mod tests;
pub(crate) mod uplink;
mod upload;
mod whole;

pub(crate) use calls::Calls;
pub(crate) use socket::asks_for_socket;

use calls::Running;
use events::Events;
use uplink::{BoxError, Uplink};
use upload::Upload;
use whole::Whole;

use crate::tunnel::LinkDown;

/// What goes to a local client.
pub(crate) type LocalBody = UnsyncBoxBody<Bytes, BoxError>;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the link, when a WebSocket is asked for.
    pub(crate) socket_link: Duration,
    /// For the hub's answer to an upgrade.
    pub(crate) socket_answer: Duration,
    /// For the next event, before a sign of life is sent.
    pub(crate) keepalive: Duration,
}

/// Forwards calls to the hub.
#[derive(Clone)]
pub(crate) struct Forward<U> {
    uplink: U,
    patience: Patience,
    tasks: Tasks,
    calls: Calls,
}

impl<U: Uplink> Forward<U> {
    pub(crate) fn new(uplink: U, patience: Patience, tasks: Tasks) -> Self {
        Self {
            uplink,
            patience,
            tasks,
            calls: Calls::default(),
        }
    }

    /// The count of calls.
    pub(crate) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Refuses a call whose body the client may still be sending.
    pub(crate) fn refuse(&self, wire: Wire, refusal: &Refusal, unread: Incoming) -> Response<LocalBody> {
        drop(Upload::new(unread, self.tasks.clone()));
        refused(wire, refusal, CallId::random())
    }

    /// Carries one call.
    pub(crate) async fn call(&self, endpoint: Endpoint, request: Request<Incoming>) -> Response<LocalBody> {
        let (call, wire, running) = (CallId::random(), endpoint.wire(), self.calls.begin());
        let wants_events = request.headers().get(ACCEPT).is_some_and(is_events);
        let (head, body) = request.into_parts();
        let upload = Upload::new(body, self.tasks.clone());
        let mut sent = Request::new(upload.boxed_unsync());
        *sent.method_mut() = head.method;
        *sent.uri_mut() = hub_uri(hub_path(endpoint, head.uri.path()), head.uri.query());
        *sent.headers_mut() = head::to_hub(&head.headers, call);
        match self.uplink.send(sent).await {
            Ok(answer) => self.answer(answer, wire, call, wants_events, running),
            Err(down) => refused(wire, &unanswered(&down), call),
        }
    }

    fn answer(
        &self,
        answer: Response<U::Answer>,
        wire: Wire,
        call: CallId,
        wants_events: bool,
        running: Running,
    ) -> Response<LocalBody> {
        let (head, body) = answer.into_parts();
        let mut headers = head::to_client(&head.headers);
        let body = if head.status == StatusCode::OK && has_events(&headers, wants_events) {
            headers.remove(CONTENT_LENGTH);
            Events::new(body, wire, call, self.patience.keepalive, self.tasks.clone(), running).boxed_unsync()
        } else {
            Whole::new(body, running).boxed_unsync()
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = headers;
        response
    }
}

/// A refusal as an HTTP answer.
pub(crate) fn refused(wire: Wire, refusal: &Refusal, call: CallId) -> Response<LocalBody> {
    let rendered = refusal.render(wire, &call.to_string());
    let mut response = Response::new(text(rendered.body));
    *response.status_mut() = StatusCode::from_u16(rendered.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(id) = HeaderValue::try_from(call.to_string()) {
        response.headers_mut().insert(CALL_ID, id);
    }
    for (name, value) in rendered.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A body that is all there.
pub(crate) fn text(bytes: impl Into<Bytes>) -> LocalBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A vendor that forgets the content type of a stream is still streaming when the client asked for a stream.
fn has_events(headers: &HeaderMap, wants_events: bool) -> bool {
    headers.get(CONTENT_TYPE).map_or(wants_events, is_events)
}

fn is_events(value: &HeaderValue) -> bool {
    let media = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    media.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// A path that has a model in it, or something in front, goes as it came.
fn hub_path(endpoint: Endpoint, path: &str) -> &str {
    let is_plain = Prefix::split(path).0.is_empty() && asked_model(path).is_none();
    match endpoint.wire() {
        Wire::Responses | Wire::Chat | Wire::Messages if is_plain => endpoint.path(),
        Wire::Responses | Wire::Chat | Wire::Messages | Wire::Gemini => path,
    }
}

fn hub_uri(path: &str, query: Option<&str>) -> Uri {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let uri = Uri::builder()
        .scheme("https")
        .authority(HUB_NAME)
        .path_and_query(target)
        .build();
    // Path and query came out of a parsed URI, so they fit into one again.
    uri.unwrap_or_default()
}

/// Why there was no answer, and when to come back: soon, because the link returns within seconds or not at all.
fn unanswered(down: &LinkDown) -> Refusal {
    tracing::info!(reason = %down.reason, sent = down.is_sent, "a call got no answer from the hub");
    if down.is_full && !down.is_sent {
        return Refusal::new(
            Code::RateLimited,
            "relay-agent carries as many calls at once as its hub allows.",
        )
        .hint("Wait for some to end; the hub's operator can raise limits.calls_per_connection.")
        .retry_after(down.retry_after);
    }
    let message = if down.is_sent {
        "The connection to the hub was lost before it answered."
    } else {
        "relay-agent has no connection to its hub at the moment."
    };
    Refusal::new(Code::LinkDown, message)
        .hint("It keeps trying; `relay-agent doctor` says what is in the way.")
        .retry_after(down.retry_after)
}
