//! The developer's side of the relay: a loopback listener, and the tunnel to the hub. Holds no vendor credential.

pub mod app;
pub mod cli;
pub mod config;
pub mod tunnel;
