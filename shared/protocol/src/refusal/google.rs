//! A refusal as Google's clients read it: `google.rpc.Status` in JSON.
//! Source: <https://cloud.google.com/apis/design/errors> (2026-11).

use serde_json::{Value, json};

use super::{Code, Refusal};

/// The status and its name for a reason.
pub(super) const fn rule(code: Code) -> (u16, &'static str) {
    match code {
        Code::InvalidRequest
        | Code::ContextTooLong
        | Code::UnsupportedEncoding
        | Code::MethodNotAllowed
        | Code::BodyTooLarge
        | Code::HeadTooLarge
        | Code::NoWebSocket => (code.status(), "INVALID_ARGUMENT"),
        Code::InvalidKey => (401, "UNAUTHENTICATED"),
        Code::TenantSuspended | Code::AddressNotAllowed | Code::ForeignOrigin | Code::ForeignHost => {
            (403, "PERMISSION_DENIED")
        }
        Code::ModelNotFound | Code::NotFound => (404, "NOT_FOUND"),
        Code::CallRunning => (409, "ABORTED"),
        Code::AlreadyCompleted => (409, "ALREADY_EXISTS"),
        Code::ConversationGone => (409, "FAILED_PRECONDITION"),
        Code::KeyReused => (422, "FAILED_PRECONDITION"),
        Code::RateLimited | Code::UsageLimit | Code::OutOfCredit => (429, "RESOURCE_EXHAUSTED"),
        Code::Internal => (500, "INTERNAL"),
        Code::UpstreamUnreachable | Code::UpstreamBroke => (502, "UNAVAILABLE"),
        Code::Overloaded
        | Code::AccountUnavailable
        | Code::LinkDown
        | Code::Draining
        | Code::LedgerUnavailable
        | Code::EgressUnavailable => (503, "UNAVAILABLE"),
        Code::UpstreamTimeout => (504, "DEADLINE_EXCEEDED"),
    }
}

pub(super) fn error(refusal: &Refusal, request_id: &str) -> Value {
    let (status, name) = rule(refusal.code);
    json!({ "error": {
        "code": status,
        "message": refusal.words(),
        "status": name,
        "details": details(refusal, request_id),
    } })
}

fn details(refusal: &Refusal, request_id: &str) -> Vec<Value> {
    let mut details = vec![
        json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": refusal.code.name().to_ascii_uppercase(),
            "domain": "codex-relay",
        }),
        json!({ "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": request_id }),
    ];
    if let Some(seconds) = refusal.retry_seconds() {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s"),
        }));
    }
    if let Some(field) = &refusal.param {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{ "field": field, "description": refusal.words() }],
        }));
    }
    if let Some(receipt) = &refusal.receipt {
        details.push((**receipt).clone());
    }
    details
}
