//! When a certificate is renewed. Pure: time and chance are passed in.

use std::time::{Duration, SystemTime};

use super::device::Life;

/// Half of the life, give or take a tenth of that by chance (0 to 1), so that devices enrolled together spread out.
pub(super) fn due(life: Life, chance: f64) -> SystemTime {
    let whole = life.ends.duration_since(life.begins).unwrap_or_default();
    life.begins + whole.mul_f64(0.5 * (0.9 + 0.2 * chance.clamp(0.0, 1.0)))
}

/// How long to wait after `failures` failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    (FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(10))).min(LONGEST)
}

const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_due_around_half_of_the_life() {
        let begins = SystemTime::UNIX_EPOCH;
        let life = Life {
            begins,
            ends: begins + Duration::from_secs(1000),
        };
        for (chance, after) in [(0.0, 450), (0.5, 500), (1.0, 550)] {
            let due = due(life, chance).duration_since(begins).unwrap();
            assert!(
                due.abs_diff(Duration::from_secs(after)) < Duration::from_millis(1),
                "{due:?}"
            );
        }
    }

    #[test]
    fn failures_are_never_repeated_within_30_s() {
        assert_eq!(pause(1), Duration::from_secs(30));
        assert_eq!(pause(3), Duration::from_secs(120));
        assert_eq!(pause(u32::MAX), LONGEST);
    }
}
