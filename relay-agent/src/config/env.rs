//! The environment variables the agent looks at. Nothing else reads the environment.
#![allow(clippy::disallowed_methods, reason = "this is the place that reads the environment")]

use std::env;
use std::path::PathBuf;

/// Whether a D-Bus session bus is there already. One is never started for the sake of a keyring: a machine without
/// a desktop would end up with a bus per login.
#[must_use]
pub fn has_session_bus() -> bool {
    match text("DBUS_SESSION_BUS_ADDRESS") {
        Some(address) => !address.starts_with("autolaunch:"),
        None => text("XDG_RUNTIME_DIR").is_some_and(|dir| PathBuf::from(dir).join("bus").exists()),
    }
}

/// Where Codex keeps its configuration: `CODEX_HOME`, else `~/.codex`.
#[must_use]
pub fn codex_home() -> Option<PathBuf> {
    match text("CODEX_HOME") {
        Some(home) => Some(PathBuf::from(home)),
        None => directories::BaseDirs::new().map(|base| base.home_dir().join(".codex")),
    }
}

/// Where the agent keeps its files when nothing else was said.
#[must_use]
pub fn default_data() -> Option<PathBuf> {
    directories::ProjectDirs::from("", "", "relay-agent").map(|dirs| dirs.data_local_dir().to_owned())
}

/// The hosts that no proxy is used for, as HTTP clients read them: the upper-case name wins.
#[must_use]
pub fn no_proxy() -> Option<String> {
    text("NO_PROXY").or_else(|| text("no_proxy"))
}

/// The names of the proxy variables that are set and that clients apply to plain HTTP on loopback.
#[must_use]
pub fn proxies_in_force() -> Vec<&'static str> {
    ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .filter(|name| text(name).is_some())
        .collect()
}

/// The base URL variable that older clients read, when it is set.
#[must_use]
pub fn openai_base_url() -> Option<String> {
    text("OPENAI_BASE_URL")
}

/// The name this machine goes by, for the hub's list of devices.
#[must_use]
pub fn machine_name() -> String {
    let file = std::fs::read_to_string("/etc/hostname")
        .ok()
        .map(|name| name.trim().to_owned());
    let named = file
        .filter(|name| !name.is_empty())
        .or_else(|| text("HOSTNAME"))
        .or_else(|| text("COMPUTERNAME"));
    named.unwrap_or_else(|| "device".to_owned())
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
