//! The generic cell rate algorithm: how much of a rate is used, as one number. Knows no clock and no caller.
//!
//! A minute's worth may come at once; it drains evenly. The number is the moment at which everything charged will have
//! drained, so that a store of many hubs can keep it under one key and change it in one step.
#![deny(clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use std::time::Duration;

/// A rate, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a minute, and the most that may come at once.
    pub per_minute: u64,
}

/// What is used of a rate. Times are nanoseconds since a start that only its keeper knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Used {
    drained_at: u64,
}

impl Rate {
    /// How long it takes until `cost` has drained. Rounded down once, so that a whole minute's worth fits a minute.
    fn span(self, cost: u64) -> u64 {
        let nanos = u128::from(cost)
            .saturating_mul(u128::from(MINUTE))
            .checked_div(u128::from(self.per_minute))
            .unwrap_or(u128::MAX);
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl Used {
    /// How long until `cost` fits; nothing where it fits at once. More than a minute's worth fits an empty rate.
    pub fn wait(self, rate: Rate, now: u64, cost: u64) -> Option<Duration> {
        let cost = cost.min(rate.per_minute);
        let drained_at = self.drained_at.max(now).saturating_add(rate.span(cost));
        let late = drained_at.saturating_sub(now.saturating_add(MINUTE));
        (late > 0).then(|| Duration::from_nanos(late))
    }

    /// The same with `cost` charged, whether it fits or not. What is owed never takes more than an hour to drain.
    pub fn charged(self, rate: Rate, now: u64, cost: u64) -> Self {
        let drained_at = self.drained_at.max(now).saturating_add(rate.span(cost));
        let most = now.saturating_add(LONGEST_DEBT).max(self.drained_at);
        Self {
            drained_at: drained_at.min(most),
        }
    }

    /// How much would fit at once.
    pub fn left(self, rate: Rate, now: u64) -> u64 {
        let free = MINUTE.saturating_sub(self.drained_at.saturating_sub(now));
        let units = u128::from(free)
            .saturating_mul(u128::from(rate.per_minute))
            .checked_div(u128::from(MINUTE))
            .unwrap_or(0);
        u64::try_from(units).unwrap_or(u64::MAX)
    }

    /// How long until nothing is used.
    pub fn reset(self, now: u64) -> Duration {
        Duration::from_nanos(self.drained_at.saturating_sub(now))
    }

    /// Whether nothing is used, so that it need not be kept.
    pub fn is_drained(self, now: u64) -> bool {
        self.drained_at <= now
    }
}

const MINUTE: u64 = 60_000_000_000;
const LONGEST_DEBT: u64 = MINUTE.saturating_mul(60);

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn rate(per_minute: u64) -> Rate {
        Rate { per_minute }
    }

    /// The same promise as a leaky bucket with an exact level: units times nanoseconds, no rounding.
    #[derive(Default)]
    struct Bucket {
        level: u128,
        at: u64,
    }

    impl Bucket {
        fn drain(&mut self, rate: Rate, now: u64) {
            let drained = u128::from(now - self.at) * u128::from(rate.per_minute);
            self.level = self.level.saturating_sub(drained);
            self.at = now;
        }

        fn take(&mut self, rate: Rate, now: u64, cost: u64) -> bool {
            self.drain(rate, now);
            let after = self.level + u128::from(cost) * u128::from(MINUTE);
            let fits = after <= u128::from(rate.per_minute) * u128::from(MINUTE);
            if fits {
                self.level = after;
            }
            fits
        }
    }

    #[test]
    fn a_minute_s_worth_comes_at_once_and_then_one_at_a_time() {
        for per_minute in [1, 5, 7, 60, 999_999_937] {
            let rate = rate(per_minute);
            let mut used = Used::default();
            for _ in 0..per_minute.min(100) {
                assert_eq!(used.wait(rate, 0, 1), None);
                used = used.charged(rate, 0, 1);
            }
            assert_eq!(used.left(rate, 0), per_minute - per_minute.min(100));
            let full = Used::default().charged(rate, 0, per_minute);
            let wait = full.wait(rate, 0, 1).unwrap();
            assert!(
                wait.as_nanos() <= u128::from(MINUTE / per_minute) + 1,
                "{per_minute}: {wait:?}"
            );
            let later = u64::try_from(wait.as_nanos()).unwrap();
            assert_eq!(full.wait(rate, later, 1), None, "the wait that is told is enough");
        }
    }

    #[test]
    fn more_than_a_minute_s_worth_fits_an_empty_rate_only() {
        let rate = rate(100);
        assert_eq!(Used::default().wait(rate, 0, 1_000), None);
        let used = Used::default().charged(rate, 0, 1_000);
        assert_eq!(used.left(rate, 0), 0);
        assert_eq!(used.reset(0), Duration::from_secs(600));
        assert_eq!(used.wait(rate, 0, 1_000), Some(Duration::from_secs(600)));
    }

    #[test]
    fn a_debt_ends_within_an_hour() {
        let used = Used::default().charged(rate(1), 5, u64::MAX);
        assert_eq!(used.reset(5), Duration::from_secs(3_600));
        assert!(used.is_drained(u64::MAX));
    }

    proptest! {
        /// Against the exact bucket: never stricter, and more generous by less than one unit for each call, which is
        /// what rounding to nanoseconds can make.
        #[test]
        fn it_admits_what_the_exact_bucket_admits(
            per_minute in 1u64..100_000,
            calls in prop::collection::vec((0u64..3_000_000_000, 1u64..50), 1..200),
        ) {
            let rate = rate(per_minute);
            let (mut used, mut exact, mut now) = (Used::default(), Bucket::default(), 0);
            let mut rounding = 0u128;
            for (pause, cost) in calls {
                now += pause;
                let cost = cost.min(per_minute);
                exact.drain(rate, now);
                let admits = used.wait(rate, now, cost).is_none();
                let slack = exact.level + u128::from(cost) * u128::from(MINUTE);
                let most = u128::from(per_minute) * u128::from(MINUTE);
                prop_assert!(admits || slack > most, "refused what fits");
                prop_assert!(!admits || slack <= most + rounding, "admitted {} beyond", slack - most);
                if admits {
                    used = used.charged(rate, now, cost);
                    exact.level += u128::from(cost) * u128::from(MINUTE);
                    // Less than a nanosecond of draining is lost for each call.
                    rounding += u128::from(per_minute);
                }
            }
        }

        /// What is refused comes in after the wait that was told, and not a nanosecond sooner.
        #[test]
        fn the_wait_is_exact(per_minute in 1u64..10_000, before in 0u64..20_000, cost in 1u64..100) {
            let rate = rate(per_minute);
            let used = Used::default().charged(rate, 7, before);
            if let Some(wait) = used.wait(rate, 7, cost) {
                let then = 7 + u64::try_from(wait.as_nanos()).unwrap();
                prop_assert_eq!(used.wait(rate, then, cost), None);
                prop_assert!(used.wait(rate, then - 1, cost).is_some());
            }
        }

        /// Debits in any order and amount only ever make it stricter.
        #[test]
        fn a_debit_never_makes_room(per_minute in 1u64..10_000, first in 0u64..9_999, debit in 0u64..1 << 40, now: u32) {
            let rate = rate(per_minute);
            let used = Used::default().charged(rate, u64::from(now), first);
            let after = used.charged(rate, u64::from(now), debit);
            prop_assert!(after.left(rate, u64::from(now)) <= used.left(rate, u64::from(now)));
            prop_assert!(after.wait(rate, u64::from(now), 1) >= used.wait(rate, u64::from(now), 1));
        }

        #[test]
        fn the_whole_rate_drains_in_a_minute(per_minute in 1u64..1 << 30) {
            let rate = rate(per_minute);
            let used = Used::default().charged(rate, 0, per_minute);
            prop_assert!(used.is_drained(MINUTE));
            prop_assert_eq!(used.wait(rate, MINUTE, per_minute), None);
        }
    }

    #[test]
    fn the_reference_is_a_bucket() {
        let mut bucket = Bucket::default();
        assert!((0..5).all(|_| bucket.take(rate(5), 0, 1)));
        assert!(!bucket.take(rate(5), 0, 1));
        assert!(bucket.take(rate(5), MINUTE / 5, 1));
    }
}
