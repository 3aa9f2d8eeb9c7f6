//! The translating lanes, from outside: recorded requests, streams and answers of every wire through every lane.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests: they fail by panics, and read how they are to run"
)]

mod common;
mod cuts;
// It needs nothing of the hub.
#[path = "../../../../relay-hub/src/vendor/aws/event_stream.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is the hub's, and read here")]
mod event_stream;
mod fuzz;
mod golden;
mod memory;
