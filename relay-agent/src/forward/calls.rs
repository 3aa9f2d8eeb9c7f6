//! How many calls run. Counts, and knows nothing else of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The calls of one agent.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Counts>);

#[derive(Default)]
struct Counts {
    running: AtomicU64,
    begun: AtomicU64,
}

/// One running call; it ends when this is dropped.
pub(crate) struct Running(Calls);

impl Calls {
    pub(crate) fn begin(&self) -> Running {
        self.0.running.fetch_add(1, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Running(self.clone())
    }

    /// Calls whose answer has not ended.
    pub(crate) fn running(&self) -> u64 {
        self.0.running.load(Ordering::Relaxed)
    }

    /// Calls since the start.
    pub(crate) fn begun(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
