//! Time as something passed in, so that what decides by time can be tested without waiting.

use std::time::{Instant, SystemTime};

use crate::fault;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Monotonic time, for durations.
    fn now(&self) -> Instant;
    /// Wall-clock time, for records and certificates.
    fn wall(&self) -> SystemTime;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        fault::wall()
    }
}
