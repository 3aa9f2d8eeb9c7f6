//! What the hub is told: `hub.toml`, flags, and the places in its data directory. Opens no socket and no database.

mod file;
mod layout;
mod resolve;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use relay_protocol::{Family, Tokens};
use relay_shared::config::Problems;

pub use layout::DataDir;
pub use value::{Door, parse_duration, parse_size};

/// The `hub.toml` of a new hub: every key with its default, commented out.
pub const TEMPLATE: &str = include_str!("hub.toml");

/// What the command line says; goes before `hub.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Before `tunnel.listen`.
    pub tunnel: Option<SocketAddr>,
    /// Before `https.listen`.
    pub https: Option<Door>,
    /// Before `http.listen`.
    pub http: Option<Door>,
    /// Before `log.filter`.
    pub log: Option<String>,
}

impl Config {
    /// Reads the `hub.toml` of a data directory.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key and what helps.
    pub fn load(data: &DataDir, overrides: &Overrides) -> Result<Self, Problems> {
        let error = match fs::read_to_string(data.hub_toml()) {
            Ok(text) => return resolve::resolve(data, &text, overrides),
            Err(error) => error,
        };
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "`relay-hub init` makes one; --data DIR names another data directory",
            io::ErrorKind::InvalidData => "save the file as UTF-8",
            _ => "look at the owner and the mode of the file",
        };
        let mut problems = Problems::new();
        problems.push(
            data.hub_toml().display().to_string(),
            format!("cannot be read: {error}"),
            hint,
        );
        Err(problems)
    }
}

/// How a program on this machine reaches what listens on `listen`: loopback, when that is every address.
pub fn on_this_machine(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Everything resolved: nothing here stands for "default".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The hub's files.
    pub data: DataDir,
    /// Where agents connect: QUIC on UDP and HTTP/2 on TCP, the same port.
    pub tunnel: Listen,
    /// The public entrance, with API keys.
    pub https: Option<Https>,
    /// What both public entrances heed of a request's head.
    pub public: PublicRules,
    /// A plain entrance for tests and local proxies; loopback only.
    pub http: Option<SocketAddr>,
    /// Where figures are scraped; loopback only.
    pub metrics: Option<SocketAddr>,
    /// Bounds of every wait and every buffer.
    pub limits: Limits,
    /// Public model name to the vendor's model name.
    pub aliases: BTreeMap<String, String>,
    /// The way out to vendors.
    pub egress: Egress,
    /// A database of countries in MaxMind's format; without one nobody's country is asked for.
    pub countries: Option<PathBuf>,
    /// What is logged, and how.
    pub log: Log,
}

/// An address to listen on, and how others reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address bound. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// `host:port` as devices reach it; goes into tokens and the hub's certificate.
    pub advertise: Option<String>,
}

/// The public entrance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Https {
    /// The address bound. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What the public entrances heed of a request's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicRules {
    /// Names of hosts, in small letters, that serve the dialects of one vendor alone.
    pub hosts: BTreeMap<String, Family>,
    /// Origins whose pages may call, as browsers write them.
    pub cors_origins: BTreeSet<String>,
}

/// Bounds of every wait and every buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request head, bytes.
    pub head_bytes: usize,
    /// Largest request body, as it came and decoded, bytes.
    pub body_bytes: usize,
    /// How many times larger than what came a decoded body may be.
    pub ratio: usize,
    /// Memory for request bodies of all running calls, bytes.
    pub body_memory: usize,
    /// Running calls of one tenant.
    pub calls_per_tenant: usize,
    /// Calls of all tenants that wait for others to end.
    pub queue_calls: usize,
    /// Calls of one tenant that wait.
    pub queue_calls_per_tenant: usize,
    /// How long a call may wait for others to end.
    pub queue_wait: Duration,
    /// Calls at once over one connection of an agent.
    pub calls_per_connection: u32,
    /// Output tokens held for a call that names no maximum.
    pub default_hold_output: Tokens,
    /// From the request sent to the vendor's first byte.
    pub first_byte_timeout: Duration,
    /// Between two bytes of a vendor's answer.
    pub idle_timeout: Duration,
    /// Running calls may finish within this time after SIGTERM.
    pub drain_timeout: Duration,
    /// TCP and TLS to the vendor.
    pub vendor_connect_timeout: Duration,
    /// How long an answer is read on whose client has left, for tenants that chose `drain`.
    pub abort_drain_timeout: Duration,
    /// How much of it is read, bytes.
    pub abort_drain_bytes: usize,
    /// Accounts that one call may try.
    pub attempts: u32,
    /// After this long no further account is tried.
    pub retry_timeout: Duration,
    /// A conversation that was not used for so long may go to another account.
    pub pin_lifetime: Duration,
    /// Conversations, stored responses and turns whose accounts are remembered.
    pub pins: usize,
}

/// The way out to vendors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// PEM file of certificate authorities trusted besides the public ones.
    pub extra_ca: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A filter such as `info` or `relay_hub=debug`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}
