//! What is wrong with a command or a file, and how it is told.

use std::fs;

use serde_json::Value;

use super::Hub;

#[test]
fn a_broken_hub_toml_is_told_as_a_whole() {
    let hub = Hub::init();
    let text = "[tunnel]\nlisten = \"nowhere\"\nlisen = \"0.0.0.0:1\"\n\n[limits]\nbody_bytes = \"many\"\nhead_bytes = -4\n\n\
                [http]\nlisten = \"0.0.0.0:80\"\n\n[unheard]\nof = 1\n";
    fs::write(hub.data().join("hub.toml"), text).unwrap();
    let parts = [
        "tunnel.listen",
        "lisen",
        "body_bytes",
        "head_bytes",
        "http.listen",
        "loopback",
        "unheard",
    ];
    hub.refused(&["check-config"], 1, &parts);
    hub.refused(&["serve"], 1, &parts);
    let told: Value = serde_json::from_str(&hub.run(&["check-config", "--json"]).stdout).unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 6, "{told}");
    fs::remove_file(hub.data().join("hub.toml")).unwrap();
    hub.refused(&["check-config"], 1, &["hub.toml", "relay-hub init"]);
}

#[test]
fn with_json_a_failure_is_one_object_on_stderr() {
    let hub = Hub::nowhere();
    for (words, code, part) in [
        (&["serve"][..], 1, "relay-hub init"),
        (&["check-config"], 1, "hub.toml"),
        (&["unheard-of"], 2, "unheard-of"),
    ] {
        let ended = hub.run(&[words, &["--json"]].concat());
        assert_eq!(ended.code, code, "{words:?}");
        let told: Value = serde_json::from_str(&ended.stderr).unwrap();
        assert_eq!(told["error"]["exit_code"], code, "{told}");
        assert!(told.to_string().contains(part), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_went_away_is_no_failure() {
    use std::process::Stdio;
    let hub = Hub::init();
    let mut child = hub
        .command(&["price", "list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn wrong_words_are_wrong_usage_and_help_is_none() {
    let hub = Hub::nowhere();
    for words in [
        &["unheard-of"][..],
        &["tenant"],
        &["tenant", "credit", "a"],
        &["key", "add"],
        &[],
    ] {
        let ended = hub.run(words);
        assert_eq!(ended.code, 2, "{words:?}");
        assert!(!ended.stderr.is_empty());
    }
    let help = hub.run(&["help"]);
    assert_eq!(help.code, 0);
    for command in [
        "init",
        "serve",
        "check-config",
        "tenant",
        "key",
        "device",
        "account",
        "price",
        "usage",
        "ledger",
    ] {
        assert!(help.stdout.contains(command), "{command}");
    }
    assert!(hub.run(&["--version"]).stdout.starts_with("relay-hub "));
}
