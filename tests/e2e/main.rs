//! The promises of the product, one module each, kept from the outside.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests say what broke by panicking"
)]

mod aborts;
mod accounts;
mod answers;
mod architecture;
mod aside;
mod bad_input;
mod bedrock;
mod bridge;
mod browser;
mod canary;
mod coders;
mod codex;
mod countries;
mod crash;
mod credit;
#[cfg(target_os = "linux")]
mod disk;
mod doors;
#[cfg(target_os = "linux")]
mod elsewhere;
mod embeddings;
mod endings;
mod examples;
mod extension;
mod faults;
mod health;
mod hostile;
mod hosts;
mod idempotency;
mod keys;
mod kill;
mod lanes;
mod limits;
mod metrics;
mod money;
mod nodes;
mod openapi;
mod prices;
mod proxies;
mod reasoning;
mod reconcile;
mod room;
mod routing;
mod sdks;
mod secrets;
#[cfg(target_os = "linux")]
mod sources;
mod tokens;
mod truncation;
mod udp;
mod unified;
mod vendors;
mod verbatim;
mod warm;
mod ways;
mod websocket;
mod wires;

use std::time::Duration;

use relay_tests::world::{Programs, Setup, World};
use serde_json::{Value, json};

/// A model the tests price themselves; see `Setup::models`.
const MODEL: &str = "test-model";

const PROGRAMS: Programs = Programs {
    hub: env!("CARGO_BIN_EXE_hub-under-test"),
    agent: env!("CARGO_BIN_EXE_agent-under-test"),
};

/// A world with `MODEL`.
fn setup() -> Setup {
    Setup {
        models: vec![MODEL.to_owned()],
        ..Setup::new(PROGRAMS)
    }
}

/// `usage show` of a call, once its attempts are written down.
async fn shown(world: &World, call: &str) -> Value {
    for _ in 0..200 {
        let shown = world.hub.command(&["usage", "show", call, "--json"]).await;
        if shown.exit_code == Some(0) && !shown.stdout.contains("\"attempts\":[]") {
            return serde_json::from_str(&shown.stdout).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no attempts of {call} were written");
}

/// A request to `/responses`.
fn ask(stream: bool) -> String {
    json!({"model": MODEL, "input": "Say something.", "stream": stream, "max_output_tokens": 500}).to_string()
}

/// A request to `/chat/completions`.
fn ask_chat(mut more: Value) -> String {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "Say something."}]});
    body.as_object_mut().unwrap().append(more.as_object_mut().unwrap());
    body.to_string()
}

/// The JSON of each event of a stream, whole events only.
fn events(body: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(body);
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.filter_map(|data| serde_json::from_str(data).ok()).collect()
}
