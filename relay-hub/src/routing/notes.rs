//! What is written down off the path of calls: pins, accounts that went out of use, attempts. Bounded; the newest note of
//! an account is the one that counts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use relay_shared::{call::CallId, clock::Clock, tasks::Tasks};
use tracing::warn;

use super::{homes::Homes, now_ms, pins::Pins, signed};
use crate::{
    ids::AccountId,
    store::{
        Store,
        routes::{self, AttemptRow, Batch, HealthRow},
    },
};

const EVERY: Duration = Duration::from_secs(1);
/// Rows of one transaction, so that the books never wait long.
const MOST_AT_ONCE: usize = 1_000;
/// Pins of one transaction: many to a row.
const MOST_PINS: usize = 16_384;
const MOST_WAITING: usize = 16_384;

/// What waits to be written.
#[derive(Default)]
pub(super) struct Notes {
    health: Mutex<HashMap<AccountId, Option<HealthRow>>>,
    attempts: Mutex<Vec<([u8; 16], AttemptRow)>>,
}

impl Notes {
    /// An account went out of use, or came back.
    pub(super) fn health(&self, account: &AccountId, row: Option<HealthRow>) {
        lock(&self.health).insert(account.clone(), row);
    }

    /// The attempts of one call. False where there is no room.
    pub(super) fn attempts(&self, call: CallId, rows: Vec<AttemptRow>) -> bool {
        let mut waiting = lock(&self.attempts);
        let has_room = waiting.len() < MOST_WAITING;
        if has_room {
            waiting.extend(rows.into_iter().map(|row| (*call.as_bytes(), row)));
        }
        has_room
    }

    fn batch(&self, pins: &Pins, homes: &Homes) -> Batch {
        let mut attempts = lock(&self.attempts);
        let count = attempts.len().min(MOST_AT_ONCE);
        Batch {
            pins: pins.unwritten(MOST_PINS),
            homes: homes.unwritten(MOST_AT_ONCE),
            health: lock(&self.health).drain().collect(),
            attempts: attempts.drain(..count).collect(),
        }
    }
}

/// What has notes to be written.
#[derive(Clone)]
pub(super) struct Noted {
    pub(super) pins: Arc<Pins>,
    pub(super) homes: Arc<Homes>,
    pub(super) notes: Arc<Notes>,
}

/// Writes until the hub ends, and once more then.
pub(super) fn follow(store: Store, noted: Noted, clock: Arc<dyn Clock>, tasks: &Tasks) {
    let stop = tasks.token();
    tasks.spawn("routing-notes", async move {
        let mut left = Batch::default();
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            write_all(&store, &noted, &mut left).await;
            sweep(&store, &noted.pins, now_ms(&*clock)).await;
        }
        write_all(&store, &noted, &mut left).await;
    });
}

/// What could not be written is tried again first.
async fn write_all(store: &Store, noted: &Noted, left: &mut Batch) {
    loop {
        if left.is_empty() {
            *left = noted.notes.batch(&noted.pins, &noted.homes);
        }
        if left.is_empty() {
            return;
        }
        if let Err(error) = routes::write(store, left).await {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot note where conversations belong: tried again"
            );
            return;
        }
        *left = Batch::default();
    }
}

async fn sweep(store: &Store, pins: &Pins, now: u64) {
    let horizon = signed(pins.horizon_ms(now));
    let most = u32::try_from(MOST_AT_ONCE).unwrap_or(u32::MAX);
    if let Err(error) = routes::forget(store, horizon, most).await {
        warn!(
            error = &error as &dyn std::error::Error,
            "cannot forget old pins: tried again"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
