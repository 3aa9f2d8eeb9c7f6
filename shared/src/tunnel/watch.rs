//! Notices a connection that is dead without a word: while calls run, silence is answered with a probe, and long
//! silence ends the connection. Idle connections are asked now and then, end to end. Knows no transport.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::calls::Calls;

/// A connection to watch.
pub(super) trait Watched {
    /// A number that changes whenever something came from the other side.
    fn received(&self) -> u64;
    /// Sends something that the other side must answer soon.
    fn probe(&mut self);
    /// One question and its answer, end to end; false when there was none.
    fn ask(&self) -> impl Future<Output = bool> + Send;
}

/// Runs until the connection is found dead; says why.
pub(super) async fn watch(mut watched: impl Watched, calls: &Calls) -> String {
    loop {
        tokio::select! {
            () = calls.busy() => {}
            () = tokio::time::sleep(IDLE_QUESTION) => {
                if !watched.ask().await {
                    return "an idle connection answered no more".to_owned();
                }
                continue;
            }
        }
        let mut silence = Silence::new(watched.received(), Instant::now());
        while calls.running() > 0 {
            tokio::time::sleep(TICK).await;
            match silence.look(watched.received(), Instant::now()) {
                Verdict::Alive => {}
                Verdict::Doubtful => watched.probe(),
                Verdict::Dead(silent) => {
                    return format!(
                        "nothing came for {:.1} s while calls were running",
                        silent.as_secs_f32()
                    );
                }
            }
        }
    }
}

/// How long nothing came, and how often was asked since.
struct Silence {
    received: u64,
    since: Instant,
    probes: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Alive,
    /// Worth a probe.
    Doubtful,
    /// After so long.
    Dead(Duration),
}

impl Silence {
    const fn new(received: u64, now: Instant) -> Self {
        Self {
            received,
            since: now,
            probes: 0,
        }
    }

    fn look(&mut self, received: u64, now: Instant) -> Verdict {
        if received != self.received {
            *self = Self::new(received, now);
        }
        let silent = now.saturating_duration_since(self.since);
        if silent < SILENCE {
            Verdict::Alive
        } else if silent >= DEAD && self.probes >= PROBES {
            Verdict::Dead(silent)
        } else {
            self.probes += 1;
            Verdict::Doubtful
        }
    }
}

const TICK: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_millis(700);
/// With two ticks, and the time the agent hopes for the same hub to come back, this stays well below the three seconds
/// after which a caller must know.
const DEAD: Duration = Duration::from_millis(1900);
/// A process that was stopped has heard nothing, and has not asked either: what counts is silence after a question.
const PROBES: u32 = 4;
const IDLE_QUESTION: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_no_probe_is_dead_after_two_seconds() {
        let start = Instant::now();
        let mut silence = Silence::new(7, start);
        let looks = (1..).map(|tick| silence.look(7, start + tick * TICK));
        let (probes, last): (Vec<_>, Vec<_>) = looks
            .skip_while(|verdict| *verdict == Verdict::Alive)
            .take(13)
            .partition(|verdict| *verdict == Verdict::Doubtful);
        assert_eq!((probes.len(), last), (12, vec![Verdict::Dead(DEAD)]));
    }

    #[test]
    fn silence_while_this_process_stood_still_is_no_death() {
        let start = Instant::now();
        let mut silence = Silence::new(7, start);
        let woken = start + 20 * DEAD;
        assert_eq!(silence.look(7, woken), Verdict::Doubtful);
        assert_eq!(silence.look(8, woken + TICK), Verdict::Alive);
    }
}
