//! An answer on its way from the vendor to the client, its end withheld until the bill is settled. Knows no tenant, no
//! account and no price.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Limited};
use relay_protocol::{Code, Ending as Said, Piece, Refusal, Sample, Shape, Tap, TapOptions, Usage, sse};
use relay_shared::fault;
use tokio::sync::oneshot;

use super::{
    bill::{ANSWER_SAMPLE, Spent},
    body::{ReplyBody, Sender},
    crossing::Crossing,
    drain::Drain,
    meter::{LARGE, Meter, Outcome, SMALL, draining, suspended},
};
use crate::{
    directory::Stopped,
    egress::Answer,
    ledger::Ending,
    refusal::Refused,
    vendor::{Trouble, add_wait, bedrock},
};

/// What may still follow the event that ends an answer.
const AFTER_THE_END: Duration = Duration::from_millis(250);
/// What may be the end, on a wire where only the end of the body tells so, waits no longer for the usage.
const UNTIL_THE_END: Duration = Duration::from_secs(2);
/// A client that takes nothing for so long has gone.
const CLIENT_STALL: Duration = Duration::from_secs(60);

/// How a vendor's body came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The vendor ended it.
    Clean,
    /// The vendor broke off.
    Cut,
    /// It is too long to be translated in a stream: no fault of the vendor's.
    TooLong,
    /// The vendor fell silent.
    Silent,
    /// The client left, or takes nothing more.
    Gone,
    /// It has to end.
    Stopped(Stopped),
    /// There is no money for more of it.
    Exhausted(Spent),
    /// The ledger could not settle.
    Unsettled,
}

/// An answer on its way from the vendor to the client.
pub(super) struct Flow {
    pub(super) meter: Box<Meter>,
    tap: Tap,
    /// A refusal of the vendor's is passed on unread and costs nothing.
    is_answer: bool,
    shape: Shape,
    /// Tells in the client's dialect what Bedrock says.
    reader: Option<Box<bedrock::Reader>>,
}

impl Flow {
    pub(super) fn new(
        meter: Box<Meter>,
        is_answer: bool,
        shape: Shape,
        reader: Option<Box<bedrock::Reader>>,
    ) -> Box<Self> {
        let options = TapOptions {
            remove_usage_chunk: meter.removes_usage,
        };
        Box::new(Self {
            tap: Tap::new(meter.wire, shape, options)
                .sampling(ANSWER_SAMPLE)
                .finding_hidden(is_answer && meter.taken.remembers_reasoning()),
            meter,
            is_answer,
            shape,
            reader,
        })
    }

    /// A small answer: read, settled, sent.
    pub(super) async fn whole(
        mut self: Box<Self>,
        mut head: http::response::Parts,
        body: Answer,
        mut reply: oneshot::Sender<Outcome>,
    ) {
        let idle_timeout = self.meter.limits.idle_timeout;
        let most = if self.meter.crossing.is_some() { LARGE } else { SMALL };
        let mut collected = pin!(tokio::time::timeout(idle_timeout, Limited::new(body, most).collect()));
        let collected = loop {
            tokio::select! {
                biased;
                collected = &mut collected => break collected,
                () = reply.closed(), if !self.meter.is_drained() => {
                    if !self.meter.leave() {
                        return self.meter.bill.close(Ending::ClientGone).await;
                    }
                }
                () = Drain::end(self.meter.drain.as_ref()) => return self.meter.bill.close(Ending::ClientGone).await,
            }
        };
        let mut bytes = match collected {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(_)) => {
                self.meter.taken.met(Trouble::Broke, None);
                return self
                    .meter
                    .refuse(broke(End::Cut).into(), Ending::VendorCut, reply)
                    .await;
            }
            Err(_) => {
                self.meter.taken.met(Trouble::Broke, None);
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
            self.meter.taken.refused(head.status, &head.headers, &bytes);
            add_wait(head.status, &mut head.headers, &bytes);
        }
        if let Some(reader) = &self.reader {
            bytes = reader.whole(head.status, &head.headers, bytes);
        }
        let written = match self.tap.observed().usage {
            Some(_) => Sample::default(),
            None => Sample::across(&bytes, ANSWER_SAMPLE),
        };
        let outcome = self.settle(written).await.map(|()| self.answer(head, bytes));
        // The client may have gone meanwhile: the bill stands, for the answer was complete.
        drop(reply.send(outcome));
    }

    /// The vendor's own answer, or the same in the words of the client's wire.
    fn answer(&mut self, head: http::response::Parts, bytes: Bytes) -> Response<ReplyBody> {
        match self.meter.crossing.take() {
            None => Response::from_parts(head, ReplyBody::whole(bytes)),
            Some(crossing) if self.is_answer => crossing.whole(bytes, self.used(), self.meter.is_streamed),
            Some(crossing) => crossing.refusal(&head, &bytes),
        }
    }

    /// What the vendor has told of usage so far.
    fn used(&self) -> Option<Usage> {
        let observed = self.tap.observed();
        observed.usage.or(observed.begun)
    }

    /// A stream, or a large answer: passed on as it comes, its end withheld until the bill is settled.
    pub(super) async fn stream(mut self: Box<Self>, mut body: Answer, sender: Sender) {
        let end = self.pump(&mut body, &sender).await;
        if end == End::Gone {
            self.drain(&mut body).await;
        }
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
                why = self.meter.tenant.stop.asked() => return End::Stopped(why),
                () = &mut timer => {
                    if self.meter.bill.is_settled() || (self.tap.is_ending() && heard.elapsed() >= UNTIL_THE_END) {
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
            if self.meter.bill.is_due(self.tap.observed(), heard)
                && let Err(end) = self.keep_up(heard).await
            {
                return end;
            }
            if self.meter.bill.is_settled() && self.is_answer {
                timer.as_mut().reset(tokio::time::Instant::now() + AFTER_THE_END);
            } else if self.tap.is_ending() {
                timer.as_mut().reset(tokio::time::Instant::now() + UNTIL_THE_END);
            }
        }
    }

    /// The hold grows with the answer, and the books learn how far it came.
    async fn keep_up(&mut self, now: Instant) -> Result<(), End> {
        let (bill, observed) = (&mut self.meter.bill, self.tap.observed());
        bill.checkpoint(observed, now);
        let Some((asked, granted)) = bill.extension(observed).map_err(End::Exhausted)? else {
            return Ok(());
        };
        let granted = granted.await;
        bill.extended(asked, granted).map_err(End::Exhausted)
    }

    /// The client has gone: its slot is free, and where its tenant chose so the answer is read on to its usage.
    async fn drain(&mut self, body: &mut Answer) {
        if self.meter.bill.is_settled() || !self.meter.leave() || !self.is_answer {
            return;
        }
        let mut left = self.meter.limits.abort_drain_bytes;
        while self.tap.is_ending() || self.tap.observed().ending.is_none() {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = Drain::end(self.meter.drain.as_ref()) => return,
                _ = self.meter.tenant.stop.asked() => return,
            };
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(chunk))) => {
                    let Some(rest) = left.checked_sub(chunk.len()) else {
                        return;
                    };
                    left = rest;
                    let (chunk, so_far) = self.read(chunk);
                    drop(self.tap.push(chunk));
                    if so_far.is_err() || self.keep_up(Instant::now()).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Err(_trailers))) => {}
                Some(Err(_)) => return,
                None => return drop(self.tap.end()),
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
        let translated_for = self.meter.crossing.as_ref().map(|crossing| crossing.client());
        let sign = translated_for.or(self.meter.wire.of_clients()).and_then(sse::keepalive);
        let is_between = translated_for.is_some() || self.tap.is_at_boundary();
        let is_fit = is_due && self.fills_silence() && is_between;
        if let Some(sign) = sign.filter(|_| is_fit) {
            send(sender, Bytes::from_static(sign)).await?;
        }
        Ok(())
    }

    async fn pass(&mut self, chunk: Bytes, sender: &Sender) -> Result<(), End> {
        if !self.is_answer {
            return send(sender, chunk).await;
        }
        let (chunk, so_far) = self.read(chunk);
        for piece in self.tap.push(chunk) {
            match piece {
                Piece::Pass(bytes) => {
                    self.tell(bytes, sender).await?;
                    self.goes_on()?;
                    fault::point("event sent");
                }
                Piece::Last(bytes) => {
                    self.settle_streamed().await.map_err(|_| End::Unsettled)?;
                    fault::point("settled, end not sent");
                    self.tell(bytes, sender).await?;
                    fault::point("end sent");
                }
            }
        }
        so_far
    }

    /// Nothing follows what its client was told as a failure that the tap takes for none: no end, and no bill for one.
    fn goes_on(&self) -> Result<(), End> {
        match &self.meter.crossing {
            Some(crossing) if crossing.has_ended() && !self.meter.bill.is_settled() => {
                Err(match crossing.is_too_long() {
                    true => End::TooLong,
                    false => End::Cut,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// What came, in the client's dialect. After a frame that is damaged the vendor counts as broken off.
    fn read(&mut self, chunk: Bytes) -> (Bytes, Result<(), End>) {
        let Some(reader) = &mut self.reader else {
            return (chunk, Ok(()));
        };
        let (events, so_far) = reader.push(chunk);
        if let Some(trouble) = reader.take_trouble() {
            self.meter.taken.met(trouble, None);
        }
        (events, so_far.map_err(|_damaged| End::Cut))
    }

    /// Tells the client what a piece says.
    async fn tell(&mut self, piece: Bytes, sender: &Sender) -> Result<(), End> {
        let used = self.meter.crossing.is_some().then(|| self.used()).flatten();
        match &mut self.meter.crossing {
            None => send(sender, piece).await,
            Some(crossing) => {
                crossing.push(piece, used);
                tell_all(crossing, sender).await
            }
        }
    }

    /// Tells a client of another wire what is left to say when the vendor's body has ended.
    async fn farewell(&mut self, sender: &Sender) -> Result<(), End> {
        let used = self.used();
        match &mut self.meter.crossing {
            None => Ok(()),
            Some(crossing) => {
                crossing.end(used);
                tell_all(crossing, sender).await
            }
        }
    }

    async fn settle_streamed(&mut self) -> Result<(), Refused> {
        let written = self.tap.take_sample();
        self.settle(written).await
    }

    /// The terminal barrier: durable before the client sees the end.
    async fn settle(&mut self, written: Sample) -> Result<(), Refused> {
        let ending = match (self.is_answer, self.tap.observed().ending) {
            _ if self.meter.is_drained() => Ending::ClientGone,
            (false, _) => Ending::VendorError,
            (true, Some(Said::Incomplete)) => Ending::Incomplete,
            (true, Some(Said::Failed)) => Ending::Failed,
            (true, Some(Said::Completed) | None) => Ending::Completed,
        };
        self.meter.bill.hid(&self.tap.take_hidden());
        self.meter.bill.settle(self.tap.observed(), written, ending).await
    }

    async fn finish(mut self: Box<Self>, end: End, sender: Sender) {
        if self.meter.bill.is_settled() {
            if self.farewell(&sender).await.is_ok() {
                sender.end().await;
            }
            return;
        }
        match end {
            End::Clean if self.is_complete() => match self.finish_complete(&sender).await {
                Ok(()) => sender.end().await,
                Err(end) => self.break_off(end, sender).await,
            },
            End::Clean => self.break_off(End::Cut, sender).await,
            End::Cut
            | End::TooLong
            | End::Silent
            | End::Gone
            | End::Stopped(_)
            | End::Exhausted(_)
            | End::Unsettled => self.break_off(end, sender).await,
        }
    }

    /// Whether a clean end of the vendor's body is the end of the answer.
    fn is_complete(&self) -> bool {
        !self.is_answer || self.shape == Shape::Whole || self.tap.observed().ending.is_some() || self.tap.has_finished()
    }

    async fn finish_complete(&mut self, sender: &Sender) -> Result<(), End> {
        let rest = if self.is_answer { self.tap.end() } else { None };
        self.settle_streamed().await.map_err(|_| End::Unsettled)?;
        let rest = rest.map(Piece::into_bytes).unwrap_or_default();
        self.tell(rest, sender).await?;
        self.farewell(sender).await
    }

    /// Tells the client in its own dialect where that is possible; where it is not, the body is cut and looks cut.
    async fn break_off(mut self: Box<Self>, end: End, sender: Sender) {
        if matches!(end, End::Clean | End::Cut | End::Silent) {
            self.meter.taken.met(Trouble::Broke, None);
        }
        let is_told = match &mut self.meter.crossing {
            _ if end == End::Gone || !self.is_answer => false,
            None => match self.tap.last_words(&broke(end), &self.meter.call.to_string()) {
                Some(words) => send(&sender, words).await.is_ok(),
                None => false,
            },
            Some(crossing) => {
                crossing.break_off(&broke(end));
                tell_all(crossing, &sender).await.is_ok()
            }
        };
        if is_told {
            sender.end().await;
        } else {
            drop(sender);
        }
        let ending = match end {
            End::Clean | End::Cut | End::TooLong => Ending::VendorCut,
            End::Silent => Ending::VendorTimeout,
            End::Gone => Ending::ClientGone,
            End::Stopped(Stopped::Draining) => Ending::HubDraining,
            End::Stopped(Stopped::Suspended) => Ending::Suspended,
            End::Exhausted(spent) => spent.ending(),
            End::Unsettled => Ending::HubFault,
        };
        // Nobody waits for this settlement; the ledger counts what it could not write.
        let written = self.tap.take_sample();
        self.meter.bill.hid(&self.tap.take_hidden());
        drop(self.meter.bill.settle(self.tap.observed(), written, ending).await);
    }
}

/// Tells the client all that its crossing has to say.
async fn tell_all(crossing: &mut Crossing, sender: &Sender) -> Result<(), End> {
    while let Some(bytes) = crossing.take() {
        send(sender, bytes).await?;
    }
    Ok(())
}

/// Waits for a slow client, but not for ever.
async fn send(sender: &Sender, bytes: Bytes) -> Result<(), End> {
    if bytes.is_empty() {
        return Ok(());
    }
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
        End::Stopped(Stopped::Draining) => draining(),
        End::Stopped(Stopped::Suspended) => suspended(),
        End::Exhausted(spent) => spent.refusal(),
        End::Unsettled => Refusal::new(
            Code::LedgerUnavailable,
            "The relay could not settle this call; it is not charged.",
        ),
        End::Clean | End::Cut | End::TooLong | End::Gone => Refusal::new(
            Code::UpstreamBroke,
            "The upstream broke off before the answer was complete.",
        ),
    }
}
