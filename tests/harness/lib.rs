//! What the end-to-end tests stand on: a vendor that speaks what OpenAI speaks, a runner for the real
//! Codex CLI, and a world of real hub, real agent and unreliable network on loopback.
//! Holds no promise itself: the promises are in `e2e/`.

pub mod books;
pub mod chaos;
pub mod client;
pub mod coder;
pub mod codex;
#[cfg(target_os = "linux")]
pub mod disk;
mod frames;
pub mod mmdb;
pub mod namespace;
pub mod node;
pub mod oauth;
pub mod program;
pub mod proxy;
pub mod sdk;
pub mod skip;
pub mod socket;
pub mod vendor;
pub mod within;
pub mod world;
