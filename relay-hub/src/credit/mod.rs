//! Where tenants' money is from besides the operator's own hand: codes that they redeem, plans that give each month and
//! day, and the calendar by which credit ends. Knows no call; the ledger alone writes money.

mod calendar;
mod code;
mod guesses;
mod plan;

use relay_protocol::{Code, Refusal};
use relay_shared::clock::{Clock as _, SystemClock};
use tokio::sync::Mutex;

use crate::{
    identity::Caller,
    ids::TenantId,
    ledger::CreditError,
    refusal::Refused,
    store::{Store, StoreError, millis},
};
use guesses::Guesses;

pub use calendar::{follow, give};
pub use code::{Redeemed, Terms, hash, make, redeem};

/// What callers may do about their credit.
pub struct Credit {
    store: Store,
    guesses: Guesses<TenantId>,
    /// One redemption at a time: the ledger's writer waits for no more of them.
    turn: Mutex<()>,
}

impl Credit {
    /// Over the hub's own store.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            guesses: Guesses::default(),
            turn: Mutex::default(),
        }
    }

    /// Redeems a code for the caller's tenant.
    ///
    /// # Errors
    /// The code is not good, or the tenant guessed too often.
    pub async fn redeem(&self, caller: &Caller, text: &str) -> Result<Redeemed, Refused> {
        let tenant = caller.tenant_id();
        // Before the try is taken: good codes that come at once are no guesses.
        let _turn = self.turn.lock().await;
        self.guesses.take(tenant.clone()).map_err(|wait| {
            Refusal::new(Code::RateLimited, "Too many codes were tried that are not good").retry_after(wait)
        })?;
        let redeemed = redeem(&self.store, text, tenant, millis(SystemClock.wall())).await?;
        self.guesses.give_back(tenant);
        Ok(redeemed)
    }
}

/// Why a code is not redeemed.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// Nobody made it.
    #[error("there is no such code")]
    Unknown,
    /// Somebody else redeemed it.
    #[error("the code was redeemed before")]
    Used,
    /// The operator took it back.
    #[error("the code was revoked")]
    Revoked,
    /// Its time is over.
    #[error("the code's time is over")]
    Expired,
    /// The credit cannot be booked.
    #[error(transparent)]
    Credit(#[from] CreditError),
}

impl From<rusqlite::Error> for RedeemError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Credit(error.into())
    }
}

impl From<RedeemError> for Refused {
    fn from(error: RedeemError) -> Self {
        let told = |message: &str| Refusal::new(Code::InvalidRequest, message).param("code");
        match error {
            RedeemError::Unknown => told("There is no such code").hint("look for a slip of the pen").into(),
            RedeemError::Used => told("This code was redeemed before.").into(),
            RedeemError::Revoked => told("This code was taken back").hint(ASK).into(),
            RedeemError::Expired => told("This code's time is over").hint(ASK).into(),
            RedeemError::Credit(CreditError::Store(store)) => away(store),
            RedeemError::Credit(other) => Self::from(told("This code cannot be booked").hint(ASK)).caused_by(other),
        }
    }
}

fn away(error: StoreError) -> Refused {
    Refused::from(crate::ledger::LedgerDown).caused_by(error)
}

const ASK: &str = "ask the operator of the relay";

#[cfg(test)]
mod tests;
