//! Lets an answer's body keep step with what its connection has written. HTTP servers drop what they have buffered when a
//! body fails, so a cut that follows an answer's head at once would take the head and the last bytes with it: a body keeps
//! its error back until all before it is on its way. And they buffer much for a slow client: a body gives no more while
//! much of it is unwritten. Every wait has a bound, or ends with the connection.
//! Knows of HTTP only where a frame of HTTP/2 begins, and nothing of what bodies mean.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, oneshot},
};

/// How long a cut waits for a peer that takes nothing.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// hyper does not tell which stream of HTTP/2 a body is on, so that there a cut waits for a moment at which the connection
/// has written all it was given. Some of that is never written, where a client gave a stream up: nothing more comes after so long a silence.
const GRACE: Duration = Duration::from_secs(1);
/// From so many bytes on that a body gave a connection of HTTP/1, it gives more when all of them are written. What may wait
/// on a stream of HTTP/2 for its client, at the public entrance.
pub const MOST_UNWRITTEN: usize = 16 << 10;

/// What one connection has written; clones share it.
#[derive(Clone, Default)]
pub struct Written(Arc<State>);

#[derive(Default)]
struct State {
    flushes: AtomicU64,
    /// A body waits for the next flush, in the task that serves the connection.
    is_awaited: AtomicBool,
    given: Sum,
    written: Sum,
    streams: Mutex<HashMap<u32, Progress>>,
    changed: Notify,
}

/// Heads and bytes of bodies, of all streams of HTTP/2 together.
#[derive(Default)]
struct Sum {
    heads: AtomicU64,
    bytes: AtomicU64,
}

impl Sum {
    fn add(&self, heads: u64, bytes: usize) {
        self.heads.fetch_add(heads, Ordering::AcqRel);
        self.bytes.fetch_add(bytes as u64, Ordering::AcqRel);
    }

    fn read(&self) -> (u64, u64) {
        (self.heads.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }
}

/// What was written of one stream of HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    has_head: bool,
    bytes: u64,
}

impl Written {
    /// Waits until the connection has written all it had.
    async fn flushed(&self) {
        let before = self.0.flushes.load(Ordering::Acquire);
        self.until(|| self.0.flushes.load(Ordering::Acquire) != before).await;
    }

    /// Waits until the connection, of HTTP/2, has written all that its bodies gave it, for once, or writes nothing more.
    async fn all_given(&self) {
        let is_written = || {
            // What is given meanwhile would be missing: in this order the answer is never too early.
            let written = self.0.written.read();
            let given = self.0.given.read();
            written.0 >= given.0 && written.1 >= given.1
        };
        loop {
            let before = self.0.written.read();
            let in_time = tokio::time::timeout(GRACE, self.until(is_written)).await;
            if in_time.is_ok() || self.0.written.read() == before {
                return;
            }
        }
    }

    /// From now on what is written of this stream of HTTP/2 is counted.
    #[must_use]
    pub fn follow(&self, stream: u32) -> Followed {
        self.streams().insert(stream, Progress::default());
        Followed {
            written: self.clone(),
            stream,
        }
    }

    async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let changed = self.0.changed.notified();
            if is_so() {
                return;
            }
            changed.await;
        }
    }

    fn count_flush(&self, cx: &Context<'_>) {
        self.0.flushes.fetch_add(1, Ordering::Release);
        self.0.changed.notify_waiters();
        // hyper does not always look at the body again after a flush.
        if self.0.is_awaited.load(Ordering::Relaxed) {
            self.0.is_awaited.store(false, Ordering::Relaxed);
            cx.waker().wake_by_ref();
        }
    }

    fn count(&self, stream: u32, has_head: bool, bytes: usize) {
        self.0.written.add(u64::from(has_head), bytes);
        if let Some(progress) = self.streams().get_mut(&stream) {
            progress.has_head |= has_head;
            progress.bytes += bytes as u64;
        }
        self.0.changed.notify_waiters();
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Progress>> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream of HTTP/2 whose progress is counted until this is dropped.
pub struct Followed {
    written: Written,
    stream: u32,
}

impl Followed {
    /// Waits until its head and so many bytes of its body are written.
    pub async fn all(&self, bytes: u64) {
        let is_written = || {
            let streams = self.written.streams();
            let progress = streams.get(&self.stream);
            progress.is_none_or(|progress| progress.has_head && progress.bytes >= bytes)
        };
        self.written.until(is_written).await;
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.written.streams().remove(&self.stream);
    }
}

/// A connection that tells what it has written.
pub struct Telling<T> {
    io: T,
    written: Written,
    says: Says,
}

/// What a server's side of a connection writes, as its first byte tells.
enum Says {
    Nothing,
    Http1,
    Http2(Frames),
}

impl<T> Telling<T> {
    /// Tells of a server's side of a connection, of which nothing was written yet.
    pub fn new(io: T) -> (Self, Written) {
        let written = Written::default();
        let this = Self {
            io,
            written: written.clone(),
            says: Says::Nothing,
        };
        (this, written)
    }

    fn note(&mut self, bytes: &[u8]) {
        if let (Says::Nothing, Some(first)) = (&self.says, bytes.first()) {
            // HTTP/1 begins with its name; HTTP/2 with a frame of settings, whose length is short.
            self.says = match first {
                b'H' => Says::Http1,
                _ => Says::Http2(Frames::default()),
            };
        }
        if let Says::Http2(frames) = &mut self.says {
            frames.walk(bytes, |stream, has_head, bytes| {
                self.written.count(stream, has_head, bytes)
            });
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Telling<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Telling<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.note(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let count = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = count;
        for buf in bufs {
            let part = left.min(buf.len());
            this.note(&buf[..part]);
            left -= part;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_flush(cx))?;
        this.written.count_flush(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Walks over the frames of HTTP/2 (RFC 9113, 4.1).
#[derive(Default)]
struct Frames {
    head: [u8; 9],
    have: usize,
    left: usize,
    stream: u32,
}

impl Frames {
    /// Calls `on` with a stream, whether this is its head, and how many bytes of its body.
    fn walk(&mut self, mut bytes: &[u8], mut on: impl FnMut(u32, bool, usize)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let part = self.left.min(bytes.len());
                self.left -= part;
                bytes = &bytes[part..];
                if self.head[3] == DATA {
                    on(self.stream, false, part);
                }
                continue;
            }
            let taken = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.head.len() {
                self.have = 0;
                let [l1, l2, l3, kind, _flags, s1, s2, s3, s4] = self.head;
                self.left = u32::from_be_bytes([0, l1, l2, l3]) as usize;
                self.stream = u32::from_be_bytes([s1, s2, s3, s4]) & (u32::MAX >> 1);
                if kind == HEADERS {
                    on(self.stream, true, 0);
                }
            }
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// A body whose error waits until all before it is written, and which runs no further ahead of an HTTP/1 connection than
/// 16 KiB and one frame; than one of HTTP/2, than 16 KiB of short frames or one long one.
pub struct InTurn<B: Body> {
    body: B,
    written: Written,
    is_http2: bool,
    /// Ends when the long frame that was given last is written.
    long: Option<oneshot::Receiver<Infallible>>,
    /// Given since the flush of this number was seen.
    unwritten: usize,
    flush: u64,
    cut: Option<(B::Error, Wait)>,
}

/// Bytes that tell when nobody holds them any more: h2 drops them once they are written, or given up.
struct Long {
    bytes: Bytes,
    _is_held: oneshot::Sender<Infallible>,
}

impl AsRef<[u8]> for Long {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<B: Body> InTurn<B> {
    /// The body of an answer to a request of this `version`, on the connection that tells `written`.
    pub fn new(body: B, version: Version, written: Written) -> Self {
        written.0.given.add(1, 0);
        Self {
            body,
            written,
            is_http2: matches!(version, Version::HTTP_2),
            long: None,
            unwritten: 0,
            flush: 0,
            cut: None,
        }
    }

    /// Whether it may give more. If not, the connection has something to flush, and the flush wakes who polls.
    fn has_room(&mut self) -> bool {
        let state = &self.written.0;
        let flush = state.flushes.load(Ordering::Relaxed);
        if flush != self.flush {
            (self.flush, self.unwritten) = (flush, 0);
        }
        let has_room = self.is_http2 || self.unwritten < MOST_UNWRITTEN;
        if !has_room {
            state.is_awaited.store(true, Ordering::Relaxed);
        }
        has_room
    }

    /// Counts a frame as given; of a long one over HTTP/2 it will hear when it is written.
    fn give(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.written.0.given.add(0, bytes);
        self.unwritten += bytes;
        if !self.is_http2 || bytes < MOST_UNWRITTEN {
            return frame;
        }
        let (is_held, long) = oneshot::channel();
        self.long = Some(long);
        frame.map_data(|bytes| {
            Bytes::from_owner(Long {
                bytes,
                _is_held: is_held,
            })
        })
    }

    fn wait(&self) -> Wait {
        let (written, is_http2) = (self.written.clone(), self.is_http2);
        let turn = async move {
            if is_http2 {
                written.all_given().await;
            } else {
                // HTTP/1 polls the body and flushes in one task: the next flush covers all that was handed out.
                written.flushed().await;
            }
        };
        Box::pin(async move {
            // A peer that takes nothing cannot be told more than that its connection ends.
            let _in_time = tokio::time::timeout(PATIENCE, turn).await;
        })
    }
}

impl<B> Body for InTurn<B>
where
    B: Body<Data = Bytes, Error: Unpin> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if let Some(long) = &mut this.long {
            let _written = ready!(Pin::new(long).poll(cx));
            this.long = None;
        }
        if this.cut.is_none() {
            if !this.has_room() {
                return Poll::Pending;
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Err(error)) => this.cut = Some((error, this.wait())),
                Some(Ok(frame)) => return Poll::Ready(Some(Ok(this.give(frame)))),
                None => return Poll::Ready(None),
            }
        }
        if let Some((_, wait)) = &mut this.cut {
            ready!(wait.as_mut().poll(cx));
        }
        Poll::Ready(this.cut.take().map(|(error, _)| Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures_util::FutureExt as _;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty, StreamBody};
    use hyper::{body::Incoming, server::conn, service::service_fn};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::{io::AsyncReadExt as _, task::JoinSet};

    use super::*;

    /// So many bytes in pieces, then an error, all of it there at once.
    fn breaks_off(bytes: usize) -> impl Body<Data = Bytes, Error = io::Error> + Unpin + Send {
        let pieces = std::iter::repeat_n(1_000, bytes / 1_000).chain(Some(bytes % 1_000));
        let data: Vec<_> = pieces
            .map(|length| Ok(Frame::data(Bytes::from(vec![7; length]))))
            .collect();
        let cut = Err(io::Error::other("cut"));
        StreamBody::new(futures_util::stream::iter(data.into_iter().chain(Some(cut))))
    }

    /// A server whose answers to `/N` break off after N bytes.
    async fn serve(io: tokio::io::DuplexStream, is_http2: bool) {
        let (io, written) = Telling::new(io);
        let service = service_fn(move |request: Request<Incoming>| {
            let body = breaks_off(request.uri().path()[1..].parse().unwrap());
            let answer = Response::new(InTurn::new(body, request.version(), written.clone()));
            std::future::ready(Ok::<_, Infallible>(answer))
        });
        let io = TokioIo::new(io);
        let _ended = if is_http2 {
            conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(io, service)
                .await
        } else {
            conn::http1::Builder::new().serve_connection(io, service).await
        };
    }

    /// How much came of an answer that must end with an error.
    async fn came(mut body: Incoming) -> usize {
        let mut came = 0;
        loop {
            match body.frame().await.expect("a clean end") {
                Ok(frame) => came += frame.into_data().unwrap().len(),
                Err(_) => return came,
            }
        }
    }

    fn ask(bytes: usize) -> Request<Empty<Bytes>> {
        Request::get(format!("http://hub/{bytes}")).body(Empty::new()).unwrap()
    }

    const SIZES: [usize; 5] = [0, 1, 999, 30_000, 1_000_000];

    #[tokio::test]
    async fn http1_writes_head_and_bytes_before_a_cut() {
        for size in SIZES {
            for room in [64, 100_000] {
                let (near, far) = tokio::io::duplex(room);
                let mut tasks = JoinSet::new();
                tasks.spawn(serve(near, false));
                let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(far)).await.unwrap();
                tasks.spawn(async move { drop(driver.await) });
                let answer = sender.send_request(ask(size)).await.unwrap();
                assert_eq!(came(answer.into_body()).await, size, "room for {room}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn http2_writes_head_and_bytes_before_a_cut_on_every_stream() {
        let (near, far) = tokio::io::duplex(100_000);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(near, true));
        let (sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(far))
            .await
            .unwrap();
        tasks.spawn(async move { drop(driver.await) });
        let began = Instant::now();
        for _ in 0..5 {
            let calls = SIZES.iter().cycle().take(20).map(|size| {
                let mut sender = sender.clone();
                async move {
                    let answer = sender.send_request(ask(*size)).await.unwrap();
                    assert_eq!(came(answer.into_body()).await, *size);
                }
            });
            futures_util::future::join_all(calls).await;
        }
        assert!(began.elapsed() < 5 * PATIENCE, "cuts waited for more than their turn");
    }

    #[tokio::test]
    async fn a_stream_that_its_client_gave_up_holds_no_other_back_for_long() {
        let (near, far) = tokio::io::duplex(100);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(near, true));
        let (mut sender, driver) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(1_000)
            .handshake(TokioIo::new(far))
            .await
            .unwrap();
        tasks.spawn(async move { drop(driver.await) });
        let given_up = sender.send_request(ask(5_500)).await.unwrap();
        drop(given_up);
        let began = Instant::now();
        let answer = sender.send_request(ask(999)).await.unwrap();
        assert_eq!(came(answer.into_body()).await, 999);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_body_of_http1_gives_little_more_than_its_client_takes_and_all_of_it_at_last() {
        const ROOM: usize = 1_000;
        for (count, size) in [
            (2_000, 100),
            (200, 10_000),
            (50, MOST_UNWRITTEN),
            (20, 2 * MOST_UNWRITTEN),
        ] {
            let (near, mut far) = tokio::io::duplex(ROOM);
            let given = Arc::new(AtomicU64::new(0));
            let gives = Arc::clone(&given);
            let (io, written) = Telling::new(near);
            let service = service_fn(move |request: Request<Incoming>| {
                let gives = Arc::clone(&gives);
                let frames = std::iter::repeat_n(size, count).map(move |size| {
                    gives.fetch_add(size as u64, Ordering::Relaxed);
                    Ok::<_, io::Error>(Frame::data(Bytes::from(vec![7; size])))
                });
                let body = StreamBody::new(futures_util::stream::iter(frames));
                let answer = Response::new(InTurn::new(body, request.version(), written.clone()));
                std::future::ready(Ok::<_, Infallible>(answer))
            });
            let mut tasks = JoinSet::new();
            tasks.spawn(conn::http1::Builder::new().serve_connection(TokioIo::new(io), service));
            let ask = b"GET / HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut far, ask).await.unwrap();
            let (mut taken, mut read) = (0, [0; 777]);
            while let some @ 1.. = far.read(&mut read).await.unwrap() {
                taken += some;
                let most = taken + ROOM + MOST_UNWRITTEN + size;
                assert!(given.load(Ordering::Relaxed) <= most as u64, "{count} of {size}");
            }
            assert!(taken > count * size, "{taken} bytes of {count} of {size}");
        }
    }

    #[tokio::test]
    async fn a_body_of_http2_gives_nothing_after_a_long_frame_until_that_is_written() {
        let long = Bytes::from(vec![7; MOST_UNWRITTEN]);
        let short = long.slice(1..);
        let frames = [&short, &short, &long, &short].map(|data| Ok::<_, io::Error>(Frame::data(data.clone())));
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut body = InTurn::new(body, Version::HTTP_2, Written::default());
        let _short = [body.frame().await.unwrap(), body.frame().await.unwrap()];
        let given = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(given == long);
        let last = given.slice(MOST_UNWRITTEN - 1..);
        drop(given);
        assert!(body.frame().now_or_never().is_none());
        drop(last);
        let next = body.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(next.into_data().unwrap(), short);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_given_up_when_patience_is_over() {
        let (near, mut far) = tokio::io::duplex(200);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(near, false));
        tokio::io::AsyncWriteExt::write_all(&mut far, b"GET /3000 HTTP/1.1\r\nhost: hub\r\n\r\n")
            .await
            .unwrap();
        let began = tokio::time::Instant::now();
        let gone = tokio::time::timeout(2 * PATIENCE, tasks.join_next()).await;
        gone.expect("given up").unwrap().unwrap();
        assert!(began.elapsed() >= PATIENCE && began.elapsed() < 2 * PATIENCE);
        let mut text = Vec::new();
        far.read_to_end(&mut text).await.unwrap();
        assert_eq!(text.len(), 200, "what there was room for");
    }

    #[test]
    fn heads_and_bytes_are_counted_per_stream_wherever_the_writes_are_split() {
        let frames = [
            &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 2, 1, 4, 0, 0, 0, 3, 9, 9],
            &[0, 0, 3, 0, 0, 0, 0, 0, 3, 7, 7, 7],
            &[0, 0, 1, 1, 4, 0, 0, 1, 1, 9],
            &[0, 0, 4, 0, 0, 0, 0, 0, 5, 7, 7, 7, 7],
            &[0, 0, 4, 8, 0, 0, 0, 0, 3, 0, 0, 0, 1],
            &[0, 0, 2, 0, 1, 0, 0, 0, 3, 7, 7],
        ];
        let bytes = frames.concat();
        for step in 1..=bytes.len() {
            let (mut walk, mut seen) = (Frames::default(), HashMap::<u32, Progress>::new());
            for part in bytes.chunks(step) {
                walk.walk(part, |stream, has_head, bytes| {
                    let progress = seen.entry(stream).or_default();
                    progress.has_head |= has_head;
                    progress.bytes += bytes as u64;
                });
            }
            let of = |stream| seen.get(&stream).map(|progress| (progress.has_head, progress.bytes));
            assert_eq!(
                [of(3), of(257), of(5)],
                [Some((true, 5)), Some((true, 0)), Some((false, 4))],
                "{step}"
            );
        }
    }
}
