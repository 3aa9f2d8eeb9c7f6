//! What a vendor's answer, or the lack of one, says of the account that was used. Does no IO.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::Deserialize;

use super::{
    bedrock,
    wait::{number, reset},
};

/// What is wrong with an account, or with its vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trouble {
    /// 401: its credential is not accepted.
    Credential,
    /// 403: it may not.
    Forbidden,
    /// 429: it has used up a rate or a quota.
    Limited,
    /// 529, 503: the vendor has too much to do.
    Overloaded,
    /// Any other 5xx.
    Failing,
    /// No connection, or none that lasted until a head had come.
    Unreachable,
    /// No head in time.
    Late,
    /// The answer broke off, or fell silent.
    Broke,
}

impl Trouble {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Credential,
        Self::Forbidden,
        Self::Limited,
        Self::Overloaded,
        Self::Failing,
        Self::Unreachable,
        Self::Late,
        Self::Broke,
    ];

    /// Its name in a row, and a label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Forbidden => "forbidden",
            Self::Limited => "limited",
            Self::Overloaded => "overloaded",
            Self::Failing => "failing",
            Self::Unreachable => "unreachable",
            Self::Late => "late",
            Self::Broke => "broke",
        }
    }

    /// What the head of an answer says. A refusal that is the request's fault says nothing of the account. Amazon names
    /// its errors, and some by a status that means something else elsewhere. What is to be asked again later is not the
    /// request's fault: so a relay says that its accounts are out of use.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if status.is_success() {
            return None;
        }
        if let Some(named) = bedrock::trouble(headers) {
            return Some(named);
        }
        match status.as_u16() {
            400 if headers.contains_key(header::RETRY_AFTER) => Some(Self::Overloaded),
            401 => Some(Self::Credential),
            403 => Some(Self::Forbidden),
            429 => Some(Self::Limited),
            503 | 529 => Some(Self::Overloaded),
            500..=599 => Some(Self::Failing),
            _ => None,
        }
    }

    /// Whether another account of the same pool may serve the call instead. A vendor's word on who may use it is
    /// passed on and never got around.
    pub const fn may_move(self) -> bool {
        match self {
            Self::Limited | Self::Overloaded | Self::Failing | Self::Unreachable | Self::Late => true,
            Self::Credential | Self::Forbidden | Self::Broke => false,
        }
    }
}

/// No vendor's word keeps an account out of use for longer: some name the end of a month.
pub const LONGEST_WINDOW: Duration = Duration::from_secs(300);

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// What Anthropic says of its budgets: what is left, and the moment at which there is more.
/// Source: <https://docs.anthropic.com/en/api/rate-limits> (2026-11).
static ANTHROPIC: [[HeaderName; 2]; 4] = [
    [
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
    ],
];

/// For how long a refused account is to be left alone, by its vendor's own word; at most [`LONGEST_WINDOW`].
/// `now_ms` is milliseconds since 1970.
pub fn window(headers: &HeaderMap, body: &[u8], now_ms: i64) -> Option<Duration> {
    let said = number(headers, &RETRY_AFTER_MS)
        .map(Duration::from_millis)
        .or_else(|| retry_after(headers, now_ms))
        .or_else(|| reset(headers).map(Duration::from_secs))
        .or_else(|| anthropic(headers, now_ms))
        .or_else(|| google(body));
    said.map(|said| said.min(LONGEST_WINDOW))
}

/// Seconds, or a moment (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    if let Some(seconds) = number(headers, &header::RETRY_AFTER) {
        return Some(Duration::from_secs(seconds));
    }
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(until(moment, now_ms))
}

fn anthropic(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let used_up = ANTHROPIC.iter().filter(|[left, _]| number(headers, left) == Some(0));
    let resets = used_up.filter_map(|[_, reset]| headers.get(reset)?.to_str().ok()?.parse().ok());
    resets.map(|moment: jiff::Timestamp| until(moment, now_ms)).max()
}

fn until(moment: jiff::Timestamp, now_ms: i64) -> Duration {
    let left = moment.as_millisecond().saturating_sub(now_ms);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

/// `google.rpc.RetryInfo` among an error's details: a duration in seconds, `31.5s`.
/// Source: <https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto> (2026-11).
fn google(body: &[u8]) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        details: Vec<Detail>,
    }
    #[derive(Deserialize)]
    struct Detail {
        #[serde(rename = "retryDelay")]
        retry_delay: Option<String>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    let delay = body.error.details.into_iter().find_map(|detail| detail.retry_delay)?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// 2026-11-21T00:00:00Z.
    const NOW: i64 = 1_795_219_200_000;

    fn said(headers: &[(&'static str, &'static str)], body: &str) -> Option<u64> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        window(&headers, body.as_bytes(), NOW).map(|window| u64::try_from(window.as_millis()).unwrap())
    }

    #[test]
    fn each_vendor_s_way_to_name_a_window_is_read_and_capped() {
        assert_eq!(said(&[("retry-after", "7")], ""), Some(7_000));
        assert_eq!(
            said(&[("retry-after", "Sat, 21 Nov 2026 00:00:09 GMT")], ""),
            Some(9_000)
        );
        assert_eq!(said(&[("retry-after", "Sat, 21 Nov 2020 00:00:09 GMT")], ""), Some(0));
        assert_eq!(
            said(&[("retry-after-ms", "1250"), ("retry-after", "9")], ""),
            Some(1_250)
        );
        let openai = [
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "1m2s"),
        ];
        assert_eq!(said(&openai, ""), Some(62_000));
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2026-11-21T00:00:30Z"),
            ("anthropic-ratelimit-tokens-remaining", "12"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-21T00:04:00Z"),
        ];
        assert_eq!(said(&anthropic, ""), Some(30_000));
        let google = r#"{"error":{"code":429,"details":[{"@type":"x","violations":[]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"31.5s"}]}}"#;
        assert_eq!(said(&[], google), Some(31_500));
        assert_eq!(said(&[("retry-after", "432000")], ""), Some(300_000));
        assert_eq!(said(&[("retry-after", "99999999999999999999999")], ""), Some(300_000));
        assert_eq!(said(&[("retry-after", "1.5")], ""), Some(2_000));
        assert_eq!(said(&[("retry-after-ms", "250.0")], ""), Some(250));
        for absurd in ["-1", "+1", "1.x", ".5", "1e9", "0x10", "NaN", ""] {
            assert_eq!(said(&[("retry-after", absurd)], ""), None, "{absurd}");
        }
        for nothing in [
            "",
            "{}",
            r#"{"error":"no"}"#,
            r#"{"error":{"details":[{"retryDelay":"soon"}]}}"#,
        ] {
            assert_eq!(said(&[("retry-after", "soon")], nothing), None);
        }
    }

    #[test]
    fn what_is_the_request_s_fault_says_nothing_of_the_account() {
        let of = |status| Trouble::of(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for status in [200, 301, 400, 404, 408, 413, 422] {
            assert_eq!(of(status), None, "{status}");
        }
        assert_eq!(of(529), Some(Trouble::Overloaded));
        let later = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("60"))]);
        assert_eq!(Trouble::of(StatusCode::BAD_REQUEST, &later), Some(Trouble::Overloaded));
        assert!(!Trouble::Credential.may_move() && !Trouble::Forbidden.may_move() && Trouble::Limited.may_move());
    }
}
