//! A refusal as Anthropic's clients read it. They repeat a 408, 409, 429 and 5xx unless `x-should-retry` forbids it.
//! Source: <https://platform.claude.com/docs/en/api/errors> (2026-11).

use serde_json::{Value, json};

use super::{Code, RateUnit, Refusal, header_text};
use crate::wire::Wire;

/// The status and `error.type` of a reason.
pub(super) const fn rule(code: Code) -> (u16, &'static str) {
    match code {
        Code::InvalidRequest | Code::ContextTooLong | Code::UnsupportedEncoding => (400, "invalid_request_error"),
        Code::InvalidKey => (401, "authentication_error"),
        Code::OutOfCredit => (402, "billing_error"),
        Code::TenantSuspended | Code::AddressNotAllowed | Code::ForeignOrigin | Code::ForeignHost => {
            (403, "permission_error")
        }
        Code::ModelNotFound | Code::NotFound => (404, "not_found_error"),
        Code::MethodNotAllowed => (405, "invalid_request_error"),
        Code::CallRunning | Code::AlreadyCompleted | Code::ConversationGone => (409, "invalid_request_error"),
        Code::BodyTooLarge => (413, "request_too_large"),
        Code::KeyReused => (422, "invalid_request_error"),
        Code::NoWebSocket => (426, "invalid_request_error"),
        Code::HeadTooLarge => (431, "invalid_request_error"),
        Code::RateLimited | Code::UsageLimit => (429, "rate_limit_error"),
        Code::Internal => (500, "api_error"),
        Code::UpstreamUnreachable | Code::UpstreamBroke => (502, "api_error"),
        Code::LinkDown | Code::Draining | Code::LedgerUnavailable | Code::EgressUnavailable => (503, "api_error"),
        Code::UpstreamTimeout => (504, "timeout_error"),
        Code::Overloaded | Code::AccountUnavailable => (529, "overloaded_error"),
    }
}

pub(super) fn error(refusal: &Refusal, request_id: &str) -> Value {
    let mut error = json!({ "type": rule(refusal.code).1, "message": refusal.words() });
    if let Some(receipt) = &refusal.receipt {
        error["receipt"] = (**receipt).clone();
    }
    json!({ "type": "error", "error": error, "request_id": request_id })
}

/// Headers of this dialect alone. The time at which a rate is whole again would need a clock: it is told by
/// `retry-after`.
pub(super) fn headers(refusal: &Refusal, request_id: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![(Wire::Messages.request_id(), header_text(request_id))];
    if let Some(rate) = &refusal.rate {
        let [limit, remaining] = match rate.unit {
            RateUnit::Requests => [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
            ],
            RateUnit::Tokens => [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
            ],
        };
        headers.push((limit, rate.limit.to_string()));
        headers.push((remaining, rate.remaining.to_string()));
    }
    // What asking again does not mend.
    if matches!(
        refusal.code,
        Code::UsageLimit | Code::AlreadyCompleted | Code::ConversationGone | Code::AccountUnavailable
    ) {
        headers.push(("x-should-retry", "false".to_owned()));
    }
    headers
}
