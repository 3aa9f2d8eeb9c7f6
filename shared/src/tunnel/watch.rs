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
        let mut heard = (watched.received(), Instant::now());
        while calls.running() > 0 {
            tokio::time::sleep(TICK).await;
            let received = watched.received();
            let silence = heard.1.elapsed();
            if received != heard.0 {
                heard = (received, Instant::now());
            } else if silence >= DEAD {
                return format!(
                    "nothing came for {:.1} s while calls were running",
                    silence.as_secs_f32()
                );
            } else if silence >= SILENCE {
                watched.probe();
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(100);
const SILENCE: Duration = Duration::from_millis(700);
/// With two ticks, and the time the agent hopes for the same hub to come back, this stays well below the three seconds
/// after which a caller must know.
const DEAD: Duration = Duration::from_millis(1900);
const IDLE_QUESTION: Duration = Duration::from_secs(15);
