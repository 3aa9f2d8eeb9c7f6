//! One single-threaded runtime for each processor core: what runs on one stays there, with its sockets and its timers, and
//! wakes nobody else. Knows nothing of what it runs.

use std::{
    io,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle, Id},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The cores' runtimes. Clones share them; with the last clone they end, and what still runs on them is dropped.
///
/// Tokio's own runtime of many threads wakes a second one whenever the first finds work, lest it have too much: for calls
/// of some microseconds each that costs more than it brings.
#[derive(Clone)]
pub struct Cores(Arc<Inner>);

struct Inner {
    runtimes: Vec<Handle>,
    turn: AtomicUsize,
    _end: DropGuard,
}

impl Cores {
    /// As many as the process may use.
    ///
    /// # Errors
    /// The system has no thread or no descriptor left.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        let end = CancellationToken::new();
        let runtimes = (0..count)
            .map(|core| begin(core, end.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Self(Arc::new(Inner {
            runtimes,
            turn: AtomicUsize::new(0),
            _end: end.drop_guard(),
        })))
    }

    /// Each in its turn; the caller's own where there is none.
    #[must_use]
    pub fn next(&self) -> Handle {
        let (all, turn) = (&self.0.runtimes, self.0.turn.fetch_add(1, Ordering::Relaxed));
        let runtime = turn.checked_rem(all.len()).and_then(|at| all.get(at));
        runtime.cloned().unwrap_or_else(Handle::current)
    }
}

fn begin(core: usize, end: CancellationToken) -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name(format!("core-{core}")).spawn(move || {
        runtime.block_on(end.cancelled());
        runtime.shutdown_background();
    })?;
    Ok(handle)
}

/// Which runtime the caller is on, if any.
#[must_use]
pub fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}

/// Has the caller's runtime tell what happens on `tcp` from now on, whichever did before.
///
/// # Errors
/// No descriptor is left: the runtime from before still tells.
pub fn bring_here(tcp: &mut TcpStream) -> io::Result<()> {
    let same = socket2::SockRef::from(&*tcp).try_clone()?;
    *tcp = TcpStream::from_std(same.into())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread::ThreadId, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn thread_of(core: &Handle) -> ThreadId {
        core.spawn(async { thread::current().id() }).await.unwrap()
    }

    #[tokio::test]
    async fn each_core_has_a_thread_of_its_own_and_is_taken_in_its_turn() {
        let cores = Cores::start().unwrap();
        let count = thread::available_parallelism().unwrap().get();
        let mut threads = Vec::new();
        for _ in 0..2 * count {
            threads.push(thread_of(&cores.next()).await);
        }
        let (first, again) = threads.split_at(count);
        assert_eq!(first, again);
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), count);
        assert!(!first.contains(&thread::current().id()));
    }

    #[tokio::test]
    async fn what_runs_on_a_core_is_dropped_with_the_last_clone() {
        let cores = Cores::start().unwrap();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        cores.next().spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        let clone = cores.clone();
        drop(cores);
        thread_of(&clone.next()).await;
        drop(clone);
        assert!(tokio::time::timeout(PATIENCE, dropped).await.unwrap().is_err());
    }

    #[test]
    fn a_stream_that_was_brought_here_needs_its_first_runtime_no_more() {
        let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
        // Nobody drives the first one after it has connected: it tells nothing any more.
        let (first, second) = (runtime(), runtime());
        let (listener, mut stream) = first.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            (listener.into_std().unwrap(), stream)
        });
        let read = second.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let (mut peer, _) = listener.accept().await.unwrap();
            bring_here(&mut stream).unwrap();
            let mut read = [0; 2];
            let reading = tokio::time::timeout(PATIENCE, stream.read_exact(&mut read));
            let (read_in_time, written) = tokio::join!(reading, peer.write_all(b"ok"));
            written.unwrap();
            read_in_time.unwrap().unwrap();
            read
        });
        assert_eq!(&read, b"ok");
    }
}
