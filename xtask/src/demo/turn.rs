//! One turn of a coding agent with a tool round: by the real Codex CLI, or by a small client that sends
//! the same two calls.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::http::{Client, Events};
use crate::{
    say,
    stand::{
        Stand,
        child::{Running, check_interrupt},
    },
};

/// How the turn went.
pub(crate) struct Turn {
    pub(crate) client: String,
    pub(crate) message: String,
    pub(crate) seconds: f64,
}

/// What Codex is asked, and a real model with it.
const PROMPT: &str = "Run the shell command `echo relayed` and tell in one sentence what it printed.";

/// A home for Codex that points at the agent, made as a user would: by `relay-agent setup codex`.
pub(crate) fn codex_home(stand: &Stand, model: &str) -> Result<PathBuf> {
    let home = stand.folder().join("codex-home");
    if !home.exists() {
        fs::create_dir_all(&home)?;
        fs::write(home.join("config.toml"), format!("model = {model:?}\n{QUIET}"))?;
        let path = home.display().to_string();
        say::line(stand.agent_tool(&["setup", "codex", "--codex-home", &path])?.trim_end());
    }
    Ok(home)
}

/// No traffic of Codex's own.
const QUIET: &str = "check_for_update_on_startup = false
analytics = { enabled = false }
features = { plugins = false, apps = false, remote_plugin = false }
otel = { metrics_exporter = \"none\" }
";

/// The turn by the real Codex, in a home of its own.
pub(crate) fn by_codex(stand: &Stand, codex: &Path, model: &str) -> Result<Turn> {
    let home = codex_home(stand, model)?;
    let work = stand.folder().join("work");
    fs::create_dir_all(&work)?;
    let mut command = Command::new(codex);
    command.args([
        "exec",
        "--skip-git-repo-check",
        "--dangerously-bypass-approvals-and-sandbox",
        PROMPT,
    ]);
    command
        .env("CODEX_HOME", &home)
        .env("NO_PROXY", "127.0.0.1,localhost,::1")
        .current_dir(&work);
    command.env_remove("OPENAI_API_KEY").env_remove("CODEX_API_KEY");
    let began = Instant::now();
    let (mut running, lines) = Running::lines("codex", command, stand.folder())?;
    let mut message = String::new();
    loop {
        match lines.recv_timeout(TURN_WITHIN) {
            Ok(line) => {
                say::line(&format!("  {line}"));
                message.push_str(&line);
                message.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => anyhow::bail!("Codex said nothing for two minutes"),
        }
    }
    check_interrupt()?;
    let status = running.wait(TURN_WITHIN)?;
    let talk = running.last_words();
    ensure!(status.success(), "Codex ended with {status}:\n{talk}");
    let version = Command::new(codex)
        .arg("--version")
        .output()
        .map(|said| said.stdout)
        .unwrap_or_default();
    Ok(Turn {
        client: String::from_utf8_lossy(&version).trim().to_owned(),
        message: message.trim().to_owned(),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The same turn by the built-in client. It runs no command: the tool's answer is fixed.
pub(crate) fn by_ourselves(stand: &Stand, model: &str) -> Result<Turn> {
    let began = Instant::now();
    let tool = json!({
        "type": "function", "name": "shell", "description": "Runs a shell command.", "strict": false,
        "parameters": { "type": "object", "properties": { "command": { "type": "string" } } }
    });
    let mut input = vec![json!({ "role": "user", "content": PROMPT })];
    for _ in 0..MAX_ROUNDS {
        let call = json!({ "model": model, "input": input, "tools": [tool], "stream": true });
        let answer = stream(stand, &call)?;
        if answer.calls.is_empty() {
            let seconds = began.elapsed().as_secs_f64();
            return Ok(Turn {
                client: "built-in client".to_owned(),
                message: answer.text,
                seconds,
            });
        }
        for item in answer.calls {
            say::line(&format!("  tool call: {} {}", item["name"], item["arguments"]));
            let output = json!({ "type": "function_call_output", "call_id": item["call_id"], "output": "relayed\n" });
            input.extend([item, output]);
        }
    }
    anyhow::bail!("the model only called tools")
}

#[derive(Default)]
struct Answer {
    text: String,
    calls: Vec<Value>,
    is_complete: bool,
}

fn stream(stand: &Stand, call: &Value) -> Result<Answer> {
    let mut client = Client::connect(&stand.agent_url, Some(&stand.agent_key))?;
    let mut events = Events::default();
    let mut answer = Answer::default();
    client.call(call, &mut |piece| {
        for event in events.add(piece) {
            match event["type"].as_str().unwrap_or_default() {
                "response.output_text.delta" => {
                    let delta = event["delta"].as_str().unwrap_or_default();
                    say::part(delta);
                    answer.text.push_str(delta);
                }
                "response.output_item.done" if event["item"]["type"] == "function_call" => {
                    answer.calls.push(event["item"].clone());
                }
                "response.completed" => answer.is_complete = true,
                _ => {}
            }
        }
    })?;
    say::line("");
    ensure!(answer.is_complete, "the answer did not complete");
    Ok(answer)
}

const TURN_WITHIN: Duration = Duration::from_secs(120);
const MAX_ROUNDS: usize = 5;
