//! What the agent was told: `agent.toml` and flags, resolved once. Knows no sockets and no keys.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;
use crate::tunnel::LinkMode;

pub mod dir;
pub mod env;
mod file;

/// Whether a local call must carry the local key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalKey {
    /// Each call carries the key of `local.key`.
    #[default]
    Required,
    /// Any local program may call.
    Off,
}

/// Where the device key is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyPlace {
    /// The OS keyring when it answers, else a file.
    #[default]
    Auto,
    /// The OS keyring or nothing.
    Keyring,
    /// A file with mode 0600 in the data directory.
    File,
}

/// The resolved configuration of a running agent.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory (mode 0700) that `enroll` filled.
    pub data: PathBuf,
    /// Where to listen; loopback only. `127.0.0.1` also listens on `[::1]` with the same port.
    pub listen: SocketAddr,
    /// Which transports the tunnel may use.
    pub link: LinkMode,
    /// Whether local calls must carry the local key.
    pub local_key: LocalKey,
    /// Where the device key is kept.
    pub key_place: KeyPlace,
    /// How long a call waits for the link before it is refused with 503, and for a place on a full one before it is
    /// refused with 429. Default 5 s.
    pub wait_for_link: Duration,
    /// How long a WebSocket upgrade waits for the link before it is refused with 503. Default 0.9 s.
    pub socket_wait_for_link: Duration,
    /// How long the hub may take to answer a WebSocket upgrade before the client gets 426. Default 5 s.
    pub socket_answer: Duration,
    /// Silence within an answer after which a keep-alive event goes out. Default 15 s.
    pub keepalive: Duration,
    /// How long a local client may take to send its request head, from its first byte. Default 10 s.
    pub head_timeout: Duration,
    /// How long a local connection may stay open between two requests. Default 3 min: clients mostly give theirs up
    /// after 90 s, and the one who closes first must be the client, or a request that is on its way is lost.
    pub idle_timeout: Duration,
    /// How long running calls may go on after a stop was asked for. Default 5 s.
    pub drain: Duration,
    /// What is logged. Default `info`.
    pub log: String,
    /// Log as lines of JSON. Default false.
    pub log_json: bool,
}

impl Config {
    /// The defaults, for this data directory.
    #[must_use]
    pub fn new(data: PathBuf) -> Self {
        Self {
            data,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)),
            link: LinkMode::Auto,
            local_key: LocalKey::Required,
            key_place: KeyPlace::Auto,
            wait_for_link: Duration::from_secs(5),
            socket_wait_for_link: Duration::from_millis(900),
            socket_answer: Duration::from_secs(5),
            keepalive: Duration::from_secs(15),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(180),
            drain: Duration::from_secs(5),
            log: "info".to_owned(),
            log_json: false,
        }
    }

    /// The defaults, overridden by `agent.toml` in the data directory when there is one.
    ///
    /// # Errors
    /// Everything that is wrong in that file.
    pub fn load(data: PathBuf) -> Result<Self, Failure> {
        let file = file::File::read(&data.join(CONFIG_FILE))?;
        let mut config = Self::new(data);
        file.apply(&mut config);
        Ok(config)
    }
}

const CONFIG_FILE: &str = "agent.toml";
/// The port clients are told to use.
pub const DEFAULT_PORT: u16 = 8787;
