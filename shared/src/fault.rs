//! What a test build does wrong on command: it ends at a named point without another word, it works without care, its
//! clock jumps. Knows no code that asks. Without debug assertions, as it is shipped, all of this is nothing at all.

use std::time::SystemTime;

/// Ends the process as `kill -9` would, where the variable `RELAY_DIE_AT` names this point: `NAME` for the first time
/// that somebody comes by, `NAME:4` for the fourth.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Whether the variable `RELAY_FAULT` names this one.
#[inline]
pub fn is_set(name: &'static str) -> bool {
    #[cfg(debug_assertions)]
    return armed::told("RELAY_FAULT").as_deref() == Some(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}

/// The machine's wall clock, put forward by the seconds in the file that `RELAY_CLOCK` names, or back where they are
/// less than none.
#[inline]
pub(crate) fn wall() -> SystemTime {
    #[cfg(debug_assertions)]
    return armed::jumped(SystemTime::now());
    #[cfg(not(debug_assertions))]
    SystemTime::now()
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        fs,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::{Duration, SystemTime},
    };

    /// Where this process ends.
    struct Trap {
        name: String,
        /// How many come by before.
        left: AtomicU64,
    }

    static TRAP: LazyLock<Option<Trap>> = LazyLock::new(|| parse(&told("RELAY_DIE_AT")?));
    static CLOCK: LazyLock<Option<String>> = LazyLock::new(|| told("RELAY_CLOCK"));

    pub(super) fn told(variable: &str) -> Option<String> {
        std::env::var_os(variable)?.into_string().ok()
    }

    pub(super) fn jumped(now: SystemTime) -> SystemTime {
        let text = CLOCK.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let by: i64 = text.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        let length = Duration::from_secs(by.unsigned_abs());
        let then = if by < 0 {
            now.checked_sub(length)
        } else {
            now.checked_add(length)
        };
        then.unwrap_or(now)
    }

    fn parse(text: &str) -> Option<Trap> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        Some(Trap {
            name: name.to_owned(),
            left: AtomicU64::new(count.parse::<u64>().ok()?.checked_sub(1)?),
        })
    }

    pub(super) fn pass(name: &str) {
        if let Some(trap) = &*TRAP
            && trap.name == name
            && trap.is_sprung()
        {
            // No destructor runs, nothing is flushed.
            std::process::abort();
        }
    }

    impl Trap {
        fn is_sprung(&self) -> bool {
            let left = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            left.is_err()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_trap_springs_when_it_was_passed_often_enough() {
            let trap = parse("end sent:3").unwrap();
            assert_eq!(trap.name, "end sent");
            assert_eq!([(); 4].map(|()| trap.is_sprung()), [false, false, true, true]);
            assert!(parse("first").unwrap().is_sprung());
            assert!(parse("a:0").is_none() && parse("a:b").is_none());
        }
    }
}
