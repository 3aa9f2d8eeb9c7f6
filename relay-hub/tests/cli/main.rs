//! The commands as an operator runs them: words in, JSON, text and exit codes out.
#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod accounts;
mod init;
mod limits;
mod prices;
#[cfg(unix)]
mod serving;
mod tenants;
mod words;

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

struct Hub {
    dir: TempDir,
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Hub {
    /// An empty place.
    fn nowhere() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn init() -> Self {
        let hub = Self::nowhere();
        hub.ok(&["init"]);
        hub
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay-hub"));
        command
            .args(words)
            .env("RELAY_HUB_DATA", self.data())
            .env("CANARY_SECRET", "sk-canary-7");
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended {
            code: status.code().unwrap(),
            stdout: text(stdout),
            stderr: text(stderr),
        }
    }

    fn ok(&self, words: &[&str]) -> String {
        let ended = self.run(words);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
        ended.stdout
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[words, &["--json"]].concat())).unwrap()
    }

    /// A refusal: its exit code, and what it tells.
    fn refused(&self, words: &[&str], code: i32, parts: &[&str]) {
        let ended = self.run(words);
        assert_eq!(ended.code, code, "{words:?}: {}{}", ended.stdout, ended.stderr);
        for part in parts {
            assert!(
                ended.stderr.contains(part),
                "{words:?} does not say {part:?}: {}",
                ended.stderr
            );
        }
    }

    fn account(&self, name: &str) -> Value {
        self.json(&[
            "account",
            "add",
            name,
            "--vendor",
            "openai",
            "--base-url",
            "https://api.example/v1/",
            "--secret-env",
            "CANARY_SECRET",
        ])
    }
}
