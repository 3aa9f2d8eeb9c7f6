//! Durations of one run, and their quantiles.

use std::time::Duration;

use serde_json::{Value, json};

/// All of them are kept: a run is bounded, and its quantiles are then exact.
#[derive(Default)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn add(&mut self, took: Duration) {
        self.0.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Milliseconds at the usual quantiles.
    pub(crate) fn summary(mut self) -> Value {
        self.0.sort_unstable();
        let at = |per_mille: usize| {
            let index = (self.0.len() * per_mille / 1000).min(self.0.len().saturating_sub(1));
            self.0.get(index).map_or(0.0, |nanos| *nanos as f64 / 1e6)
        };
        json!({ "count": self.0.len(), "p50_ms": at(500), "p90_ms": at(900), "p99_ms": at(990), "max_ms": at(1000) })
    }
}
