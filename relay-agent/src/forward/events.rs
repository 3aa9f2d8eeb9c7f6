//! An answer of server-sent events on its way to the client: whole events, signs of life, and an honest end.
//!
//! Nothing of ours ever goes out inside an event. A stream that breaks ends with an event that says so, because
//! clients take a silent end for a network fault, or worse, for the whole answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use relay_protocol::{Code, Piece, Refusal, Wire, sse};
use relay_shared::call::CallId;
use relay_shared::tasks::Tasks;
use tokio::time::{Instant, Sleep};

use super::calls::Running;
use super::uplink::BoxError;

/// A stream of events from the hub, as the client shall see it.
pub(crate) struct Events<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    hub: Option<B>,
    gate: sse::Gate,
    outgoing: VecDeque<Bytes>,
    then: Then,
    life: Life,
    wire: Wire,
    call: CallId,
    tasks: Tasks,
    _running: Running,
}

/// What follows when all that is outgoing has gone out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    ReadOn,
    End,
    Abort,
}

/// When something was last sent, and when silence has lasted too long.
struct Life {
    limit: Duration,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<B> Events<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    pub(crate) fn new(hub: B, wire: Wire, call: CallId, keepalive: Duration, tasks: Tasks, running: Running) -> Self {
        Self {
            hub: Some(hub),
            gate: sse::Gate::new(wire),
            outgoing: VecDeque::new(),
            then: Then::ReadOn,
            life: Life::new(keepalive),
            wire,
            call,
            tasks,
            _running: running,
        }
    }

    fn take(&mut self, chunk: Bytes) {
        for piece in self.gate.push(chunk) {
            match piece {
                Piece::Pass(bytes) => self.outgoing.push_back(bytes),
                Piece::Last(bytes) => {
                    self.outgoing.push_back(bytes);
                    self.finish();
                    return;
                }
            }
        }
    }

    /// The terminal event is here: the client's body ends with it, whatever the hub still has to say.
    fn finish(&mut self) {
        self.then = Then::End;
        if let Some(rest) = self.hub.take() {
            self.tasks.spawn("finish", read_out(rest));
        }
    }

    fn ended(&mut self) {
        self.hub = None;
        self.then = Then::End;
        match self.gate.end() {
            Some(Piece::Pass(bytes) | Piece::Last(bytes)) => self.outgoing.push_back(bytes),
            None => {}
        }
    }

    fn broke(&mut self) {
        self.hub = None;
        if !self.gate.is_at_boundary() {
            // Half of a huge event is out. Nothing can follow it, so the client must see a broken connection.
            self.then = Then::Abort;
            return;
        }
        self.then = Then::End;
        self.outgoing
            .push_back(lost().stream_event(self.wire, &self.call.to_string()));
    }

    fn poll_hub(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(hub) = &mut self.hub else {
            return Poll::Ready(());
        };
        match Pin::new(hub).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Ok(chunk) = frame.into_data() {
                    self.take(chunk);
                }
                Poll::Ready(())
            }
            Poll::Ready(Some(Err(_))) => {
                self.broke();
                Poll::Ready(())
            }
            Poll::Ready(None) => {
                self.ended();
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_life(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(self.life.poll_silent(cx));
        if let Some(sign) = sse::keepalive(self.wire).filter(|_| self.gate.is_at_boundary()) {
            self.outgoing.push_back(Bytes::from_static(sign));
        }
        self.life.sent();
        Poll::Ready(())
    }
}

impl<B> Body for Events<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(bytes) = self.outgoing.pop_front() {
                self.life.sent();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            match self.then {
                Then::End => return Poll::Ready(None),
                Then::Abort => {
                    self.then = Then::End;
                    return Poll::Ready(Some(Err("the answer broke off inside an event".into())));
                }
                Then::ReadOn => {}
            }
            if self.poll_hub(cx).is_ready() {
                continue;
            }
            std::task::ready!(self.poll_life(cx));
        }
    }
}

impl Life {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            last: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(limit)),
        }
    }

    fn sent(&mut self) {
        self.last = Instant::now();
    }

    /// Ready when nothing was sent for the limit. The alarm is only moved when it rings: cheaper than at each event.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            std::task::ready!(self.alarm.as_mut().poll(cx));
            let silent_at = self.last + self.limit;
            let is_silent = silent_at <= Instant::now();
            self.alarm.as_mut().reset(if is_silent {
                Instant::now() + self.limit
            } else {
                silent_at
            });
            if is_silent {
                return Poll::Ready(());
            }
        }
    }
}

/// Reads what is left of an answer whose client is served, so that its stream ends instead of being cancelled.
async fn read_out<B: Body<Data = Bytes> + Unpin>(mut rest: B) {
    let reading = async { while let Some(Ok(_)) = rest.frame().await {} };
    if tokio::time::timeout(REST, reading).await.is_err() {
        tracing::debug!("the hub did not end a finished answer");
    }
}

/// What a client is told when its answer breaks off.
pub(super) fn lost() -> Refusal {
    Refusal::new(
        Code::UpstreamBroke,
        "The connection to the hub was lost before the answer was complete.",
    )
}

const REST: Duration = Duration::from_secs(5);
