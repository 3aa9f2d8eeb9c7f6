//! Every reason why we do not serve a call, and how each dialect is told. Knows no cause that is not fit for a client.
//!
//! The statuses and codes of OpenAI's wires are chosen by what Codex does with them: a policy is never a 402, 403 or
//! 5xx, which it would repeat up to thirty times. Those of the others are the vendor's own.

mod google;
mod messages;

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::wire::Wire;

/// The closed list of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 400: the body cannot be understood.
    InvalidRequest,
    /// 401: no key, or not one of ours.
    InvalidKey,
    /// 400: the tenant may not call. Not 403, which Codex repeats.
    TenantSuspended,
    /// 400: the client is at an address from which it may not call. Not 403, which Codex repeats.
    AddressNotAllowed,
    /// 404 `model_not_found`.
    ModelNotFound,
    /// 404: no such path.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 413.
    BodyTooLarge,
    /// 400 `context_length_exceeded`, by which clients know to shorten the conversation.
    ContextTooLong,
    /// 431.
    HeadTooLarge,
    /// 400 as plain text: 415 would be repeated.
    UnsupportedEncoding,
    /// 409 with `Retry-After`: the call of this `Idempotency-Key` still runs.
    CallRunning,
    /// 409: the call of this `Idempotency-Key` is over; the refusal has its receipt.
    AlreadyCompleted,
    /// 422: this `Idempotency-Key` stands for another request.
    KeyReused,
    /// 409: the account that a conversation belongs to is gone.
    ConversationGone,
    /// 429 `rate_limit_exceeded` with `Retry-After`.
    RateLimited,
    /// 503 `server_is_overloaded`.
    Overloaded,
    /// 400 with `Retry-After`: the vendor accounts that may serve the call are out of use, for minutes. Not 503, which
    /// Codex repeats up to thirty times, each time after that wait.
    AccountUnavailable,
    /// 429 `insufficient_quota`.
    OutOfCredit,
    /// 429 `usage_limit_reached`.
    UsageLimit,
    /// 503 with `Retry-After`: the agent has no link to its hub.
    LinkDown,
    /// 503 with `Retry-After`: the hub is shutting down.
    Draining,
    /// 503 with `Retry-After`: money cannot be booked at the moment.
    LedgerUnavailable,
    /// 503 with `Retry-After`: none of the account's own ways out works, and no other may be taken.
    EgressUnavailable,
    /// 502: no connection to the vendor.
    UpstreamUnreachable,
    /// 504: the vendor did not answer in time.
    UpstreamTimeout,
    /// 502, in a stream `server_error`: the vendor broke off.
    UpstreamBroke,
    /// 426: speak HTTP here.
    NoWebSocket,
    /// 403: a web page of another origin.
    ForeignOrigin,
    /// 403: a `Host` that is not this one.
    ForeignHost,
    /// 500.
    Internal,
}

/// The list above is whole.
const _: () = assert!(Code::ALL.len() == Code::Internal as usize + 1);

/// One refusal. All of it is public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub code: Code,
    /// What happened, as a sentence.
    pub message: Box<str>,
    /// What helps.
    pub hint: Option<Box<str>>,
    /// When to come back. Written in whole seconds, at least 1.
    pub retry_after: Option<Duration>,
    /// When a usage limit ends, in seconds since 1970.
    pub resets_at: Option<u64>,
    /// The field of the request that is at fault.
    pub param: Option<Box<str>>,
    /// The rate that is used up.
    pub rate: Option<Box<Rate>>,
    /// What became of the call that was asked for again.
    pub receipt: Option<Box<Value>>,
}

/// How much of a rate is used, as OpenAI's clients read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What is counted.
    pub unit: RateUnit,
    /// So many a minute.
    pub limit: u64,
    /// So many may still come at once.
    pub remaining: u64,
    /// Until then all of it is there again.
    pub reset: Duration,
}

/// What a rate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateUnit {
    /// Calls.
    Requests,
    /// Tokens.
    Tokens,
}

impl Rate {
    fn headers(&self) -> [(&'static str, String); 3] {
        let [limit, remaining, reset] = match self.unit {
            RateUnit::Requests => [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
            ],
            RateUnit::Tokens => [
                "x-ratelimit-limit-tokens",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
            ],
        };
        [
            (limit, self.limit.to_string()),
            (remaining, self.remaining.to_string()),
            (reset, span(self.reset)),
        ]
    }
}

/// As OpenAI writes it: `120ms`, `2s`, `6m0s`. Rounded up.
fn span(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    let seconds = millis.div_ceil(1_000);
    match (millis, seconds) {
        (..1_000, _) => format!("{millis}ms"),
        (_, ..60) => format!("{seconds}s"),
        (_, seconds) => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

/// An HTTP answer, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The status.
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(&'static str, String)>,
    /// The body, never empty.
    pub body: Bytes,
}

impl Refusal {
    /// A refusal with a message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into().into(),
            hint: None,
            retry_after: None,
            resets_at: None,
            param: None,
            rate: None,
            receipt: None,
        }
    }

    /// Adds what helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into().into());
        self
    }

    /// Adds when to come back.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds when the limit ends, in seconds since 1970.
    #[must_use]
    pub fn resets_at(mut self, unix_seconds: u64) -> Self {
        self.resets_at = Some(unix_seconds);
        self
    }

    /// Names the field of the request that is at fault.
    #[must_use]
    pub fn param(mut self, field: impl Into<Box<str>>) -> Self {
        self.param = Some(field.into());
        self
    }

    /// Adds the rate that is used up.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(Box::new(rate));
        self
    }

    /// Adds what became of the call that was asked for again.
    #[must_use]
    pub fn receipt(mut self, receipt: Value) -> Self {
        self.receipt = Some(Box::new(receipt));
        self
    }

    /// The HTTP answer, when no byte was sent yet.
    #[must_use]
    pub fn render(&self, wire: Wire, request_id: &str) -> Rendered {
        let text = self.code.rule().text && matches!(wire, Wire::Responses | Wire::Chat);
        let status = self.code.status_in(wire);
        let mut headers = vec![
            (
                "content-type",
                if text {
                    "text/plain; charset=utf-8"
                } else {
                    "application/json"
                }
                .to_owned(),
            ),
            ("x-request-id", header_text(request_id)),
        ];
        if let Some(seconds) = self.retry_seconds() {
            headers.push(("retry-after", seconds.to_string()));
        }
        match wire {
            Wire::Responses | Wire::Chat => {
                headers.extend(self.rate.iter().flat_map(|rate| rate.headers()));
                headers.extend(self.special_headers());
            }
            Wire::Messages => headers.extend(messages::headers(self, request_id)),
            Wire::Gemini => {}
        }
        let body = match wire {
            Wire::Responses | Wire::Chat if text => Bytes::from(format!("{}\n", self.words())),
            Wire::Responses | Wire::Chat => json(&json!({ "error": self.error_object(request_id) })),
            Wire::Messages => json(&messages::error(self, request_id)),
            Wire::Gemini => json(&google::error(self, request_id)),
        };
        Rendered { status, headers, body }
    }

    /// The event that ends a stream which has begun. The body must end right after it: Codex waits for that.
    #[must_use]
    pub fn stream_event(&self, wire: Wire, request_id: &str) -> Bytes {
        match wire {
            Wire::Responses => {
                let event = self.failed(request_id);
                Bytes::from(format!("event: response.failed\ndata: {event}\n\n"))
            }
            Wire::Chat => {
                let event = json!({ "error": self.error_object(request_id) });
                Bytes::from(format!("data: {event}\n\n"))
            }
            Wire::Messages => {
                let event = messages::error(self, request_id);
                Bytes::from(format!("event: error\ndata: {event}\n\n"))
            }
            Wire::Gemini => {
                let event = google::error(self, request_id);
                Bytes::from(format!("data: {event}\n\n"))
            }
        }
    }

    /// What ends an answer of Gemini's which is one JSON array, after so many of its elements: an element of ours.
    pub(crate) fn array_end(&self, request_id: &str, elements: u64) -> Bytes {
        let before = if elements == 0 { '[' } else { ',' };
        Bytes::from(format!("{before}{}]", google::error(self, request_id)))
    }

    /// The text message that ends a response on a WebSocket which has begun: the event that would end its stream.
    #[must_use]
    pub fn failed_response(&self, request_id: &str) -> Bytes {
        json(&self.failed(request_id))
    }

    fn failed(&self, request_id: &str) -> Value {
        let error = json!({ "code": self.code.rule().in_stream, "message": self.words_in_stream() });
        let response = json!({ "id": request_id, "object": "response", "status": "failed", "error": error });
        json!({ "type": "response.failed", "response": response })
    }

    /// The text message that ends a response on a WebSocket. Codex heeds it only with exactly one `status`.
    #[must_use]
    pub fn socket_frame(&self, request_id: &str) -> Bytes {
        let mut frame = json!({
            "type": "error",
            "status": self.code.rule().status,
            "error": self.error_object(request_id),
        });
        let wait = self.retry_seconds().map(|seconds| ("retry-after", seconds.to_string()));
        let rate = self.rate.iter().flat_map(|rate| rate.headers());
        let headers: serde_json::Map<_, _> = wait
            .into_iter()
            .chain(rate)
            .map(|(name, value)| (name.to_owned(), Value::String(value)))
            .collect();
        if !headers.is_empty() {
            frame["headers"] = headers.into();
        }
        json(&frame)
    }

    fn error_object(&self, request_id: &str) -> Value {
        let Rule { kind, code, .. } = self.code.rule();
        let kind = match self.rate.as_ref().map(|rate| rate.unit) {
            Some(RateUnit::Tokens) => "tokens",
            Some(RateUnit::Requests) | None => kind,
        };
        let mut error = json!({
            "message": self.words(), "type": kind, "code": code, "param": self.param, "request_id": request_id,
        });
        if let Some(at) = self.resets_at {
            error["resets_at"] = at.into();
        }
        if let Some(receipt) = &self.receipt {
            error["receipt"] = (**receipt).clone();
        }
        error
    }

    fn words(&self) -> String {
        match &self.hint {
            Some(hint) if self.message.ends_with(['.', '!', '?']) => format!("{} {hint}", self.message),
            Some(hint) => format!("{}. {hint}", self.message),
            None => self.message.to_string(),
        }
    }

    /// In a stream the wait can only be told in words, which Codex reads in this very form.
    fn words_in_stream(&self) -> String {
        match (self.code, self.retry_seconds()) {
            (Code::RateLimited, Some(seconds)) => format!("{} Please try again in {seconds}s.", self.words()),
            _ => self.words(),
        }
    }

    /// Whole seconds, rounded up, at least 1: zero would be a tight loop and a fraction is not read.
    fn retry_seconds(&self) -> Option<u64> {
        let wait = self
            .retry_after
            .map(|wait| wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)));
        wait.or(self.code.rule().wait).map(|seconds| seconds.max(1))
    }

    fn special_headers(&self) -> Option<(&'static str, String)> {
        match (self.code, &self.hint) {
            (Code::InvalidKey, _) => Some(("www-authenticate", "Bearer".to_owned())),
            (Code::UsageLimit, Some(hint)) => Some(("x-codex-promo-message", header_text(hint))),
            (Code::NoWebSocket, _) => Some(("upgrade", "HTTP/1.1".to_owned())),
            // OpenAI's own clients repeat every 409 that does not forbid it.
            (Code::AlreadyCompleted | Code::ConversationGone, _) => Some(("x-should-retry", "false".to_owned())),
            _ => None,
        }
    }
}

/// How one code is told.
struct Rule {
    status: u16,
    /// `error.type`.
    kind: &'static str,
    /// `error.code`.
    code: &'static str,
    /// `response.error.code` of a stream that has begun: only those that Codex knows. `invalid_prompt` ends the turn
    /// and shows the message; `server_error` is tried again.
    in_stream: &'static str,
    /// Seconds of `Retry-After` when the refusal names none.
    wait: Option<u64>,
    /// Plain text instead of JSON.
    text: bool,
}

impl Rule {
    const fn fatal(status: u16, code: &'static str) -> Self {
        Self {
            status,
            kind: "invalid_request_error",
            code,
            in_stream: "invalid_prompt",
            wait: None,
            text: false,
        }
    }

    const fn passing(status: u16, code: &'static str, wait: Option<u64>) -> Self {
        Self {
            status,
            kind: "server_error",
            code,
            in_stream: "server_error",
            wait,
            text: false,
        }
    }

    const fn limit(kind: &'static str, code: &'static str, in_stream: &'static str, wait: Option<u64>) -> Self {
        Self {
            status: 429,
            kind,
            code,
            in_stream,
            wait,
            text: false,
        }
    }
}

impl Code {
    /// Every one, in their order.
    pub const ALL: [Self; 31] = [
        Self::InvalidRequest,
        Self::InvalidKey,
        Self::TenantSuspended,
        Self::AddressNotAllowed,
        Self::ModelNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::BodyTooLarge,
        Self::ContextTooLong,
        Self::HeadTooLarge,
        Self::UnsupportedEncoding,
        Self::CallRunning,
        Self::AlreadyCompleted,
        Self::KeyReused,
        Self::ConversationGone,
        Self::RateLimited,
        Self::Overloaded,
        Self::AccountUnavailable,
        Self::OutOfCredit,
        Self::UsageLimit,
        Self::LinkDown,
        Self::Draining,
        Self::LedgerUnavailable,
        Self::EgressUnavailable,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamBroke,
        Self::NoWebSocket,
        Self::ForeignOrigin,
        Self::ForeignHost,
        Self::Internal,
    ];

    /// The HTTP status of this reason on OpenAI's wires.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.rule().status
    }

    /// The HTTP status of this reason in a dialect.
    #[must_use]
    pub const fn status_in(self, wire: Wire) -> u16 {
        match wire {
            Wire::Responses | Wire::Chat => self.status(),
            Wire::Messages => messages::rule(self).0,
            Wire::Gemini => google::rule(self).0,
        }
    }

    /// `error.code` of this reason; also a fit label of a metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.rule().code
    }

    const fn rule(self) -> Rule {
        match self {
            Self::InvalidRequest => Rule::fatal(400, "invalid_request"),
            Self::InvalidKey => Rule::fatal(401, "invalid_api_key"),
            Self::TenantSuspended => Rule::fatal(400, "tenant_suspended"),
            Self::AddressNotAllowed => Rule::fatal(400, "address_not_allowed"),
            Self::ModelNotFound => Rule::fatal(404, "model_not_found"),
            Self::NotFound => Rule::fatal(404, "unknown_url"),
            Self::MethodNotAllowed => Rule::fatal(405, "method_not_allowed"),
            Self::BodyTooLarge => Rule::fatal(413, "request_too_large"),
            Self::ContextTooLong => Rule {
                in_stream: "context_length_exceeded",
                ..Rule::fatal(400, "context_length_exceeded")
            },
            Self::HeadTooLarge => Rule::fatal(431, "request_header_fields_too_large"),
            Self::UnsupportedEncoding => Rule {
                text: true,
                ..Rule::fatal(400, "unsupported_content_encoding")
            },
            Self::CallRunning => Rule {
                wait: Some(1),
                ..Rule::fatal(409, "call_running")
            },
            Self::AlreadyCompleted => Rule::fatal(409, "already_completed"),
            Self::KeyReused => Rule::fatal(422, "idempotency_key_reused"),
            Self::ConversationGone => Rule::fatal(409, "conversation_account_gone"),
            Self::RateLimited => Rule::limit("requests", "rate_limit_exceeded", "rate_limit_exceeded", Some(1)),
            Self::Overloaded => Rule {
                in_stream: "server_is_overloaded",
                ..Rule::passing(503, "server_is_overloaded", None)
            },
            Self::AccountUnavailable => Rule {
                wait: Some(60),
                ..Rule::fatal(400, "account_unavailable")
            },
            Self::OutOfCredit => Rule::limit("insufficient_quota", "insufficient_quota", "insufficient_quota", None),
            Self::UsageLimit => Rule::limit("usage_limit_reached", "usage_limit_reached", "invalid_prompt", None),
            Self::LinkDown => Rule::passing(503, "link_down", Some(2)),
            Self::Draining => Rule::passing(503, "draining", Some(1)),
            Self::LedgerUnavailable => Rule::passing(503, "ledger_unavailable", Some(2)),
            Self::EgressUnavailable => Rule::passing(503, "egress_unavailable", Some(2)),
            Self::UpstreamUnreachable => Rule::passing(502, "upstream_unreachable", None),
            Self::UpstreamTimeout => Rule::passing(504, "upstream_timeout", None),
            Self::UpstreamBroke => Rule::passing(502, "server_error", None),
            Self::NoWebSocket => Rule::fatal(426, "websocket_not_available"),
            Self::ForeignOrigin => Rule::fatal(403, "foreign_origin"),
            Self::ForeignHost => Rule::fatal(403, "foreign_host"),
            Self::Internal => Rule::passing(500, "internal_error", None),
        }
    }
}

/// What may stand in a header: printable ASCII, anything else a space.
fn header_text(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { ' ' })
        .collect()
}

fn json(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tests;
