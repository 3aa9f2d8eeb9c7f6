//! What waits for the writer, and the book that callers read meanwhile. Settlements are never turned away: there is at
//! most one for each open hold.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use relay_protocol::Tokens;
use relay_shared::{
    clock::{Clock as _, SystemClock},
    fault,
};
use tokio::sync::{SetOnce, oneshot};

use super::{
    Hold, HoldError, LedgerDown, Reply, Reserve, UsageRow,
    book::{Book, NotGranted},
    counts::Counts,
    flight::Flight,
    lines,
};
use crate::{ids::TenantId, money::Nanos, store::millis};

/// An open hold, as it was granted.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: i64,
    pub(super) reserve: Reserve,
    pub(super) at_ms: i64,
    /// What was granted besides, since.
    extended: AtomicI64,
    /// A checkpoint waits to be written.
    has_checkpoint: AtomicBool,
    /// Whether the hold was written. Not set while nobody asked for it.
    pub(super) written: SetOnce<Result<(), LedgerDown>>,
    /// The writer has it, or its settlement.
    is_queued: AtomicBool,
    /// It stands among the holds of the last moments.
    is_in_flight: AtomicBool,
}

impl Facts {
    /// All that is set aside.
    pub(super) fn amount(&self) -> Nanos {
        let extended = Nanos::new(self.extended.load(Ordering::Acquire));
        self.reserve.amount.saturating_add(extended)
    }

    /// What its first entry sets aside.
    pub(super) fn first(&self) -> Nanos {
        self.reserve.amount
    }
}

/// The end of a hold.
pub(super) struct Settle {
    pub(super) facts: Arc<Facts>,
    pub(super) charge: Nanos,
    /// None where the hold was dropped without a word.
    pub(super) row: Option<Box<UsageRow>>,
    pub(super) reply: Option<Reply>,
}

/// What the book could not decide.
pub(super) enum Wish {
    /// A hold.
    Hold(Reserve, oneshot::Sender<Result<Hold, HoldError>>),
    /// More for one.
    More(Arc<Facts>, Nanos, oneshot::Sender<Result<(), HoldError>>),
}

impl Wish {
    pub(super) fn tenant(&self) -> &TenantId {
        match self {
            Self::Hold(reserve, _) => &reserve.tenant,
            Self::More(facts, ..) => &facts.reserve.tenant,
        }
    }

    pub(super) fn is_forgotten(&self) -> bool {
        match self {
            Self::Hold(_, reply) => reply.is_closed(),
            Self::More(_, _, reply) => reply.is_closed(),
        }
    }
}

/// How far the call of an open hold came.
pub(super) struct Checkpoint {
    pub(super) facts: Arc<Facts>,
    pub(super) input: Tokens,
    pub(super) output: Tokens,
    pub(super) cost: Nanos,
}

/// Credit to be taken back where it is over.
pub(super) struct Expire {
    pub(super) tenants: Vec<TenantId>,
    pub(super) now_ms: i64,
    /// How much was taken; dropped where it could not be.
    pub(super) reply: oneshot::Sender<Nanos>,
}

/// Work for the writer.
pub(super) enum Op {
    Ask(Box<Wish>),
    /// Write a granted hold.
    Open(Arc<Facts>),
    /// Write what was granted besides.
    Extend(Arc<Facts>, Nanos),
    Checkpoint(Checkpoint),
    Settle(Settle),
    Note(Box<UsageRow>),
    Expire(Expire),
}

#[derive(Default)]
struct Desk {
    book: Book,
    ops: VecDeque<Op>,
    /// Granted holds that nobody asked to be written yet, oldest first.
    unwritten: VecDeque<(Instant, Arc<Facts>)>,
    wishes: usize,
    notes: usize,
    is_closed: bool,
    /// Until when the writer sleeps: whoever brings something wakes it, and nobody else makes a system call for nothing.
    asleep_until: Option<Instant>,
    /// It sleeps on until so many ops wait.
    enough: usize,
}

/// Shared by the ledger's handles, its holds and the writer.
pub(super) struct Inbox {
    desk: Mutex<Desk>,
    filled: Condvar,
    dropped: AtomicU64,
    flight: Flight,
    counts: Counts,
}

impl Inbox {
    pub(super) fn new(book: Book, flight: Flight) -> Self {
        let desk = Desk {
            book,
            ..Desk::default()
        };
        Self {
            desk: Mutex::new(desk),
            filled: Condvar::new(),
            dropped: AtomicU64::new(0),
            flight,
            counts: Counts::default(),
        }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grants a hold from what the book knows. It is written when somebody asks for that, with its settlement, or
    /// after [`UNWRITTEN_FOR`].
    pub(super) fn grant(&self, mut reserve: Reserve) -> Result<Arc<Facts>, (Box<Reserve>, NotGranted)> {
        reserve.amount = reserve.amount.max(Nanos::ZERO);
        let mut desk = self.desk();
        if desk.is_closed {
            return Err((Box::new(reserve), NotGranted::Unknown));
        }
        let id = match desk.book.grant(reserve.call, &reserve.tenant, reserve.amount) {
            Ok(id) => id,
            Err(not) => return Err((Box::new(reserve), not)),
        };
        let facts = Arc::new(Facts {
            id,
            reserve,
            at_ms: millis(SystemClock.wall()),
            extended: AtomicI64::new(0),
            has_checkpoint: AtomicBool::new(false),
            written: SetOnce::new(),
            is_queued: AtomicBool::new(false),
            is_in_flight: AtomicBool::new(false),
        });
        if !BOOKS {
            return Ok(facts);
        }
        // The writer is not woken: it looks up in time by itself, and a call on its way to its vendor waits for nothing.
        desk.unwritten.push_back((Instant::now(), facts.clone()));
        drop(desk);
        fault::point("hold granted");
        Ok(facts)
    }

    /// Grants more to an open hold. Written after the hold itself, and before its end.
    pub(super) fn extend(&self, facts: &Arc<Facts>, amount: Nanos) -> Result<(), NotGranted> {
        let mut desk = self.desk();
        if desk.is_closed {
            return Err(NotGranted::Unknown);
        }
        desk.book.extend(&facts.reserve.tenant, amount)?;
        facts.extended.fetch_add(amount.get(), Ordering::AcqRel);
        if !facts.is_queued.swap(true, Ordering::Relaxed) {
            desk.ops.push_back(Op::Open(facts.clone()));
        }
        desk.ops.push_back(Op::Extend(facts.clone(), amount));
        self.wake(desk);
        Ok(())
    }

    /// Has a checkpoint written with the next commit; nobody is woken for it, and one at a time is enough.
    pub(super) fn checkpoint(&self, checkpoint: Checkpoint) {
        if checkpoint.facts.has_checkpoint.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut desk = self.desk();
        if !desk.is_closed {
            desk.ops.push_back(Op::Checkpoint(checkpoint));
        }
    }

    /// Has a hold written now where it outlives the hub; true where it does already.
    pub(super) fn hasten(&self, facts: &Arc<Facts>) -> bool {
        if !BOOKS || facts.is_in_flight.load(Ordering::Relaxed) {
            return true;
        }
        let is_in_flight = self.flight.write(&lines::hold(facts, self.flight.epoch()));
        facts.is_in_flight.store(is_in_flight, Ordering::Relaxed);
        if !is_in_flight {
            self.open_now(facts);
        }
        fault::point("hold in flight");
        is_in_flight
    }

    pub(super) const fn epoch(&self) -> i64 {
        self.flight.epoch()
    }

    /// What is durable needs no other place.
    pub(super) fn landed(&self, facts: &Facts) {
        if facts.is_in_flight.swap(false, Ordering::Relaxed) {
            self.flight.free(facts.id);
        }
    }

    /// Has a hold written to the journal now.
    fn open_now(&self, facts: &Arc<Facts>) {
        if !facts.is_queued.swap(true, Ordering::Relaxed) {
            self.push(Op::Open(facts.clone()));
        }
    }

    /// Queues an op; false where there is no place, or no writer.
    pub(super) fn push(&self, op: Op) -> bool {
        let Some(op) = (if BOOKS { Some(op) } else { self.unbooked(op) }) else {
            return true;
        };
        let mut desk = self.desk();
        let has_place = match &op {
            Op::Ask(_) => desk.wishes < MOST_WISHES,
            Op::Note(_) => desk.notes < MOST_NOTES,
            Op::Open(_) | Op::Extend(..) | Op::Checkpoint(_) | Op::Settle(_) | Op::Expire(_) => true,
        };
        if desk.is_closed || !has_place {
            drop(desk);
            self.turned_away(&op);
            return false;
        }
        if let Op::Settle(settle) = &op {
            settle.facts.is_queued.store(true, Ordering::Relaxed);
        }
        desk.count(&op);
        desk.ops.push_back(op);
        self.wake(desk);
        true
    }

    /// Ends a hold at once, as if it were written, and drops rows.
    fn unbooked(&self, op: Op) -> Option<Op> {
        match op {
            Op::Settle(Settle {
                facts, charge, reply, ..
            }) => {
                self.book(|book| {
                    book.kept(&facts.reserve.tenant, facts.amount());
                    book.close(facts.reserve.call);
                });
                if let Some(reply) = reply {
                    // Nobody may wait any more.
                    reply.send(Ok(charge)).ok();
                }
                None
            }
            Op::Note(_) => None,
            other => Some(other),
        }
    }

    fn turned_away(&self, op: &Op) {
        match op {
            Op::Note(_) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            Op::Open(facts) => drop(facts.written.set(Err(LedgerDown))),
            // Who waits sees that his sender is gone.
            Op::Ask(_) | Op::Extend(..) | Op::Checkpoint(_) | Op::Settle(_) | Op::Expire(_) => {}
        }
    }

    /// Takes what waits, at most `most`, the holds that are due among it.
    pub(super) fn take(&self, most: usize) -> Vec<Op> {
        let mut desk = self.desk();
        desk.queue_due();
        let count = desk.ops.len().min(most);
        let taken: Vec<Op> = desk.ops.drain(..count).collect();
        for op in &taken {
            match op {
                Op::Ask(_) => desk.wishes = desk.wishes.saturating_sub(1),
                Op::Note(_) => desk.notes = desk.notes.saturating_sub(1),
                Op::Checkpoint(checkpoint) => checkpoint.facts.has_checkpoint.store(false, Ordering::Relaxed),
                Op::Open(_) | Op::Extend(..) | Op::Settle(_) | Op::Expire(_) => {}
            }
        }
        taken
    }

    /// Puts ops back in front, for another try.
    pub(super) fn put_back(&self, ops: Vec<Op>) {
        let mut desk = self.desk();
        for op in ops.into_iter().rev() {
            desk.count(&op);
            desk.ops.push_front(op);
        }
    }

    /// Blocks the writer until something may wait, at most for `most`.
    pub(super) fn wait(&self, most: Duration) {
        let mut desk = self.desk();
        if desk.ops.is_empty() {
            let due = desk
                .unwritten
                .front()
                .map(|(since, _)| UNWRITTEN_FOR.saturating_sub(since.elapsed()));
            let most = due.map_or(most, |due| due.min(most));
            desk.asleep_until = Instant::now().checked_add(most);
            let woken = self.filled.wait_timeout(desk, most);
            woken.unwrap_or_else(PoisonError::into_inner).0.asleep_until = None;
        }
    }

    /// Blocks the writer until `until`, or until the calls that began a moment ago have all brought something: what comes
    /// meanwhile shares its commit. Nobody waits for a call that has been open for longer, as streams are.
    pub(super) fn gather(&self, until: Instant) {
        let mut desk = self.desk();
        let enough = desk.ops.len().saturating_add(desk.young()).min(MOST_GATHERED);
        let left = until.saturating_duration_since(Instant::now());
        if desk.ops.is_empty() || desk.ops.len() >= enough || left.is_zero() {
            return;
        }
        (desk.asleep_until, desk.enough) = (Some(until), enough);
        let woken = self.filled.wait_timeout(desk, left);
        let mut desk = woken.unwrap_or_else(PoisonError::into_inner).0;
        (desk.asleep_until, desk.enough) = (None, 0);
    }

    /// Wakes the writer.
    pub(super) fn ring(&self) {
        self.wake(self.desk());
    }

    /// Wakes the writer where it sleeps; once it is up it takes all that waits.
    fn wake(&self, mut desk: MutexGuard<'_, Desk>) {
        let is_asleep = desk.ops.len() >= desk.enough && desk.asleep_until.take().is_some();
        drop(desk);
        if is_asleep {
            self.filled.notify_one();
        }
    }

    /// Nobody waits any longer for a hold: the database cannot be written. Settlements and notes stay.
    pub(super) fn refuse_waiting(&self) {
        let mut desk = self.desk();
        let (waiting, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut desk.ops)
            .into_iter()
            .partition(|op| matches!(op, Op::Ask(_) | Op::Open(_)));
        desk.ops = rest;
        desk.wishes = 0;
        drop(desk);
        for op in &waiting {
            self.turned_away(op);
        }
    }

    /// Ends the queue if it is empty; the writer is about to leave.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut desk = self.desk();
        desk.is_closed = desk.is_closed || (desk.ops.is_empty() && desk.book.open() == 0);
        desk.is_closed
    }

    /// Ends the queue at once: whoever waits learns that the ledger is down.
    pub(super) fn close(&self) {
        let mut desk = self.desk();
        desk.is_closed = true;
        let (ops, unwritten) = (std::mem::take(&mut desk.ops), std::mem::take(&mut desk.unwritten));
        drop(desk);
        for op in &ops {
            self.turned_away(op);
        }
        for (_, facts) in unwritten {
            drop(facts.written.set(Err(LedgerDown)));
        }
    }

    /// Reads or changes the book; nothing is granted meanwhile.
    pub(super) fn book<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut self.desk().book)
    }

    pub(super) fn open(&self) -> usize {
        self.desk().book.open()
    }

    pub(super) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// How much waits for the writer.
    pub(super) fn queued(&self) -> usize {
        self.desk().ops.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Desk {
    fn count(&mut self, op: &Op) {
        match op {
            Op::Ask(_) => self.wishes = self.wishes.saturating_add(1),
            Op::Note(_) => self.notes = self.notes.saturating_add(1),
            Op::Open(_) | Op::Extend(..) | Op::Checkpoint(_) | Op::Settle(_) | Op::Expire(_) => {}
        }
    }

    /// How many calls began a moment ago, and have brought nothing to write: no more than matter.
    fn young(&self) -> usize {
        let is_young = |facts: &Facts| !facts.is_queued.load(Ordering::Relaxed);
        let began = self.unwritten.iter().rev().take(2 * MOST_GATHERED);
        began.filter(|(_, facts)| is_young(facts)).count()
    }

    /// Queues the holds that went unwritten for long enough; forgets those that are queued or settled by now.
    fn queue_due(&mut self) {
        while let Some((since, facts)) = self.unwritten.front() {
            let is_queued = facts.is_queued.load(Ordering::Relaxed);
            if !is_queued && since.elapsed() < UNWRITTEN_FOR {
                return;
            }
            if let Some((_, facts)) = self.unwritten.pop_front()
                && !facts.is_queued.swap(true, Ordering::Relaxed)
            {
                self.ops.push_back(Op::Open(facts));
            }
        }
    }
}

/// Whether anything is written. Not in a build with `--cfg relay_unbilled`, which is made to measure what booking costs
/// (`cargo xtask bench --billing`) and for nothing else.
const BOOKS: bool = cfg!(not(relay_unbilled));
/// A call that ends sooner is written once, settled: its hold and its charge share a commit. What the hub's death can
/// make the books forget is a call that began no longer ago than this and of which nobody saw a byte.
pub(super) const UNWRITTEN_FOR: Duration = Duration::from_millis(50);
/// A commit of so many is cheap for each of them.
const MOST_GATHERED: usize = 256;
const MOST_WISHES: usize = 16 * 1024;
const MOST_NOTES: usize = 64 * 1024;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests;
