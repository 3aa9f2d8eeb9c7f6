//! The entrances: a request becomes an [`Inbound`], whichever way it came. Knows transports and credentials' places;
//! knows no tenant.

mod address;
mod cors;
mod http1;
mod metrics;
mod public;
mod sips;
mod tunnel;

use std::{net::IpAddr, sync::Arc, time::Instant};

use aws_lc_rs::digest;
use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use relay_protocol::{Code, Endpoint, Family, Refusal, Wire};
use relay_shared::{call::CallId, http::take_key, secret::Secret};

use self::address::Address;
pub use self::{
    metrics::{Figures, serve_metrics},
    public::{Public, bind, serve_public},
    tunnel::serve_tunnel,
};
use crate::{
    exchange::{
        self, Exchange, Inbound, SocketClient,
        body::{ClientBody, ReplyBody},
    },
    identity::{Credential, Proof},
    ledger::Link,
};

/// What an entrance knows of a request.
struct Arrival {
    head: http::request::Parts,
    body: ClientBody,
    credential: Option<Proof>,
    /// What its host is bound to.
    host: Option<Family>,
    socket: Option<SocketClient>,
    call: CallId,
    address: IpAddr,
    link: Link,
    /// What the agent carries in a POST was a GET of its client.
    is_socket_post: bool,
}

/// Sends a request where it belongs.
async fn admit(exchange: &Arc<Exchange>, arrival: Arrival) -> Response<ReplyBody> {
    let started = Instant::now();
    let Arrival {
        mut head,
        body,
        credential,
        host,
        socket,
        call,
        address,
        link,
        is_socket_post,
    } = arrival;
    // Before anything else sees the address.
    let proof = match (take_key(&mut head.uri), credential) {
        (Some(key), None) => Some(Proof::Key(key)),
        (_, proof) => proof,
    };
    if head.uri.path() == "/healthz" {
        return health(exchange, &head.method);
    }
    let is_redeem = head.uri.path() == exchange::REDEEM;
    let Address {
        wire,
        project,
        endpoint,
    } = Address::take(&mut head, host);
    let credential = proof.map(|proof| Credential { proof, project });
    let refuse = |code, message: &str| exchange::refusal(&Refusal::new(code, message).into(), wire, call);
    if head_size(&head) > exchange.limits.head_bytes {
        exchange.discard(body);
        return refuse(Code::HeadTooLarge, "The request's head is over the limit.");
    }
    if is_redeem {
        if head.method == Method::POST {
            return Box::pin(exchange.redeem(credential, &head.headers, body, call)).await;
        }
        exchange.discard(body);
        return not_allowed(&[Method::POST], wire, call);
    }
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(refusal) => {
            exchange.discard(body);
            return exchange::refusal(&refusal.into(), wire, call);
        }
    };
    let allowed = allowed(endpoint, socket.is_some());
    let is_allowed = if is_socket_post {
        socket.is_some()
    } else {
        allowed.contains(&head.method)
    };
    if !is_allowed || (socket.is_some() && endpoint != Endpoint::Responses) {
        exchange.discard(body);
        return not_allowed(&allowed, wire, call);
    }
    exchange
        .serve(
            Box::new(Inbound {
                call,
                endpoint,
                wire,
                credential,
                head,
                socket,
                address: address.to_canonical(),
                link,
                started,
            }),
            body,
        )
        .await
}

fn not_allowed(allowed: &[Method], wire: Wire, call: CallId) -> Response<ReplyBody> {
    let message = "This path does not take this method.";
    let mut response = exchange::refusal(&Refusal::new(Code::MethodNotAllowed, message).into(), wire, call);
    let names: Vec<_> = allowed.iter().map(Method::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(header::ALLOW, names);
    }
    response
}

fn allowed(endpoint: Endpoint, is_socket: bool) -> [Method; 1] {
    match (endpoint, is_socket) {
        (endpoint, _) if endpoint.lists_models() => [Method::GET],
        (Endpoint::Responses, true) => [Method::GET],
        _ => [Method::POST],
    }
}

fn health(exchange: &Exchange, method: &Method) -> Response<ReplyBody> {
    let is_well = !exchange.admission.is_draining();
    let words: &'static [u8] = if is_well {
        br#"{"status":"ok"}"#
    } else {
        br#"{"status":"draining"}"#
    };
    let mut response = Response::new(ReplyBody::whole(Bytes::from_static(words)));
    if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    } else if !is_well {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn head_size(head: &http::request::Parts) -> usize {
    let line = head.uri.path_and_query().map_or(0, |path| path.as_str().len());
    head.headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>()
        + line
}

/// An API key from whichever header the client's library puts it in.
fn api_key(headers: &HeaderMap) -> Option<Proof> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
    });
    let named = || {
        ["x-api-key", "api-key", "x-goog-api-key"]
            .iter()
            .find_map(|name| headers.get(*name)?.to_str().ok().map(|key| key.trim().to_owned()))
    };
    bearer.or_else(named).map(|key| Proof::Key(Secret::new(key)))
}

/// A WebSocket handshake (RFC 6455, 4.2.1), with the answer to its key.
fn socket_upgrade(head: &http::request::Parts, upgrade: Option<OnUpgrade>) -> Option<SocketClient> {
    let says = |name: header::HeaderName, word: &str| {
        head.headers.get_all(name).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
        })
    };
    if head.method != Method::GET || !says(header::UPGRADE, "websocket") || !says(header::CONNECTION, "upgrade") {
        return None;
    }
    if !says(header::SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    let accept = accept_key(head.headers.get(header::SEC_WEBSOCKET_KEY)?)?;
    Some(SocketClient::Upgrade(upgrade?, accept))
}

fn accept_key(key: &HeaderValue) -> Option<HeaderValue> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    HeaderValue::from_str(&base64::engine::general_purpose::STANDARD.encode(context.finish())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_the_one_of_the_rfc() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept_key(&key).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_found_in_each_library_s_header() {
        for (name, value) in [
            ("authorization", "Bearer rk_1"),
            ("authorization", "bearer  rk_1"),
            ("x-api-key", "rk_1"),
            ("api-key", "rk_1"),
            ("x-goog-api-key", "rk_1"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert!(
                matches!(api_key(&headers), Some(Proof::Key(key)) if key.expose() == "rk_1"),
                "{name}"
            );
        }
        assert!(api_key(&HeaderMap::new()).is_none());
    }
}
