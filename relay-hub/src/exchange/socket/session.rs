//! A running socket, and from the vendor to its client: each answer's end waits for its settlement. A call for a model that
//! another account serves goes there aside, while the vendor's socket stays. Knows no transport.

mod up;

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use relay_protocol::{
    Edits, Ending as Said, Meter, Observed, Payload, Tokens, tell_model,
    ws::{Item, Messages, encode_text},
};
use relay_shared::call::CallId;
use tokio::sync::Notify;

use super::{
    calls::Calls,
    close::{End, ending, tell},
    ends::{ClientEnd, Sink, Source, split},
    from_client::FromClient,
};
use crate::{
    admission::{SocketTicket, Ticket},
    directory::OnAbort,
    exchange::{Exchange, bill::Bill, drain::Drain, keepalive},
    identity::Caller,
    ledger::{Ending, Link},
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
    /// Calls whose last event is not sent yet, and who waits until there is none.
    open: AtomicU64,
    idle: Notify,
    /// The calls that go elsewhere; one that runs has the lock.
    aside: tokio::sync::Mutex<Calls>,
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

impl Session {
    pub(super) fn new(
        exchange: Arc<Exchange>,
        caller: Caller,
        ticket: SocketTicket,
        aside: Calls,
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
            idle: Notify::new(),
            aside: tokio::sync::Mutex::new(aside),
            is_withdrawn: AtomicBool::new(false),
        }
    }

    pub(super) async fn run(mut self, client: ClientEnd, vendor: TokioIo<Upgraded>) {
        let Ok((from_client, to_client)) = client.open().await else {
            return;
        };
        let mut from_client = FromClient::new(from_client, self.exchange.limits.body_bytes);
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

    async fn downwards(&self, from: &mut FromVendor, to_client: &tokio::sync::Mutex<Sink>) -> End {
        loop {
            let heard = match from.items.front() {
                None => self.hear(from, to_client).await,
                Some(Item::Text { .. }) => self.held().await,
                Some(Item::Binary { .. } | Item::Control { .. } | Item::Close { .. }) => Ok(()),
            };
            if let Err(end) = heard {
                self.aside_is_over().await;
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
            if is_close {
                self.aside_is_over().await;
            }
            if to_client.lock().await.send(raw).await.is_err() {
                return End::ClientGone;
            }
            if is_close {
                return End::Closed;
            }
            if is_last && let Err(end) = self.sent() {
                return end;
            }
        }
    }

    /// The last event of an answer is sent.
    fn sent(&self) -> Result<(), End> {
        if self.open.fetch_sub(1, Ordering::SeqCst) > 1 {
            return Ok(());
        }
        self.idle.notify_one();
        match self.is_withdrawn.load(Ordering::SeqCst) {
            true => Err(End::Withdrawn),
            false => Ok(()),
        }
    }

    /// What the vendor does to its socket ends no answer of another one's.
    async fn aside_is_over(&self) {
        drop(self.aside.lock().await);
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

    fn remember(&self, observed: &Observed, input: Tokens) {
        let Some(id) = observed.response_id.clone() else { return };
        let reported = observed.usage.map(|usage| usage.input.saturating_add(usage.output));
        // A warm-up may report nothing of what it made the vendor remember.
        let tokens = reported.filter(|used| *used > Tokens::ZERO).unwrap_or(input);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, tokens));
    }

    /// The terminal barrier: the last event of an answer waits for its settlement. True where it was the last. Nothing
    /// waits before that is queued, for this direction may be dropped where it waits.
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
            turn.bill.hid(&turn.meter.take_hidden());
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
            turn.bill.hid(&turn.meter.take_hidden());
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
