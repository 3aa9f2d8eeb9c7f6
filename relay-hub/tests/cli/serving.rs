//! Commands beside a hub that runs.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::Hub;

struct Serving {
    child: Child,
    ready: Value,
}

fn serve(hub: &Hub) -> Serving {
    let words = [
        "serve",
        "--tunnel",
        "127.0.0.1:0",
        "--https",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ];
    let mut child = hub
        .command(&words)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    Serving {
        child,
        ready: serde_json::from_str(&line).unwrap(),
    }
}

fn end(mut serving: Serving, signal: &str) -> Option<i32> {
    let pid = serving.child.id().to_string();
    Command::new("kill").args([signal, &pid]).status().unwrap();
    serving.child.wait().unwrap().code()
}

#[test]
fn commands_work_while_the_hub_runs_and_a_second_hub_does_not() {
    let hub = Hub::init();
    let serving = serve(&hub);
    assert_eq!(serving.ready["ready"], true);
    for name in ["tunnel", "https", "http"] {
        assert!(
            serving.ready[name].as_str().unwrap().starts_with("127.0.0.1:"),
            "{name}"
        );
    }
    hub.ok(&["tenant", "add", "acme"]);
    hub.ok(&["tenant", "credit", "acme", "5"]);
    let token = hub.json(&["device", "token", "--tenant", "acme"]);
    assert_eq!(token["hub"], serving.ready["tunnel"]);
    let pid = format!("pid {}", serving.child.id());
    hub.refused(&["serve"], 1, &["another relay-hub", &pid]);
    assert_eq!(end(serving, "-TERM"), Some(0));
    assert_eq!(hub.json(&["ledger", "verify"])["ok"], true);
}

#[test]
fn a_hub_that_was_killed_starts_again() {
    let hub = Hub::init();
    assert_eq!(end(serve(&hub), "-KILL"), None);
    assert_eq!(end(serve(&hub), "-INT"), Some(0));
}
