//! The tunnel over real sockets: what it carries, what it refuses, and that nothing cut ever looks complete.

#![expect(clippy::unwrap_used, clippy::large_futures, reason = "a test that fails says where")]

mod carry;
mod cut;
mod measure;
mod raw;
mod refuse;
mod room;
mod world;
