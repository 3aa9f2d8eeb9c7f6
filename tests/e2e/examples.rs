//! The examples of docs/examples run as they stand, through the agent and through the public entrance.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use relay_tests::sdk::{Installed, installed};
use relay_tests::vendor::Script;
use relay_tests::world::World;
use tokio::process::Command;

use crate::{MODEL, setup};

const NPM: &[&str] = &["openai@7.57.0", "tsx@4.23.15"];
const PYPI: &[&str] = &["openai==3.54.0"];
const PATIENCE: Duration = Duration::from_secs(60);

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/examples")
        .join(name)
}

/// What an example says when it is run with this program, by each way into the relay.
async fn said(world: &World, program: &str, file: &Path, packages: Option<&Installed>) -> Vec<String> {
    world.vendor.otherwise(Script::message("Hello from the vendor."));
    let mut all = Vec::new();
    for (addr, key) in [(world.agent.addr(), &world.agent.key), (world.hub.http(), &world.key)] {
        let mut command = Command::new(program);
        command.arg(file).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(packages) = packages {
            let folder: &OsStr = packages.folder().as_ref();
            command.env("PYTHONPATH", folder).env("HOME", folder);
        }
        command.env("NO_PROXY", "127.0.0.1");
        command.env("RELAY_URL", format!("http://{addr}")).env("RELAY_KEY", key);
        for name in ["RELAY_MODEL", "RELAY_CLAUDE", "RELAY_GEMINI"] {
            command.env(name, MODEL);
        }
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let (out, err) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{program}: {err}\n{out}");
        all.push(out);
    }
    all
}

async fn world() -> World {
    let world = setup().start().await;
    world.connect("anthropic").await;
    world.connect("gemini").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_with_curl_are_answered_on_each_wire() {
    let world = world().await;
    for out in said(&world, "sh", &example("calls.sh"), None).await {
        let heads = out
            .lines()
            .filter(|line| line.starts_with("/v1") || line.starts_with("/api"))
            .count();
        assert_eq!((heads, out.matches("vendor").count()), (6, 5), "{out}");
        assert!(out.contains(MODEL) && out.contains("[DONE]"), "{out}");
    }
    world.books().settled(10).await;
    let of_project = world.hub.json(&["usage", "--project", "web"]).await;
    assert_eq!(of_project.as_array().unwrap().len(), 2);
    world.assert_billed_truly().await;
    world.assert_sound().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_in_python_is_answered_whole_and_as_a_stream() {
    let Some(packages) = installed("python3", PYPI).await else {
        return;
    };
    let world = world().await;
    for out in said(&world, "python3", &example("chat.py"), Some(&packages)).await {
        assert_eq!(out, "Hello from the vendor.\nHello from the vendor.\n");
    }
    world.assert_billed_truly().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chat_in_typescript_is_answered_whole_and_as_a_stream() {
    let Some(packages) = installed("npm", NPM).await else {
        return;
    };
    let world = world().await;
    // A module finds its packages beside itself.
    let file = packages.folder().join("chat.mts");
    fs::copy(example("chat.ts"), &file).unwrap();
    let tsx = packages.folder().join("node_modules/.bin/tsx");
    for out in said(&world, tsx.to_str().unwrap(), &file, Some(&packages)).await {
        assert_eq!(out, "Hello from the vendor.\nHello from the vendor.\n");
    }
    world.assert_billed_truly().await;
}
