//! The only place that spawns. Every task has a name, is counted, can be told to end, and its panic is seen.

use std::{
    future::Future,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// Owner of all tasks of one process (or of one running hub or agent inside a test). Clones share the same set.
#[derive(Clone, Default)]
pub struct Tasks(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tracker: TaskTracker,
    soft: CancellationToken,
    hard: CancellationToken,
    panics: AtomicU64,
}

impl Tasks {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work` until it ends, or until [`Tasks::shutdown`] loses its patience. A panic is logged and counted.
    pub fn spawn<F>(&self, name: &'static str, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        // Boxed, or each wrapper below would add the room of the work once more to the task.
        let work = Box::pin(work);
        let task = async move {
            let work = AssertUnwindSafe(inner.hard.run_until_cancelled(work)).catch_unwind();
            if work.await.is_err() {
                inner.panics.fetch_add(1, Ordering::Relaxed);
                // The panic's text may hold anything, so it stays on stderr where the panic hook wrote it.
                error!(task = name, "a task panicked");
            }
        };
        self.0.tracker.spawn(task).abort_handle()
    }

    /// Runs blocking work on a thread of its own, for as long as it likes. Nobody can cut a thread: it must end by itself
    /// soon after the token that it is given is cancelled.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn_thread<F>(&self, name: &'static str, work: F) -> io::Result<()>
    where
        F: FnOnce(&CancellationToken) + Send + 'static,
    {
        let (inner, counted) = (Arc::clone(&self.0), self.0.tracker.token());
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| work(&inner.hard)));
            if outcome.is_err() {
                inner.panics.fetch_add(1, Ordering::Relaxed);
                error!(task = name, "a thread panicked");
            }
            drop(counted);
        })?;
        Ok(())
    }

    /// Cancelled when the set shuts down: tasks that can end early wait on it.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.soft.clone()
    }

    /// How many tasks run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.tracker.len()
    }

    /// How many tasks ended by a panic.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Tells all tasks to end, waits up to `patience`, then cuts the rest. Returns how many had to be cut.
    pub async fn shutdown(&self, patience: Duration) -> usize {
        self.0.soft.cancel();
        self.0.tracker.close();
        if tokio::time::timeout(patience, self.0.tracker.wait()).await.is_ok() {
            return 0;
        }
        let cut = self.0.tracker.len();
        self.0.hard.cancel();
        self.0.tracker.wait().await;
        cut
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Tasks;

    #[tokio::test]
    async fn a_panic_is_counted_and_hurts_nobody_else() {
        let tasks = Tasks::new();
        let (done, seen) = tokio::sync::oneshot::channel();
        tasks.spawn("bad", async { panic!("on purpose") });
        tasks.spawn("good", async move { done.send(()).unwrap() });
        seen.await.unwrap();
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, 0);
        assert_eq!(tasks.panics(), 1);
    }

    #[tokio::test]
    async fn shutdown_asks_first_and_cuts_what_does_not_listen() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("polite", async move { token.cancelled().await });
        tasks.spawn("deaf", std::future::pending());
        assert_eq!(tasks.shutdown(Duration::from_millis(50)).await, 1);
        assert_eq!(tasks.running(), 0);
    }
}
