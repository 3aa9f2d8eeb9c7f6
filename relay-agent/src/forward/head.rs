//! Which headers cross the tunnel. Looks at names; values pass unseen.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use relay_shared::call::CallId;
use relay_shared::tunnel::{CALL_ID, DROPPED, ESTIMATED};

/// What the hub gets of a local request's headers: the client's own, without what is about this machine or this hop.
pub(crate) fn to_hub(local: &HeaderMap, call: CallId) -> HeaderMap {
    let mut headers = local.clone();
    relay_shared::http::remove_hop_by_hop(&mut headers);
    let dropped: Vec<HeaderName> = headers
        .keys()
        .filter(|name| stays_here(name.as_str()))
        .cloned()
        .collect();
    for name in dropped {
        headers.remove(name);
    }
    if let Ok(id) = HeaderValue::try_from(call.to_string()) {
        headers.insert(CALL_ID, id);
    }
    headers
}

/// What the client gets of an answer's headers: those of the vendor's, the id by which the call is found again, what of it
/// the vendor was not told, and what the relay answered by estimate.
pub(crate) fn to_client(hub: &HeaderMap) -> HeaderMap {
    let mut headers = relay_shared::http::from_vendor(hub.clone());
    for name in [CALL_ID, DROPPED, ESTIMATED] {
        if let Some(said) = hub.get(&name) {
            headers.insert(name, said.clone());
        }
    }
    headers
}

/// The same for an upgraded connection, which has no body to describe.
pub(crate) fn to_socket_client(hub: &HeaderMap) -> HeaderMap {
    let mut headers = to_client(hub);
    for name in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CACHE_CONTROL,
    ] {
        headers.remove(name);
    }
    headers
}

fn stays_here(name: &str) -> bool {
    LOCAL.contains(&name) || LOCAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Local credentials, what a browser says of itself, where the caller sits, and what the agent says itself.
const LOCAL: &[&str] = &[
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "host",
    "expect",
    "origin",
    "referer",
    "accept-encoding",
];
const LOCAL_PREFIXES: &[&str] = &["x-forwarded-", "sec-", "relay-", "proxy-", "access-control-", "cf-"];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn credentials_addresses_and_forged_marks_stay_on_the_machine() {
        let local = headers(&[
            ("authorization", "Bearer k"),
            ("x-api-key", "k"),
            ("api-key", "k"),
            ("x-goog-api-key", "k"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("via", "1.1 x"),
            ("host", "127.0.0.1:8787"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "a"),
            ("sec-fetch-site", "none"),
            ("relay-socket", "websocket"),
            ("relay-call-id", "forged"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
        ]);
        let call = CallId::random();
        let sent = to_hub(&local, call);
        assert_eq!(
            sent.keys().map(HeaderName::as_str).collect::<Vec<_>>(),
            ["relay-call-id"]
        );
        assert_eq!(sent[CALL_ID], call.to_string());
    }

    #[test]
    fn the_client_keeps_its_own_identity() {
        let own = [
            ("user-agent", "codex_exec/0.169.0"),
            ("originator", "codex_exec"),
            ("openai-beta", "responses_websockets=2026-02-06"),
            ("x-codex-turn-state", "opaque"),
            ("x-codex-turn-metadata", "{}"),
            ("session-id", "t"),
            ("thread-id", "t"),
            ("accept", "text/event-stream"),
            ("content-type", "application/json"),
            ("content-encoding", "zstd"),
            ("content-length", "5"),
            ("version", "0.169.0"),
            ("idempotency-key", "k"),
        ];
        let sent = to_hub(&headers(&own), CallId::random());
        for (name, value) in own {
            assert_eq!(sent[name], value);
        }
    }
}
