//! Decides what becomes of a local request: refused before its body is read, answered here, or forwarded.

use std::future::Future;

use http::header::{ALLOW, CONNECTION, HeaderMap};
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use relay_protocol::{Code, Endpoint, Prefix, Refusal, Wire};
use relay_shared::call::CallId;
use relay_shared::http::take_key;
use relay_shared::secret::Secret;

use super::guard::{Foreign, OwnNames};
use super::local_key::ExpectedKey;
use crate::config::LocalKey;
use crate::forward::uplink::Uplink;
use crate::forward::{Forward, LocalBody, asks_for_socket, refused, text};

/// Answers the agent's own commands, which use the listener to reach a running agent.
pub(crate) trait Control: Send + Sync + 'static {
    /// The answer to `GET /relay/…`; `None` when there is no such path.
    fn answer(&self, path: &str) -> impl Future<Output = Option<Response<LocalBody>>> + Send;
}

/// What a listener does with requests.
pub(crate) struct Router<U, C> {
    pub(crate) names: OwnNames,
    pub(crate) key: ExpectedKey,
    pub(crate) key_rule: LocalKey,
    pub(crate) forward: Forward<U>,
    pub(crate) control: C,
}

impl<U: Uplink, C: Control> Router<U, C> {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<LocalBody> {
        let (mut head, body) = request.into_parts();
        if let Err(foreign) = self.names.admit(&head) {
            return turned_away(foreign);
        }
        let in_address = take_key(&mut head.uri);
        let path = head.uri.path();
        let (prefix, rest) = Prefix::split(path);
        let (endpoint, wire) = (prefix.endpoint(rest), prefix.wire(rest));
        // A probe whether anyone is here. Nothing is told and nothing is done, so it needs no key and no hub.
        if head.method == Method::HEAD && endpoint.is_some() {
            return Response::new(text(""));
        }
        if let Some(refusal) = self.refuse_stranger(&head.headers, in_address.as_ref(), is_control(path)) {
            return self.forward.refuse(wire, &refusal, body);
        }
        if is_control(path) {
            return self.control(&head.method, path, body).await;
        }
        let Some(endpoint) = endpoint else {
            return self.forward.refuse(wire, &no_such_path(), body);
        };
        match Treatment::of(endpoint, &head.method, &head.headers) {
            Treatment::Call => self.forward.call(endpoint, Request::from_parts(head, body)).await,
            Treatment::Socket => self.forward.socket(Request::from_parts(head, body)).await,
            Treatment::WrongMethod { allowed } => {
                let mut response = self.forward.refuse(wire, &wrong_method(allowed), body);
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                response
            }
        }
    }

    /// The control paths need the key whatever was configured: they tell about the machine.
    fn refuse_stranger(
        &self,
        headers: &HeaderMap,
        in_address: Option<&Secret<String>>,
        is_control: bool,
    ) -> Option<Refusal> {
        let is_open = self.key_rule == LocalKey::Off && !is_control;
        let is_known = self.key.is_in(headers) | in_address.is_some_and(|key| self.key.is(key));
        (!is_open && !is_known).then(no_key)
    }

    async fn control(&self, method: &Method, path: &str, body: Incoming) -> Response<LocalBody> {
        if method != Method::GET {
            return self.forward.refuse(Wire::Responses, &wrong_method("GET"), body);
        }
        match self.control.answer(path).await {
            Some(response) => response,
            None => self.forward.refuse(Wire::Responses, &no_such_path(), body),
        }
    }
}

enum Treatment {
    Call,
    Socket,
    WrongMethod { allowed: &'static str },
}

impl Treatment {
    fn of(endpoint: Endpoint, method: &Method, headers: &HeaderMap) -> Self {
        match endpoint {
            Endpoint::Responses if method == Method::GET && asks_for_socket(headers) => Self::Socket,
            endpoint if endpoint.lists_models() => match *method {
                Method::GET => Self::Call,
                _ => Self::WrongMethod { allowed: "GET, HEAD" },
            },
            _ if method == Method::POST => Self::Call,
            _ => Self::WrongMethod { allowed: "POST, HEAD" },
        }
    }
}

/// Refused without reading the body, and without another request on this connection.
fn turned_away(foreign: Foreign) -> Response<LocalBody> {
    let refusal = match foreign {
        Foreign::Host => Refusal::new(Code::ForeignHost, "This listener serves its own loopback names only.")
            .hint("Use the base URL that `relay-agent status` shows."),
        Foreign::Page => Refusal::new(Code::ForeignOrigin, "Web pages may not call this listener."),
    };
    tracing::info!(?foreign, "a call was turned away");
    let mut response = refused(Wire::Responses, &refusal, CallId::random());
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn no_key() -> Refusal {
    Refusal::new(
        Code::InvalidKey,
        "This listener needs its local key, and this call has none or another one.",
    )
    .hint("`relay-agent token` prints the key, `relay-agent setup codex` writes it into Codex's configuration.")
}

fn no_such_path() -> Refusal {
    Refusal::new(Code::NotFound, "There is no such path here.").hint(
        "Served: /v1/responses, /v1/chat/completions, /v1/messages, /v1beta/models/MODEL:generateContent, /v1/models, \
         each also behind /api/PROJECT, /openai, /claude or /gemini.",
    )
}

fn wrong_method(allowed: &str) -> Refusal {
    Refusal::new(Code::MethodNotAllowed, format!("This path takes {allowed}."))
}

fn is_control(path: &str) -> bool {
    path.starts_with("/relay/")
}
