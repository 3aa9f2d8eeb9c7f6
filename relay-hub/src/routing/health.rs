//! The health of one account, by what its calls met. Pure: time is passed in as milliseconds since 1970. Knows no account
//! and no vendor. `docs/health.md` has its rules as a table.

use std::time::Duration;

use crate::vendor::Trouble;

/// After so many failures in a row, of which the first is at least [`DYING`] ago, an account is down.
const FATAL: u32 = 5;
const DYING: u64 = 10_000;
/// A vendor that says 403 may mean one call; one that says it so often in a row means the account.
const FORBIDDEN: u32 = 3;
/// The first rest after a failure; doubled by each further one.
const FIRST_REST: u64 = 500;
const LONGEST_REST: u64 = 30_000;
/// An account that is out of use is tried once a minute at most.
const PROBE: u64 = 60_000;
/// For so long after it was put out of use a tenant's only account is left to it: its client's own tries hear the vendor's
/// words, as without the relay. Codex tries a 401 twelve times within 13 s, and a 500 thirty-six times within 31 s.
const SPARED: u64 = 60_000;
/// And for no more calls than one such client makes, however many clients there are.
const MOST_SPARED: u32 = 40;
/// A refusal for now that names no window.
const DEFAULT_WINDOW: u64 = 5_000;

/// How an account fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is known against it.
    Well,
    /// Others go before it until then; it is used where there is no other.
    Resting {
        /// Until then.
        until: u64,
    },
    /// Out of use: it fails on and on.
    Down {
        /// One call tries it then.
        until: u64,
    },
    /// Out of use: its vendor does not let it.
    Quarantined {
        /// One call may try it then, if it has no other account.
        until: u64,
    },
}

impl State {
    /// Its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Resting { .. } => "resting",
            Self::Down { .. } => "down",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// Whether no call takes it but to try it.
    pub(super) const fn is_out(self) -> bool {
        matches!(self, Self::Down { .. } | Self::Quarantined { .. })
    }
}

/// How an account looks to a call that needs one, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Light {
    /// It may be taken; or its turn to be tried again has come.
    Open,
    /// It has as many calls as it may.
    Busy,
    /// Better not.
    Resting,
    /// Its vendor refused it; it is tried again where there is no other.
    Doubtful,
    /// Not before then.
    Out(u64),
}

/// What is known of one account.
#[derive(Debug, Clone)]
pub(super) struct Health {
    state: State,
    /// Since when it is in this state, and why.
    since: u64,
    cause: Option<Trouble>,
    /// In a row.
    failures: u32,
    first_failure: u64,
    last_failure: u64,
    forbidden: u32,
    /// Calls for which it was left to its tenant since it was put out of use.
    spared: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Well,
            since: 0,
            cause: None,
            failures: 0,
            first_failure: 0,
            last_failure: 0,
            forbidden: 0,
            spared: 0,
        }
    }
}

impl Health {
    /// As a hub before knew it.
    pub(super) fn recalled(state: State, cause: Option<Trouble>, since: u64) -> Self {
        Self {
            state,
            since,
            cause,
            // Its clients had their tries before.
            spared: MOST_SPARED,
            ..Self::default()
        }
    }

    /// How it fares.
    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Since when.
    pub(super) const fn since(&self) -> u64 {
        self.since
    }

    /// What it was that failed.
    pub(super) const fn cause(&self) -> Option<Trouble> {
        self.cause
    }

    /// Nothing is known against it, not even a failure that may be the first of many.
    pub(super) const fn is_spotless(&self) -> bool {
        matches!(self.state, State::Well) && self.failures == 0 && self.forbidden == 0
    }

    /// How it looks now.
    pub(super) const fn light(&self, now: u64) -> Light {
        match self.state {
            State::Well => Light::Open,
            State::Resting { until } if now < until => Light::Resting,
            State::Down { until } | State::Quarantined { until } if now < until => Light::Out(until),
            State::Resting { .. } | State::Down { .. } => Light::Open,
            State::Quarantined { .. } => Light::Doubtful,
        }
    }

    /// How it looks now to a tenant that has no other: it is kept from that one only long after it was put out of use.
    pub(super) const fn light_alone(&self, now: u64) -> Light {
        match self.light(now) {
            Light::Out(_) if !self.is_given_up(now) => Light::Doubtful,
            light => light,
        }
    }

    /// Whether it is kept from a tenant that has no other, but for one call a minute: its clients have heard why.
    pub(super) const fn is_given_up(&self, now: u64) -> bool {
        self.state.is_out() && (now.saturating_sub(self.since) >= SPARED || self.spared >= MOST_SPARED)
    }

    /// A call of a tenant that has no other goes to it. Whether it does so outside of the turns.
    pub(super) fn spare(&mut self, now: u64) -> bool {
        let is_spared = !self.is_given_up(now);
        if is_spared && self.state.is_out() {
            self.spared = self.spared.saturating_add(1);
        }
        is_spared
    }

    /// A call goes to it. Of an account that is out of use, one call takes the turn to try it.
    ///
    /// # Errors
    /// Somebody else has the turn; not before then.
    pub(super) fn enter(&mut self, now: u64, random: u16) -> Result<(), u64> {
        match &mut self.state {
            State::Down { until } | State::Quarantined { until } => {
                if now < *until {
                    return Err(*until);
                }
                *until = now.saturating_add(later(PROBE, PROBE, 1, random));
                Ok(())
            }
            State::Well | State::Resting { .. } => Ok(()),
        }
    }

    /// A call that began then was answered. Those that began before the trouble did say nothing of it.
    pub(super) fn answered(&mut self, began: u64) {
        if self.state.is_out() && began < self.since {
            return;
        }
        if began >= self.last_failure {
            *self = Self::default();
        }
    }

    /// A call that began then met trouble; `window` is for how long the vendor wants to be left alone.
    pub(super) fn met(&mut self, trouble: Trouble, began: u64, now: u64, window: Option<Duration>, random: u16) {
        match trouble {
            Trouble::Credential => self.quarantine(trouble, now, random),
            Trouble::Forbidden => {
                self.forbidden = self.forbidden.saturating_add(1);
                if self.forbidden >= FORBIDDEN {
                    self.quarantine(trouble, now, random);
                }
            }
            Trouble::Limited => {
                let window = window.map_or(DEFAULT_WINDOW, |window| {
                    u64::try_from(window.as_millis()).unwrap_or(DEFAULT_WINDOW)
                });
                self.rest(trouble, now, window);
            }
            Trouble::Overloaded | Trouble::Failing | Trouble::Unreachable | Trouble::Late | Trouble::Broke => {
                self.failed(trouble, began, now, window, random)
            }
        }
    }

    fn quarantine(&mut self, cause: Trouble, now: u64, random: u16) {
        if matches!(self.state, State::Quarantined { .. }) {
            return;
        }
        let until = now.saturating_add(later(PROBE, PROBE, 1, random));
        self.turn(State::Quarantined { until }, cause, now);
    }

    /// Calls that ran at the same time and fail together are one failure.
    fn failed(&mut self, cause: Trouble, began: u64, now: u64, window: Option<Duration>, random: u16) {
        if self.state.is_out() || (self.failures > 0 && began < self.last_failure) {
            return;
        }
        if self.failures == 0 {
            self.first_failure = now;
        }
        self.failures = self.failures.saturating_add(1);
        self.last_failure = now;
        if self.failures >= FATAL && now.saturating_sub(self.first_failure) >= DYING {
            let until = now.saturating_add(later(PROBE, PROBE, 1, random));
            return self.turn(State::Down { until }, cause, now);
        }
        let rest = later(FIRST_REST, LONGEST_REST, self.failures, random);
        let named = window.map_or(0, |window| u64::try_from(window.as_millis()).unwrap_or_default());
        self.rest(cause, now, rest.max(named));
    }

    fn rest(&mut self, cause: Trouble, now: u64, span: u64) {
        let until = now.saturating_add(span);
        match &mut self.state {
            State::Resting { until: so_far } => *so_far = until.max(*so_far),
            State::Well => self.turn(State::Resting { until }, cause, now),
            State::Down { .. } | State::Quarantined { .. } => {}
        }
    }

    fn turn(&mut self, state: State, cause: Trouble, now: u64) {
        if !self.state.is_out() {
            self.spared = 0;
        }
        (self.state, self.cause, self.since) = (state, Some(cause), now);
    }
}

/// `first`, doubled by each time, at most `most`; and up to a quarter more at random, so that not all come at once.
/// `random` is uniform.
fn later(first: u64, most: u64, times: u32, random: u16) -> u64 {
    let doubled = first.saturating_mul(1 << times.saturating_sub(1).min(16)).min(most);
    let part = (doubled / 4).saturating_mul(u64::from(random)) / u64::from(u16::MAX);
    doubled.saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(health: &mut Health, at: u64) {
        health.met(Trouble::Failing, at, at, None, 0);
    }

    #[test]
    fn a_failure_is_a_short_rest_and_an_answer_forgives_it() {
        let mut health = Health::default();
        fail(&mut health, 1_000);
        assert_eq!(health.light(1_499), Light::Resting);
        assert_eq!(health.light(1_500), Light::Open);
        fail(&mut health, 1_600);
        assert_eq!(health.state(), State::Resting { until: 2_600 });
        health.answered(1_600);
        assert!(health.is_spotless());
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let mut health = Health::default();
        for _ in 0..100 {
            health.met(Trouble::Unreachable, 900, 1_000, None, 0);
        }
        assert_eq!(health.state(), State::Resting { until: 1_500 });
    }

    #[test]
    fn an_account_that_fails_on_is_tried_once_a_minute_at_most() {
        let mut health = Health::default();
        for at in [0, 3_000, 6_000, 9_000] {
            fail(&mut health, at);
        }
        assert!(!health.state().is_out(), "not before ten seconds have passed");
        fail(&mut health, 12_000);
        assert_eq!(health.state(), State::Down { until: 72_000 });
        let mut tried = Vec::new();
        for now in (12_000..2_000_000).step_by(500) {
            if health.light(now) == Light::Open && health.enter(now, 0).is_ok() {
                assert!(health.enter(now, 0).is_err(), "one at a time");
                tried.push(now);
                fail(&mut health, now);
            }
        }
        assert_eq!(tried[..3], [72_000, 132_000, 192_000]);
        assert!(tried.windows(2).all(|pair| pair[1] - pair[0] >= 60_000));
        let last = *tried.last().unwrap();
        health.answered(11_000);
        assert!(health.state().is_out(), "a call that began before says nothing");
        health.answered(last);
        assert!(health.is_spotless());
    }

    #[test]
    fn a_refused_credential_is_out_at_once_and_403_the_third_time() {
        let mut health = Health::default();
        health.met(Trouble::Credential, 0, 10, None, u16::MAX);
        assert_eq!(health.state(), State::Quarantined { until: 75_010 });
        assert_eq!(
            (health.light(75_009), health.light(75_010)),
            (Light::Out(75_010), Light::Doubtful)
        );
        let mut health = Health::default();
        for at in 0..2 {
            health.met(Trouble::Forbidden, at, at, None, 0);
        }
        assert_eq!(health.light(2), Light::Open);
        health.met(Trouble::Forbidden, 2, 2, None, 0);
        assert!(health.state().is_out());
    }

    #[test]
    fn a_tenant_s_only_account_is_left_to_it_for_its_clients_own_tries_and_then_tried_once_a_minute() {
        let mut refused = Health::default();
        refused.met(Trouble::Credential, 0, 0, None, 0);
        let mut down = Health::default();
        for at in [0, 3_000, 6_000, 9_000, 12_000] {
            fail(&mut down, at);
        }
        for (mut health, since, in_turn) in [(refused, 0, Light::Doubtful), (down, 12_000, Light::Open)] {
            assert_eq!(health.light_alone(since + 59_999), Light::Doubtful);
            assert_eq!(health.light_alone(since + 60_000), in_turn);
            assert!(health.enter(since + 60_000, 0).is_ok() && health.enter(since + 60_000, 0).is_err());
            fail(&mut health, since + 60_010);
            assert_eq!(health.light_alone(since + 60_020), Light::Out(since + 120_000));
            assert_eq!(health.light_alone(since + 120_000), in_turn);
        }
    }

    #[test]
    fn however_many_clients_ask_a_dead_account_meets_the_tries_of_one() {
        let mut health = Health::default();
        health.met(Trouble::Credential, 0, 0, None, 0);
        let mut asked = 0;
        for now in 0..50_000 {
            if health.light_alone(now) == Light::Doubtful && health.spare(now) {
                asked += 1;
                health.met(Trouble::Credential, now, now, None, 0);
            }
        }
        assert_eq!(asked, MOST_SPARED);
        assert_eq!(health.light_alone(50_000), Light::Out(60_000));
        let after = Health::recalled(health.state(), health.cause(), health.since());
        assert_eq!(after.light_alone(50_000), Light::Out(60_000), "nor after a restart");
        health.answered(60_000);
        health.met(Trouble::Credential, 70_000, 70_000, None, 0);
        assert!(health.spare(70_001), "another time it dies");
    }

    #[test]
    fn a_window_is_kept_and_never_shortened() {
        let mut health = Health::default();
        health.met(Trouble::Limited, 0, 0, Some(Duration::from_secs(30)), 0);
        health.met(Trouble::Limited, 0, 100, None, 0);
        assert_eq!(health.state(), State::Resting { until: 30_000 });
    }
}
