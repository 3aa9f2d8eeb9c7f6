//! What a caller reads who asks again. Knows receipts; knows no request.

use relay_protocol::{Code, Refusal};
use relay_shared::call::CallId;
use serde_json::json;

use super::Running;
use crate::{refusal::Refused, store::idempotency::End};

pub(super) fn malformed(what: &str) -> Refused {
    Refusal::new(Code::InvalidRequest, format!("The header `Idempotency-Key` {what}"))
        .hint("send one of 1 to 255 printable ASCII characters, a new one for each new request")
        .into()
}

pub(super) fn reused() -> Refused {
    Refusal::new(
        Code::KeyReused,
        "This `Idempotency-Key` was sent with another request before",
    )
    .hint("use a new key for each new request")
    .into()
}

pub(super) fn running(other: &Running, request: [u8; 32]) -> Refused {
    if other.request == request {
        still_running(other.call)
    } else {
        reused()
    }
}

pub(super) fn still_running(call: CallId) -> Refused {
    let message = "The call of this `Idempotency-Key` is still running";
    Refusal::new(Code::CallRunning, message)
        .receipt(json!({"call_id": call.to_string()}))
        .into()
}

/// Its answer was not kept, and it is not run again.
pub(super) fn ended(call: CallId, end: &End) -> Refused {
    let tokens = end.tokens.map(|[input, cached, output, reasoning]| {
        json!({"input": input, "cached": cached, "output": output, "reasoning": reasoning})
    });
    let ended_at = jiff::Timestamp::from_millisecond(end.at_ms)
        .map(|at| at.to_string())
        .ok();
    let receipt = json!({
        "call_id": call.to_string(), "ending": end.ending, "status": end.status, "model": end.model,
        "tokens": tokens, "charged": end.charged, "ended_at": ended_at,
    });
    told(receipt)
}

/// Nothing was booked of it: its hub died under it.
pub(super) fn lost(call: CallId) -> Refused {
    told(json!({"call_id": call.to_string(), "ending": "recovered", "charged": "0"}))
}

fn told(receipt: serde_json::Value) -> Refused {
    let message =
        "The call of this `Idempotency-Key` is over, and answers are not kept: the receipt tells what became of it";
    Refusal::new(Code::AlreadyCompleted, message)
        .hint("use a new key to ask again")
        .receipt(receipt)
        .into()
}
