//! Which web pages may call the public entrance (the Fetch standard's CORS): by exact origin, never with cookies. Knows no
//! caller: a preflight is answered before anybody has shown a key.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};

use crate::exchange::body::ReplyBody;

/// How long a browser may remember a preflight; none remembers it for longer than a day.
const REMEMBERED: HeaderValue = HeaderValue::from_static("7200");
/// Every header of an answer may be read: without cookies `*` means all of them.
const EXPOSED: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");

/// The origin of a page that may call.
pub(super) fn admitted(origins: &BTreeSet<String>, headers: &HeaderMap) -> Option<HeaderValue> {
    if origins.is_empty() {
        return None;
    }
    let mut values = headers.get_all(header::ORIGIN).iter();
    let origin = values.next().filter(|_| values.next().is_none())?;
    origins.contains(origin.to_str().ok()?).then(|| origin.clone())
}

/// The answer to a browser that asks whether its page may call; `None` where it does not ask.
pub(super) fn preflight(head: &Parts) -> Option<Response<ReplyBody>> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(ReplyBody::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED);
    // Libraries add headers of their own with each version: which of them count is decided when the call comes.
    if let Some(asked) = head.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(response)
}

/// Lets the page of `origin` read an answer.
pub(super) fn open(response: &mut Response<ReplyBody>, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_admitted_by_its_exact_text_alone() {
        let origins = BTreeSet::from(["https://app.example.com".to_owned(), "http://localhost:3000".to_owned()]);
        let admits = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::ORIGIN, HeaderValue::from_str(value).unwrap());
            }
            admitted(&origins, &headers).is_some()
        };
        assert!(admits(&["https://app.example.com"]) && admits(&["http://localhost:3000"]));
        for foreign in [
            &[][..],
            &["null"],
            &["*"],
            &[""],
            &["http://app.example.com"],
            &["https://app.example.com/"],
            &["https://app.example.com:443"],
            &["https://APP.example.com"],
            &["https://app.example.com.evil.example"],
            &["https://evil.example/https://app.example.com"],
            &["https://app.example.com", "https://app.example.com"],
        ] {
            assert!(!admits(foreign), "{foreign:?}");
        }
        assert!(admitted(&BTreeSet::new(), &HeaderMap::new()).is_none());
    }
}
