//! A new hub.

use std::{fs, path::Path};

use super::Hub;

#[test]
fn init_makes_a_hub_and_never_overwrites() {
    let hub = Hub::nowhere();
    hub.refused(&["tenant", "list"], 1, &["no hub", "relay-hub init", "--data"]);
    let made = hub.run(&["init"]);
    assert_eq!(made.code, 0);
    for step in ["tenant add", "tenant credit", "account add", "serve", "device token"] {
        assert!(made.stderr.contains(step), "{step}: {}", made.stderr);
    }
    let before = fs::read(hub.data().join("seal.key")).unwrap();
    hub.refused(
        &["init"],
        1,
        &["hub.toml", "hub.sqlite", "seal.key", "ca.key", "--data"],
    );
    assert_eq!(fs::read(hub.data().join("seal.key")).unwrap(), before);
    assert_eq!(hub.json(&["check-config"])["ok"], true);
}

#[cfg(unix)]
#[test]
fn secrets_on_disk_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let hub = Hub::init();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for file in ["seal.key", "quic.key", "tls/ca.key", "tls/server.key", "hub.sqlite"] {
        assert_eq!(mode(&hub.data().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&hub.data()), 0o700);
}
