//! Which account a conversation, a stored response or a turn's state belongs to, for as long as it is used. Bounded: what
//! was not used for longest is forgotten first. Knows hashes alone, and writes nothing: it says what is to be written.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use relay_protocol::{Tokens, Usage};

use crate::{
    ids::AccountId,
    store::routes::{Name, PinRow},
};

/// So that calls seldom wait for each other.
const SHARDS: usize = 16;
/// What is used again is written again after this part of its lifetime.
const RENEWALS: u64 = 16;
/// So much may wait to be written; more is kept in memory alone.
const MOST_UNWRITTEN: usize = 65_536;
/// A conversation's turn that had this much from the cache, in hundredths, is warm; one that has less than this is cold.
const WARM: u64 = 50;
const COLD: u64 = 10;
/// Smaller inputs are not cached by every vendor.
const WORTH_CACHING: Tokens = Tokens::new(4_096);
/// Vendors keep a cache for so long at least.
const KEPT_MS: u64 = 240_000;

/// The pins of all tenants.
pub(super) struct Pins {
    lifetime_ms: u64,
    /// Of each generation of each shard.
    most: usize,
    shards: [Mutex<Shard>; SHARDS],
    unwritten: Mutex<Vec<PinRow>>,
    /// Those that were never written, for there were too many.
    pub(super) dropped: AtomicU64,
}

/// Two generations: when the young one is full it becomes the old one, and what is left of the old one is forgotten.
#[derive(Default)]
struct Shard {
    young: HashMap<Name, Pin>,
    old: HashMap<Name, Pin>,
}

#[derive(Clone)]
struct Pin {
    account: AccountId,
    used_ms: u64,
    written_ms: u64,
    /// Whether its account has answered. Until then it may be moved.
    is_firm: bool,
    /// The last turn.
    warmth: Option<Warmth>,
}

#[derive(Clone, Copy)]
struct Warmth {
    at_ms: u64,
    input: Tokens,
    hundredths: u64,
}

/// How a turn of a conversation used the vendor's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Of its input, in hundredths.
    pub(super) cached: u64,
    /// There was a cache a moment ago, and nearly nothing of it was used.
    pub(super) is_lost: bool,
}

impl Pins {
    /// Forgets what was not used for `lifetime`, and the oldest where there are more than `most`.
    pub(super) fn new(lifetime: Duration, most: usize) -> Self {
        Self {
            lifetime_ms: u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX),
            most: (most / SHARDS / 2).max(1),
            shards: Default::default(),
            unwritten: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// As a hub before wrote it down; the one used last is told last.
    pub(super) fn recall(&self, row: PinRow) {
        let used_ms = u64::try_from(row.used_ms).unwrap_or_default();
        let pin = Pin {
            account: row.account,
            used_ms,
            written_ms: used_ms,
            is_firm: true,
            warmth: None,
        };
        self.shard(&row.name).replace(row.name, pin, self.most);
    }

    /// Whose it is. Asking is no use: who is refused does not keep it alive.
    pub(super) fn find(&self, name: &Name, now_ms: u64) -> Option<AccountId> {
        let mut shard = self.shard(name);
        let pin = shard.get(name, self.most)?;
        if now_ms.saturating_sub(pin.used_ms) >= self.lifetime_ms {
            shard.forget(name);
            return None;
        }
        Some(pin.account.clone())
    }

    /// Pins it until its account has answered, or uses it again; whose it is.
    pub(super) fn claim(&self, name: &Name, account: &AccountId, now_ms: u64) -> AccountId {
        let mut shard = self.shard(name);
        match shard.get(name, self.most) {
            Some(pin) if now_ms.saturating_sub(pin.used_ms) < self.lifetime_ms => {
                pin.used_ms = pin.used_ms.max(now_ms);
                let (whose, is_due) = (pin.account.clone(), self.is_due(pin, now_ms));
                if is_due {
                    pin.written_ms = now_ms;
                    drop(shard);
                    self.write(*name, whose.clone(), now_ms);
                }
                whose
            }
            Some(_) | None => {
                shard.put(*name, Pin::of(account, now_ms, false), self.most);
                account.clone()
            }
        }
    }

    const fn is_due(&self, pin: &Pin, now_ms: u64) -> bool {
        pin.is_firm && now_ms.saturating_sub(pin.written_ms) >= self.lifetime_ms / RENEWALS
    }

    /// Gives it to another account.
    pub(super) fn give(&self, name: &Name, account: &AccountId, now_ms: u64) {
        self.shard(name)
            .replace(*name, Pin::of(account, now_ms, false), self.most);
    }

    /// Its account has answered: it stays there, over restarts too.
    pub(super) fn keep(&self, name: &Name, account: &AccountId, now_ms: u64) {
        let mut shard = self.shard(name);
        match shard.get(name, self.most) {
            // Another call has moved it meanwhile, or it is known.
            Some(pin) if pin.account != *account || pin.is_firm => return,
            Some(pin) => (pin.is_firm, pin.written_ms) = (true, now_ms),
            None => shard.put(*name, Pin::of(account, now_ms, true), self.most),
        }
        drop(shard);
        self.write(*name, account.clone(), now_ms);
    }

    /// Whether it is this account's and that has answered.
    pub(super) fn is_firm(&self, name: &Name, account: &AccountId) -> bool {
        let mut shard = self.shard(name);
        let pin = shard.get(name, self.most);
        pin.is_some_and(|pin| pin.is_firm && pin.account == *account)
    }

    /// Its account did not answer: it is nobody's, unless it was that account's before.
    pub(super) fn release(&self, name: &Name, account: &AccountId) {
        let mut shard = self.shard(name);
        let is_loose = |pin: &mut Pin| pin.account == *account && !pin.is_firm;
        if shard.get(name, self.most).is_some_and(is_loose) {
            shard.forget(name);
        }
    }

    /// A turn of a conversation ended with this usage.
    pub(super) fn turn(&self, name: &Name, account: &AccountId, usage: &Usage, now_ms: u64) -> Option<Turn> {
        let mut shard = self.shard(name);
        let pin = shard.get(name, self.most).filter(|pin| pin.account == *account)?;
        let now = Warmth {
            at_ms: now_ms,
            input: usage.input,
            hundredths: usage
                .cached
                .get()
                .saturating_mul(100)
                .checked_div(usage.input.get())
                .unwrap_or_default(),
        };
        let before = pin.warmth.replace(now)?;
        let is_lost = before.hundredths >= WARM
            && now.hundredths < COLD
            && before.input >= WORTH_CACHING
            // A conversation that was made shorter begins anew.
            && now.input >= before.input
            && now_ms.saturating_sub(before.at_ms) <= KEPT_MS;
        Some(Turn {
            cached: now.hundredths,
            is_lost,
        })
    }

    /// What is to be written, at most so many.
    pub(super) fn unwritten(&self, most: usize) -> Vec<PinRow> {
        let mut unwritten = lock(&self.unwritten);
        let count = unwritten.len().min(most);
        unwritten.drain(..count).collect()
    }

    /// Before then nothing is remembered.
    pub(super) const fn horizon_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.lifetime_ms)
    }

    fn write(&self, name: Name, account: AccountId, now_ms: u64) {
        let mut unwritten = lock(&self.unwritten);
        if unwritten.len() < MOST_UNWRITTEN {
            unwritten.push(PinRow {
                name,
                account,
                used_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
            });
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shard(&self, name: &Name) -> MutexGuard<'_, Shard> {
        let ([first, ..], [.., at]) = (&self.shards, name);
        lock(self.shards.get(usize::from(*at) % SHARDS).unwrap_or(first))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let size = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(size).sum()
    }
}

impl Pin {
    fn of(account: &AccountId, now_ms: u64, is_firm: bool) -> Self {
        Self {
            account: account.clone(),
            used_ms: now_ms,
            written_ms: now_ms,
            is_firm,
            warmth: None,
        }
    }
}

impl Shard {
    /// What is used becomes young again.
    fn get(&mut self, name: &Name, most: usize) -> Option<&mut Pin> {
        // Nothing is looked for in none: mostly there are no old ones yet.
        if !self.old.is_empty()
            && let Some(pin) = self.old.remove(name)
        {
            self.put(*name, pin, most);
        }
        self.young.get_mut(name)
    }

    /// What was looked for before, and so is not among the old ones.
    fn put(&mut self, name: Name, pin: Pin, most: usize) {
        if self.young.len() >= most && !self.young.contains_key(&name) {
            std::mem::swap(&mut self.old, &mut self.young);
            // It has the room that it will need: nothing is moved while it grows.
            self.young.clear();
        }
        self.young.insert(name, pin);
    }

    fn replace(&mut self, name: Name, pin: Pin, most: usize) {
        self.forget(&name);
        self.put(name, pin, most);
    }

    fn forget(&mut self, name: &Name) {
        self.young.remove(name);
        self.old.remove(name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn name(at: u32) -> Name {
        let mut name = [7; 16];
        name[..4].copy_from_slice(&at.to_be_bytes());
        name[15] = u8::try_from(at % 256).unwrap();
        name
    }

    #[test]
    fn a_pin_lives_as_long_as_it_is_used() {
        let (pins, account) = (Pins::new(HOUR, 1_000), AccountId::random());
        pins.claim(&name(1), &account, 0);
        pins.keep(&name(1), &account, 0);
        for now in [3_599_999, 7_199_998] {
            assert_eq!(pins.find(&name(1), now), Some(account.clone()));
            assert_eq!(pins.claim(&name(1), &AccountId::random(), now), account);
        }
        assert_eq!(pins.find(&name(1), 10_799_997), Some(account));
        assert_eq!(pins.find(&name(1), 10_799_998), None, "asking does not keep it alive");
        let written: Vec<_> = pins.unwritten(10).iter().map(|row| row.used_ms).collect();
        assert_eq!(written, [0, 3_599_999, 7_199_998]);
        assert!(pins.unwritten(10).is_empty());
    }

    #[test]
    fn the_first_call_of_a_conversation_may_move_it_until_it_is_answered() {
        let pins = Pins::new(HOUR, 1_000);
        let (one, two) = (AccountId::random(), AccountId::random());
        assert_eq!(pins.claim(&name(1), &one, 0), one);
        assert_eq!(pins.claim(&name(1), &two, 0), one, "who comes second follows");
        pins.release(&name(1), &one);
        assert_eq!(pins.claim(&name(1), &two, 1), two);
        pins.keep(&name(1), &two, 2);
        pins.release(&name(1), &two);
        assert_eq!(pins.find(&name(1), 3), Some(two), "what was answered stays");
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_is_remembered() {
        let (pins, account) = (Pins::new(HOUR, 3_200), AccountId::random());
        for at in 0..100_000 {
            pins.claim(&name(at), &account, 1);
            assert_eq!(pins.claim(&name(0), &account, 1), account, "used all the time");
        }
        assert!(pins.len() <= 3_200, "{}", pins.len());
        assert!(pins.find(&name(99_999), 1).is_some() && pins.find(&name(1_000), 1).is_none());
    }

    #[test]
    fn a_cache_that_collapses_is_noticed_once() {
        let (pins, account) = (Pins::new(HOUR, 1_000), AccountId::random());
        pins.claim(&name(1), &account, 0);
        let mut now = 0;
        let mut turn = |input: u64, cached: u64, after: u64| {
            now += after;
            let usage = Usage {
                input: Tokens::new(input),
                cached: Tokens::new(cached),
                ..Usage::default()
            };
            pins.turn(&name(1), &account, &usage, now).map(|turn| turn.is_lost)
        };
        assert_eq!(turn(8_000, 0, 0), None, "the first turn has nothing to lose");
        assert_eq!(turn(9_000, 8_000, 1_000), Some(false));
        assert_eq!(turn(10_000, 0, 1_000), Some(true));
        assert_eq!(turn(11_000, 0, 1_000), Some(false), "it is cold by now");
        assert_eq!(turn(12_000, 11_000, 1_000), Some(false));
        assert_eq!(turn(5_000, 0, 1_000), Some(false), "a conversation that was compacted");
        assert_eq!(turn(12_000, 11_000, 1_000), Some(false));
        assert_eq!(turn(13_000, 0, 3_600_000), Some(false), "no vendor keeps it that long");
    }
}
