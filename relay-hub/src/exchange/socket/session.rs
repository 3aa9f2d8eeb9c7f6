//! The two directions of a running socket. Upwards each `response.create` gets its own hold before it leaves;
//! downwards each answer's end waits for its settlement. Knows no transport.

use std::{
    collections::VecDeque,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use relay_protocol::{
    Code, Edits, Ending as Said, Endpoint, Envelope, Frame, Meter, Observed, Payload, Refusal, Tokens, Wire,
    tell_model,
    ws::{Item, Messages, encode_close, encode_text},
};
use relay_shared::call::CallId;

use super::ends::{ClientEnd, Sink, Source, split};
use crate::{
    admission::{Head, Permit, SocketTicket, Ticket},
    catalogue::Model,
    directory::{OnAbort, Stopped},
    exchange::{
        Exchange,
        bill::{ANSWER_SAMPLE, Bill, Spent, kept},
        drain::Drain,
        keepalive,
        meter::{draining, suspended},
        record::Record,
    },
    identity::Caller,
    ledger::{Ending, Link},
    refusal::Refused,
    routing::{Occupied, Taken},
    vendor::Trouble,
};

/// What tells a waiting client that its answer goes on.
const KEEPALIVE: &[u8] = br#"{"type":"keepalive"}"#;
/// Calls that a client may have sent before the first of them is answered.
pub(super) const TURNS: usize = 16;

/// One socket and the calls on it.
pub(super) struct Session {
    exchange: Arc<Exchange>,
    caller: Caller,
    ticket: Option<SocketTicket>,
    taken: Taken,
    /// The way out, and the address of this machine.
    left_by: (Arc<str>, IpAddr),
    socket: CallId,
    link: Link,
    address: IpAddr,
    turns: Mutex<VecDeque<Turn>>,
    /// The last answer's id, with the most that stands behind it.
    last: Mutex<Option<(String, Tokens)>>,
    started: Instant,
    /// Milliseconds after `started` at which the vendor was last heard.
    heard: AtomicU64,
    /// Calls whose last event is not sent yet.
    open: AtomicU64,
    /// The account is no longer the tenant's: the socket ends with the answer that runs.
    is_withdrawn: AtomicBool,
}

/// One `response.create` and its answer.
struct Turn {
    bill: Bill,
    /// What may stand behind its answer if the vendor does not say what it used.
    input: Tokens,
    meter: Meter,
    /// The model's public name, when the vendor knows it by another.
    renamed: Option<String>,
    /// Its slot, kept until it ended or its client left.
    ticket: Option<Ticket>,
    /// Its place among the calls of the account.
    _place: Option<Occupied>,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The vendor's closing handshake was passed on.
    Closed,
    /// The client's was.
    ClientClosed,
    /// The client broke the protocol; the code to close with.
    Violation(u16),
    ClientGone,
    /// The account is no longer the tenant's.
    Withdrawn,
    VendorGone,
    VendorSilent,
    Stopped(Stopped),
    Exhausted(Spent),
    Unsettled,
}

impl Session {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        caller: Caller,
        ticket: SocketTicket,
        (taken, way, local): (Taken, Arc<str>, IpAddr),
        (socket, link, address): (CallId, Link, IpAddr),
    ) -> Self {
        let (started, heard) = (Instant::now(), AtomicU64::new(0));
        Self {
            exchange,
            caller,
            ticket: Some(ticket),
            taken,
            left_by: (way, local),
            socket,
            link,
            address,
            turns: Mutex::default(),
            last: Mutex::default(),
            started,
            heard,
            open: AtomicU64::new(0),
            is_withdrawn: AtomicBool::new(false),
        }
    }

    pub(super) async fn run(mut self, client: ClientEnd, vendor: TokioIo<Upgraded>) {
        let Ok((mut from_client, to_client)) = client.open().await else {
            return;
        };
        let (source, mut to_vendor) = split(vendor);
        let mut from_vendor = FromVendor {
            source,
            messages: Messages::new(self.exchange.limits.body_bytes),
            items: VecDeque::new(),
            left: usize::MAX,
        };
        let to_client = tokio::sync::Mutex::new(to_client);
        let end = tokio::select! {
            end = self.upwards(&mut from_client, &mut to_vendor, &to_client) => end,
            end = self.downwards(&mut from_vendor, &to_client) => end,
            () = self.withdrawn() => End::Withdrawn,
            why = self.caller.tenant.stop.asked() => End::Stopped(why),
        };
        if matches!(end, End::ClientGone | End::ClientClosed) && !self.turns().is_empty() {
            self.ticket = None;
            self.drain(&mut from_vendor).await;
        }
        self.finish(end, to_client.into_inner(), to_vendor).await;
    }

    fn turns(&self) -> std::sync::MutexGuard<'_, VecDeque<Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the account is no longer the tenant's and no answer runs. While one runs its last event ends the
    /// socket, once it is sent.
    async fn withdrawn(&self) {
        self.taken.withdrawn(&self.caller.tenant.id).await;
        self.is_withdrawn.store(true, Ordering::SeqCst);
        if self.open.load(Ordering::SeqCst) > 0 {
            std::future::pending().await
        }
    }

    // ---- client to vendor ----

    async fn upwards(&self, from: &mut Source, to_vendor: &mut Sink, to_client: &tokio::sync::Mutex<Sink>) -> End {
        let mut messages = Messages::new(self.exchange.limits.body_bytes);
        let mut from = Ahead { from, chunk: None };
        loop {
            let Some(chunk) = from.next().await else {
                return End::ClientGone;
            };
            let items = match messages.push(chunk) {
                Ok(items) => items,
                Err(error) => return End::Violation(error.close_code()),
            };
            for item in items {
                let (raw, is_close) = match item {
                    Item::Text { raw, text } => match from.unless_gone(self.admit(&text)).await {
                        Ok(Ok(edited)) => (edited.unwrap_or(raw), false),
                        Ok(Err(refused)) => {
                            let told = encode_text(&refused.public.socket_frame(&self.socket.to_string()), None);
                            if to_client.lock().await.send(told).await.is_err() {
                                return End::ClientGone;
                            }
                            continue;
                        }
                        Err(end) => return end,
                    },
                    Item::Binary { raw } | Item::Control { raw, .. } => (raw, false),
                    Item::Close { raw, .. } => (raw, true),
                };
                if is_close && self.drains() {
                    return End::ClientClosed;
                }
                if to_vendor.send(raw).await.is_err() {
                    return End::VendorGone;
                }
                if is_close {
                    return End::ClientClosed;
                }
            }
        }
    }

    /// Lets one text message go up: a call with its hold, or anything else as it is. `Some` when it was edited.
    async fn admit(&self, text: &Payload) -> Result<Option<Bytes>, Refused> {
        let Frame::Create(mut envelope) = Frame::read(text.as_slice())? else {
            return Ok(None);
        };
        envelope.behind = self.behind(&envelope);
        let call = CallId::random();
        let mut record = Some(Record::begin(
            call,
            &self.caller,
            Endpoint::Responses,
            self.link,
            Instant::now(),
        ));
        match self.begin(call, &envelope, text, &mut record).await {
            Ok(model) if model.upstream == model.name => Ok(None),
            Ok(model) => {
                let edited = envelope.edits(Some(&model.upstream), false).apply(text);
                Ok(Some(encode_text(edited.as_slice(), Some(mask()))))
            }
            Err(refused) => {
                if let Some(record) = record {
                    record.note(&self.exchange.ledger, &refused);
                }
                Err(refused)
            }
        }
    }

    async fn begin(
        &self,
        call: CallId,
        envelope: &Envelope,
        text: &Payload,
        record: &mut Option<Record>,
    ) -> Result<Model, Refused> {
        let Some(mut row) = record.take() else {
            return Err(Refusal::new(Code::Internal, "No record.").into());
        };
        let (way, local) = &self.left_by;
        row.leased(&self.taken, way);
        row.left((way, *local));
        row.asked(envelope);
        let row = record.insert(row);
        if self.turns().len() >= TURNS {
            return Err(Refusal::new(Code::RateLimited, format!("{TURNS} calls wait on this socket already.")).into());
        }
        let Exchange {
            identity,
            admission,
            catalogue,
            ..
        } = self.exchange.as_ref();
        let caller = identity.again(&self.caller)?;
        let asks = Head {
            endpoint: Endpoint::Responses,
            address: self.address,
            length: Some(envelope.bytes),
        };
        let ticket = admission.enter(&caller, &asks).await?.ticket().await?;
        let mut model = catalogue.model(&caller, &envelope.model).await?;
        row.priced(&model);
        let previous = envelope.previous_response.as_deref();
        let place = self.taken.attend(&caller.tenant, previous).await?;
        let permit = admission
            .hold(ticket, call, &caller, &model, envelope, catalogue)
            .await?;
        let Permit {
            ticket,
            hold,
            tally,
            instead,
            reach,
        } = permit;
        if let Some(instead) = instead {
            model = *instead;
            row.priced(&model);
        }
        hold.hasten();
        row.held();
        row.trail = self.taken.trail();
        if let Some(row) = record.take() {
            let turn = Turn {
                bill: Bill::new((hold, tally, reach), &model, envelope, kept(text), row),
                input: Tokens::new(envelope.bytes as u64).saturating_add(envelope.behind.unwrap_or(model.context)),
                meter: Meter::new(Wire::Responses).sampling(ANSWER_SAMPLE),
                renamed: (model.upstream != model.name).then(|| model.name.clone()),
                ticket: Some(ticket),
                _place: place,
            };
            self.mark_heard();
            self.open.fetch_add(1, Ordering::SeqCst);
            self.turns().push_back(turn);
        }
        Ok(model)
    }

    /// What stands behind the answer that a call goes on from, if that is this socket's last one: Codex sends what is
    /// new and names the rest. Holding the whole context window for each turn would hold many times its cost.
    fn behind(&self, envelope: &Envelope) -> Option<Tokens> {
        if !envelope.continues {
            return Some(Tokens::ZERO);
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, tokens) = last.as_ref()?;
        envelope.goes_on_only_from(id).then_some(*tokens)
    }

    fn remember(&self, observed: &Observed, input: Tokens) {
        let Some(id) = observed.response_id.clone() else { return };
        let reported = observed.usage.map(|usage| usage.input.saturating_add(usage.output));
        // A warm-up may report nothing of what it made the vendor remember.
        let tokens = reported.filter(|used| *used > Tokens::ZERO).unwrap_or(input);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, tokens));
    }

    // ---- vendor to client ----

    async fn downwards(&self, from: &mut FromVendor, to_client: &tokio::sync::Mutex<Sink>) -> End {
        loop {
            let heard = match from.items.front() {
                None => self.hear(from, to_client).await,
                Some(Item::Text { .. }) => self.held().await,
                Some(Item::Binary { .. } | Item::Control { .. } | Item::Close { .. }) => Ok(()),
            };
            if let Err(end) = heard {
                return end;
            }
            let mut is_last = false;
            let (raw, is_close) = match from.items.pop_front() {
                None => continue,
                Some(Item::Text { raw, text }) => {
                    let edits = self.edits(&text);
                    match self.observe(&text).await {
                        Ok(ended) => is_last = ended,
                        Err(end) => return end,
                    }
                    if let Err(end) = self.keep_up().await {
                        return end;
                    }
                    match edits.is_empty() {
                        true => (raw, false),
                        false => (encode_text(edits.apply(&text).as_slice(), None), false),
                    }
                }
                Some(Item::Binary { raw } | Item::Control { raw, .. }) => (raw, false),
                Some(Item::Close { raw, .. }) => (raw, true),
            };
            if is_close && !self.turns().is_empty() {
                return End::VendorGone;
            }
            if to_client.lock().await.send(raw).await.is_err() {
                return End::ClientGone;
            }
            if is_close {
                return End::Closed;
            }
            let was_only = is_last && self.open.fetch_sub(1, Ordering::SeqCst) == 1;
            if was_only && self.is_withdrawn.load(Ordering::SeqCst) {
                return End::Withdrawn;
            }
        }
    }

    /// The hold of the answer that runs grows with it, and the books learn how far it came.
    async fn keep_up(&self) -> Result<(), End> {
        let (asked, granted) = {
            let (mut turns, now) = (self.turns(), Instant::now());
            let Some(turn) = turns
                .front_mut()
                .filter(|turn| turn.bill.is_due(turn.meter.observed(), now))
            else {
                return Ok(());
            };
            turn.bill.checkpoint(turn.meter.observed(), now);
            match turn.bill.extension(turn.meter.observed()).map_err(End::Exhausted)? {
                Some(asked) => asked,
                None => return Ok(()),
            }
        };
        let granted = granted.await;
        match self.turns().front_mut() {
            Some(turn) => turn.bill.extended(asked, granted).map_err(End::Exhausted),
            None => Ok(()),
        }
    }

    /// Waits for more of the vendor.
    async fn hear(&self, from: &mut FromVendor, to_client: &tokio::sync::Mutex<Sink>) -> Result<(), End> {
        match tokio::time::timeout(self.patience(), from.read()).await {
            Ok(read) => read.map(|()| self.mark_heard()),
            Err(_) => self.silence(&from.messages, to_client).await,
        }
    }

    /// The delivery barrier: the first event of an answer waits for its hold.
    async fn held(&self) -> Result<(), End> {
        let durable = self.turns().front().and_then(|turn| turn.bill.not_yet_durable());
        match durable {
            Some(durable) => durable.await.map_err(|_| End::Unsettled),
            None => Ok(()),
        }
    }

    /// The client has left: its slots are free, and where its tenant chose so its answers are read on to their usage.
    async fn drain(&self, from: &mut FromVendor) {
        let on_abort = self
            .exchange
            .identity
            .again(&self.caller)
            .map(|caller| caller.tenant.on_abort);
        self.turns().iter_mut().for_each(|turn| turn.ticket = None);
        let limits = &self.exchange.limits;
        let Some(drain) = Drain::begin(on_abort.unwrap_or(OnAbort::Cut), limits) else {
            return;
        };
        from.left = limits.abort_drain_bytes;
        tokio::select! {
            biased;
            () = self.read_on(from) => {}
            () = Drain::end(Some(&drain)) => {}
            _ = self.caller.tenant.stop.asked() => {}
        }
    }

    async fn read_on(&self, from: &mut FromVendor) {
        while !self.turns().is_empty() {
            let is_observed = match from.items.pop_front() {
                None => from.read().await,
                Some(Item::Text { text, .. }) => match self.observe(&text).await {
                    Ok(_) => self.keep_up().await,
                    Err(end) => Err(end),
                },
                Some(Item::Binary { .. } | Item::Control { .. }) => Ok(()),
                Some(Item::Close { .. }) => return,
            };
            if is_observed.is_err() {
                return;
            }
        }
    }

    /// Whether what the client left behind is read on.
    fn drains(&self) -> bool {
        let caller = self.exchange.identity.again(&self.caller);
        caller.is_ok_and(|caller| caller.tenant.on_abort == OnAbort::Drain) && !self.turns().is_empty()
    }

    /// A client that asked for one model is not told of another: Codex takes that for a re-routing by the vendor.
    fn edits(&self, text: &Payload) -> Edits {
        let turns = self.turns();
        let renamed = turns.front().and_then(|turn| turn.renamed.as_deref());
        renamed.map_or_else(Edits::default, |name| tell_model(text.as_slice(), name))
    }

    /// The terminal barrier: the last event of an answer waits for its settlement. True where it was the last. Nothing waits before that is queued,
    /// for this direction may be dropped where it waits.
    async fn observe(&self, text: &Payload) -> Result<bool, End> {
        let settled = {
            let mut turns = self.turns();
            let Some(turn) = turns.front_mut() else {
                return Ok(false);
            };
            if turn.meter.observed().events == 0 {
                turn.bill.record.answered(StatusCode::OK, None);
            }
            if !turn.meter.message(text.as_slice()) {
                return Ok(false);
            }
            let written = turn.meter.take_sample();
            let observed = turn.meter.observed();
            self.remember(observed, turn.input);
            let ending = match observed.ending {
                _ if turn.ticket.is_none() => Ending::ClientGone,
                Some(Said::Completed) => Ending::Completed,
                Some(Said::Incomplete) => Ending::Incomplete,
                Some(Said::Failed) | None => Ending::Failed,
            };
            let settled = turn.bill.settle(observed, written, ending);
            turns.pop_front();
            settled
        };
        settled.await.map(|_| true).map_err(|_| End::Unsettled)
    }

    fn patience(&self) -> Duration {
        let idle = self.exchange.limits.idle_timeout;
        keepalive(self.link).map_or(idle, |keepalive| keepalive.min(idle))
    }

    async fn silence(&self, messages: &Messages, to_client: &tokio::sync::Mutex<Sink>) -> Result<(), End> {
        if self.turns().is_empty() {
            return Ok(());
        }
        if self.silent_for() >= self.exchange.limits.idle_timeout {
            return Err(End::VendorSilent);
        }
        if keepalive(self.link).is_some() && messages.is_between_messages() {
            to_client
                .lock()
                .await
                .send(encode_text(KEEPALIVE, None))
                .await
                .map_err(|_| End::ClientGone)?;
        }
        Ok(())
    }

    fn mark_heard(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    fn silent_for(&self) -> Duration {
        self.started
            .elapsed()
            .saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    // ---- the end ----

    async fn finish(self, end: End, to_client: Sink, to_vendor: Sink) {
        let turns: Vec<Turn> = self.turns().drain(..).collect();
        if !turns.is_empty() && matches!(end, End::VendorGone | End::VendorSilent) {
            self.taken.met(Trouble::Broke, None);
        }
        tell(end, !turns.is_empty(), &self.socket.to_string(), to_client).await;
        to_vendor.end().await;
        for mut turn in turns {
            // Nobody waits for these settlements; the ledger counts what it could not write.
            let written = turn.meter.take_sample();
            drop(turn.bill.settle(turn.meter.observed(), written, ending(end)).await);
        }
    }
}

/// The vendor's messages. Kept outside the two directions, of which either may be dropped: nothing that was read is lost.
struct FromVendor {
    source: Source,
    messages: Messages,
    /// Read, but not dealt with yet.
    items: VecDeque<Item>,
    /// How many more bytes may be read.
    left: usize,
}

impl FromVendor {
    async fn read(&mut self) -> Result<(), End> {
        let chunk = self.source.next().await.ok_or(End::VendorGone)?;
        self.left = self.left.checked_sub(chunk.len()).ok_or(End::ClientGone)?;
        let items = self.messages.push(chunk).map_err(|_| End::VendorGone)?;
        self.items.extend(items);
        Ok(())
    }
}

/// A client's bytes, of which one chunk may be read before its turn.
struct Ahead<'a> {
    from: &'a mut Source,
    chunk: Option<Bytes>,
}

impl Ahead<'_> {
    async fn next(&mut self) -> Option<Bytes> {
        match self.chunk.take() {
            Some(chunk) => Some(chunk),
            None => self.from.next().await,
        }
    }

    /// Does something that may wait in line, as long as the client is there: one that leaves gives its place up.
    async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        if self.chunk.is_none() {
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                chunk = self.from.next() => self.chunk = Some(chunk.ok_or(End::ClientGone)?),
            }
        }
        Ok(work.await)
    }
}

/// Tells the client, as far as it still listens, why its socket ends.
pub(super) async fn tell(end: End, is_running: bool, socket: &str, mut to_client: Sink) {
    let close = match end {
        End::Closed | End::ClientGone => None,
        End::ClientClosed => Some((1000, None)),
        // Going away: clients connect again, and find another account.
        End::Withdrawn => Some((1001, None)),
        End::Violation(code) => Some((code, None)),
        End::VendorGone => Some((
            1011,
            Some(Refusal::new(
                Code::UpstreamBroke,
                "The upstream broke off before the answer was complete.",
            )),
        )),
        End::VendorSilent => Some((
            1011,
            Some(Refusal::new(
                Code::UpstreamTimeout,
                "The upstream fell silent before the answer was complete.",
            )),
        )),
        End::Stopped(Stopped::Suspended) => Some((1008, Some(suspended()))),
        End::Exhausted(spent) => Some((1008, Some(spent.refusal()))),
        End::Stopped(Stopped::Draining) => Some((1012, Some(draining()))),
        End::Unsettled => Some((
            1011,
            Some(Refusal::new(
                Code::LedgerUnavailable,
                "The relay could not settle this call; it is not charged.",
            )),
        )),
    };
    if let Some((code, refusal)) = close {
        if let Some(refusal) = refusal.filter(|_| is_running) {
            let words = match end {
                // The answer has begun: it fails as one does in a stream.
                End::Exhausted(_) => refusal.failed_response(socket),
                _ => refusal.socket_frame(socket),
            };
            drop(to_client.send(encode_text(&words, None)).await);
        }
        let code = if is_running || code != 1011 { code } else { 1001 };
        drop(to_client.send(encode_close(code, "", None)).await);
    }
    to_client.end().await;
}

const fn ending(end: End) -> Ending {
    match end {
        End::Closed | End::VendorGone => Ending::VendorCut,
        End::ClientClosed | End::ClientGone | End::Violation(_) => Ending::ClientGone,
        // No answer runs.
        End::Withdrawn => Ending::Completed,
        End::VendorSilent => Ending::VendorTimeout,
        End::Stopped(Stopped::Draining) => Ending::HubDraining,
        End::Stopped(Stopped::Suspended) => Ending::Suspended,
        End::Exhausted(spent) => spent.ending(),
        End::Unsettled => Ending::HubFault,
    }
}

/// A fresh mask, as a client must give one (RFC 6455, 5.3).
fn mask() -> [u8; 4] {
    let mut mask = [0; 4];
    // Without randomness the frame is still valid: towards a vendor the mask hides nothing.
    aws_lc_rs::rand::fill(&mut mask).unwrap_or_default();
    mask
}
