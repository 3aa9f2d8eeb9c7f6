//! The two directions of a running socket. Upwards each `response.create` gets its own hold before it leaves;
//! downwards each answer's end waits for its settlement. Knows no transport.

use std::{
    collections::VecDeque,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
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
    exchange::{
        Exchange, keepalive,
        record::{Bill, Record},
    },
    identity::Caller,
    ids::AccountId,
    ledger::{Ending, Link},
    refusal::Refused,
};

/// What tells a waiting client that its answer goes on.
const KEEPALIVE: &[u8] = br#"{"type":"keepalive"}"#;
/// Calls that a client may have sent before the first of them is answered.
const TURNS: usize = 16;

/// One socket and the calls on it.
pub(super) struct Session {
    exchange: Arc<Exchange>,
    caller: Caller,
    _ticket: SocketTicket,
    account: AccountId,
    egress: &'static str,
    socket: CallId,
    link: Link,
    address: IpAddr,
    turns: Mutex<VecDeque<Turn>>,
    /// The last answer's id, with the most that stands behind it.
    last: Mutex<Option<(String, Tokens)>>,
    started: Instant,
    /// Milliseconds after `started` at which the vendor was last heard.
    heard: AtomicU64,
}

/// One `response.create` and its answer.
struct Turn {
    bill: Bill,
    /// What may stand behind its answer if the vendor does not say what it used.
    input: Tokens,
    meter: Meter,
    /// The model's public name, when the vendor knows it by another.
    renamed: Option<String>,
    /// Its slot, kept until it ended.
    _ticket: Ticket,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The vendor's closing handshake was passed on.
    Closed,
    /// The client's was.
    ClientClosed,
    /// The client broke the protocol; the code to close with.
    Violation(u16),
    ClientGone,
    VendorGone,
    VendorSilent,
    Draining,
    Unsettled,
}

impl Session {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        caller: Caller,
        ticket: SocketTicket,
        (account, egress): (AccountId, &'static str),
        (socket, link, address): (CallId, Link, IpAddr),
    ) -> Self {
        let (started, heard) = (Instant::now(), AtomicU64::new(0));
        Self {
            exchange,
            caller,
            _ticket: ticket,
            account,
            egress,
            socket,
            link,
            address,
            turns: Mutex::default(),
            last: Mutex::default(),
            started,
            heard,
        }
    }

    pub(super) async fn run(self, client: ClientEnd, vendor: TokioIo<Upgraded>) {
        let Ok((mut from_client, to_client)) = client.open().await else {
            return;
        };
        let (mut from_vendor, mut to_vendor) = split(vendor);
        let to_client = tokio::sync::Mutex::new(to_client);
        let end = tokio::select! {
            end = self.upwards(&mut from_client, &mut to_vendor, &to_client) => end,
            end = self.downwards(&mut from_vendor, &to_client) => end,
            () = self.exchange.stop.cancelled() => End::Draining,
        };
        self.finish(end, to_client.into_inner(), to_vendor).await;
    }

    fn turns(&self) -> std::sync::MutexGuard<'_, VecDeque<Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
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
        match self.begin(call, &envelope, &mut record).await {
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

    async fn begin(&self, call: CallId, envelope: &Envelope, record: &mut Option<Record>) -> Result<Model, Refused> {
        let Some(mut row) = record.take() else {
            return Err(Refusal::new(Code::Internal, "No record.").into());
        };
        row.leased(&self.account, self.egress);
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
        let model = catalogue.model(&caller, &envelope.model).await?;
        row.priced(&model);
        let Permit { ticket, hold, tally } = admission.hold(ticket, call, &caller, &model, envelope).await?;
        hold.hasten();
        row.held();
        if let Some(row) = record.take() {
            let turn = Turn {
                bill: Bill::new(hold, tally, &model, envelope, row),
                input: Tokens::new(envelope.bytes as u64).saturating_add(envelope.behind.unwrap_or(model.context)),
                meter: Meter::new(Wire::Responses),
                renamed: (model.upstream != model.name).then(|| model.name.clone()),
                _ticket: ticket,
            };
            self.mark_heard();
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

    async fn downwards(&self, from: &mut Source, to_client: &tokio::sync::Mutex<Sink>) -> End {
        let mut messages = Messages::new(self.exchange.limits.body_bytes);
        loop {
            let chunk = match tokio::time::timeout(self.patience(), from.next()).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return End::VendorGone,
                Err(_) => match self.silence(&messages, to_client).await {
                    Ok(()) => continue,
                    Err(end) => return end,
                },
            };
            self.mark_heard();
            let Ok(items) = messages.push(chunk) else {
                return End::VendorGone;
            };
            for item in items {
                let (raw, is_close) = match item {
                    Item::Text { raw, text } => {
                        let edits = self.edits(&text);
                        if let Err(end) = self.observe(&text).await {
                            return end;
                        }
                        match edits.is_empty() {
                            true => (raw, false),
                            false => (encode_text(edits.apply(&text).as_slice(), None), false),
                        }
                    }
                    Item::Binary { raw } | Item::Control { raw, .. } => (raw, false),
                    Item::Close { raw, .. } => (raw, true),
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
            }
        }
    }

    /// A client that asked for one model is not told of another: Codex takes that for a re-routing by the vendor.
    fn edits(&self, text: &Payload) -> Edits {
        let turns = self.turns();
        let renamed = turns.front().and_then(|turn| turn.renamed.as_deref());
        renamed.map_or_else(Edits::default, |name| tell_model(text.as_slice(), name))
    }

    /// Both barriers: the first event of an answer waits for its hold, the last for its settlement.
    async fn observe(&self, text: &Payload) -> Result<(), End> {
        let Some(mut turn) = self.turns().pop_front() else {
            return Ok(());
        };
        turn.bill.durable().await.map_err(|_| End::Unsettled)?;
        if turn.meter.observed().events == 0 {
            turn.bill.record.answered(StatusCode::OK, None);
        }
        if !turn.meter.message(text.as_slice()) {
            self.turns().push_front(turn);
            return Ok(());
        }
        let observed = turn.meter.observed();
        self.remember(observed, turn.input);
        let ending = match observed.ending {
            Some(Said::Completed) => Ending::Completed,
            Some(Said::Incomplete) => Ending::Incomplete,
            Some(Said::Failed) | None => Ending::Failed,
        };
        turn.bill.settle(observed, ending).await.map_err(|_| End::Unsettled)
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
        tell(end, !turns.is_empty(), &self.socket.to_string(), to_client).await;
        to_vendor.end().await;
        for mut turn in turns {
            // Nobody waits for these settlements; the ledger counts what it could not write.
            drop(turn.bill.settle(turn.meter.observed(), ending(end)).await);
        }
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
async fn tell(end: End, is_running: bool, socket: &str, mut to_client: Sink) {
    let close = match end {
        End::Closed | End::ClientGone => None,
        End::ClientClosed => Some((1000, None)),
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
        End::Draining => Some((
            1012,
            Some(
                Refusal::new(Code::Draining, "The relay is restarting; try again in a moment.")
                    .retry_after(Duration::from_secs(1)),
            ),
        )),
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
            drop(to_client.send(encode_text(&refusal.socket_frame(socket), None)).await);
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
        End::VendorSilent => Ending::VendorTimeout,
        End::Draining => Ending::HubDraining,
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
