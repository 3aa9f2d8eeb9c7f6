//! Books money: holds before a call, charges after it, each exactly once. Knows no vendor, no client and no price list.
//!
//! One task writes. What queues while a commit runs is the next batch; a reserve is answered from inside the open
//! transaction, and [`Hold::durable`] resolves with its commit.
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

mod row;

use relay_protocol::{Code, Refusal};
use relay_shared::{call::CallId, tasks::Tasks};

use crate::{
    identity::By,
    ids::TenantId,
    money::Nanos,
    refusal::Refused,
    store::{Store, StoreError},
};

pub use row::{Ending, Link, UsageRow};

/// A wish to spend up to an amount.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// The call; one open hold each.
    pub call: CallId,
    /// Who pays.
    pub tenant: TenantId,
    /// With what it calls; for the row of a call that nobody settled.
    pub by: By,
    /// The model asked for; for the same row.
    pub model: String,
    /// The most it may cost.
    pub amount: Nanos,
    /// Fixed for the whole call.
    pub price_version: i64,
}

/// Why there is no hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// The tenant has not enough.
    #[error("not enough credit: {available} available")]
    Insufficient {
        /// What the tenant could still spend.
        available: Nanos,
    },
    /// This call already has an open hold.
    #[error("this call is already running")]
    Duplicate,
    /// The ledger cannot write now.
    #[error(transparent)]
    Unavailable(#[from] LedgerDown),
}

/// The ledger cannot write: disk full, database locked, or shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger cannot write at the moment")]
pub struct LedgerDown;

impl From<LedgerDown> for Refused {
    fn from(down: LedgerDown) -> Self {
        let wait = std::time::Duration::from_secs(2);
        let public =
            Refusal::new(Code::LedgerUnavailable, "The relay cannot book calls at the moment").retry_after(wait);
        Self::from(public).caused_by(down)
    }
}

impl From<HoldError> for Refused {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Insufficient { available } => {
                let message = format!("The tenant's credit does not cover this call ({available} available)");
                let hint = "ask the operator for credit, or lower the maximum of output tokens";
                Refusal::new(Code::OutOfCredit, message).hint(hint).into()
            }
            HoldError::Duplicate => Self::new(Code::InvalidRequest, "A call with this id is already running"),
            HoldError::Unavailable(down) => down.into(),
        }
    }
}

/// The way to the one writer. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {}

impl Ledger {
    /// Takes over the books: a new epoch, what an earlier hub left open is released, then the writer runs.
    #[allow(clippy::unused_async, reason = "first landing: signature only")]
    pub async fn start(_store: &Store, _tasks: &Tasks) -> Result<Self, StoreError> {
        Ok(Self {})
    }

    /// Sets money aside. Resolves when granted inside the open transaction, before its commit.
    #[allow(clippy::unused_async, reason = "first landing: signature only")]
    pub async fn reserve(&self, _reserve: Reserve) -> Result<Hold, HoldError> {
        Err(HoldError::Unavailable(LedgerDown))
    }

    /// Books a call that cost nothing. Never waits; a row that finds no place is counted in [`Ledger::notes_dropped`].
    pub fn note(&self, _row: UsageRow) {}

    /// How many rows found no place.
    pub fn notes_dropped(&self) -> u64 {
        0
    }

    /// How many holds are open.
    pub fn open_holds(&self) -> usize {
        0
    }
}

/// Money set aside for one call. Settled once; dropped unsettled it is released as abandoned.
pub struct Hold {
    amount: Nanos,
}

impl Hold {
    /// What is set aside.
    pub fn amount(&self) -> Nanos {
        self.amount
    }

    /// The delivery barrier: resolves when the hold survives any crash.
    #[allow(clippy::unused_async, reason = "first landing: signature only")]
    pub async fn durable(&self) -> Result<(), LedgerDown> {
        Err(LedgerDown)
    }

    /// The terminal barrier: queued at once, resolves with what was charged when that survives any crash.
    /// Dropping the future loses the answer, not the settlement. `charge` above the hold takes what is still
    /// available; the rest is the operator's loss.
    #[allow(
        clippy::unused_async,
        clippy::manual_async_fn,
        reason = "first landing: signature only"
    )]
    pub fn settle(
        self,
        _charge: Nanos,
        _row: UsageRow,
    ) -> impl Future<Output = Result<Nanos, LedgerDown>> + Send + 'static {
        async { Err(LedgerDown) }
    }
}
