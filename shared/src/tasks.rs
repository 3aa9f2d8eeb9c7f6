//! The only place that spawns. Every task has a name, is counted, can be told to end, and its panic is seen.

use std::{
    any::Any,
    future::Future,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, task::AbortHandle};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
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
        // Boxed, or each wrapper below would add the room of the work once more to the task.
        self.spawn_boxed(name, Box::pin(work))
    }

    /// The same on another runtime.
    pub fn spawn_on<F>(&self, runtime: &Handle, name: &'static str, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let _there = runtime.enter();
        self.spawn(name, work)
    }

    fn spawn_boxed<F>(&self, name: &'static str, work: Pin<Box<F>>) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let task = async move {
            let work = AssertUnwindSafe(inner.hard.run_until_cancelled(work)).catch_unwind();
            inner.note(name, &work.await);
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
            inner.note(name, &catch_unwind(AssertUnwindSafe(|| work(&inner.hard))));
            drop(counted);
        })?;
        Ok(())
    }

    /// Begins `work` inside the caller's own task, which saves the way to another one. A caller that is dropped, or
    /// has enough of waiting, leaves the rest of it to a task of its own: as safe from the caller as a spawned one.
    pub fn begin<F>(&self, name: &'static str, work: F) -> Begun<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Begun {
            name,
            work: Some(Box::pin(work)),
            tasks: self.clone(),
            _counted: self.0.tracker.token(),
        }
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

impl Inner {
    fn note<T>(&self, name: &'static str, outcome: &Result<T, Box<dyn Any + Send>>) {
        if outcome.is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
            // The panic's text may hold anything, so it stays on stderr where the panic hook wrote it.
            error!(task = name, "a task panicked");
        }
    }
}

/// Work that was begun by [`Tasks::begin`]: resolves at its end. Dropped before, the work goes on in a task of its own.
pub struct Begun<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    name: &'static str,
    work: Option<Pin<Box<F>>>,
    tasks: Tasks,
    _counted: TaskTrackerToken,
}

impl<F> Future for Begun<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(work) = &mut this.work {
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
            let outcome = ready!(polled.map_or_else(|panic| Poll::Ready(Err(panic)), |polled| polled.map(Ok)));
            this.work = None;
            this.tasks.0.note(this.name, &outcome);
        }
        Poll::Ready(())
    }
}

impl<F> Drop for Begun<F>
where
    F: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        // Where no runtime is left the work can only end.
        if let (Some(work), Ok(_)) = (self.work.take(), Handle::try_current()) {
            self.tasks.spawn_boxed(self.name, work);
        }
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
    async fn begun_work_survives_the_caller_that_leaves() {
        let tasks = Tasks::new();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let (done, seen) = tokio::sync::oneshot::channel();
        let mut begun = Box::pin(tasks.begin("work", async move {
            gone.await.unwrap();
            done.send(()).unwrap();
        }));
        assert!(futures_util::poll!(begun.as_mut()).is_pending());
        drop(begun);
        go.send(()).unwrap();
        seen.await.unwrap();
        assert_eq!(tasks.shutdown(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn a_panic_of_begun_work_is_counted_and_spares_the_caller() {
        let tasks = Tasks::new();
        tasks.begin("bad", async { panic!("on purpose") }).await;
        assert_eq!((tasks.panics(), tasks.running()), (1, 0));
    }

    #[tokio::test]
    async fn shutdown_waits_for_begun_work() {
        let tasks = Tasks::new();
        let begun = tasks.begin("work", std::future::pending());
        assert_eq!(tasks.running(), 1);
        drop(begun);
        assert_eq!(tasks.shutdown(Duration::from_millis(50)).await, 1);
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
