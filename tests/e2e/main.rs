//! The promises of the product, one module each, kept from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests say what broke by panicking"
)]

mod architecture;
mod codex;
