//! The task that owns a vendor's answer and the hold that pays for it. The client only receives from it, so a client
//! that leaves cannot take the charge along. Knows no tenant, no account and no transport.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use relay_protocol::{Code, Ending as Said, Piece, Refusal, Shape, Tap, TapOptions, Wire, sse};
use relay_shared::{call::CallId, fault, http::from_vendor};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    TOLD_MODEL,
    body::{ReplyBody, Sender},
    record::Bill,
    request::Memory,
};
use crate::{
    admission::Ticket,
    config::Limits,
    egress::{Answer, EgressError, Way},
    idempotency::Claim,
    ledger::Ending,
    refusal::Refused,
    vendor::{Verdict, add_wait, lacks_wait, request_id, verdict},
};

/// An answer up to this size is held whole: its last byte waits for the settlement anyway.
const SMALL: usize = 64 * 1024;
/// What may still follow the event that ends an answer.
const AFTER_THE_END: Duration = Duration::from_millis(250);
/// A client that takes nothing for so long has gone.
const CLIENT_STALL: Duration = Duration::from_secs(60);

pub(super) type Outcome = Result<Response<ReplyBody>, Refused>;

/// One call, ready to leave.
pub(super) struct Meter {
    pub(super) way: Arc<Way>,
    /// Kept until the answer ended.
    pub(super) _ticket: Ticket,
    /// Likewise: its key stands for a running call.
    pub(super) _claim: Option<Box<Claim>>,
    pub(super) bill: Bill,
    pub(super) wire: Wire,
    /// Whether the client asked for a stream.
    pub(super) is_streamed: bool,
    /// Whether the extra usage chunk was asked for by us, and so is removed again.
    pub(super) removes_usage: bool,
    /// The model's public name, when the vendor knows it by another.
    pub(super) renamed: Option<HeaderValue>,
    /// Whether silence is filled here; the agent fills it for its own clients.
    pub(super) keepalive: Option<Duration>,
    pub(super) limits: Arc<Limits>,
    /// Cancelled when the hub can wait no longer.
    pub(super) stop: CancellationToken,
    pub(super) call: CallId,
}

/// A call without an answer: what is written of it, and what its client is told if it still waits.
type Unanswered = (Ending, Option<Refused>);

/// Runs the call to its end: exactly one settlement, whatever happens.
pub(super) fn run(
    meter: Box<Meter>,
    request: Request<Full<Bytes>>,
    memory: Memory,
    reply: oneshot::Sender<Outcome>,
) -> impl Future<Output = ()> + Send {
    // Boxed: a stream may be silent for minutes, and gives the room of its beginning back before.
    let begun = Box::pin(meter.begin(request, memory, reply));
    async move {
        if let Some((flow, body, sender)) = begun.await {
            flow.stream(body, sender).await;
        }
    }
}

impl Meter {
    /// Everything but the passing on of a stream, which is what it returns.
    async fn begin(
        mut self: Box<Self>,
        request: Request<Full<Bytes>>,
        memory: Memory,
        mut reply: oneshot::Sender<Outcome>,
    ) -> Option<(Box<Flow>, Answer, Sender)> {
        let asked = self.ask(request, &mut reply).await;
        // A vendor that answers has taken the request's body.
        drop(memory);
        match asked {
            Ok(answer) => self.relay(answer, reply).await,
            Err((ending, Some(refused))) => {
                self.refuse(refused, ending, reply).await;
                None
            }
            Err((ending, None)) => {
                self.bill.close(ending).await;
                None
            }
        }
    }

    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        reply: &mut oneshot::Sender<Outcome>,
    ) -> Result<Response<Answer>, Unanswered> {
        let mut call = pin!(tokio::time::timeout(
            self.limits.first_byte_timeout,
            self.way.call(request)
        ));
        let mut is_hastened = !self.is_streamed;
        let asked = loop {
            tokio::select! {
                biased;
                asked = &mut call => break asked,
                () = reply.closed() => return Err((Ending::ClientGone, None)),
                () = self.stop.cancelled() => return Err((Ending::HubDraining, Some(draining().into()))),
                // The first byte will wait for the hold, so it is written while the vendor works, but not before the
                // vendor has something to do: waking the ledger takes longer than sending a request.
                () = std::future::ready(()), if !is_hastened => {
                    self.bill.hasten();
                    is_hastened = true;
                }
            }
        };
        let answer = asked.map_err(|_late| late())?.map_err(unreached)?;
        let record = &mut self.bill.record;
        record.answered(answer.status(), request_id(answer.headers()));
        fault::point("vendor answered");
        Ok(answer)
    }

    async fn refuse(mut self: Box<Self>, refused: Refused, ending: Ending, reply: oneshot::Sender<Outcome>) {
        self.bill.record.refused(&refused);
        // The client that waited may have gone; the row tells either way.
        drop(reply.send(Err(refused)));
        self.bill.close(ending).await;
    }

    /// Sends a small answer, or the head of a stream.
    async fn relay(
        self: Box<Self>,
        answer: Response<Answer>,
        reply: oneshot::Sender<Outcome>,
    ) -> Option<(Box<Flow>, Answer, Sender)> {
        let (mut head, body) = answer.into_parts();
        let announced = length(&head.headers);
        let is_answer = verdict(head.status) == Verdict::Answer;
        let shape = if is_answer && (self.is_streamed || is_event_stream(&head.headers)) {
            Shape::Events
        } else {
            Shape::Whole
        };
        head.headers = from_vendor(head.headers);
        self.rename(&mut head.headers);
        if shape == Shape::Events {
            // A stream that breaks off ends with words of ours.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let mut flow = Flow::new(self, is_answer, shape);
        // What is to be said of waiting depends on the body, of which a refusal has little.
        let is_small = announced.map_or_else(|| lacks_wait(head.status, &head.headers), |length| length <= SMALL);
        if shape == Shape::Whole && is_small {
            flow.whole(head, body, reply).await;
            return None;
        }
        // The delivery barrier: nothing of an answer reaches the client before its hold is durable. An answer that is
        // held whole waits for its settlement anyway.
        if let Err(down) = flow.meter.bill.durable().await {
            flow.meter.refuse(down, Ending::HubFault, reply).await;
            return None;
        }
        let (sender, stream) = ReplyBody::stream();
        if reply.send(Ok(Response::from_parts(head, stream))).is_err() {
            flow.meter.bill.close(Ending::ClientGone).await;
            return None;
        }
        Some((flow, body, sender))
    }

    /// A client that asked for one model is not told of another: Codex takes that for a re-routing by the vendor.
    fn rename(&self, headers: &mut HeaderMap) {
        if let Some(name) = &self.renamed
            && let Some(told) = headers.get_mut(TOLD_MODEL)
        {
            *told = name.clone();
        }
    }
}

/// How a vendor's body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The vendor ended it.
    Clean,
    /// The vendor broke off.
    Cut,
    /// The vendor fell silent.
    Silent,
    /// The client left, or takes nothing more.
    Gone,
    /// The hub can wait no longer.
    Draining,
    /// The ledger could not settle.
    Unsettled,
}

/// An answer on its way from the vendor to the client.
struct Flow {
    meter: Box<Meter>,
    tap: Tap,
    /// A refusal of the vendor's is passed on unread and costs nothing.
    is_answer: bool,
    shape: Shape,
}

impl Flow {
    fn new(meter: Box<Meter>, is_answer: bool, shape: Shape) -> Box<Self> {
        let options = TapOptions {
            remove_usage_chunk: meter.removes_usage,
        };
        Box::new(Self {
            tap: Tap::new(meter.wire, shape, options),
            meter,
            is_answer,
            shape,
        })
    }

    /// A small answer: read, settled, sent.
    async fn whole(
        mut self: Box<Self>,
        mut head: http::response::Parts,
        body: Answer,
        mut reply: oneshot::Sender<Outcome>,
    ) {
        let collected = tokio::select! {
            biased;
            collected = tokio::time::timeout(self.meter.limits.idle_timeout, Limited::new(body, SMALL).collect()) => collected,
            () = reply.closed() => return self.meter.bill.close(Ending::ClientGone).await,
        };
        let bytes = match collected {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(_)) => {
                return self
                    .meter
                    .refuse(broke(End::Cut).into(), Ending::VendorCut, reply)
                    .await;
            }
            Err(_) => {
                return self
                    .meter
                    .refuse(broke(End::Silent).into(), Ending::VendorTimeout, reply)
                    .await;
            }
        };
        if self.is_answer {
            drop(self.tap.push(bytes.clone()));
            drop(self.tap.end());
        } else {
            add_wait(head.status, &mut head.headers, &bytes);
        }
        let outcome = self
            .settle()
            .await
            .map(|()| Response::from_parts(head, ReplyBody::whole(bytes)));
        // The client may have gone meanwhile: the bill stands, for the answer was complete.
        drop(reply.send(outcome));
    }

    /// A stream, or a large answer: passed on as it comes, its end withheld until the bill is settled.
    async fn stream(mut self: Box<Self>, mut body: Answer, sender: Sender) {
        let end = self.pump(&mut body, &sender).await;
        // Cancels the vendor's call, if it still runs.
        drop(body);
        self.finish(end, sender).await;
    }

    async fn pump(&mut self, body: &mut Answer, sender: &Sender) -> End {
        let mut heard = Instant::now();
        let timer = tokio::time::sleep(self.patience());
        tokio::pin!(timer);
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = sender.gone() => return End::Gone,
                () = self.meter.stop.cancelled() => return End::Draining,
                () = &mut timer => {
                    if self.meter.bill.is_settled() {
                        return End::Clean;
                    }
                    if heard.elapsed() >= self.meter.limits.idle_timeout {
                        return End::Silent;
                    }
                    if self.keep_alive(heard, sender).await.is_err() {
                        return End::Gone;
                    }
                    timer.as_mut().reset(tokio::time::Instant::now() + self.next_look(heard));
                    continue;
                }
            };
            let chunk = match frame {
                None => return End::Clean,
                Some(Err(_)) => return End::Cut,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => chunk,
                    Err(_trailers) => continue,
                },
            };
            heard = Instant::now();
            if let Err(end) = self.pass(chunk, sender).await {
                return end;
            }
            if self.meter.bill.is_settled() && self.is_answer {
                timer.as_mut().reset(tokio::time::Instant::now() + AFTER_THE_END);
            }
        }
    }

    /// How long to wait before something must be done.
    fn patience(&self) -> Duration {
        let idle = self.meter.limits.idle_timeout;
        self.meter
            .keepalive
            .filter(|_| self.fills_silence())
            .map_or(idle, |keepalive| keepalive.min(idle))
    }

    /// The timer is not reset by every chunk: it looks again when the silence could be long enough.
    fn next_look(&self, heard: Instant) -> Duration {
        let patience = self.patience();
        patience
            .checked_sub(heard.elapsed())
            .filter(|left| !left.is_zero())
            .unwrap_or(patience)
    }

    fn fills_silence(&self) -> bool {
        self.is_answer && self.shape == Shape::Events
    }

    async fn keep_alive(&self, heard: Instant, sender: &Sender) -> Result<(), End> {
        let is_due = self
            .meter
            .keepalive
            .is_some_and(|keepalive| heard.elapsed() >= keepalive);
        if is_due && self.fills_silence() && self.tap.is_at_boundary() {
            send(sender, Bytes::from_static(sse::keepalive(self.meter.wire))).await?;
        }
        Ok(())
    }

    async fn pass(&mut self, chunk: Bytes, sender: &Sender) -> Result<(), End> {
        if !self.is_answer {
            return send(sender, chunk).await;
        }
        for piece in self.tap.push(chunk) {
            match piece {
                Piece::Pass(bytes) => {
                    send(sender, bytes).await?;
                    fault::point("event sent");
                }
                Piece::Last(bytes) => {
                    self.settle().await.map_err(|_| End::Unsettled)?;
                    fault::point("settled, end not sent");
                    send(sender, bytes).await?;
                    fault::point("end sent");
                }
            }
        }
        Ok(())
    }

    /// The terminal barrier: durable before the client sees the end.
    async fn settle(&mut self) -> Result<(), Refused> {
        let ending = match (self.is_answer, self.tap.observed().ending) {
            (false, _) => Ending::VendorError,
            (true, Some(Said::Incomplete)) => Ending::Incomplete,
            (true, Some(Said::Failed)) => Ending::Failed,
            (true, Some(Said::Completed) | None) => Ending::Completed,
        };
        self.meter.bill.settle(self.tap.observed(), ending).await
    }

    async fn finish(mut self: Box<Self>, end: End, sender: Sender) {
        if self.meter.bill.is_settled() {
            return sender.end().await;
        }
        match end {
            End::Clean if self.is_complete() => match self.finish_complete(&sender).await {
                Ok(()) => sender.end().await,
                Err(end) => self.break_off(end, sender).await,
            },
            End::Clean => self.break_off(End::Cut, sender).await,
            End::Cut | End::Silent | End::Gone | End::Draining | End::Unsettled => self.break_off(end, sender).await,
        }
    }

    /// Whether a clean end of the vendor's body is the end of the answer.
    fn is_complete(&self) -> bool {
        !self.is_answer || self.shape == Shape::Whole || self.tap.observed().ending.is_some()
    }

    async fn finish_complete(&mut self, sender: &Sender) -> Result<(), End> {
        let rest = if self.is_answer { self.tap.end() } else { None };
        self.settle().await.map_err(|_| End::Unsettled)?;
        match rest {
            Some(Piece::Pass(bytes) | Piece::Last(bytes)) => send(sender, bytes).await,
            None => Ok(()),
        }
    }

    /// Tells the client in its own dialect where that is possible; where it is not, the body is cut and looks cut.
    async fn break_off(mut self: Box<Self>, end: End, sender: Sender) {
        if end != End::Gone && self.fills_silence() && self.tap.is_at_boundary() {
            let told = broke(end).stream_event(self.meter.wire, &self.meter.call.to_string());
            if send(&sender, told).await.is_ok() {
                sender.end().await;
            }
        } else {
            drop(sender);
        }
        let ending = match end {
            End::Clean | End::Cut => Ending::VendorCut,
            End::Silent => Ending::VendorTimeout,
            End::Gone => Ending::ClientGone,
            End::Draining => Ending::HubDraining,
            End::Unsettled => Ending::HubFault,
        };
        // Nobody waits for this settlement; the ledger counts what it could not write.
        drop(self.meter.bill.settle(self.tap.observed(), ending).await);
    }
}

/// Waits for a slow client, but not for ever.
async fn send(sender: &Sender, bytes: Bytes) -> Result<(), End> {
    match tokio::time::timeout(CLIENT_STALL, sender.send(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

fn broke(end: End) -> Refusal {
    match end {
        End::Silent => Refusal::new(
            Code::UpstreamTimeout,
            "The upstream fell silent before the answer was complete.",
        ),
        End::Draining => draining(),
        End::Unsettled => Refusal::new(
            Code::LedgerUnavailable,
            "The relay could not settle this call; it is not charged.",
        ),
        End::Clean | End::Cut | End::Gone => Refusal::new(
            Code::UpstreamBroke,
            "The upstream broke off before the answer was complete.",
        ),
    }
}

fn late() -> Unanswered {
    let late = Refusal::new(Code::UpstreamTimeout, "The upstream did not answer in time.");
    (Ending::VendorTimeout, Some(late.into()))
}

fn unreached(error: EgressError) -> Unanswered {
    let ending = match &error {
        EgressError::Unreachable(_) => Ending::VendorError,
        EgressError::ConnectTimeout(_) => Ending::VendorTimeout,
    };
    (ending, Some(error.into()))
}

fn draining() -> Refusal {
    Refusal::new(Code::Draining, "The relay is restarting; try again in a moment.").retry_after(Duration::from_secs(1))
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}
