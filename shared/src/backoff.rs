//! Waiting longer after each failure, at random, so that a thousand agents do not come back at the same moment.

use std::time::Duration;

/// Full jitter: a random part of a span that doubles from 0.25 s up to 30 s.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Nothing failed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { failures: 0 }
    }

    /// The wait after one more failure. `random` is uniform in `0.0..1.0`.
    pub fn next(&mut self, random: f64) -> Duration {
        let span = BASE.saturating_mul(1 << self.failures.min(16)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        span.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Forgets the failures.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// How many failures since the last reset.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

/// A number uniform in `0.0..1.0` from the system's random source.
#[must_use]
pub fn random() -> f64 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works or nothing else can be trusted");
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

const BASE: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, random};

    #[test]
    fn the_span_doubles_from_a_quarter_second_to_thirty_seconds() {
        let mut backoff = Backoff::new();
        let spans: Vec<_> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(spans, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        backoff.reset();
        assert_eq!(backoff.next(0.5), Duration::from_millis(125));
        for _ in 0..100 {
            assert!(backoff.next(random()) < Duration::from_secs(30));
        }
    }
}
