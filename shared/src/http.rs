//! Which headers go where. Towards the vendor only what is on a list passes; from the vendor all but what is about one
//! connection or would set state in a browser. Knows no values of headers: they are never looked at, only names.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};

use crate::secret::Secret;

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
        TO_VENDOR.contains(&name)
            || TO_VENDOR_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !NOT_TO_VENDOR.contains(&name)
    })
}

/// Takes the credential out of a request's address: `?key=…`, as clients of Google's send it. It stays in no log and goes
/// to no vendor.
pub fn take_key(uri: &mut Uri) -> Option<Secret<String>> {
    let query = uri.query()?;
    let is_key = |pair: &&str| percent_decoded(pair.split('=').next().unwrap_or_default()) == b"key";
    let found = query.split('&').find(is_key)?;
    let value = percent_decoded(found.split_once('=').map_or("", |(_, value)| value));
    let rest: Vec<_> = query.split('&').filter(|pair| !is_key(pair)).collect();
    let path = if rest.is_empty() {
        uri.path().to_owned()
    } else {
        format!("{}?{}", uri.path(), rest.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.try_into().unwrap_or(PathAndQuery::from_static("/")));
    *uri = Uri::from_parts(parts).unwrap_or_default();
    String::from_utf8(value).ok().map(Secret::new)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        let escaped = if byte == b'%' { hex_pair(after) } else { None };
        if escaped.is_some() {
            rest = after.get(2..).unwrap_or_default();
        }
        out.push(escaped.unwrap_or(byte));
    }
    out
}

fn hex_pair(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*digits.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
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
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
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
    "x-app",
    "x-client-request-id",
    "x-openai-subagent",
    "x-responsesapi-include-timing-metrics",
    "x-server-timeout",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-helper",
    "x-stainless-helper-method",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
];

const TO_VENDOR_PREFIXES: &[&str] = &["x-codex-", "x-claude-code-", "x-goog-"];

/// Credentials, and what would have somebody else pay.
const NOT_TO_VENDOR: &[&str] = &["x-goog-api-key", "x-goog-user-project", "x-goog-authuser"];

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
    use http::{HeaderMap, HeaderName, HeaderValue, Uri};

    use super::{from_vendor, remove_hop_by_hop, take_key, to_vendor};

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
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "b"),
            ("x-goog-api-key", "canary"),
            ("x-goog-user-project", "p"),
            ("x-goog-api-client", "google-genai-sdk/1"),
        ]);
        let mut names: Vec<_> = to_vendor(&sent).keys().map(|n| n.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "anthropic-beta",
                "anthropic-version",
                "session_id",
                "user-agent",
                "x-codex-turn-state",
                "x-goog-api-client"
            ]
        );
    }

    #[test]
    fn the_key_of_an_address_is_taken_and_the_rest_kept() {
        for (sent, key, left) in [
            ("/v1beta/models?key=canary", Some("canary"), "/v1beta/models"),
            ("/p?alt=sse&key=a%2Bb&x=1&key=second", Some("a+b"), "/p?alt=sse&x=1"),
            ("https://h:1/p?k%65y=c&", Some("c"), "https://h:1/p?"),
            ("/p?key", Some(""), "/p"),
            ("/p?keys=1&akey=2", None, "/p?keys=1&akey=2"),
            ("/p", None, "/p"),
        ] {
            let mut uri: Uri = sent.parse().unwrap();
            let taken = take_key(&mut uri);
            assert_eq!(taken.as_ref().map(|key| key.expose().as_str()), key, "{sent}");
            assert_eq!(uri.to_string(), left, "{sent}");
        }
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
