//! Logs go to stderr. What may be in them is decided where they are written: never a body, a key or a header value.
//! Libraries know nothing of that rule, so below a warning they are not heard, whatever the filter says.

use std::io;

use tracing::{Level, Metadata};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging with a filter such as `info,relay_hub=debug`, as lines of text or of JSON.
///
/// # Errors
/// The filter cannot be read, or logging was started before.
pub fn init(filter: &str, json: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("log filter `{filter}`: {e}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false);
    let lines = if json { lines.json().boxed() } else { lines.boxed() };
    let lines = lines.with_filter(filter_fn(is_ours_or_a_warning));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|e| e.to_string())
}

fn is_ours_or_a_warning(line: &Metadata<'_>) -> bool {
    line.target().starts_with("relay_") || *line.level() <= Level::WARN
}
