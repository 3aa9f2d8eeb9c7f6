//! Promises of time. A test that runs alone asks for each as it was made; one that shares the processors with others, as
//! all do in `cargo xtask test`, asks for it with the slack that `RELAY_TEST_SLACK` names: what hangs is still found.

use std::time::Duration;

/// The limit, as many times as the run has slack; as it is where nobody says.
pub fn within(limit: Duration) -> Duration {
    let told = std::env::var_os("RELAY_TEST_SLACK").and_then(|told| told.into_string().ok());
    limit * told.and_then(|told| told.parse().ok()).unwrap_or(1)
}
