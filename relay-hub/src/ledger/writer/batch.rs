//! A batch on its way: what waits for it, what it changes, what becomes of it. Knows no SQL.

use std::{collections::HashSet, sync::Arc};

use relay_shared::call::CallId;
use tokio::sync::{SetOnce, oneshot};

use super::super::{
    Hold, HoldError, LedgerDown, Reserve, UsageRow,
    inbox::{Facts, Inbox, Op, Outcome, Settle},
    rows::{self, Rows},
    rules::{self, Balance, Changes, Head, OPERATOR_LOSS, REVENUE, Transfer},
};
use crate::money::Nanos;

/// A settlement with its charge split.
pub(super) struct Resolve {
    pub(super) settle: Settle,
    /// What the tenant pays: what the hold covers, and later what else was available.
    pub(super) charge: Nanos,
    /// What the hold does not cover, until somebody pays it.
    pub(super) rest: Nanos,
}

pub(super) struct Wish {
    pub(super) reserve: Box<Reserve>,
    pub(super) reply: oneshot::Sender<Result<Hold, HoldError>>,
}

/// What one transaction does.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) wishes: Vec<Wish>,
    pub(super) resolves: Vec<Resolve>,
    pub(super) notes: Vec<UsageRow>,
    granted: Vec<Arc<Facts>>,
    outcome: Option<Committing>,
}

/// Tells those who wait for a commit, whatever happens to the writer.
struct Committing(Outcome);

impl Drop for Committing {
    fn drop(&mut self) {
        // Set already where the commit came to pass.
        self.0.set(Err(LedgerDown)).ok();
    }
}

impl Batch {
    /// Sorts ops. A call that is open already is turned away here, before it could spoil the batch.
    pub(super) fn plan(ops: Vec<Op>, open: &HashSet<CallId>) -> Self {
        let mut batch = Self::default();
        let mut asked = HashSet::new();
        for op in ops {
            match op {
                Op::Reserve(_, reply) if reply.is_closed() => {}
                Op::Reserve(reserve, reply) => {
                    if open.contains(&reserve.call) || !asked.insert(reserve.call) {
                        reply.send(Err(HoldError::Duplicate)).ok();
                    } else {
                        batch.wishes.push(Wish { reserve, reply });
                    }
                }
                Op::Settle(settle) => {
                    let (charge, rest) = rules::split(settle.charge, settle.facts.amount);
                    batch.resolves.push(Resolve { settle, charge, rest });
                }
                Op::Note(row) => batch.notes.push(*row),
            }
        }
        batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wishes.is_empty() && self.resolves.is_empty() && self.notes.is_empty()
    }

    /// What settlements change as far as their holds cover them. `None` where a sum is out of range.
    pub(super) fn covered(&self) -> Option<Changes> {
        let mut changes = Changes::default();
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            let charge = resolve.charge.get();
            changes.add(
                facts.tenant.as_str(),
                facts.amount.get().checked_neg()?,
                charge.checked_neg()?,
            )?;
            changes.add(REVENUE, 0, charge)?;
        }
        Some(changes)
    }

    /// What each tenant asks for in all. Who asks for more than there can be is left out: he is decided one by one.
    pub(super) fn asked(&self) -> Changes {
        let mut sums = Changes::default();
        for wish in &self.wishes {
            let tenant = wish.reserve.tenant.as_str();
            if sums.add(tenant, amount(&wish.reserve), 0).is_none() {
                sums.spoil(tenant);
            }
        }
        sums
    }

    /// Whose balance must be looked at: not all of his was granted, or a charge is above its hold.
    pub(super) fn short(&self, granted: &HashSet<String>) -> HashSet<String> {
        let asking = self.wishes.iter().map(|wish| wish.reserve.tenant.as_str());
        let owing = self
            .resolves
            .iter()
            .filter(|r| !r.rest.is_zero())
            .map(|r| r.settle.facts.tenant.as_str());
        asking
            .filter(|tenant| !granted.contains(*tenant))
            .chain(owing)
            .map(str::to_owned)
            .collect()
    }

    /// Lets those who owe more than they held pay from what they have; the rest is the operator's loss.
    pub(super) fn collect(&mut self, tenant: &str, balance: &mut Balance, changes: &mut Changes) -> Option<()> {
        let owes = |r: &&mut Resolve| !r.rest.is_zero() && r.settle.facts.tenant.as_str() == tenant;
        for resolve in self.resolves.iter_mut().filter(owes) {
            let taken = balance.take(resolve.rest);
            let loss = resolve.rest.checked_sub(taken)?;
            changes.add(tenant, 0, taken.get().checked_neg()?)?;
            changes.add(OPERATOR_LOSS, 0, loss.get().checked_neg()?)?;
            changes.add(REVENUE, 0, resolve.rest.get())?;
            resolve.charge = resolve.charge.checked_add(taken)?;
            resolve.rest = loss;
        }
        Some(())
    }

    /// Decides a tenant's wishes in their order; the refused ones are told and leave the batch.
    pub(super) fn decide(&mut self, tenant: &str, mut balance: Balance, changes: &mut Changes) -> Option<()> {
        let mut kept = Vec::with_capacity(self.wishes.len());
        for wish in self.wishes.drain(..) {
            if wish.reserve.tenant.as_str() != tenant {
                kept.push(wish);
                continue;
            }
            let wanted = amount(&wish.reserve);
            match balance.hold(Nanos::new(wanted)) {
                Ok(()) => {
                    changes.add(tenant, wanted, 0)?;
                    kept.push(wish);
                }
                Err(available) => drop(wish.reply.send(Err(HoldError::Insufficient { available }))),
            }
        }
        self.wishes = kept;
        Some(())
    }

    /// Answers everybody whose wish is granted, before the commit.
    pub(super) fn grant(&mut self, inbox: &Arc<Inbox>, next: &mut i64, open: &mut HashSet<CallId>, at_ms: i64) {
        let outcome: Outcome = Arc::new(SetOnce::new());
        self.outcome = Some(Committing(outcome.clone()));
        for Wish { reserve, reply } in self.wishes.drain(..) {
            let Reserve {
                call,
                tenant,
                by,
                model,
                amount,
                price_version,
            } = *reserve;
            let amount = amount.max(Nanos::ZERO);
            let outcome = outcome.clone();
            let facts = Facts {
                id: *next,
                call,
                tenant,
                by,
                model,
                amount,
                price_version,
                at_ms,
                outcome,
            };
            *next = next.saturating_add(1);
            open.insert(call);
            inbox.opened();
            let facts = Arc::new(facts);
            self.granted.push(facts.clone());
            // Where nobody waits any more the hold comes back, and its drop queues its release.
            reply.send(Ok(Hold::new(facts, inbox.clone()))).ok();
        }
    }

    /// The new rows: holds, transfers, usage.
    pub(super) fn rows(&self, epoch: i64, mut head: Head, at_ms: i64) -> Option<[String; 3]> {
        let (mut holds, mut transfers, mut usage) = (Rows::new(), Rows::new(), Rows::new());
        for facts in &self.granted {
            rows::hold(&mut holds, facts, epoch);
        }
        for resolve in &self.resolves {
            let facts = &resolve.settle.facts;
            let sides = [
                ("charge", facts.tenant.as_str(), resolve.charge),
                ("loss", OPERATOR_LOSS, resolve.rest),
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
                rows::transfer(&mut transfers, &row, &head);
            }
            match &resolve.settle.row {
                Some(row) => rows::usage(&mut usage, row, Some(facts.id), resolve.charge, at_ms),
                None => rows::abandoned(&mut usage, facts, at_ms),
            }
        }
        for row in &self.notes {
            rows::usage(&mut usage, row, None, Nanos::ZERO, at_ms);
        }
        Some([holds.finish(), transfers.finish(), usage.finish()])
    }

    /// The commit came to pass: everybody is told.
    pub(super) fn done(mut self, inbox: &Inbox, open: &mut HashSet<CallId>) {
        if let Some(Committing(outcome)) = &self.outcome {
            outcome.set(Ok(())).ok();
        }
        for Resolve {
            settle,
            charge,
            rest: _,
        } in self.resolves.drain(..)
        {
            finish(settle, Ok(charge), inbox, open);
        }
    }

    /// There was no commit, or it is not certain. Wishes are refused; settlements and notes come back for another try.
    pub(super) fn failed(mut self) -> Vec<Op> {
        for wish in self.wishes.drain(..) {
            wish.reply.send(Err(LedgerDown.into())).ok();
        }
        let settles = self.resolves.drain(..).map(|resolve| {
            let Settle {
                facts,
                charge,
                row,
                reply,
                tries,
            } = resolve.settle;
            Op::Settle(Settle {
                facts,
                charge,
                row,
                reply,
                tries: tries.saturating_add(1),
            })
        });
        settles
            .chain(self.notes.drain(..).map(|row| Op::Note(Box::new(row))))
            .collect()
    }
}

/// Tells how a settlement ended; the call is no longer open.
pub(super) fn finish(settle: Settle, result: Result<Nanos, LedgerDown>, inbox: &Inbox, open: &mut HashSet<CallId>) {
    if open.remove(&settle.facts.call) {
        inbox.resolved();
    }
    if let Some(reply) = settle.reply {
        // Nobody may wait any more.
        reply.send(result).ok();
    }
}

fn amount(reserve: &Reserve) -> i64 {
    reserve.amount.max(Nanos::ZERO).get()
}
