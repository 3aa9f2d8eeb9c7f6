//! `hub.toml` as written: everything optional, unknown keys refused.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) tunnel: Tunnel,
    pub(super) https: Https,
    pub(super) http: Http,
    pub(super) limits: Limits,
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) egress: Egress,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Tunnel {
    pub(super) listen: Option<String>,
    pub(super) advertise: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Https {
    pub(super) listen: Option<String>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) head_bytes: Option<u64>,
    pub(super) body_bytes: Option<u64>,
    pub(super) decode_ratio: Option<u64>,
    pub(super) body_memory_bytes: Option<u64>,
    pub(super) calls_per_tenant: Option<u64>,
    pub(super) default_output_tokens: Option<u64>,
    pub(super) first_byte_seconds: Option<u64>,
    pub(super) idle_seconds: Option<u64>,
    pub(super) drain_seconds: Option<u64>,
    pub(super) vendor_connect_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Egress {
    pub(super) extra_ca: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) filter: Option<String>,
    pub(super) json: Option<bool>,
}
