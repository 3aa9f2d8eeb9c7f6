//! A clock that a test moves.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use relay_shared::clock::Clock;

#[derive(Clone)]
pub(super) struct HandClock(Arc<Mutex<(Instant, SystemTime)>>);

impl Default for HandClock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), SystemTime::UNIX_EPOCH))))
    }
}

impl HandClock {
    /// Both times go on.
    pub(super) fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = (now.0 + time, now.1 + time);
    }

    /// The wall's clock is set.
    pub(super) fn set(&self, wall: SystemTime) {
        self.0.lock().unwrap().1 = wall;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Instant {
        self.0.lock().unwrap().0
    }

    fn wall(&self) -> SystemTime {
        self.0.lock().unwrap().1
    }
}
