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
mod fuzz;
mod golden;
