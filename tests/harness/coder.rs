//! Runs the coding agents of Anthropic and Google, as released on npm, against any base URL: a home of their own, a clean
//! environment, no traffic but the relay's. Knows nothing of hub and agent.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::codex::{Outcome, scratch_dir};
use crate::sdk::{Installed, installed};

/// A program that lets a model work in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coder {
    ClaudeCode,
    GeminiCli,
}

/// What a run told, line by line in JSON.
#[derive(Debug)]
pub struct Told {
    lines: Vec<Value>,
    pub outcome: Outcome,
}

impl Coder {
    /// Installed once into the build directory; `None` where that cannot be, after saying so loudly
    /// (see [`crate::skip::skip`]).
    pub async fn install(self) -> Option<Installed> {
        installed("npm", &[self.package()]).await
    }

    const fn package(self) -> &'static str {
        match self {
            Self::ClaudeCode => "@anthropic-ai/claude-code@2.1.330",
            Self::GeminiCli => "@google/gemini-cli@0.61.0",
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude",
            Self::GeminiCli => "gemini",
        }
    }

    /// Lets `model` answer `prompt`, and run any command, to the end. `base_url` has no path.
    pub async fn run(self, installed: &Installed, (base_url, key): (&str, &str), model: &str, prompt: &str) -> Told {
        let scratch = scratch_dir(self.program());
        let (home, work) = (scratch.path().join("home"), scratch.path().join("work"));
        for folder in [&home, &work] {
            fs::create_dir_all(folder).expect("a scratch directory is writable");
        }
        let mut command = Command::new(installed.folder().join("node_modules/.bin").join(self.program()));
        command
            .args(["-p", prompt, "--model", model, "--output-format", "stream-json"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("NO_PROXY", "127.0.0.1,localhost,::1")
            .current_dir(&work)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match self {
            Self::ClaudeCode => claude_code(&mut command, base_url, key),
            Self::GeminiCli => gemini_cli(&mut command, base_url, key, &home),
        }
        let began = Instant::now();
        let output = tokio::time::timeout(RUN_LIMIT, command.output())
            .await
            .expect("a coding agent ends")
            .expect("a coding agent starts");
        let outcome = Outcome {
            exit_code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            took: began.elapsed(),
        };
        let lines = outcome.stdout.lines();
        let lines = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
        Told { lines, outcome }
    }
}

fn claude_code(command: &mut Command, base_url: &str, key: &str) {
    command
        .args(["--verbose", "--allowedTools", "Bash"])
        .env("ANTHROPIC_BASE_URL", base_url)
        .env("ANTHROPIC_API_KEY", key);
    for switch in [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "DISABLE_AUTOUPDATER",
        "DISABLE_ERROR_REPORTING",
        "DISABLE_TELEMETRY",
    ] {
        command.env(switch, "1");
    }
}

/// Without the kind of key in its settings it asks for a login.
fn gemini_cli(command: &mut Command, base_url: &str, key: &str, home: &Path) {
    let settings = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": false},
        "general": {"enableAutoUpdate": false, "enableAutoUpdateNotification": false},
    });
    let folder = home.join(".gemini");
    fs::create_dir_all(&folder).expect("a scratch directory is writable");
    fs::write(folder.join("settings.json"), settings.to_string()).expect("a scratch directory is writable");
    command
        .arg("--yolo")
        .env("GOOGLE_GEMINI_BASE_URL", base_url)
        .env("GEMINI_API_KEY", key)
        .env("GEMINI_CLI_TRUST_WORKSPACE", "true");
}

impl Told {
    /// What it said in the end.
    pub fn answer(&self) -> String {
        let of = |line: &Value| match line["type"].as_str() {
            Some("result") => line["result"].as_str().map(str::to_owned),
            Some("message") if line["role"] == "assistant" => line["content"].as_str().map(str::to_owned),
            _ => None,
        };
        self.lines.iter().filter_map(of).collect()
    }

    /// What its tools gave, as it tells it.
    pub fn tools(&self) -> Vec<Value> {
        let of = |line: &Value| match line["type"].as_str() {
            Some("user") => Some(line["message"]["content"][0]["content"].clone()),
            Some("tool_result") => Some(line["output"].clone()),
            _ => None,
        };
        self.lines.iter().filter_map(of).collect()
    }

    /// It ended well and never had to ask again.
    pub fn is_smooth(&self) -> bool {
        let is_trouble =
            |line: &Value| line["subtype"] == "api_retry" || line["type"] == "error" || line["is_error"] == true;
        self.outcome.exit_code == Some(0) && !self.lines.iter().any(is_trouble)
    }
}

/// Neither works for so long unless something is wrong.
const RUN_LIMIT: Duration = Duration::from_secs(150);
