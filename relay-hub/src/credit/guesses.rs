//! How many wrong codes one tenant may try. Knows no code.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Tries that were not given back, by who made them.
pub(super) struct Guesses<K>(Mutex<HashMap<K, Tries>>);

struct Tries {
    count: u32,
    since: Instant,
}

impl<K> Default for Guesses<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Guesses<K> {
    fn tries(&self) -> MutexGuard<'_, HashMap<K, Tries>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a try; how long to wait where there is none left.
    pub(super) fn take(&self, who: K) -> Result<(), Duration> {
        let now = Instant::now();
        let mut all = self.tries();
        all.retain(|_, tries| now.duration_since(tries.since) < SPAN);
        let tries = all.entry(who).or_insert(Tries { count: 0, since: now });
        if tries.count >= MOST {
            return Err(SPAN.saturating_sub(now.duration_since(tries.since)));
        }
        tries.count += 1;
        Ok(())
    }

    /// The code was good: its try does not count.
    pub(super) fn give_back(&self, who: &K) {
        if let Some(tries) = self.tries().get_mut(who) {
            tries.count = tries.count.saturating_sub(1);
        }
    }
}

/// A code has 80 random bits: this keeps the log and the database from being busy with guesses.
const MOST: u32 = 10;
const SPAN: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tries_end_and_right_ones_do_not_count() {
        let guesses = Guesses::default();
        for _ in 0..100 {
            guesses.take("a").unwrap();
            guesses.give_back(&"a");
        }
        for _ in 0..MOST {
            guesses.take("a").unwrap();
        }
        assert!(guesses.take("a").unwrap_err() <= SPAN);
        assert!(guesses.take("b").is_ok(), "another's tries are its own");
    }
}
