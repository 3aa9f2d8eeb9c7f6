//! One account as calls take it: its health, how many calls it has, how many came this minute. Knows no tenant's choice.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use relay_protocol::Wire;

use super::{
    health::{Health, Light},
    range::Range,
    rank,
};
use crate::{
    admission::{Pace, Used},
    directory::Account,
    ids::TenantId,
    store::sharing::Share,
};

/// An account with its share and its standing.
pub(super) struct Seat {
    pub(super) account: Arc<Account>,
    pub(super) share: Share,
    /// Which models it serves.
    pub(super) range: Range,
    /// Its number in the ranking.
    pub(super) number: u64,
    pub(super) standing: Arc<Standing>,
}

/// What is known of an account beside the store. It outlives each picture of the directory.
#[derive(Default)]
pub(super) struct Standing {
    /// Whether there is anything to look at.
    is_troubled: AtomicBool,
    health: Mutex<Health>,
    /// Calls that run, counted where there is a ceiling.
    running: AtomicU32,
    /// Of the calls a minute.
    used: Mutex<Used>,
}

impl Seat {
    pub(super) fn new(account: Arc<Account>, share: Share, standing: Arc<Standing>) -> Self {
        let number = rank::number(&[account.id.as_str().as_bytes()]);
        Self {
            range: Range::of(&account, &share),
            account,
            share,
            number,
            standing,
        }
    }

    /// Whether its vendor speaks this dialect.
    pub(super) fn serves(&self, wire: Wire) -> bool {
        self.account.speaks(wire)
    }

    /// Whether a call in this dialect gets there, as it is or translated.
    pub(super) fn is_reached(&self, wire: Wire) -> bool {
        self.account.lane(wire, "").is_some()
    }

    /// Whether it may serve the calls of this tenant in this dialect.
    pub(super) fn may_serve(&self, tenant: &TenantId, wire: Wire) -> bool {
        self.share.users.has(tenant) && self.is_reached(wire)
    }

    /// How it looks to a call that comes now, of a tenant that has no other or of one that has.
    pub(super) fn light(&self, now_ms: u64, is_alone: bool) -> Light {
        let light = self.standing.light(now_ms, is_alone);
        if light == Light::Open && (self.is_full() || self.pause(now_ms) > 0) {
            return Light::Busy;
        }
        light
    }

    fn is_full(&self) -> bool {
        let running = || self.standing.running.load(Ordering::Relaxed);
        self.share.concurrency.is_some_and(|most| running() >= most)
    }

    /// Milliseconds until another call may come this minute.
    pub(super) fn pause(&self, now_ms: u64) -> u64 {
        let Some(pace) = self.pace() else { return 0 };
        let wait = lock(&self.standing.used).wait(pace, nanos(now_ms), 1);
        wait.map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    /// Counts a call, if one may come now.
    ///
    /// # Errors
    /// In so many milliseconds.
    pub(super) fn count(&self, now_ms: u64) -> Result<(), u64> {
        let Some(pace) = self.pace() else { return Ok(()) };
        let mut used = lock(&self.standing.used);
        match used.wait(pace, nanos(now_ms), 1) {
            Some(wait) => Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)),
            None => {
                *used = used.charged(pace, nanos(now_ms), 1);
                Ok(())
            }
        }
    }

    fn pace(&self) -> Option<Pace> {
        let per_minute = u64::from(self.share.rpm?);
        Some(Pace { per_minute })
    }
}

impl Standing {
    pub(super) fn recalled(health: Health) -> Self {
        let standing = Self::default();
        standing.is_troubled.store(!health.is_spotless(), Ordering::Release);
        *lock(&standing.health) = health;
        standing
    }

    pub(super) fn light(&self, now_ms: u64, is_alone: bool) -> Light {
        if !self.is_troubled.load(Ordering::Acquire) {
            return Light::Open;
        }
        let health = lock(&self.health);
        match is_alone {
            true => health.light_alone(now_ms),
            false => health.light(now_ms),
        }
    }

    /// Looks at its health, and changes it. What it was before, and what it is.
    pub(super) fn change(&self, change: impl FnOnce(&mut Health)) -> (Health, Health) {
        let mut health = lock(&self.health);
        let before = health.clone();
        change(&mut health);
        self.is_troubled.store(!health.is_spotless(), Ordering::Release);
        (before, health.clone())
    }

    /// Whether anything was wrong of late. A call that goes well asks this alone.
    pub(super) fn is_troubled(&self) -> bool {
        self.is_troubled.load(Ordering::Acquire)
    }

    pub(super) fn health(&self) -> Health {
        lock(&self.health).clone()
    }

    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }
}

const fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
