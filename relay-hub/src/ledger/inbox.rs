//! What waits for the writer. Settlements are never turned away: there is at most one for each open hold.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use relay_shared::call::CallId;
use tokio::sync::{Notify, SetOnce, oneshot};

use super::{Hold, HoldError, LedgerDown, Reserve, UsageRow};
use crate::{identity::By, ids::TenantId, money::Nanos};

/// Whether a batch's commit came to pass.
pub(super) type Outcome = Arc<SetOnce<Result<(), LedgerDown>>>;

/// An open hold, as the writer granted it.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: i64,
    pub(super) call: CallId,
    pub(super) tenant: TenantId,
    pub(super) by: By,
    pub(super) model: String,
    pub(super) amount: Nanos,
    pub(super) price_version: i64,
    pub(super) at_ms: i64,
    pub(super) outcome: Outcome,
}

/// The end of a hold.
pub(super) struct Settle {
    pub(super) facts: Arc<Facts>,
    pub(super) charge: Nanos,
    /// None where the hold was dropped without a word.
    pub(super) row: Option<Box<UsageRow>>,
    pub(super) reply: Option<oneshot::Sender<Result<Nanos, LedgerDown>>>,
    /// How many batches with it failed.
    pub(super) tries: u32,
}

/// A wish for the writer.
pub(super) enum Op {
    Reserve(Box<Reserve>, oneshot::Sender<Result<Hold, HoldError>>),
    Settle(Settle),
    Note(Box<UsageRow>),
}

#[derive(Default)]
struct Queue {
    ops: VecDeque<Op>,
    reserves: usize,
    notes: usize,
    is_closed: bool,
}

/// Shared by the ledger's handles, its holds and the writer.
#[derive(Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    filled: Notify,
    open: AtomicUsize,
    dropped: AtomicU64,
}

impl Inbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an op; false where there is no place, or no writer.
    pub(super) fn push(&self, op: Op) -> bool {
        let mut queue = self.queue();
        let has_place = match &op {
            Op::Reserve(..) => queue.reserves < MOST_RESERVES,
            Op::Note(_) => queue.notes < MOST_NOTES,
            Op::Settle(_) => true,
        };
        if queue.is_closed || !has_place {
            if matches!(op, Op::Note(_)) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            return false;
        }
        match &op {
            Op::Reserve(..) => queue.reserves = queue.reserves.saturating_add(1),
            Op::Note(_) => queue.notes = queue.notes.saturating_add(1),
            Op::Settle(_) => {}
        }
        queue.ops.push_back(op);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Takes what waits, at most `most`.
    pub(super) fn take(&self, most: usize) -> Vec<Op> {
        let mut queue = self.queue();
        let count = queue.ops.len().min(most);
        let taken: Vec<Op> = queue.ops.drain(..count).collect();
        for op in &taken {
            match op {
                Op::Reserve(..) => queue.reserves = queue.reserves.saturating_sub(1),
                Op::Note(_) => queue.notes = queue.notes.saturating_sub(1),
                Op::Settle(_) => {}
            }
        }
        taken
    }

    /// Puts ops back in front, for another try.
    pub(super) fn put_back(&self, ops: Vec<Op>) {
        let mut queue = self.queue();
        for op in ops.into_iter().rev() {
            match &op {
                Op::Reserve(..) => queue.reserves = queue.reserves.saturating_add(1),
                Op::Note(_) => queue.notes = queue.notes.saturating_add(1),
                Op::Settle(_) => {}
            }
            queue.ops.push_front(op);
        }
    }

    /// Resolves when something may wait.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Ends the queue if it is empty; the writer is about to leave.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut queue = self.queue();
        queue.is_closed = queue.is_closed || queue.ops.is_empty();
        queue.is_closed
    }

    /// Ends the queue at once: whoever waits learns that the ledger is down.
    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.is_closed = true;
        queue.ops.clear();
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn resolved(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

const MOST_RESERVES: usize = 16 * 1024;
const MOST_NOTES: usize = 64 * 1024;
