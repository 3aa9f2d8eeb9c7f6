//! When a client may ask again, said so that every client understands it. Does no IO.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// What OpenAI says of its two budgets: what is left, and when there is more.
/// Source: <https://platform.openai.com/docs/guides/rate-limits> (2026-11).
static BUDGETS: [[HeaderName; 2]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];
/// Refusals that waiting does not mend: clients stop at once at these, and are to go on doing so.
const LASTING: [&str; 5] = [
    "insufficient_quota",
    "usage_limit_reached",
    "usage_not_included",
    "billing_hard_limit_reached",
    "billing_not_active",
];
/// Seconds, where a vendor says nothing. Codex tries five times more, and a vendor's minute has mostly passed then.
const DEFAULT: u64 = 5;
/// More than this nobody should be made to wait by a guess.
const LONGEST: u64 = 60;

/// Whether [`add_wait`] would have to see the body.
pub fn lacks_wait(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS && !headers.contains_key(header::RETRY_AFTER)
}

/// Gives a vendor's refusal the `Retry-After` that it lacks. Codex gives up at once at a 429 without one, and reads no
/// `retry-after-ms`. A refusal that waiting does not mend stays as it is.
pub fn add_wait(status: StatusCode, headers: &mut HeaderMap, body: &[u8]) {
    if headers.contains_key(header::RETRY_AFTER) || status.is_success() {
        return;
    }
    let seconds = match number(headers, &RETRY_AFTER_MS) {
        Some(millis) => Some(millis.div_ceil(1000).max(1)),
        None if status == StatusCode::TOO_MANY_REQUESTS && is_passing(headers, body) => {
            let told = retry_delay(body).or_else(|| reset(headers));
            Some(told.unwrap_or(DEFAULT).clamp(1, LONGEST))
        }
        None => None,
    };
    if let Some(seconds) = seconds {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
}

fn is_passing(headers: &HeaderMap, body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        r#type: Option<String>,
        code: Option<String>,
    }
    let is_final = headers.get(&SHOULD_RETRY).is_some_and(|value| value == "false");
    // What is no error of OpenAI's kind names no lasting reason either.
    let said = serde_json::from_slice::<Body>(body).ok().map(|body| body.error);
    let lasts = |name: Option<String>| name.is_some_and(|name| LASTING.contains(&name.as_str()));
    !is_final && !said.is_some_and(|error| lasts(error.r#type) || lasts(error.code))
}

/// What Google says in its body: `"retryDelay": "37s"` among the details.
fn retry_delay(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        details: Vec<Detail>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Detail {
        retry_delay: Option<String>,
    }
    let details = serde_json::from_slice::<Body>(body).ok()?.error.details;
    let delay = details.into_iter().find_map(|detail| detail.retry_delay)?;
    seconds(&delay)
}

/// Seconds until every budget that is used up has something again.
pub(super) fn reset(headers: &HeaderMap) -> Option<u64> {
    let used_up = BUDGETS.iter().filter(|[left, _]| number(headers, left) == Some(0));
    let resets = used_up.filter_map(|[_, reset]| seconds(headers.get(reset)?.to_str().ok()?));
    resets.max()
}

/// A number that is no part of anything, rounded up; more than can be counted is the most that can be.
pub(super) fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    let more = u64::from(part.bytes().any(|digit| digit != b'0'));
    Some(whole.parse().unwrap_or(u64::MAX).saturating_add(more))
}

/// A duration as Go writes it, `6m0s`, `1.5s` or `120ms`, in seconds rounded up.
fn seconds(text: &str) -> Option<u64> {
    let (mut millis, mut rest) = (0_u64, text.trim());
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let unit: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        // A part of a unit counts as a whole one: nobody is hurt by waiting for it.
        let whole = whole.parse::<u64>().ok()?.checked_add(u64::from(!part.is_empty()))?;
        millis = millis.checked_add(whole.checked_mul(unit)?)?;
        rest = after;
    }
    (!text.trim().is_empty()).then(|| millis.div_ceil(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `Retry-After` of a refusal with these headers and this error code.
    fn wait(status: u16, headers: &[(&'static str, &'static str)], code: &str) -> Option<String> {
        let mut head: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let body = format!(r#"{{"error":{{"message":"no","type":"requests","code":"{code}"}}}}"#);
        add_wait(StatusCode::from_u16(status).unwrap(), &mut head, body.as_bytes());
        head.get(header::RETRY_AFTER)
            .map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_429_without_a_wait_gets_one_and_one_with_keeps_its_own() {
        assert_eq!(wait(429, &[], "rate_limit_exceeded").as_deref(), Some("5"));
        assert_eq!(wait(429, &[("retry-after", "86400")], "x").as_deref(), Some("86400"));
        assert_eq!(wait(503, &[], "x"), None);
        assert_eq!(wait(200, &[("retry-after-ms", "7")], "x"), None);
    }

    #[test]
    fn what_google_says_in_its_body_is_said_in_the_head() {
        for (details, wanted) in [
            (
                r#"[{"@type":"type.googleapis.com/google.rpc.Help"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"37.2s"}]"#,
                "38",
            ),
            ("[]", "5"),
        ] {
            let body = format!(
                r#"{{"error":{{"code":429,"status":"RESOURCE_EXHAUSTED","message":"no","details":{details}}}}}"#
            );
            let mut head = HeaderMap::new();
            add_wait(StatusCode::TOO_MANY_REQUESTS, &mut head, body.as_bytes());
            assert_eq!(head[header::RETRY_AFTER], wanted);
        }
    }

    #[test]
    fn milliseconds_become_seconds_whatever_the_status() {
        assert_eq!(wait(429, &[("retry-after-ms", "1200")], "x").as_deref(), Some("2"));
        assert_eq!(wait(503, &[("retry-after-ms", "0")], "x").as_deref(), Some("1"));
        assert_eq!(wait(429, &[("retry-after-ms", "soon")], "x").as_deref(), Some("5"));
    }

    #[test]
    fn what_waiting_does_not_mend_gets_no_wait() {
        for code in LASTING {
            assert_eq!(wait(429, &[], code), None, "{code}");
        }
        assert_eq!(wait(429, &[("x-should-retry", "false")], "x"), None);
    }

    #[test]
    fn a_used_up_budget_says_when_there_is_more() {
        let tokens = |reset| {
            [
                ("x-ratelimit-remaining-tokens", "0"),
                ("x-ratelimit-reset-tokens", reset),
            ]
        };
        for (said, wanted) in [
            ("8.64s", "9"),
            ("120ms", "1"),
            ("1m2s", "60"),
            ("0s", "1"),
            ("7", "5"),
            ("", "5"),
        ] {
            assert_eq!(wait(429, &tokens(said), "x").as_deref(), Some(wanted), "{said:?}");
        }
        let unused = [
            ("x-ratelimit-remaining-requests", "12"),
            ("x-ratelimit-reset-requests", "40s"),
        ];
        assert_eq!(wait(429, &unused, "x").as_deref(), Some("5"));
    }
}
