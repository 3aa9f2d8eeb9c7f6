//! How long a connection of HTTP/1 may say nothing between two requests, and how long a head may take from its first
//! byte. hyper has one limit for both, and clients keep connections far longer than a head may take: a connection that
//! is closed while a request is on its way loses the request. Knows nothing of what requests mean.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::AsyncRead,
    time::{Instant, sleep_until},
};
use tokio_util::io::InspectReader;

/// The limits.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For a head, from its first byte to its last.
    pub head: Duration,
    /// For the first byte of a head.
    pub idle: Duration,
}

/// What one connection does now; clones share it.
#[derive(Clone)]
pub struct Pace(Arc<Shared>);

struct Shared {
    waits: Waits,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Nothing of a request has come, since then.
    Idle(Instant),
    /// A head is coming, since then.
    Head(Instant),
    /// A request is being answered. What is read meanwhile is its body; should it be the beginning of the next head,
    /// that one has as long as an idle connection.
    Busy,
}

impl Pace {
    /// A connection that may begin when it likes.
    #[must_use]
    pub fn new(waits: Waits) -> Self {
        Self::beginning(waits, Phase::Idle(Instant::now()))
    }

    /// A connection of somebody unknown: its first head must come at once, later ones may take their time.
    #[must_use]
    pub fn of_stranger(waits: Waits) -> Self {
        Self::beginning(waits, Phase::Head(Instant::now()))
    }

    fn beginning(waits: Waits, phase: Phase) -> Self {
        let phase = Mutex::new(phase);
        Self(Arc::new(Shared { waits, phase }))
    }

    /// The connection, watched for the first byte of a head.
    pub fn watch<T>(&self, io: T) -> InspectReader<T, impl FnMut(&[u8]) + use<T>>
    where
        T: AsyncRead,
    {
        let pace = self.clone();
        let hear = move |read: &[u8]| {
            // Nothing is read at the end.
            if !read.is_empty() {
                pace.hear();
            }
        };
        InspectReader::new(io, hear)
    }

    /// A head is complete: neither limit holds until the guard is dropped.
    #[must_use]
    pub fn busy(&self) -> Busy {
        *self.phase() = Phase::Busy;
        Busy(self.clone())
    }

    /// Ends when a limit was passed. To be polled whenever, and after, the connection was served, in one task with it:
    /// what moves the limits wakes nobody.
    pub async fn overdue(&self) {
        let mut sleep = pin!(sleep_until(Instant::now() + self.0.waits.idle));
        poll_fn(|cx| {
            loop {
                let Some(deadline) = self.deadline() else {
                    return Poll::Pending;
                };
                // Mostly the limit moves away: then the timer is left alone, and set anew when it fires.
                if deadline < sleep.deadline() || sleep.is_elapsed() {
                    sleep.as_mut().reset(deadline);
                }
                ready!(sleep.as_mut().poll(cx));
                if deadline <= Instant::now() {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    fn deadline(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Idle(since) => Some(since + self.0.waits.idle),
            Phase::Head(since) => Some(since + self.0.waits.head),
            Phase::Busy => None,
        }
    }

    fn hear(&self) {
        let mut phase = self.phase();
        if let Phase::Idle(_) = *phase {
            *phase = Phase::Head(Instant::now());
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered.
pub struct Busy(Pace);

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.phase() = Phase::Idle(Instant::now());
    }
}

/// An answer's body: when it is through, the connection is idle.
pub struct Answering<B> {
    body: B,
    _busy: Busy,
}

impl<B> Answering<B> {
    /// The body of the answer to the request that keeps its connection `busy`.
    pub const fn new(body: B, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::StreamBody;
    use hyper::{body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(40);
    const LONG: Duration = Duration::from_secs(60);
    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// Answers each request in two pieces, so long apart; false when a limit ended the connection.
    async fn serve(io: DuplexStream, pace: Pace, apart: Duration) -> bool {
        let io = TokioIo::new(pace.watch(io));
        let calls = pace.clone();
        let service = service_fn(move |_: Request<Incoming>| {
            let pieces = futures_util::stream::unfold(0, move |at| async move {
                if at == 1 {
                    tokio::time::sleep(apart).await;
                }
                let piece = [Bytes::from_static(b"begin "), Bytes::from_static(b"end")]
                    .get(at)?
                    .clone();
                Some((Ok::<_, Infallible>(Frame::data(piece)), at + 1))
            });
            let body = Answering::new(StreamBody::new(Box::pin(pieces)), calls.busy());
            std::future::ready(Ok::<_, Infallible>(Response::new(body)))
        });
        let serving = http1::Builder::new()
            .header_read_timeout(None)
            .serve_connection(io, service);
        tokio::select! {
            biased;
            _ended = serving => true,
            () = pace.overdue() => false,
        }
    }

    async fn until(client: &mut DuplexStream, mark: &str) {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(mark) {
            assert!(client.read_buf(&mut read).await.unwrap() > 0, "closed before {mark:?}");
        }
    }

    #[tokio::test]
    async fn a_half_head_is_cut_and_an_idle_connection_lives() {
        let waits = Waits {
            head: SHORT,
            idle: LONG,
        };
        let (mut client, server) = duplex(1 << 16);
        let talking = async {
            for _ in 0..2 {
                // A silence that would be too long within a head.
                tokio::time::sleep(3 * SHORT).await;
                client.write_all(HEAD).await.unwrap();
                until(&mut client, "0\r\n\r\n").await;
            }
            client.write_all(&HEAD[..20]).await.unwrap();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        };
        let (is_kept, ()) = tokio::join!(serve(server, Pace::new(waits), Duration::ZERO), talking);
        assert!(!is_kept);
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_do_not_stretch_the_limit_of_a_head() {
        let waits = Waits {
            head: SHORT,
            idle: LONG,
        };
        let (mut client, server) = duplex(1 << 16);
        let began = Instant::now();
        let dripping = async {
            while client.write_all(b"G").await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        let (is_kept, ()) = tokio::join!(serve(server, Pace::new(waits), Duration::ZERO), dripping);
        assert!(!is_kept && began.elapsed() >= SHORT);
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_at_last_before_and_after_a_request() {
        let waits = Waits {
            head: LONG,
            idle: SHORT,
        };
        for has_request in [false, true] {
            let (mut client, server) = duplex(1 << 16);
            if has_request {
                client.write_all(HEAD).await.unwrap();
            }
            let talking = async {
                let mut read = Vec::new();
                client.read_to_end(&mut read).await.unwrap();
                assert_eq!(read.ends_with(b"0\r\n\r\n"), has_request);
            };
            let (is_kept, ()) = tokio::join!(serve(server, Pace::new(waits), Duration::ZERO), talking);
            assert!(!is_kept);
        }
    }

    #[tokio::test]
    async fn a_stranger_s_first_head_comes_at_once_and_its_next_may_take_its_time() {
        let waits = Waits {
            head: SHORT,
            idle: LONG,
        };
        let (_silent, server) = duplex(1 << 16);
        assert!(!serve(server, Pace::of_stranger(waits), Duration::ZERO).await);
        let (mut client, server) = duplex(1 << 16);
        let talking = async {
            client.write_all(HEAD).await.unwrap();
            until(&mut client, "0\r\n\r\n").await;
            tokio::time::sleep(3 * SHORT).await;
            client.write_all(HEAD).await.unwrap();
            until(&mut client, "0\r\n\r\n").await;
            drop(client);
        };
        let (is_kept, ()) = tokio::join!(serve(server, Pace::of_stranger(waits), Duration::ZERO), talking);
        assert!(is_kept);
    }

    #[tokio::test]
    async fn an_answer_takes_as_long_as_it_takes() {
        let waits = Waits {
            head: SHORT,
            idle: SHORT,
        };
        let (mut client, server) = duplex(1 << 16);
        client.write_all(HEAD).await.unwrap();
        let talking = async {
            until(&mut client, "0\r\n\r\n").await;
            drop(client);
        };
        tokio::join!(serve(server, Pace::new(waits), 4 * SHORT), talking);
    }
}
