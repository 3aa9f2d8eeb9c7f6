//! Named points at which a test build ends without another word, so that a test sees what a crash there leaves. Knows no
//! code that has such a point. Without debug assertions, as it is shipped, a point is nothing at all.

/// Ends the process as `kill -9` would, where the variable `RELAY_DIE_AT` names this point: `NAME` for the first time
/// that somebody comes by, `NAME:4` for the fourth.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    armed::pass(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    /// Where this process ends.
    struct Trap {
        name: String,
        /// How many come by before.
        left: AtomicU64,
    }

    static TRAP: LazyLock<Option<Trap>> =
        LazyLock::new(|| parse(&std::env::var_os("RELAY_DIE_AT")?.into_string().ok()?));

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
