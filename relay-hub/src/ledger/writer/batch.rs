//! A batch on its way to the journal: what it says, and what becomes of it. Knows no database.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use relay_shared::fault;

use super::super::{
    LedgerDown, UsageRow,
    book::Book,
    inbox::{Checkpoint, Expire, Facts, Inbox, Op, Settle, Wish},
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
    /// More for open holds, and how far their calls came.
    extends: Vec<(Arc<Facts>, Nanos)>,
    checkpoints: Vec<Checkpoint>,
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
                Op::Extend(facts, amount) => plan.batch.extends.push((facts, amount)),
                Op::Checkpoint(checkpoint) => plan.batch.checkpoints.push(checkpoint),
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
        self.checkpoints
            .retain(|checkpoint| !ended.contains(&checkpoint.facts.id));
    }

    /// What is more for holds that are open by then; another hold's goes with its end.
    fn extends(&self, opened: &HashMap<i64, Nanos>) -> impl Iterator<Item = &(Arc<Facts>, Nanos)> {
        let is_open = |id| opened.contains_key(&id) || self.opens.iter().any(|facts| facts.id == id);
        self.extends.iter().filter(move |(facts, _)| is_open(facts.id))
    }

    /// What entries set aside for a hold before its end, those of this batch among them.
    fn durable_of(&self, facts: &Facts, opened: &HashMap<i64, Nanos>) -> Option<Nanos> {
        let before = *opened.get(&facts.id)?;
        let more = self.extends.iter().filter(|(extended, _)| extended.id == facts.id);
        Some(more.fold(before, |sum, (_, amount)| sum.saturating_add(*amount)))
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
        let parts = [
            self.opens.len(),
            self.extends.len(),
            self.checkpoints.len(),
            self.resolves.len(),
            self.notes.len(),
        ];
        parts.into_iter().fold(0, usize::saturating_add)
    }

    /// Its entries. `opened` are the holds that the journal or the tables have.
    pub(super) fn pages(&self, epoch: i64, opened: &HashMap<i64, Nanos>) -> Result<Vec<Page>, BooksError> {
        let opens = self.opens.iter().map(|facts| Entry::Open(lines::hold(facts, epoch)));
        let closes = self.resolves.iter().map(|resolve| {
            let facts = &resolve.settle.facts;
            let row = resolve.settle.row.as_ref();
            let (held, durable) = (facts.amount(), self.durable_of(facts, opened));
            Entry::Close(CloseLine {
                was_open: durable.is_some(),
                held: held.get(),
                durable: durable.filter(|durable| *durable != held).map(Nanos::get),
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
        let extends = self.extends(opened);
        let extends = extends.map(|(facts, amount)| Entry::Extend(lines::extend(facts, *amount)));
        let checkpoints = self.checkpoints.iter();
        let checkpoints = checkpoints.map(|checkpoint| Entry::Checkpoint(lines::checkpoint(checkpoint)));
        let entries = opens.chain(extends).chain(checkpoints).chain(closes).chain(notes);
        Ok(journal::pages(entries)?)
    }

    /// It is durable: the book knows what accounts have now, and everybody learns what became of his.
    pub(super) fn done(mut self, inbox: &Inbox, opened: &mut HashMap<i64, Nanos>) {
        self.durable();
        inbox.book(|book| {
            for facts in &self.opens {
                opened.insert(facts.id, facts.first());
                book.opened(&facts.reserve.tenant, facts.first());
            }
            for (facts, amount) in &self.extends {
                if let Some(held) = opened.get_mut(&facts.id) {
                    *held = held.saturating_add(*amount);
                    book.opened(&facts.reserve.tenant, *amount);
                }
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
    pub(super) fn lost(self, inbox: &Inbox, opened: &mut HashMap<i64, Nanos>) {
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
fn close(facts: &Facts, book: &mut Book, opened: &mut HashMap<i64, Nanos>) {
    book.close(facts.reserve.call);
    let durable = opened.remove(&facts.id).unwrap_or(Nanos::ZERO);
    book.released(&facts.reserve.tenant, durable);
    book.kept(&facts.reserve.tenant, facts.amount().saturating_sub(durable));
}

/// Tells how a settlement ended.
fn told(settle: Settle, result: Result<Nanos, LedgerDown>) {
    if let Some(reply) = settle.reply {
        // Nobody may wait any more.
        reply.send(result).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::TenantId,
        ledger::{flight::Flight, tests::wish},
    };

    fn settle(facts: &Arc<Facts>) -> Op {
        Op::Settle(Settle {
            facts: facts.clone(),
            charge: Nanos::ZERO,
            row: None,
            reply: None,
        })
    }

    /// What the ends in a batch say: whether their holds were open, what was held, and how much of that was written.
    fn ends(plan: &Plan, opened: &HashMap<i64, Nanos>) -> Vec<(bool, i64, Option<i64>)> {
        let pages = plan.batch.pages(1, opened).unwrap();
        let entries = pages.iter().flat_map(|page| page.read().unwrap());
        let ends = entries.filter_map(|entry| match entry {
            Entry::Close(close) => Some((close.was_open, close.held, close.durable)),
            _ => None,
        });
        ends.collect()
    }

    #[test]
    fn an_end_gives_back_what_entries_before_it_set_aside_for_its_own_hold() {
        let dir = tempfile::tempdir().unwrap();
        let flight = Flight::begin(&dir.path().join("flight"), 1).unwrap();
        let (mut book, tenant) = (Book::default(), TenantId::random());
        book.learn(tenant.clone(), Nanos::new(10_000));
        let inbox = Inbox::new(book, flight);
        let (one, other) = (
            inbox.grant(wish(&tenant, 300)).unwrap(),
            inbox.grant(wish(&tenant, 50)).unwrap(),
        );
        inbox.extend(&one, Nanos::new(200)).unwrap();
        inbox.extend(&other, Nanos::new(7)).unwrap();
        let opened = HashMap::from([(one.id, Nanos::new(300)), (other.id, Nanos::new(50))]);
        let more = |facts: &Arc<Facts>, amount| Op::Extend(facts.clone(), Nanos::new(amount));
        let both = Plan::of(vec![more(&one, 200), more(&other, 7), settle(&one)], &inbox);
        assert_eq!((both.batch.len(), ends(&both, &opened)), (3, vec![(true, 500, None)]));
        // What was granted as it ended comes too late: it was never written.
        let late = Plan::of(vec![settle(&one), more(&other, 7)], &inbox);
        assert_eq!(ends(&late, &opened), [(true, 500, Some(300))]);
        assert_eq!(ends(&late, &HashMap::new()), [(false, 500, None)]);
        assert_eq!(Batch::default().len(), 0);
    }
}
