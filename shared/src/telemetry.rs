//! Logs go to stderr. What may be in them is decided where they are written: never a body, a key or a header value.

use std::io;

use tracing_subscriber::EnvFilter;

/// Starts logging with a filter such as `info,relay_hub=debug`, as lines of text or of JSON.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn init(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("log filter `{filter}`: {e}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = if json {
        lines.json().try_init()
    } else {
        lines.with_ansi(false).try_init()
    };
    started.map_err(|e| e.to_string())
}
