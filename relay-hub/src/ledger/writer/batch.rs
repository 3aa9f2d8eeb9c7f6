//! A batch on its way: what it changes, what becomes of it. Knows no SQL.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    super::{
        LedgerDown, UsageRow,
        book::Book,
        inbox::{Facts, Inbox, Op, Settle, Wish},
        rows::{self, Values},
        rules::{self, Changes, Head, OPERATOR_LOSS, REVENUE, Transfer},
    },
    sql::{self, Room},
};
use crate::money::Nanos;

/// A settlement with its charge split.
pub(super) struct Resolve {
    pub(super) settle: Settle,
    /// What the tenant pays: what the hold covers, and what was taken besides.
    charge: Nanos,
    /// Taken from what the tenant has beyond the hold.
    taken: Nanos,
    /// Nobody pays it: the operator's loss.
    loss: Nanos,
}

impl Resolve {
    fn is_paid(&self) -> bool {
        !(self.charge.is_zero() && self.loss.is_zero())
    }

    fn state(&self) -> i64 {
        if self.is_paid() { POSTED } else { VOID }
    }
}

/// What one transaction does.
#[derive(Default)]
pub(super) struct Batch {
    opens: Vec<Arc<Facts>>,
    pub(super) resolves: Vec<Resolve>,
    pub(super) notes: Vec<UsageRow>,
}

/// Ops by what must happen to them.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) batch: Batch,
    /// Charges above their holds: decided once the rest of the batch has given back what it held.
    pub(super) above: Vec<Settle>,
    pub(super) wishes: Vec<Wish>,
}

impl Plan {
    pub(super) fn of(ops: Vec<Op>) -> Self {
        let mut plan = Self::default();
        for op in ops {
            match op {
                Op::Ask(wish) => plan.wishes.push(*wish),
                Op::Open(facts) => plan.batch.opens.push(facts),
                Op::Settle(settle) if settle.charge > settle.facts.amount() => plan.above.push(settle),
                Op::Settle(settle) => plan.batch.resolve(settle, Nanos::ZERO),
                Op::Note(row) => plan.batch.notes.push(*row),
            }
        }
        plan.batch.skip_ended();
        plan
    }
}

impl Batch {
    /// Charges above their holds: each takes what its tenant has left, and the operator bears the rest.
    pub(super) fn above(settles: Vec<Settle>, book: &mut Book) -> Self {
        let mut batch = Self::default();
        for settle in settles {
            let (_, rest) = rules::split(settle.charge, settle.facts.amount());
            let taken = book.take(&settle.facts.reserve.tenant, rest);
            batch.resolve(settle, taken);
        }
        batch
    }

    fn resolve(&mut self, settle: Settle, taken: Nanos) {
        let (covered, rest) = rules::split(settle.charge, settle.facts.amount());
        self.resolves.push(Resolve {
            charge: covered.checked_add(taken).unwrap_or(covered),
            loss: rest.saturating_sub(taken),
            settle,
            taken,
        });
    }

    /// A hold that is settled in the same batch needs not be opened first.
    fn skip_ended(&mut self) {
        let ended: HashSet<i64> = self.resolves.iter().map(|resolve| resolve.settle.facts.id).collect();
        self.opens.retain(|facts| !ended.contains(&facts.id));
    }

    pub(super) fn len(&self) -> usize {
        self.opens
            .len()
            .saturating_add(self.resolves.len())
            .saturating_add(self.notes.len())
    }

    /// What it changes in the accounts: `None` where a sum is out of range.
    pub(super) fn changes(&self, written: &HashSet<i64>) -> Option<Changes> {
        let mut changes = Changes::default();
        for facts in &self.opens {
            changes.add(facts.reserve.tenant.as_str(), facts.amount().get(), 0)?;
        }
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            let held = if written.contains(&facts.id) {
                facts.amount().get().checked_neg()?
            } else {
                0
            };
            let charge = resolve.charge.get();
            changes.add(facts.reserve.tenant.as_str(), held, charge.checked_neg()?)?;
            changes.add(REVENUE, 0, charge.checked_add(resolve.loss.get())?)?;
            if !resolve.loss.is_zero() {
                changes.add(OPERATOR_LOSS, 0, resolve.loss.get().checked_neg()?)?;
            }
        }
        Some(changes)
    }

    /// The script's arguments, its room, and where the chain ends after it. `None` where a sum is out of range.
    pub(super) fn script(
        &self,
        epoch: i64,
        written: &HashSet<i64>,
        head: Head,
        at_ms: i64,
    ) -> Option<(Values, Room, Head)> {
        let is_written = |resolve: &&Resolve| written.contains(&resolve.settle.facts.id);
        let resolved = self.resolves.iter().filter(is_written).count();
        let changes = self.changes(written)?;
        let mut values = Values::default();
        if resolved > 0 {
            let states = self.resolves.iter().filter(is_written);
            let states = states.map(|resolve| (resolve.settle.facts.id, resolve.state()));
            values.owned(rows::states(states)).int(epoch).count(resolved);
        }
        values.owned(rows::changes(&changes)).int(epoch).count(changes.len());
        let room = Room::of(
            resolved > 0,
            self.opens
                .len()
                .saturating_add(self.resolves.len())
                .saturating_sub(resolved),
            self.resolves
                .iter()
                .map(|r| usize::from(!r.charge.is_zero()).saturating_add(usize::from(!r.loss.is_zero())))
                .sum(),
            self.resolves.len().saturating_add(self.notes.len()),
        );
        self.holds(&mut values, epoch, written, room.holds);
        let head = self.transfers(&mut values, head, at_ms, room.transfers)?;
        self.usage(&mut values, at_ms);
        Some((values, room, head))
    }

    fn holds(&self, values: &mut Values, epoch: i64, written: &HashSet<i64>, room: usize) {
        let mut empty = room;
        for facts in &self.opens {
            rows::hold(values, facts, epoch, OPEN);
            empty = empty.saturating_sub(1);
        }
        for resolve in &self.resolves {
            if !written.contains(&resolve.settle.facts.id) {
                rows::hold(values, &resolve.settle.facts, epoch, resolve.state());
                empty = empty.saturating_sub(1);
            }
        }
        values.nothing(empty.saturating_mul(sql::HOLD.len()));
    }

    fn transfers(&self, values: &mut Values, mut head: Head, at_ms: i64, room: usize) -> Option<Head> {
        let mut empty = room;
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            let sides = [
                ("charge", facts.reserve.tenant.as_str(), resolve.charge),
                ("loss", OPERATOR_LOSS, resolve.loss),
            ];
            for (kind, debit, amount) in sides.into_iter().filter(|(_, _, amount)| !amount.is_zero()) {
                let hold = Some(facts.id);
                let row = Transfer {
                    kind,
                    hold,
                    idem: None,
                    debit,
                    credit: REVENUE,
                    amount,
                    at_ms,
                    note: "",
                };
                head = head.next(&row)?;
                rows::transfer(values, &row, &head);
                empty = empty.saturating_sub(1);
            }
        }
        values.nothing(empty.saturating_mul(sql::TRANSFER.len()));
        Some(head)
    }

    /// The script's last rows: what is missing at its end is nothing.
    fn usage(&self, values: &mut Values, at_ms: i64) {
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            match &resolve.settle.row {
                Some(row) => rows::usage(values, row, Some(facts.id), resolve.charge, at_ms),
                None => rows::abandoned(values, facts, at_ms),
            }
        }
        for row in &self.notes {
            rows::usage(values, row, None, Nanos::ZERO, at_ms);
        }
    }

    /// The commit came to pass: the book is told what accounts have now, and everybody what became of his.
    pub(super) fn done(mut self, inbox: &Inbox, written: &mut HashSet<i64>, available: HashMap<String, Nanos>) {
        inbox.book(|book| {
            for (account, available) in &available {
                book.refresh(account, *available);
            }
            for facts in &self.opens {
                written.insert(facts.id);
                book.kept(&facts.reserve.tenant, facts.amount());
            }
            for resolve in &self.resolves {
                close(&resolve.settle.facts, book, written);
                book.kept(&resolve.settle.facts.reserve.tenant, resolve.taken);
            }
        });
        for facts in self.opens.drain(..) {
            facts.written.set(Ok(())).ok();
        }
        for Resolve { settle, charge, .. } in self.resolves.drain(..) {
            settle.facts.written.set(Ok(())).ok();
            told(settle, Ok(charge));
        }
    }

    /// Nothing of it was written: all of it comes back.
    pub(super) fn undone(mut self, inbox: &Inbox) -> Vec<Op> {
        let opens = std::mem::take(&mut self.opens);
        opens.into_iter().map(Op::Open).chain(self.settled(inbox)).collect()
    }

    /// It is not certain what was written. Holds are told; settlements and notes come back for another try.
    pub(super) fn doubtful(mut self, inbox: &Inbox) -> Vec<Op> {
        for facts in self.opens.drain(..) {
            facts.written.set(Err(LedgerDown)).ok();
        }
        self.settled(inbox)
    }

    fn settled(&mut self, inbox: &Inbox) -> Vec<Op> {
        let (resolves, notes) = (std::mem::take(&mut self.resolves), std::mem::take(&mut self.notes));
        inbox.book(|book| {
            for resolve in &resolves {
                book.kept(&resolve.settle.facts.reserve.tenant, resolve.taken);
            }
        });
        let settles = resolves.into_iter().map(|Resolve { mut settle, .. }| {
            settle.tries = settle.tries.saturating_add(1);
            Op::Settle(settle)
        });
        settles
            .chain(notes.into_iter().map(|row| Op::Note(Box::new(row))))
            .collect()
    }
}

impl Drop for Batch {
    /// A writer that is cut leaves nobody waiting.
    fn drop(&mut self) {
        for facts in &self.opens {
            facts.written.set(Err(LedgerDown)).ok();
        }
    }
}

/// The call is no longer open, and what its hold promised is no promise any more.
pub(super) fn close(facts: &Facts, book: &mut Book, written: &mut HashSet<i64>) {
    book.close(facts.reserve.call);
    if !written.remove(&facts.id) {
        book.kept(&facts.reserve.tenant, facts.amount());
    }
}

/// Tells how a settlement ended.
pub(super) fn told(settle: Settle, result: Result<Nanos, LedgerDown>) {
    if let Some(reply) = settle.reply {
        // Nobody may wait any more.
        reply.send(result).ok();
    }
}

const OPEN: i64 = 0;
const POSTED: i64 = 1;
const VOID: i64 = 2;
