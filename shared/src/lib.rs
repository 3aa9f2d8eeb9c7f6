//! What relay-agent and relay-hub must agree on: the tunnel, its TLS, and small seams both use.
//! Knows nothing of tenants' money, of vendors, or of local clients.

pub mod backoff;
pub mod call;
pub mod clock;
pub mod config;
pub mod cores;
pub mod enrolment;
pub mod fault;
pub mod holder;
pub mod http;
pub mod secret;
pub mod tasks;
pub mod telemetry;
pub mod tls;
pub mod tunnel;
pub mod waits;
pub mod written;
