//! What a caller reads where no account can serve it.

use std::{sync::Arc, time::Duration};

use relay_protocol::{Code, Refusal};

use super::seat::Seat;
use crate::{
    admission::Full,
    ids::{AccountId, TenantId},
    refusal::Refused,
    vendor::Trouble,
};

/// No account serves the calls of this tenant for this model.
pub(super) fn nobody(seats: &[Arc<Seat>], tenant: &TenantId) -> Refused {
    if seats.is_empty() {
        return Refusal::new(Code::Overloaded, "No upstream account is connected to this relay.")
            .hint("the operator adds one with `relay-hub account add`")
            .into();
    }
    if !seats.iter().any(|seat| seat.share.users.has(tenant)) {
        return Refusal::new(
            Code::Overloaded,
            "This tenant may use no upstream account of this relay.",
        )
        .hint("ask the operator of the relay")
        .into();
    }
    Refusal::new(
        Code::ModelNotFound,
        "No upstream account that this tenant may use serves this model.",
    )
    .hint("GET /v1/models lists the models; the operator has `relay-hub account set NAME --models`")
    .into()
}

/// Every account that may serve the call is out of use, the first of them for so long; `cause` is what the tenant's only
/// account met.
pub(super) fn out(wait: Duration, cause: Option<Trouble>) -> Refused {
    let message = match cause {
        None => "Every upstream account that may serve this call is out of use.",
        Some(Trouble::Credential | Trouble::Forbidden) => "The upstream account is out of use: its vendor refuses it.",
        Some(_) => "The upstream account is out of use: its vendor fails or does not answer.",
    };
    Refusal::new(Code::AccountUnavailable, message)
        .hint(format!("It is tried again in {} s.", wait.as_millis().div_ceil(1_000)))
        .retry_after(wait)
        .into()
}

/// Others were faster each time an account was chosen.
pub(super) fn contended() -> Refused {
    Refusal::new(
        Code::Overloaded,
        "The upstream accounts are in demand; try again in a moment.",
    )
    .retry_after(Duration::from_secs(1))
    .into()
}

pub(super) fn gone() -> Refused {
    Refusal::new(
        Code::ConversationGone,
        "The upstream account that served this conversation is gone, and no other knows it.",
    )
    .hint("begin a new conversation, or ask the operator of the relay")
    .into()
}

/// The socket's account did not make the reasoning that a call on it sends back.
pub(super) fn elsewhere() -> Refused {
    Refusal::new(
        Code::ConversationGone,
        "The reasoning that this call sends back was made by another upstream account than this socket's.",
    )
    .hint("open another socket, or use HTTP; a conversation that is named, as by `session-id`, keeps to its account")
    .into()
}

pub(super) fn paced(wait: Duration) -> Refused {
    Refusal::new(
        Code::RateLimited,
        "The upstream accounts have as many calls this minute as they may.",
    )
    .retry_after(wait)
    .into()
}

pub(super) fn full(full: &Full<AccountId>) -> Refused {
    let wait = match full {
        Full::Line(_) => Duration::from_secs(2),
        Full::Late(_) => Duration::from_secs(1),
        Full::Closed => {
            let message = "The relay is restarting; try again in a moment.";
            return Refusal::new(Code::Draining, message).into();
        }
    };
    Refusal::new(
        Code::RateLimited,
        "The upstream accounts have as many calls running as they may.",
    )
    .retry_after(wait)
    .into()
}

pub(super) fn no_socket() -> Refused {
    Refusal::new(
        Code::NoWebSocket,
        "The upstream of this relay has no WebSocket; use HTTP.",
    )
    .into()
}
