//! `agent.toml`: read whole, every problem at once.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use relay_shared::config::{Problems, load_toml};
use serde::{Deserialize, Deserializer, de};

use super::{Config, KeyPlace, LocalKey};
use crate::failure::Failure;
use crate::tunnel::LinkMode;

/// The settings of `agent.toml`; what is not there keeps its default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// Where to listen, loopback only. Default `127.0.0.1:8787`.
    #[serde(default, deserialize_with = "loopback")]
    listen: Option<SocketAddr>,
    /// `auto`, `quic` or `h2`. Default `auto`.
    link: Option<LinkName>,
    /// `on` or `off`. Default `on`: local calls must carry the local key.
    local_key: Option<Switch>,
    /// `auto`, `keyring` or `file`. Default `auto`. Used when enrolling.
    key_store: Option<PlaceName>,
    /// Seconds a call waits for the link, or for a place on a full one. Default 5.
    #[serde(default, deserialize_with = "seconds")]
    wait_for_link: Option<Duration>,
    /// Seconds of silence before a sign of life. Default 15.
    #[serde(default, deserialize_with = "seconds")]
    keepalive: Option<Duration>,
    /// What is logged, for example `info` or `info,relay_agent=debug`. Default `info`.
    log: Option<String>,
    /// Lines of JSON instead of text. Default false.
    log_json: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LinkName {
    Auto,
    Quic,
    H2,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PlaceName {
    Auto,
    Keyring,
    File,
}

impl File {
    /// Reads the file of a data directory; without one everything has its default.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&name, &text).map_err(|problems| {
                Failure::user(
                    problems.to_string(),
                    format!("correct {name}; the agent does not start with half of it"),
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::user(
                format!("cannot read {name}: {error}"),
                "check the owner of the file and its text",
            )),
        }
    }

    fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        load_toml(name, text)
    }

    pub(super) fn apply(self, config: &mut Config) {
        let Self {
            listen,
            link,
            local_key,
            key_store,
            wait_for_link,
            keepalive,
            log,
            log_json,
        } = self;
        set(&mut config.listen, listen);
        set(&mut config.link, link.map(Into::into));
        set(&mut config.local_key, local_key.map(Into::into));
        set(&mut config.key_place, key_store.map(Into::into));
        set(&mut config.wait_for_link, wait_for_link);
        set(&mut config.keepalive, keepalive);
        set(&mut config.log, log);
        set(&mut config.log_json, log_json);
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl From<LinkName> for LinkMode {
    fn from(name: LinkName) -> Self {
        match name {
            LinkName::Auto => Self::Auto,
            LinkName::Quic => Self::Quic,
            LinkName::H2 => Self::H2,
        }
    }
}

impl From<Switch> for LocalKey {
    fn from(switch: Switch) -> Self {
        match switch {
            Switch::On => Self::Required,
            Switch::Off => Self::Off,
        }
    }
}

impl From<PlaceName> for KeyPlace {
    fn from(name: PlaceName) -> Self {
        match name {
            PlaceName::Auto => Self::Auto,
            PlaceName::Keyring => Self::Keyring,
            PlaceName::File => Self::File,
        }
    }
}

fn loopback<'de, D: Deserializer<'de>>(value: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(value)?;
    let addr: SocketAddr = text
        .parse()
        .map_err(|_| de::Error::custom("must be an address and a port, such as `127.0.0.1:8787`"))?;
    if !addr.ip().is_loopback() {
        return Err(de::Error::custom(
            "must be a loopback address, such as `127.0.0.1:8787`",
        ));
    }
    Ok(Some(addr))
}

fn seconds<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    match u64::deserialize(value)? {
        seconds @ 1..=3600 => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(de::Error::custom("must be between 1 and 3600 seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_taken() {
        let text = "listen = '[::1]:9000'\nlink = 'h2'\nlocal_key = 'off'\nkey_store = 'file'\nwait_for_link = 2\nkeepalive = 20\nlog = 'debug'\nlog_json = true\n";
        let mut config = Config::new("/data".into());
        File::parse("agent.toml", text).unwrap().apply(&mut config);
        assert_eq!(config.listen.to_string(), "[::1]:9000");
        assert_eq!(
            (config.link, config.local_key, config.key_place),
            (LinkMode::H2, LocalKey::Off, KeyPlace::File)
        );
        assert_eq!((config.wait_for_link.as_secs(), config.keepalive.as_secs()), (2, 20));
        assert_eq!((config.log.as_str(), config.log_json), ("debug", true));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = "listen = '0.0.0.0:1'\nlinc = 'h2'\nlocal_key = false\nkeepalive = 0\n";
        let problems = File::parse("agent.toml", text).unwrap_err().to_string();
        assert_eq!(problems.lines().count(), 4, "{problems}");
        for part in ["loopback", "did you mean `link`?", "local_key", "between 1 and 3600"] {
            assert!(problems.contains(part), "{part}: {problems}");
        }
    }
}
