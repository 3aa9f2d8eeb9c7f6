//! A batch on its way: what it changes, in which order it is written, what becomes of it. Knows no statement's text.

use std::{collections::HashSet, sync::Arc};

use rusqlite::Connection;

use super::{
    super::{
        LedgerDown, UsageRow,
        book::Book,
        inbox::{Facts, Inbox, Op, Settle, Wish},
        rules::{self, Changes, OPERATOR_LOSS, REVENUE, Transfer},
    },
    BatchError,
    sql::{self, OPEN, POSTED, VOID},
};
use crate::money::Nanos;

/// What changed accounts can spend after a commit.
pub(super) type Available = Vec<(String, Nanos)>;

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
                Op::Settle(settle) => {
                    let covered = (settle.charge, Nanos::ZERO);
                    plan.batch.resolve(settle, covered, Nanos::ZERO);
                }
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
            let split = rules::split(settle.charge, settle.facts.amount());
            let taken = book.take(&settle.facts.reserve.tenant, split.1);
            batch.resolve(settle, split, taken);
        }
        batch
    }

    fn resolve(&mut self, settle: Settle, (covered, rest): (Nanos, Nanos), taken: Nanos) {
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

    /// Writes it inside the open transaction.
    pub(super) fn write(
        &self,
        connection: &Connection,
        epoch: i64,
        written: &HashSet<i64>,
        at_ms: i64,
    ) -> Result<Available, BatchError> {
        if sql::epoch(connection)? != epoch {
            return Err(BatchError::Books("a later hub has taken over"));
        }
        let available = self.change(connection, written)?;
        self.holds(connection, epoch, written)?;
        self.transfers(connection, at_ms)?;
        self.usage(connection, at_ms)?;
        Ok(available)
    }

    fn change(&self, connection: &Connection, written: &HashSet<i64>) -> Result<Available, BatchError> {
        let changes = self.changes(written).ok_or(OUT_OF_RANGE)?;
        let mut available = Available::new();
        for (account, held, posted) in changes.iter() {
            let left = sql::change(connection, account, held, posted)?;
            available.push((
                account.to_owned(),
                left.ok_or(BatchError::Books("an account is missing"))?,
            ));
        }
        Ok(available)
    }

    /// What it changes in the accounts: `None` where a sum is out of range.
    fn changes(&self, written: &HashSet<i64>) -> Option<Changes> {
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

    fn holds(&self, connection: &Connection, epoch: i64, written: &HashSet<i64>) -> Result<(), BatchError> {
        for facts in &self.opens {
            sql::hold(connection, facts, epoch, OPEN)?;
        }
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            if !written.contains(&facts.id) {
                sql::hold(connection, facts, epoch, resolve.state())?;
            } else if !sql::resolve(connection, facts.id, resolve.state(), epoch)? {
                return Err(BatchError::Books("a hold is not open"));
            }
        }
        Ok(())
    }

    fn transfers(&self, connection: &Connection, at_ms: i64) -> Result<(), BatchError> {
        let head = sql::head(connection)?;
        let mut head = head.ok_or(BatchError::Books("a hash is not 32 bytes long"))?;
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
                head = head.next(&row).ok_or(OUT_OF_RANGE)?;
                sql::transfer(connection, &row, &head)?;
            }
        }
        Ok(())
    }

    fn usage(&self, connection: &Connection, at_ms: i64) -> Result<(), BatchError> {
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            match &resolve.settle.row {
                Some(row) => sql::usage(connection, row, Some(facts.id), resolve.charge, at_ms)?,
                None => sql::abandoned(connection, facts, at_ms)?,
            }
        }
        for row in &self.notes {
            sql::usage(connection, row, None, Nanos::ZERO, at_ms)?;
        }
        Ok(())
    }

    /// The commit came to pass: the book is told what accounts have now, and everybody what became of his.
    pub(super) fn done(mut self, inbox: &Inbox, written: &mut HashSet<i64>, available: Available) {
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

const OUT_OF_RANGE: BatchError = BatchError::Books("a sum is out of range");
