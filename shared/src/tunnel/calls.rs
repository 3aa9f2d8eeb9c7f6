//! How many calls run on a connection, and what must end with a call. Knows no transports.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// The calls running on one connection, or on all.
#[derive(Debug, Default)]
pub(super) struct Calls {
    running: AtomicUsize,
    changed: Notify,
}

impl Calls {
    pub(super) fn begin(self: &Arc<Self>) -> Call {
        if self.running.fetch_add(1, Ordering::Relaxed) == 0 {
            self.changed.notify_waiters();
        }
        Call(Arc::clone(self))
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Waits until at least one call runs.
    pub(super) async fn busy(&self) {
        self.when(|running| running > 0).await;
    }

    /// Waits until no call runs.
    pub(super) async fn idle(&self) {
        self.when(|running| running == 0).await;
    }

    async fn when(&self, is_so: impl Fn(usize) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(self.running()) {
                return;
            }
            changed.await;
        }
    }
}

/// One running call; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Call(Arc<Calls>);

impl Drop for Call {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}
