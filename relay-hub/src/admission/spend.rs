//! What was charged today and this month, scope by scope, and what running calls may still add to it. In memory: built
//! from the books at start, kept up to date by settlements. Days and months are UTC.
#![deny(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use relay_shared::clock::Clock;

use crate::{limit::Scope, money::Nanos};

/// How long a sum lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    Day,
    Month,
}

/// A limit of what may be charged to a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) scope: Scope,
    pub(super) span: Span,
    pub(super) most: Nanos,
}

/// A budget that a call does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) budget: Budget,
    /// Charged so far.
    pub(super) spent: Nanos,
    /// When the sum begins anew, seconds since 1970.
    pub(super) resets_at: u64,
    /// It would fit if the running calls cost nothing.
    pub(super) is_held: bool,
}

/// The sums of all scopes.
pub(super) struct Spend<C> {
    clock: C,
    sums: Arc<Sums>,
}

#[derive(Default)]
struct Sums(Mutex<HashMap<Scope, Sum>>);

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    held: Nanos,
    day: Period,
    month: Period,
}

/// A sum of one day or month. Once a later one has begun, a clock that is set back does not bring the old one back.
#[derive(Debug, Clone, Copy, Default)]
struct Period {
    number: i64,
    spent: Nanos,
}

/// What one call may add to its scopes. Settled once; dropped, it adds nothing.
pub(super) struct Pledge {
    sums: Arc<Sums>,
    scopes: Vec<Scope>,
    /// Asked again when the call may cost more.
    budgets: Vec<Budget>,
    amount: Nanos,
}

/// The day and the month of a moment, counted.
#[derive(Debug, Clone, Copy)]
struct Today {
    day: i64,
    month: i64,
}

impl<C: Clock> Spend<C> {
    pub(super) fn new(clock: C) -> Self {
        let sums = Arc::default();
        Self { clock, sums }
    }

    /// Adds what the books say was charged before this hub started, today and this month.
    pub(super) fn recall(&self, scope: Scope, today: Nanos, this_month: Nanos) {
        let now = Today::of(self.clock.wall());
        let mut sums = self.sums.lock();
        let sum = sums.entry(scope).or_default();
        sum.day.add(now.day, today);
        sum.month.add(now.month, this_month);
    }

    /// Sets an amount aside in every scope of a call, if it fits all budgets, whatever the running calls will cost.
    pub(super) fn pledge(&self, scopes: Vec<Scope>, budgets: Vec<Budget>, amount: Nanos) -> Result<Pledge, Over> {
        let mut sums = self.sums.lock();
        fits(&sums, &budgets, amount, || self.clock.wall())?;
        for scope in &scopes {
            // Its name is copied for its first call alone.
            if let Some(sum) = sums.get_mut(scope) {
                sum.held = sum.held.saturating_add(amount);
            } else {
                sums.insert(scope.clone(), Sum::holding(amount));
            }
        }
        drop(sums);
        let sums = self.sums.clone();
        Ok(Pledge {
            sums,
            scopes,
            budgets,
            amount,
        })
    }
}

#[cfg(test)]
impl<C> Spend<C> {
    /// Everything that is counted.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        self.sums.lock().keys().cloned().collect()
    }
}

impl Pledge {
    /// The call may cost so much more, if that fits all budgets; else it is as it was.
    pub(super) fn grow(&mut self, by: Nanos, at: SystemTime) -> Result<(), Over> {
        let mut sums = self.sums.lock();
        fits(&sums, &self.budgets, by, || at)?;
        for scope in &self.scopes {
            if let Some(sum) = sums.get_mut(scope) {
                sum.held = sum.held.saturating_add(by);
            }
        }
        drop(sums);
        self.amount = self.amount.saturating_add(by);
        Ok(())
    }

    /// The call may cost so much less than [`Pledge::grow`] allowed.
    pub(super) fn shrink(&mut self, by: Nanos) {
        let mut sums = self.sums.lock();
        for scope in &self.scopes {
            if let Some(sum) = sums.get_mut(scope) {
                sum.held = sum.held.saturating_sub(by);
            }
        }
        drop(sums);
        self.amount = self.amount.saturating_sub(by);
    }

    /// The call was charged.
    pub(super) fn settle(mut self, charged: Nanos, at: SystemTime) {
        let now = Today::of(at);
        let mut sums = self.sums.lock();
        for scope in self.scopes.drain(..) {
            let sum = sums.entry(scope).or_default();
            sum.held = sum.held.saturating_sub(self.amount);
            sum.day.add(now.day, charged);
            sum.month.add(now.month, charged);
        }
    }
}

impl Drop for Pledge {
    fn drop(&mut self) {
        if self.scopes.is_empty() {
            return;
        }
        let mut sums = self.sums.lock();
        for scope in &self.scopes {
            if let Some(sum) = sums.get_mut(scope) {
                sum.held = sum.held.saturating_sub(self.amount);
            }
        }
    }
}

/// Whether so much more fits, whatever the running calls will cost. The time is read only where there is a budget, which
/// most calls do not have.
fn fits(
    sums: &HashMap<Scope, Sum>,
    budgets: &[Budget],
    amount: Nanos,
    wall: impl Fn() -> SystemTime,
) -> Result<(), Over> {
    for budget in budgets {
        let wall = wall();
        let sum = sums.get(&budget.scope).copied().unwrap_or_default();
        let spent = sum.spent(budget.span, Today::of(wall));
        let after = spent.saturating_add(amount);
        if after.saturating_add(sum.held) > budget.most {
            return Err(Over {
                is_held: after <= budget.most,
                resets_at: budget.span.end(wall),
                spent,
                budget: budget.clone(),
            });
        }
    }
    Ok(())
}

impl Sums {
    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Sum>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sum {
    fn holding(amount: Nanos) -> Self {
        Self {
            held: amount,
            ..Self::default()
        }
    }

    fn spent(&self, span: Span, now: Today) -> Nanos {
        match span {
            Span::Day => self.day.at(now.day),
            Span::Month => self.month.at(now.month),
        }
    }
}

impl Period {
    fn at(&self, number: i64) -> Nanos {
        if number > self.number { Nanos::ZERO } else { self.spent }
    }

    fn add(&mut self, number: i64, amount: Nanos) {
        self.spent = self.at(number).saturating_add(amount);
        self.number = self.number.max(number);
    }
}

impl Today {
    fn of(at: SystemTime) -> Self {
        let day = i64::try_from(seconds(at)).unwrap_or(i64::MAX).div_euclid(DAY);
        let date = date(at);
        let month = i64::from(date.year())
            .saturating_mul(12)
            .saturating_add(i64::from(date.month()));
        Self { day, month }
    }
}

impl Span {
    /// When the span that a moment lies in ends, seconds since 1970.
    fn end(self, at: SystemTime) -> u64 {
        let next = match self {
            Self::Day => date(at).tomorrow(),
            Self::Month => date(at).last_of_month().tomorrow(),
        };
        next.map_or(u64::MAX, midnight)
    }

    /// When it began, milliseconds since 1970.
    pub(super) fn start_ms(self, at: SystemTime) -> i64 {
        let first = match self {
            Self::Day => date(at),
            Self::Month => date(at).first_of_month(),
        };
        i64::try_from(midnight(first)).unwrap_or(i64::MAX).saturating_mul(1_000)
    }

    /// As a client reads of it.
    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Day => "daily",
            Self::Month => "monthly",
        }
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn date(at: SystemTime) -> Date {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date()
}

fn midnight(date: Date) -> u64 {
    let at = date
        .to_zoned(TimeZone::UTC)
        .map_or(0, |zoned| zoned.timestamp().as_second());
    u64::try_from(at).unwrap_or(0)
}

const DAY: i64 = 86_400;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{admission::testing::HandClock, ids::TenantId};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    fn world(now: &str) -> (Spend<HandClock>, HandClock, Scope) {
        let clock = HandClock::default();
        clock.set(at(now));
        (Spend::new(clock.clone()), clock, Scope::Tenant(TenantId::random()))
    }

    fn day(scope: &Scope, most: i64) -> Vec<Budget> {
        let (scope, most) = (scope.clone(), Nanos::new(most));
        vec![Budget {
            scope,
            span: Span::Day,
            most,
        }]
    }

    fn month(scope: &Scope, most: i64) -> Vec<Budget> {
        let (scope, most) = (scope.clone(), Nanos::new(most));
        vec![Budget {
            scope,
            span: Span::Month,
            most,
        }]
    }

    #[test]
    fn running_calls_count_as_if_they_cost_all_they_may() {
        let (spend, clock, scope) = world("2026-03-31T12:00:00Z");
        let pledge = |amount| spend.pledge(vec![scope.clone()], day(&scope, 10), Nanos::new(amount));
        let first = pledge(6).unwrap();
        let over = pledge(6).err().unwrap();
        assert!(over.is_held, "it would fit without the running call");
        let second = pledge(4).unwrap();
        first.settle(Nanos::new(1), clock.wall());
        drop(second);
        let third = pledge(9).unwrap();
        third.settle(Nanos::new(9), clock.wall());
        let over = pledge(1).err().unwrap();
        assert_eq!((over.is_held, over.spent), (false, Nanos::new(10)));
        assert_eq!(over.resets_at, seconds(at("2026-04-01T00:00:00Z")));
    }

    #[test]
    fn a_call_that_goes_on_stays_within_the_budgets_it_began_in() {
        let (spend, clock, scope) = world("2026-03-31T12:00:00Z");
        let pledge = |amount| spend.pledge(vec![scope.clone()], day(&scope, 10), Nanos::new(amount));
        let mut running = pledge(4).unwrap();
        running.grow(Nanos::new(4), clock.wall()).unwrap();
        let over = running.grow(Nanos::new(3), clock.wall()).unwrap_err();
        assert!(over.is_held);
        assert!(
            pledge(3).is_err(),
            "what was refused is not set aside, but what was granted is"
        );
        running.shrink(Nanos::new(4));
        let other = pledge(6).unwrap();
        assert!(running.grow(Nanos::new(1), clock.wall()).is_err());
        drop(other);
        running.settle(Nanos::new(4), clock.wall());
        assert!(pledge(6).is_ok() && pledge(7).is_err());
    }

    #[test]
    fn a_day_and_a_month_begin_anew_and_a_clock_set_back_changes_nothing() {
        let (spend, clock, scope) = world("2026-12-30T23:30:00Z");
        let charge = |amount, budgets| {
            let pledge = spend.pledge(vec![scope.clone()], budgets, Nanos::new(amount));
            pledge
                .map(|pledge| pledge.settle(Nanos::new(amount), clock.wall()))
                .is_ok()
        };
        assert!(charge(5, day(&scope, 5)) && !charge(1, day(&scope, 5)));
        clock.pass(HOUR);
        assert!(charge(5, day(&scope, 5)));
        clock.set(at("2026-12-30T23:59:00Z"));
        assert!(!charge(1, day(&scope, 5)), "an hour back is not yesterday's sum");
        assert!(!charge(1, month(&scope, 10)));
        clock.set(at("2027-01-01T00:00:00Z"));
        assert!(charge(5, month(&scope, 5)) && !charge(1, month(&scope, 5)));
        assert_eq!(Span::Month.start_ms(clock.wall()), 1_798_761_600_000);
        assert_eq!(Span::Month.end(at("2026-12-30T23:59:00Z")), 1_798_761_600);
    }

    #[test]
    fn what_the_books_say_counts_from_the_start() {
        let (spend, _, scope) = world("2026-05-05T05:05:05Z");
        spend.recall(scope.clone(), Nanos::new(3), Nanos::new(8));
        spend.recall(scope.clone(), Nanos::new(1), Nanos::new(1));
        let fits = |budgets| spend.pledge(vec![scope.clone()], budgets, Nanos::new(1)).is_ok();
        assert!(fits(day(&scope, 5)) && !fits(day(&scope, 4)));
        assert!(fits(month(&scope, 10)) && !fits(month(&scope, 9)));
    }

    proptest! {
        /// Whatever runs at once and however it ends, the sum of a day never exceeds its budget, as long as no call
        /// costs more than was set aside.
        #[test]
        fn no_order_of_calls_overshoots(
            most in 0i64..200,
            steps in prop::collection::vec((0i64..40, any::<prop::sample::Index>(), 0i64..40, any::<bool>()), 1..80),
        ) {
            let (spend, clock, scope) = world("2026-01-01T00:00:00Z");
            let (mut running, mut spent) = (Vec::new(), 0);
            for (amount, which, cost, begins) in steps {
                if begins {
                    let pledge = spend.pledge(vec![scope.clone()], day(&scope, most), Nanos::new(amount));
                    let held: i64 = running.iter().map(|(held, _)| held).sum();
                    prop_assert_eq!(pledge.is_ok(), spent + held + amount <= most);
                    running.extend(pledge.ok().map(|pledge| (amount, pledge)));
                } else if !running.is_empty() {
                    let (held, pledge) = running.swap_remove(which.index(running.len()));
                    let cost = cost.min(held);
                    pledge.settle(Nanos::new(cost), clock.wall());
                    spent += cost;
                }
            }
            prop_assert!(spent <= most);
        }
    }
}
