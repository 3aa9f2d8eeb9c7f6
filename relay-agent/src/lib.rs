//! The developer's side of the relay: a loopback listener, and the tunnel to the hub. Holds no vendor credential.

pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod enroll;
pub mod failure;
mod forward;
pub mod keystore;
mod listener;
pub mod setup;
pub mod tunnel;
