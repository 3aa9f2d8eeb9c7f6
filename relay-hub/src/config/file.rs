//! The shape of `hub.toml`: every key is optional, no other key is known. Decides nothing.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use relay_protocol::Tokens;
use serde::Deserialize;
use toml::Spanned;

use super::value::{Door, Read, Size};

/// A value with its place in the text, unless the key is absent.
pub(super) type Entry<T> = Option<Spanned<T>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) tunnel: Tunnel,
    pub(super) https: Https,
    pub(super) http: Http,
    pub(super) metrics: Metrics,
    pub(super) limits: Limits,
    pub(super) aliases: BTreeMap<String, Spanned<String>>,
    pub(super) public: Public,
    pub(super) hosts: BTreeMap<String, Spanned<String>>,
    pub(super) egress: Egress,
    pub(super) countries: Countries,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tunnel {
    pub(super) listen: Entry<Read<SocketAddr>>,
    pub(super) advertise: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Https {
    pub(super) listen: Entry<Read<Door>>,
    pub(super) certificate: Entry<String>,
    pub(super) key: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) listen: Entry<Read<Door>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Public {
    pub(super) cors_origins: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Entry<Read<Door>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) head_bytes: Entry<Read<Size>>,
    pub(super) body_bytes: Entry<Read<Size>>,
    pub(super) ratio: Entry<Read<usize>>,
    pub(super) body_memory: Entry<Read<Size>>,
    pub(super) calls_per_tenant: Entry<Read<usize>>,
    pub(super) queue_calls: Entry<Read<usize>>,
    pub(super) queue_calls_per_tenant: Entry<Read<usize>>,
    pub(super) queue_wait: Entry<Read<Duration>>,
    pub(super) calls_per_connection: Entry<Read<u32>>,
    pub(super) default_hold_output: Entry<Read<Tokens>>,
    pub(super) first_byte_timeout: Entry<Read<Duration>>,
    pub(super) idle_timeout: Entry<Read<Duration>>,
    pub(super) drain_timeout: Entry<Read<Duration>>,
    pub(super) vendor_connect_timeout: Entry<Read<Duration>>,
    pub(super) abort_drain_timeout: Entry<Read<Duration>>,
    pub(super) abort_drain_bytes: Entry<Read<Size>>,
    pub(super) attempts: Entry<Read<u32>>,
    pub(super) retry_timeout: Entry<Read<Duration>>,
    pub(super) pin_lifetime: Entry<Read<Duration>>,
    pub(super) pins: Entry<Read<usize>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Egress {
    pub(super) extra_ca: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Countries {
    pub(super) database: Entry<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) filter: Entry<String>,
    pub(super) json: Entry<bool>,
}
