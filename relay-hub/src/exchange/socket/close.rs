//! Why a socket ended: what its client is told, and what the rows of its running calls say. Knows no direction.

use relay_protocol::{
    Code, Refusal,
    ws::{encode_close, encode_text},
};

use crate::{
    directory::Stopped,
    exchange::{
        bill::Spent,
        meter::{draining, suspended},
        socket::ends::Sink,
    },
    ledger::Ending,
};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The vendor's closing handshake was passed on.
    Closed,
    /// The client's was.
    ClientClosed,
    /// The client broke the protocol; the code to close with.
    Violation(u16),
    ClientGone,
    /// The account is no longer the tenant's.
    Withdrawn,
    VendorGone,
    VendorSilent,
    Stopped(Stopped),
    Exhausted(Spent),
    Unsettled,
}

/// Tells the client, as far as it still listens, why its socket ends.
pub(super) async fn tell(end: End, is_running: bool, socket: &str, mut to_client: Sink) {
    let close = match end {
        End::Closed | End::ClientGone => None,
        End::ClientClosed => Some((1000, None)),
        // Going away: clients connect again, and find another account.
        End::Withdrawn => Some((1001, None)),
        End::Violation(code) => Some((code, None)),
        End::VendorGone => Some((1011, Some(broke()))),
        End::VendorSilent => Some((
            1011,
            Some(Refusal::new(
                Code::UpstreamTimeout,
                "The upstream fell silent before the answer was complete.",
            )),
        )),
        End::Stopped(Stopped::Suspended) => Some((1008, Some(suspended()))),
        End::Exhausted(spent) => Some((1008, Some(spent.refusal()))),
        End::Stopped(Stopped::Draining) => Some((1012, Some(draining()))),
        End::Unsettled => Some((
            1011,
            Some(Refusal::new(
                Code::LedgerUnavailable,
                "The relay could not settle this call; it is not charged.",
            )),
        )),
    };
    if let Some((code, refusal)) = close {
        if let Some(refusal) = refusal.filter(|_| is_running) {
            let words = match end {
                // The answer has begun: it fails as one does in a stream.
                End::Exhausted(_) => refusal.failed_response(socket),
                _ => refusal.socket_frame(socket),
            };
            drop(to_client.send(encode_text(&words, None)).await);
        }
        let code = if is_running || code != 1011 { code } else { 1001 };
        drop(to_client.send(encode_close(code, "", None)).await);
    }
    to_client.end().await;
}

/// What the client of an answer is told that its vendor did not end.
pub(super) fn broke() -> Refusal {
    Refusal::new(
        Code::UpstreamBroke,
        "The upstream broke off before the answer was complete.",
    )
}

pub(super) const fn ending(end: End) -> Ending {
    match end {
        End::Closed | End::VendorGone => Ending::VendorCut,
        End::ClientClosed | End::ClientGone | End::Violation(_) => Ending::ClientGone,
        // No answer runs.
        End::Withdrawn => Ending::Completed,
        End::VendorSilent => Ending::VendorTimeout,
        End::Stopped(Stopped::Draining) => Ending::HubDraining,
        End::Stopped(Stopped::Suspended) => Ending::Suspended,
        End::Exhausted(spent) => spent.ending(),
        End::Unsettled => Ending::HubFault,
    }
}
