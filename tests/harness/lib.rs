//! What the end-to-end tests stand on: a vendor that speaks what OpenAI speaks, a runner for the real
//! Codex CLI, and a world of real hub, real agent and unreliable network on loopback.
//! Holds no promise itself: the promises are in `e2e/`.

pub mod codex;
pub mod vendor;
