//! Which calls have come already, so that an agent which does not know whether its call arrived may send it again:
//! the second one is refused, never run. Remembers for 30 to 60 seconds. Knows only ids.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::call::CallId;

#[derive(Default)]
pub(super) struct Seen(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashSet<(u64, CallId)>,
    old: HashSet<(u64, CallId)>,
    since: Option<Instant>,
}

impl Seen {
    /// Whether `call` comes from `device` for the first time (lately).
    pub(super) fn is_first(&self, device: &str, call: CallId) -> bool {
        self.is_first_at(device, call, Instant::now())
    }

    fn is_first_at(&self, device: &str, call: CallId, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        device.hash(&mut hasher);
        let key = (hasher.finish(), call);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*all.since.get_or_insert(now)) > GENERATION {
            all.old = std::mem::take(&mut all.young);
            all.since = Some(now);
        }
        !all.old.contains(&key) && all.young.insert(key)
    }
}

const GENERATION: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Seen;
    use crate::call::CallId;

    #[test]
    fn a_call_is_first_once_and_per_device() {
        let (seen, start, call) = (Seen::default(), Instant::now(), CallId::random());
        assert!(seen.is_first_at("a", call, start));
        assert!(!seen.is_first_at("a", call, start));
        assert!(seen.is_first_at("b", call, start));
        assert!(!seen.is_first_at("a", call, start + Duration::from_secs(31)));
        assert!(seen.is_first_at("a", CallId::random(), start + Duration::from_secs(62)));
    }
}
