//! Every reason why we do not serve a call, and how each dialect is told. Knows no cause that is not fit for a client.
//!
//! The statuses and codes are chosen by what Codex does with them: a policy is never a 402, 403 or 5xx, which it
//! would repeat up to thirty times.

use std::time::Duration;

use bytes::Bytes;

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
    /// 404 `model_not_found`.
    ModelNotFound,
    /// 404: no such path.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 413.
    BodyTooLarge,
    /// 431.
    HeadTooLarge,
    /// 400 as plain text: 415 would be repeated.
    UnsupportedEncoding,
    /// 429 `rate_limit_exceeded` with `Retry-After`.
    RateLimited,
    /// 503 `server_is_overloaded`.
    Overloaded,
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

/// One refusal. All of it is public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub code: Code,
    /// What happened, as a sentence.
    pub message: String,
    /// What helps.
    pub hint: Option<String>,
    /// When to come back. Written in whole seconds, at least 1.
    pub retry_after: Option<Duration>,
    /// When a usage limit ends, in seconds since 1970.
    pub resets_at: Option<u64>,
}

/// An HTTP answer, ready to send.
#[derive(Clone, PartialEq, Eq)]
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
            message: message.into(),
            hint: None,
            retry_after: None,
            resets_at: None,
        }
    }

    /// Adds what helps.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
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

    /// The HTTP answer, when no byte was sent yet.
    #[must_use]
    pub fn render(&self, _wire: Wire, request_id: &str) -> Rendered {
        Rendered {
            status: 500,
            headers: vec![("x-request-id", request_id.to_owned())],
            body: Bytes::from_static(b"{}"),
        }
    }

    /// The event that ends a stream which has begun. The body must end right after it.
    #[must_use]
    pub fn stream_event(&self, _wire: Wire, _request_id: &str) -> Bytes {
        Bytes::new()
    }

    /// The text message that ends a response on a WebSocket.
    #[must_use]
    pub fn socket_frame(&self, _request_id: &str) -> Bytes {
        Bytes::new()
    }
}
