//! What happens by the clock: credit that is over goes back, and plans give what a new day or month brings. Once a second,
//! on the second; after a pause of months as after one of a moment. Knows no amount.

use std::time::Duration;

use relay_shared::{
    clock::{Clock as _, SystemClock},
    tasks::Tasks,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::plan::{self, Now};
use crate::{
    ledger::{self, CreditError, Ledger},
    store::{Store, millis, plans},
};

/// Brings the books to the present day, then keeps them there until the tasks end.
pub async fn follow(store: Store, ledger: Ledger, tasks: &Tasks) {
    let mut calendar = Calendar {
        store,
        ledger,
        given: None,
    };
    calendar.look(millis(SystemClock.wall())).await;
    let stop = tasks.token();
    tasks.spawn("calendar", async move { calendar.run(&stop).await });
}

/// Gives what plans promise for this month and day, and have not given.
pub async fn give(store: &Store, now_ms: i64) -> Result<(), CreditError> {
    let Some(now) = Now::at(now_ms) else { return Ok(()) };
    while plan::give(store, now.clone()).await? {
        // Others write meanwhile.
        tokio::task::yield_now().await;
    }
    Ok(())
}

struct Calendar {
    store: Store,
    ledger: Ledger,
    /// The day, and the revision of what operators changed, up to which plans have given everything.
    given: Option<(String, i64)>,
}

impl Calendar {
    async fn run(&mut self, stop: &CancellationToken) {
        loop {
            let now_ms = millis(SystemClock.wall());
            let wait = SECOND_MS.saturating_sub(now_ms.rem_euclid(SECOND_MS)).unsigned_abs();
            let wait = tokio::time::sleep(Duration::from_millis(wait));
            if stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
            self.look(millis(SystemClock.wall())).await;
        }
    }

    /// What cannot be done now is tried again a second later.
    async fn look(&mut self, now_ms: i64) {
        let done = async {
            // First what calls may be waiting for.
            self.give(now_ms).await?;
            self.expire(now_ms).await
        };
        if let Err(error) = done.await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "credit cannot be brought to the present day");
        }
    }

    async fn expire(&self, now_ms: i64) -> Result<(), CreditError> {
        let tenants = ledger::expired(&self.store, now_ms).await?;
        for some in tenants.chunks(AT_ONCE) {
            if self.ledger.expire(some.to_vec(), now_ms).await.is_err() {
                // The ledger has told why.
                return Ok(());
            }
        }
        Ok(())
    }

    async fn give(&mut self, now_ms: i64) -> Result<(), CreditError> {
        let Some(now) = Now::at(now_ms) else { return Ok(()) };
        let until = (now.day, plans::revision(&self.store).await?);
        if self.given.as_ref() == Some(&until) {
            return Ok(());
        }
        give(&self.store, now_ms).await?;
        self.given = Some(until);
        Ok(())
    }
}

/// Calls wait for no more than so many at a time.
const AT_ONCE: usize = 50;
const SECOND_MS: i64 = 1000;
