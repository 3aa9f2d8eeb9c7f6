//! Writes which calls leave under a key, as many at once as wait: they share one commit. Forgets them after a day.

use std::{sync::Weak, time::Duration};

use relay_shared::clock::{Clock as _, SystemClock};
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Inner, KEPT_MS};
use crate::store::{
    idempotency::{self as table, Change},
    millis,
};

/// A change, and who waits for it.
pub(super) struct Order {
    pub(super) change: Change,
    /// Told whether it is durable.
    pub(super) reply: Option<oneshot::Sender<bool>>,
}

/// Until `stop`, or until nobody is left who could give an order.
pub(super) async fn run(inner: Weak<Inner>, mut waiting: mpsc::Receiver<Order>, stop: CancellationToken) {
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut orders = Vec::new();
    loop {
        tokio::select! {
            biased;
            taken = waiting.recv_many(&mut orders, MOST_AT_ONCE) => if taken == 0 { return },
            _ = sweep.tick() => {}
            () = stop.cancelled() => return,
        }
        let Some(inner) = inner.upgrade() else { return };
        if orders.is_empty() {
            inner.sweep().await;
        } else {
            inner.write(std::mem::take(&mut orders)).await;
        }
    }
}

impl Inner {
    async fn write(&self, orders: Vec<Order>) {
        let (changes, replies): (Vec<_>, Vec<_>) = orders.into_iter().map(|order| (order.change, order.reply)).unzip();
        let written = table::write(&self.store, self.epoch, &changes).await;
        if let Err(error) = &written {
            warn!(
                error = error as &dyn std::error::Error,
                "calls with an idempotency key cannot be written"
            );
        }
        let is_durable = written.unwrap_or(false);
        for change in changes {
            if let Change::Free(name, _) = change {
                self.forget(&name);
            }
        }
        for reply in replies.into_iter().flatten() {
            // Nobody may wait any more: the claim's drop frees the key again.
            reply.send(is_durable).ok();
        }
    }

    async fn sweep(&self) {
        let since_ms = millis(SystemClock.wall()).saturating_sub(KEPT_MS);
        loop {
            match table::sweep(&self.store, since_ms).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => return,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return warn!(error, "old idempotency keys cannot be forgotten");
                }
            }
        }
    }
}

const MOST_AT_ONCE: usize = 256;
const SWEEP_EVERY: Duration = Duration::from_secs(600);
