//! Connections to one vendor, kept for the next call. Knows HTTP/1.1; knows nothing of what is sent.
//!
//! No task of its own moves a connection: whoever waits for an answer or reads its body does, so that a call costs no
//! change of tasks. One that nobody uses rests, and what its vendor did meanwhile is seen when it is taken again.

use std::{
    collections::VecDeque,
    future::Future,
    net::IpAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use relay_shared::cores::here;
use tokio::runtime::Id;

use super::connector::VendorStream;

/// An idle connection to a vendor is closed after this long.
pub(super) const IDLE: Duration = Duration::from_secs(50);
/// Idle connections kept for each account.
const MOST: usize = 1024;

/// How much is read at once from a vendor's connection, into the same room each time once all that was read is gone. A room
/// that grew with what comes would be as large as this and all its smaller ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// For answers that go on as they came: fewer reads cost less.
    Large,
    /// For answers that are written anew, of which more is held elsewhere.
    Small,
}

impl Reads {
    /// In bytes.
    pub(super) const fn most(self) -> usize {
        match self {
            Self::Large => 56 << 10,
            Self::Small => 24 << 10,
        }
    }
}

/// A request that was not answered; handed back where nothing of it was sent.
pub(super) type Unanswered = Box<TrySendError<Request<Full<Bytes>>>>;

/// The idle connections of one way out, the oldest in front.
pub(super) struct Pool {
    way: Arc<str>,
    idle: Mutex<VecDeque<(Instant, Carrier)>>,
    /// How often it was cleared: what is older is not kept again.
    age: AtomicU64,
}

impl Pool {
    /// Of the way out of this name.
    pub(super) fn new(way: Arc<str>) -> Self {
        Self {
            way,
            idle: Mutex::default(),
            age: AtomicU64::new(0),
        }
    }

    /// What a connection made now is to be kept with.
    pub(super) fn age(&self) -> u64 {
        self.age.load(Ordering::Relaxed)
    }

    /// Closes what is idle; what is in use is not kept when it is done.
    pub(super) fn clear(&self) {
        self.age.fetch_add(1, Ordering::Relaxed);
        let cleared = std::mem::take(&mut *self.idle());
        drop(cleared);
    }

    pub(super) fn way(&self) -> &Arc<str> {
        &self.way
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Instant, Carrier)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of those that read so much which was used last: one that the caller's own runtime watches, where
    /// there is one.
    pub(super) fn take(&self, reads: Reads) -> Option<Carrier> {
        let here = here();
        let mut idle = self.idle();
        // Mostly the calls of an account are all of one kind: the last is it.
        let last = |is_own: bool| {
            let mut all = idle.iter();
            all.rposition(|(_, carrier)| carrier.reads == reads && (carrier.runtime == here || !is_own))
        };
        let at = last(true).or_else(|| last(false))?;
        let (since, carrier) = idle.remove(at)?;
        drop(idle);
        (since.elapsed() < IDLE).then_some(carrier)
    }

    pub(super) fn put(&self, carrier: Carrier) {
        let mut idle = self.idle();
        if idle.len() < MOST && carrier.age == self.age() {
            idle.push_back((Instant::now(), carrier));
        }
    }

    /// Closes what was idle for too long, or whose vendor hung up meanwhile.
    pub(super) fn sweep(&self) {
        let mut closed = Vec::new();
        let mut idle = self.idle();
        for _ in 0..idle.len() {
            let Some((since, mut carrier)) = idle.pop_front() else {
                break;
            };
            if since.elapsed() >= IDLE || carrier.has_ended(&mut deaf()) {
                closed.push(carrier);
            } else {
                idle.push_back((since, carrier));
            }
        }
        drop(idle);
        drop(closed);
    }

    /// Waits until the vendor has hung up on every idle connection, and leaves them where they are.
    #[cfg(test)]
    pub(super) async fn goodbyes(&self) {
        std::future::poll_fn(|cx| {
            let have_ended = self.idle().iter_mut().all(|(_, carrier)| carrier.has_ended(cx));
            if have_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.idle().len()
    }
}

/// One connection, for one call at a time.
pub(super) struct Carrier {
    sender: SendRequest<Full<Bytes>>,
    /// The address it left by.
    local: IpAddr,
    age: u64,
    reads: Reads,
    /// On which its last call was made: that one watches it.
    runtime: Option<Id>,
    /// None once the connection has ended.
    motion: Option<Box<Connection<TokioIo<VendorStream>, Full<Bytes>>>>,
}

impl Carrier {
    /// On a connection that left by the address `local`, for a pool of this age.
    pub(super) async fn begin(io: VendorStream, local: IpAddr, age: u64, reads: Reads) -> hyper::Result<Self> {
        let (sender, motion) = Builder::new()
            .read_buf_exact_size(Some(reads.most()))
            .handshake(TokioIo::new(io))
            .await?;
        Ok(Self {
            sender,
            local,
            age,
            reads,
            runtime: here(),
            motion: Some(Box::new(motion)),
        })
    }

    /// Sends one request and waits for the head of its answer. Dropped meanwhile, it closes the connection.
    pub(super) async fn call(
        mut self,
        request: Request<Full<Bytes>>,
        home: &Arc<Pool>,
    ) -> Result<Response<Answer>, Unanswered> {
        self.runtime = here();
        // A vendor that hung up while the connection was idle is noticed here, before anything is sent.
        self.move_on(&mut deaf());
        // Only what moves the connection can bring the answer: there is no other task to be woken by.
        let mut answer = pin!(tokio::task::unconstrained(self.sender.try_send_request(request)));
        let answer = std::future::poll_fn(|cx| self.until(cx, |deaf| answer.as_mut().poll(deaf)))
            .await
            .map_err(Box::new)?;
        let (mut head, incoming) = answer.into_parts();
        unpin(&mut head.headers);
        let answer = Answer {
            incoming,
            local: self.local,
            carrier: Some(self),
            home: home.clone(),
        };
        Ok(Response::from_parts(head, answer))
    }

    /// Moves the connection until it has brought what `look` waits for.
    fn until<T>(&mut self, cx: &mut Context<'_>, mut look: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let mut deaf = deaf();
        // Mostly it has: then nothing needs to wake anybody, not even by accident.
        self.move_on(&mut deaf);
        if let Poll::Ready(brought) = look(&mut deaf) {
            return Poll::Ready(brought);
        }
        self.move_on(cx);
        look(&mut deaf)
    }

    fn move_on(&mut self, cx: &mut Context<'_>) {
        if let Some(motion) = &mut self.motion
            && Pin::new(motion).poll(cx).is_ready()
        {
            // Whoever waits for the answer, or for more of it, hears of the reason.
            self.motion = None;
        }
    }

    /// Whether it has ended; if not, `cx` hears of it.
    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.move_on(cx);
        self.motion.is_none()
    }

    /// Whether it may carry another call. Leaves nobody to be woken by what happens while it rests.
    fn rest(&mut self) -> bool {
        !self.has_ended(&mut deaf()) && self.sender.is_ready()
    }
}

/// Copies the values apart from what was read with them: as long as one is there, nothing else is read into that room.
fn unpin(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        // What was a value is one.
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
}

/// For looks that nobody waits for.
const fn deaf() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// The body of a vendor's answer, with the connection over which it comes. Read to its end it gives the connection
/// back; dropped before it closes the connection, which tells the vendor to stop.
pub struct Answer {
    incoming: Incoming,
    local: IpAddr,
    carrier: Option<Carrier>,
    home: Arc<Pool>,
}

impl Answer {
    /// By which way out the request left, and by which address of this machine.
    pub fn left_by(&self) -> (&Arc<str>, IpAddr) {
        (&self.home.way, self.local)
    }

    fn done(&mut self) {
        if let Some(mut carrier) = self.carrier.take()
            && carrier.rest()
        {
            self.home.put(carrier);
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut incoming = Pin::new(&mut this.incoming);
        let mut polled = incoming.as_mut().poll_frame(&mut deaf());
        if let (Poll::Pending, Some(carrier)) = (&polled, &mut this.carrier) {
            polled = carrier.until(cx, |deaf| incoming.as_mut().poll_frame(deaf));
        }
        match &polled {
            Poll::Ready(None) => this.done(),
            Poll::Ready(Some(Err(_))) => this.carrier = None,
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
