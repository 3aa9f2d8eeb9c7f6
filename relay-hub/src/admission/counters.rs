//! Where rates are counted: behind one trait, in memory here. Knows scopes and units; knows no call and no refusal.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use relay_shared::clock::Clock;

use super::gcra::{Rate, Used};
use crate::limit::Scope;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Calls.
    Requests,
    /// Input and output tokens.
    Tokens,
}

/// One count of one scope, to be charged with `cost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// Whose.
    pub scope: Scope,
    /// Of what.
    pub unit: Unit,
    /// The limit, at least 1.
    pub per_minute: u64,
    /// Units; more than a minute's worth is taken for a minute's worth when asked for.
    pub cost: u64,
}

/// Something does not fit: nothing was charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    /// Which charge, the one with the longest wait.
    pub charge: Charge,
    /// How much of it would fit.
    pub left: u64,
    /// When it will fit.
    pub wait: Duration,
    /// When nothing of the rate will be used.
    pub reset: Duration,
}

/// Counts that many hubs may share. Nothing is ever decremented to undo: a charge stands, and what a call used beyond
/// it is charged later.
pub trait Counters: Send + Sync + 'static {
    /// Charges all or nothing, in one atomic step: with a store elsewhere, one round trip.
    fn take<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Result<(), Short>>;

    /// Charges what is owed, whether it fits or not. Never waits: with a store elsewhere it is queued.
    fn debit(&self, charges: &[Charge]);
}

/// Counts of this process alone.
pub(super) struct MemoryCounters<C> {
    clock: C,
    start: Instant,
    used: Mutex<HashMap<(Scope, Unit), Used>>,
}

impl<C: Clock> MemoryCounters<C> {
    /// Nothing is used.
    pub(super) fn new(clock: C) -> Self {
        Self {
            start: clock.now(),
            clock,
            used: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        let since = self.clock.now().saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn take_now(&self, charges: &[Charge]) -> Result<(), Short> {
        let now = self.now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let short = charges.iter().filter_map(|charge| {
            let (rate, of) = (charge.rate(), used.get(&charge.key()).copied().unwrap_or_default());
            let wait = of.wait(rate, now, charge.cost)?;
            let (left, reset) = (of.left(rate, now), of.reset(now));
            let charge = charge.clone();
            Some(Short {
                charge,
                left,
                wait,
                reset,
            })
        });
        if let Some(short) = short.max_by_key(|short| short.wait) {
            return Err(short);
        }
        charge_all(&mut used, charges, now);
        Ok(())
    }
}

fn charge_all(used: &mut HashMap<(Scope, Unit), Used>, charges: &[Charge], now: u64) {
    if used.len() >= MOST_IDLE {
        used.retain(|_, used| !used.is_drained(now));
    }
    for charge in charges {
        let of = used.entry(charge.key()).or_default();
        *of = of.charged(charge.rate(), now, charge.cost);
    }
}

impl Charge {
    fn rate(&self) -> Rate {
        let per_minute = self.per_minute;
        Rate { per_minute }
    }

    fn key(&self) -> (Scope, Unit) {
        (self.scope.clone(), self.unit)
    }
}

impl<C: Clock> Counters for MemoryCounters<C> {
    fn take<'a>(&'a self, charges: &'a [Charge]) -> BoxFuture<'a, Result<(), Short>> {
        ready(self.take_now(charges)).boxed()
    }

    fn debit(&self, charges: &[Charge]) {
        let now = self.now();
        charge_all(
            &mut self.used.lock().unwrap_or_else(PoisonError::into_inner),
            charges,
            now,
        );
    }
}

/// Above this, counts at which nothing is used any more are forgotten.
const MOST_IDLE: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admission::testing::HandClock, ids::TenantId};

    fn charge(scope: &Scope, unit: Unit, per_minute: u64, cost: u64) -> Charge {
        let scope = scope.clone();
        Charge {
            scope,
            unit,
            per_minute,
            cost,
        }
    }

    #[tokio::test]
    async fn a_refused_charge_leaves_every_count_as_it_was() {
        let counters = MemoryCounters::new(HandClock::default());
        let (wide, narrow) = (Scope::Global, Scope::Tenant(TenantId::random()));
        let both = [
            charge(&wide, Unit::Requests, 10, 1),
            charge(&narrow, Unit::Requests, 1, 1),
        ];
        counters.take(&both).await.unwrap();
        for _ in 0..5 {
            let short = counters.take(&both).await.unwrap_err();
            assert_eq!((short.charge.scope, short.left), (narrow.clone(), 0));
            assert_eq!(short.wait, Duration::from_secs(60));
        }
        let nine = [charge(&wide, Unit::Requests, 10, 9)];
        counters
            .take(&nine)
            .await
            .expect("nothing was charged by the refused ones");
    }

    #[tokio::test]
    async fn a_rate_refills_with_time_and_each_unit_has_its_own() {
        let clock = HandClock::default();
        let counters = MemoryCounters::new(clock.clone());
        let requests = [charge(&Scope::Global, Unit::Requests, 2, 2)];
        counters.take(&requests).await.unwrap();
        counters
            .take(&[charge(&Scope::Global, Unit::Tokens, 2, 2)])
            .await
            .unwrap();
        assert!(counters.take(&requests).await.is_err());
        clock.pass(Duration::from_secs(60));
        counters.take(&requests).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_owed_is_waited_for() {
        let clock = HandClock::default();
        let counters = MemoryCounters::new(clock.clone());
        let one = [charge(&Scope::Global, Unit::Tokens, 60, 1)];
        counters.debit(&[charge(&Scope::Global, Unit::Tokens, 60, 120)]);
        assert_eq!(counters.take(&one).await.unwrap_err().wait, Duration::from_secs(61));
        clock.pass(Duration::from_secs(61));
        counters.take(&one).await.unwrap();
    }

    #[tokio::test]
    async fn counts_of_scopes_long_gone_are_forgotten() {
        let clock = HandClock::default();
        let counters = MemoryCounters::new(clock.clone());
        for _ in 0..3 * MOST_IDLE {
            let scope = Scope::Tenant(TenantId::random());
            counters.take(&[charge(&scope, Unit::Requests, 60, 1)]).await.unwrap();
            clock.pass(Duration::from_secs(2));
        }
        assert!(counters.used.lock().unwrap().len() <= MOST_IDLE);
    }
}
