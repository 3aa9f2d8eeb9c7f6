//! Which headers go where. Towards the vendor only what is on a list passes; from the vendor all but what is about one
//! connection or would set state in a browser. Knows no values: they are never looked at, only names.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Removes what is about one connection only (RFC 9110, 7.6.1), including what `Connection` names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(*name);
    }
}

/// The client's headers that the vendor may see. Credentials, cookies, addresses and lengths are not among them: who
/// sends the request sets its own. Nor is `Idempotency-Key`: the hub heeds it, and at the vendor the equal keys of two
/// tenants would meet in one account.
#[must_use]
pub fn to_vendor(headers: &HeaderMap) -> HeaderMap {
    keep(headers, |name| {
        TO_VENDOR.contains(&name) || name.starts_with("x-codex-")
    })
}

/// The vendor's headers that the client may see.
#[must_use]
pub fn from_vendor(headers: HeaderMap) -> HeaderMap {
    let wanted =
        |name: &str| !HOP_BY_HOP.contains(&name) && !NOT_FROM_VENDOR.contains(&name) && !name.starts_with("relay-");
    if headers.keys().all(|name| wanted(name.as_str())) {
        return headers;
    }
    keep(&headers, wanted)
}

fn keep(headers: &HeaderMap, wanted: impl Fn(&str) -> bool) -> HeaderMap {
    let dropped = named_by_connection(headers);
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if wanted(name.as_str()) && !dropped.contains(name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).into_iter();
    let tokens = values
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','));
    tokens.filter_map(|token| token.trim().parse().ok()).collect()
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

const TO_VENDOR: &[&str] = &[
    "accept",
    "accept-language",
    "content-encoding",
    "content-type",
    "conversation_id",
    "openai-beta",
    "originator",
    "session-id",
    "session_id",
    "thread-id",
    "thread_id",
    "user-agent",
    "version",
    "x-client-request-id",
    "x-openai-subagent",
    "x-responsesapi-include-timing-metrics",
    "x-stainless-arch",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
];

const NOT_FROM_VENDOR: &[&str] = &[
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "alt-svc",
    "nel",
    "report-to",
    "server-timing",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
];

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{from_vendor, remove_hop_by_hop, to_vendor};

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect()
    }

    #[test]
    fn only_listed_headers_reach_the_vendor() {
        let sent = headers(&[
            ("authorization", "Bearer canary"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-api-key", "canary"),
            ("relay-call-id", "00"),
            ("idempotency-key", "k"),
            ("host", "127.0.0.1"),
            ("content-length", "5"),
            ("user-agent", "codex_exec/0.169.0"),
            ("x-codex-turn-state", "opaque"),
            ("session_id", "t"),
        ]);
        let mut names: Vec<_> = to_vendor(&sent).keys().map(|n| n.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["session_id", "user-agent", "x-codex-turn-state"]);
    }

    #[test]
    fn the_vendor_sets_no_cookies_and_no_connection_options() {
        let answer = headers(&[
            ("set-cookie", "a=b"),
            ("connection", "close, x-one-hop"),
            ("x-one-hop", "1"),
            ("alt-svc", "h3"),
            ("x-request-id", "req_1"),
            ("retry-after", "3"),
        ]);
        let passed = from_vendor(answer);
        assert_eq!(passed.len(), 2);
        assert!(passed.contains_key("x-request-id") && passed.contains_key("retry-after"));
    }

    #[test]
    fn what_connection_names_is_removed_too() {
        let mut all = headers(&[
            ("connection", "x-a, close"),
            ("x-a", "1"),
            ("te", "trailers"),
            ("x-b", "2"),
        ]);
        remove_hop_by_hop(&mut all);
        assert_eq!(all.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-b"]);
    }
}
