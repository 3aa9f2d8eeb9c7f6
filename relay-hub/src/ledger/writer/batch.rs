//! A batch on its way to the journal: what it says, and what becomes of it. Knows no database.

use std::{collections::HashSet, sync::Arc};

use relay_shared::fault;

use super::super::{
    LedgerDown, UsageRow,
    book::Book,
    inbox::{Expire, Facts, Inbox, Op, Settle, Wish},
    journal::{self, CloseLine, Entry, Page},
    lines,
    post::BooksError,
    row::Ending,
    rules,
};
use crate::money::Nanos;

/// A settlement with its charge split.
struct Resolve {
    settle: Settle,
    /// What the tenant pays: what the hold covers, and what was taken besides.
    charge: Nanos,
    /// Taken from what the tenant has beyond the hold.
    taken: Nanos,
    /// Nobody pays it: the operator's loss.
    loss: Nanos,
}

/// What one transaction does.
#[derive(Default)]
pub(super) struct Batch {
    opens: Vec<Arc<Facts>>,
    resolves: Vec<Resolve>,
    /// Each with its number.
    notes: Vec<(i64, UsageRow)>,
}

/// Ops by what must happen to them.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) batch: Batch,
    /// Charges above their holds: decided on fresh balances, once the rest of the batch has given back what it held.
    pub(super) above: Vec<Settle>,
    pub(super) wishes: Vec<Wish>,
    pub(super) expiries: Vec<Expire>,
}

impl Plan {
    pub(super) fn of(ops: Vec<Op>, inbox: &Inbox) -> Self {
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
                Op::Expire(expire) => plan.expiries.push(expire),
                Op::Note(row) => plan.batch.notes.push((inbox.book(Book::number), *row)),
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

    /// What tenants pay, and what nobody pays.
    pub(super) fn sums(&self) -> (Nanos, Nanos) {
        self.resolves
            .iter()
            .fold((Nanos::ZERO, Nanos::ZERO), |(charged, lost), resolve| {
                (
                    charged.saturating_add(resolve.charge),
                    lost.saturating_add(resolve.loss),
                )
            })
    }

    pub(super) fn len(&self) -> usize {
        self.opens
            .len()
            .saturating_add(self.resolves.len())
            .saturating_add(self.notes.len())
    }

    /// Its entries. `opened` are the holds that the journal or the tables have.
    pub(super) fn pages(&self, epoch: i64, opened: &HashSet<i64>) -> Result<Vec<Page>, BooksError> {
        let opens = self.opens.iter().map(|facts| Entry::Open(lines::hold(facts, epoch)));
        let closes = self.resolves.iter().map(|resolve| {
            let facts = &resolve.settle.facts;
            let row = resolve.settle.row.as_ref();
            Entry::Close(CloseLine {
                was_open: opened.contains(&facts.id),
                held: facts.amount().get(),
                charge: resolve.charge.get(),
                loss: resolve.loss.get(),
                call: row.map_or_else(
                    || lines::unsettled(lines::hold(facts, epoch), &Ending::Abandoned),
                    |row| lines::call(row, facts.id),
                ),
            })
        });
        let notes = self
            .notes
            .iter()
            .map(|(number, row)| Entry::Note(lines::call(row, *number)));
        Ok(journal::pages(opens.chain(closes).chain(notes))?)
    }

    /// It is durable: the book knows what accounts have now, and everybody learns what became of his.
    pub(super) fn done(mut self, inbox: &Inbox, opened: &mut HashSet<i64>) {
        self.durable();
        inbox.book(|book| {
            for facts in &self.opens {
                opened.insert(facts.id);
                book.opened(&facts.reserve.tenant, facts.amount());
            }
            for Resolve {
                settle, charge, taken, ..
            } in &self.resolves
            {
                close(&settle.facts, book, opened);
                book.kept(&settle.facts.reserve.tenant, *taken);
                book.spent(&settle.facts.reserve.tenant, *charge);
            }
        });
        for facts in self.opens.drain(..) {
            inbox.landed(&facts);
            // Whoever was told before that it was not certain goes by that.
            facts.written.set(Ok(())).ok();
        }
        for Resolve { settle, charge, .. } in self.resolves.drain(..) {
            inbox.landed(&settle.facts);
            settle.facts.written.set(Ok(())).ok();
            told(settle, Ok(charge));
        }
    }

    fn durable(&self) {
        if !self.opens.is_empty() {
            fault::point("hold in the journal");
        }
        if !self.resolves.is_empty() {
            fault::point("settlement in the journal");
        }
    }

    /// It is not certain whether it was written: whoever waits for a hold is told, a settlement waits on.
    pub(super) fn doubt(&self) {
        for facts in &self.opens {
            facts.written.set(Err(LedgerDown)).ok();
        }
    }

    /// It can never be written.
    pub(super) fn lost(self, inbox: &Inbox, opened: &mut HashSet<i64>) {
        self.doubt();
        for Resolve { settle, taken, .. } in self.resolves {
            inbox.book(|book| {
                close(&settle.facts, book, opened);
                book.kept(&settle.facts.reserve.tenant, taken);
            });
            inbox.landed(&settle.facts);
            told(settle, Err(LedgerDown));
        }
    }
}

/// The call is no longer open, and what its hold promised or kept is free again.
fn close(facts: &Facts, book: &mut Book, opened: &mut HashSet<i64>) {
    book.close(facts.reserve.call);
    if opened.remove(&facts.id) {
        book.released(&facts.reserve.tenant, facts.amount());
    } else {
        book.kept(&facts.reserve.tenant, facts.amount());
    }
}

/// Tells how a settlement ended.
fn told(settle: Settle, result: Result<Nanos, LedgerDown>) {
    if let Some(reply) = settle.reply {
        // Nobody may wait any more.
        reply.send(result).ok();
    }
}
