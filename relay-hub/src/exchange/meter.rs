//! The task that owns a vendor's answer and the hold that pays for it. The client only receives from it, so a client
//! that leaves cannot take the charge along. Knows no tenant, no account and no transport.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use relay_protocol::{Code, Refusal, Shape, VendorWire};
use relay_shared::{call::CallId, fault, http::from_vendor};
use tokio::sync::oneshot;

use super::{
    TOLD_MODEL,
    again::{self, Again, Asked},
    bill::Bill,
    body::{ReplyBody, Sender},
    crossing::Crossing,
    drain::Drain,
    flow::Flow,
    request::Memory,
    upstream::Renewal,
};
use crate::{
    admission::Ticket,
    config::Limits,
    directory::{Stopped, Tenant},
    egress::{Answer, EgressError, Reads, Route},
    idempotency::Claim,
    ledger::Ending,
    refusal::Refused,
    routing::{Routing, Taken},
    vendor::{self, Trouble, Verdict, lacks_wait, request_id, verdict},
};

/// An answer up to this size is held whole: its last byte waits for the settlement anyway.
pub(super) const SMALL: usize = 64 * 1024;
/// One that is written anew is, whatever its size, up to this.
pub(super) const LARGE: usize = 16 << 20;

pub(super) type Outcome = Result<Response<ReplyBody>, Refused>;

/// One call, ready to leave.
pub(super) struct Meter {
    pub(super) route: Route,
    /// The account that serves it, and what another one would need.
    pub(super) taken: Taken,
    pub(super) again: Option<Box<Again>>,
    /// What is kept of a request whose access token may be refused.
    pub(super) renewal: Option<Box<Renewal>>,
    pub(super) routing: Routing,
    /// Kept until the answer ended, or its client left.
    pub(super) ticket: Option<Ticket>,
    /// Set while the answer is read on for a client that left.
    pub(super) drain: Option<Drain>,
    /// Kept until the answer ended: its key stands for a running call.
    pub(super) _claim: Option<Box<Claim>>,
    pub(super) bill: Bill,
    /// The vendor's.
    pub(super) wire: VendorWire,
    /// The client speaks another.
    pub(super) crossing: Option<Box<Crossing>>,
    /// Whether the client asked for a stream.
    pub(super) is_streamed: bool,
    /// Whether the extra usage chunk was asked for by us, and so is removed again.
    pub(super) removes_usage: bool,
    /// The model's public name, when the vendor knows it by another.
    pub(super) renamed: Option<HeaderValue>,
    /// Whether silence is filled here; the agent fills it for its own clients.
    pub(super) keepalive: Option<Duration>,
    pub(super) limits: Arc<Limits>,
    /// Chooses what becomes of a call whose client leaves; ends it when it may not go on.
    pub(super) tenant: Arc<Tenant>,
    pub(super) call: CallId,
}

/// A call without an answer.
pub(super) struct Unanswered {
    /// What is written of it.
    ending: Ending,
    /// What its client is told, if it still waits.
    refused: Option<Refused>,
    /// What it says of the account.
    trouble: Option<Trouble>,
    /// Another account may serve it.
    pub(super) may_move: bool,
    /// Nothing of it reached the vendor.
    pub(super) is_unsent: bool,
}

impl Unanswered {
    /// It has to end, whoever is at fault.
    const fn over(ending: Ending, refused: Option<Refused>) -> Self {
        Self {
            ending,
            refused,
            trouble: None,
            may_move: false,
            is_unsent: false,
        }
    }

    /// In a word.
    pub(super) fn verdict(&self) -> &'static str {
        match (self.trouble, self.may_move) {
            (Some(trouble), _) => trouble.as_str(),
            (None, true) => "egress_unavailable",
            (None, false) => "ended",
        }
    }
}

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
            Err(Unanswered { ending, refused, .. }) => {
                match refused {
                    Some(refused) => self.refuse(refused, ending, reply).await,
                    None => self.bill.close(ending).await,
                }
                None
            }
        }
    }

    /// Asks an account, and another one where that fails before it answers.
    async fn ask(&mut self, mut request: Request<Full<Bytes>>, reply: &mut oneshot::Sender<Outcome>) -> Asked {
        loop {
            let began = Instant::now();
            let asked = self.attempt(request, reply).await;
            if let Some(next) = self.renewed(&asked).await {
                if let Some(again) = &mut self.again {
                    again.note(&self.taken, &self.route, &asked, began);
                }
                request = next;
                continue;
            }
            match &asked {
                Ok(answer) => self.taken.answered(answer.status(), answer.headers()),
                Err(Unanswered {
                    trouble: Some(trouble), ..
                }) => self.taken.met(*trouble, None),
                Err(_) => {}
            }
            if let Some(again) = &mut self.again {
                again.note(&self.taken, &self.route, &asked, began);
            }
            let Some((failed, next)) = self.another(&asked) else {
                if let Some(again) = self.again.take() {
                    again.end(&self.routing);
                }
                self.bill.record.trail = self.taken.trail();
                return asked;
            };
            if let Ok(refusal) = asked {
                Box::pin(again::read_refusal(&failed, refusal)).await;
            }
            request = next;
        }
    }

    /// The request with another access token, once, where the vendor refused the one that it had.
    async fn renewed(&mut self, asked: &Asked) -> Option<Request<Full<Bytes>>> {
        let is_refused = || matches!(asked, Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED);
        let renewal = self.renewal.take_if(|_| is_refused())?;
        Box::pin(renewal.request()).await
    }

    /// The account that failed, and the request for another one.
    fn another(&mut self, asked: &Asked) -> Option<(Taken, Request<Full<Bytes>>)> {
        let again = self.again.as_mut()?;
        if !again.allows(asked, self._claim.is_some()) {
            return None;
        }
        let failed = self.taken.another()?;
        loop {
            if let Some((route, request, renewal)) = again.leave(&self.taken) {
                self.renewal = renewal;
                self.bill.record.leased(&self.taken, route.name());
                self.route = route;
                return Some((failed, request));
            }
            // Without a way in the region, or a token, or for want of a lane: the next one may do.
            if self.taken.another().is_none() {
                self.taken.back_to(failed);
                return None;
            }
        }
    }

    async fn attempt(&mut self, request: Request<Full<Bytes>>, reply: &mut oneshot::Sender<Outcome>) -> Asked {
        let reads = self.crossing.as_ref().map_or(Reads::Large, |_| Reads::Small);
        let mut call = pin!(tokio::time::timeout(
            self.limits.first_byte_timeout,
            self.route.call(request, reads)
        ));
        let mut is_hastened = !self.is_streamed;
        let asked = loop {
            tokio::select! {
                biased;
                asked = &mut call => break asked,
                () = reply.closed(), if self.drain.is_none() => {
                    self.ticket = None;
                    self.drain = Drain::begin(self.tenant.on_abort, &self.limits);
                    if self.drain.is_none() {
                        return Err(Unanswered::over(Ending::ClientGone, None));
                    }
                }
                () = Drain::end(self.drain.as_ref()) => return Err(Unanswered::over(Ending::ClientGone, None)),
                why = self.tenant.stop.asked() => return Err(stopped(why)),
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
        record.left(answer.body().left_by());
        record.answered(answer.status(), request_id(answer.headers()));
        fault::point("vendor answered");
        Ok(answer)
    }

    /// The client has gone: its slot is free. Whether the answer is read on.
    pub(super) fn leave(&mut self) -> bool {
        self.ticket = None;
        if self.drain.is_none() {
            self.drain = Drain::begin(self.tenant.on_abort, &self.limits);
        }
        self.drain.is_some()
    }

    /// Whether the answer is read on for a client that left.
    pub(super) const fn is_drained(&self) -> bool {
        self.drain.is_some()
    }

    pub(super) async fn refuse(mut self: Box<Self>, refused: Refused, ending: Ending, reply: oneshot::Sender<Outcome>) {
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
        let reader = vendor::reader(self.taken.account.vendor, self.wire, &mut head.headers);
        let says = |kind| is_of_kind(&head.headers, kind);
        let shape = match (says("text/event-stream"), self.is_streamed) {
            _ if !is_answer => Shape::Whole,
            // Some vendors stream whatever they are asked for: a client that is written to anew is written one document.
            (true, false) if self.crossing.is_some() => Shape::Whole,
            (false, true) if self.wire == VendorWire::Gemini && self.crossing.is_none() => Shape::Array,
            // Some servers know no streams, and say so by what they send.
            (false, true) if says("application/json") => Shape::Whole,
            (true, _) | (false, true) => Shape::Events,
            (false, false) => Shape::Whole,
        };
        match &self.crossing {
            None => head.headers = from_vendor(head.headers),
            Some(crossing) if shape != Shape::Whole => head = crossing.head(true),
            // What is told of it depends on the body.
            Some(_) => {}
        }
        self.rename(&mut head.headers);
        if shape != Shape::Whole {
            // A stream that breaks off ends with words of ours.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let is_written_anew = self.crossing.is_some() || (reader.is_some() && !is_answer);
        let mut flow = Flow::new(self, is_answer, shape, reader);
        // What is to be said of waiting depends on the body, of which a refusal has little.
        let is_small = announced.map_or_else(|| lacks_wait(head.status, &head.headers), |length| length <= SMALL);
        if shape == Shape::Whole && (is_small || is_written_anew) {
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
        let has_gone = reply.send(Ok(Response::from_parts(head, stream))).is_err();
        if has_gone && !flow.meter.leave() {
            flow.meter.bill.close(Ending::ClientGone).await;
            return None;
        }
        Some((flow, body, sender))
    }

    /// A client that asked for one model is not told of another: Codex takes that for a re-routing by the vendor.
    fn rename(&self, headers: &mut HeaderMap) {
        let Some(name) = &self.renamed else { return };
        for header in TOLD_MODEL {
            if let Some(told) = headers.get_mut(header) {
                *told = name.clone();
            }
        }
    }
}

fn late() -> Unanswered {
    let late = Refusal::new(Code::UpstreamTimeout, "The upstream did not answer in time.");
    Unanswered {
        trouble: Some(Trouble::Late),
        may_move: true,
        ..Unanswered::over(Ending::VendorTimeout, Some(late.into()))
    }
}

fn unreached(error: EgressError) -> Unanswered {
    let (ending, trouble) = match &error {
        EgressError::Unreachable(_) => (Ending::VendorError, Some(Trouble::Unreachable)),
        EgressError::ConnectTimeout(_) => (Ending::VendorTimeout, Some(Trouble::Unreachable)),
        EgressError::WayDown(_) | EgressError::WayBroke(_) | EgressError::AllDown | EgressError::NoRegion(_) => {
            (Ending::Refused(Code::EgressUnavailable), None)
        }
    };
    Unanswered {
        trouble,
        may_move: !matches!(error, EgressError::NoRegion(_)),
        is_unsent: !error.may_have_been_sent(),
        ..Unanswered::over(ending, Some(error.into()))
    }
}

fn stopped(why: Stopped) -> Unanswered {
    match why {
        Stopped::Draining => Unanswered::over(Ending::HubDraining, Some(draining().into())),
        Stopped::Suspended => Unanswered::over(Ending::Suspended, Some(suspended().into())),
    }
}

pub(super) fn suspended() -> Refusal {
    Refusal::new(Code::TenantSuspended, "This tenant is suspended.").hint("ask the operator of the relay")
}

pub(super) fn draining() -> Refusal {
    Refusal::new(Code::Draining, "The relay is restarting; try again in a moment.").retry_after(Duration::from_secs(1))
}

fn length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_of_kind(headers: &HeaderMap, kind: &str) -> bool {
    let said = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    said.and_then(|said| said.get(..kind.len()))
        .is_some_and(|said| said.eq_ignore_ascii_case(kind.as_bytes()))
}
