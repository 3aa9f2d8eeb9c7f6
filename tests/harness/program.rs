//! Child processes that say when they are ready: one JSON line on stdout. Their talk goes to a file that is read
//! afterwards: a panic in it fails the test. Knows nothing of hub and agent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A debug build under load on a small machine still starts within this.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A program that serves.
pub struct Program {
    child: Child,
    log: PathBuf,
    /// What it said when it was ready.
    pub ready: Value,
}

/// What a program that ends left behind.
#[derive(Debug)]
pub struct Ended {
    pub exit_code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Its stdout as JSON, after it ended well.
    pub fn json(&self) -> Value {
        assert_eq!(self.exit_code, Some(0), "{self:#?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| unreadable(&self.stdout, &error))
    }

    pub fn succeeded(self) -> Self {
        assert_eq!(self.exit_code, Some(0), "{self:#?}");
        self
    }

    /// It ended with the code for what its caller can mend.
    pub fn failed(self) -> Self {
        assert_eq!(self.exit_code, Some(1), "{self:#?}");
        self
    }
}

fn unreadable(text: &str, error: &serde_json::Error) -> Value {
    assert!(text.is_empty(), "not JSON ({error}): {text}");
    Value::Null
}

/// A command of `program` that inherits nothing but `PATH`; its home is `home`.
pub fn command(program: &Path, home: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub async fn run(command: &mut Command) -> Ended {
    let output = tokio::time::timeout(START_LIMIT, command.output()).await;
    let output = output.expect("the program ends in time").expect("the program starts");
    let ended = Ended {
        exit_code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    assert!(!ended.stderr.contains("panicked at"), "{ended:#?}");
    ended
}

impl Program {
    /// Starts a command and waits for its ready line; its stderr is added to `log`.
    ///
    /// # Errors
    /// When it ends first, or says nothing for long; with all it said.
    pub async fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let talk = File::options().append(true).create(true).open(log)?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(talk)
            .spawn()
            .context("the program does not start")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(START_LIMIT, lines.next_line()).await;
        let said = || fs::read_to_string(log).unwrap_or_default();
        let Ok(Ok(Some(line))) = first else {
            bail!("no ready line; it said:\n{}", said())
        };
        let ready: Value = serde_json::from_str(&line).with_context(|| format!("not a ready line: {line}"))?;
        if ready["ready"] != true {
            bail!("not ready: {line}; it said:\n{}", said());
        }
        Ok(Self {
            child,
            log: log.to_owned(),
            ready,
        })
    }

    /// All it said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child of ours can be killed");
    }

    /// `kill -TERM`.
    pub async fn ask_to_end(&self) {
        let pid = self.pid().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(asked.is_ok_and(|status| status.success()), "the program runs");
    }

    /// `kill -TERM`, and the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.ask_to_end().await;
        let ended = tokio::time::timeout(START_LIMIT, self.child.wait()).await;
        ended
            .expect("it ends when asked to")
            .expect("a child of ours can be waited for")
            .code()
    }

    /// Waits until it ends by itself, at most so long; false where it runs on.
    pub async fn ends_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.child.wait()).await.is_ok()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// A panic in either program is a failed test, even when no answer showed it.
    pub fn assert_calm(&self) {
        let log = self.log();
        assert!(
            !log.contains("panicked at"),
            "a panic in {}:\n{log}",
            self.log.display()
        );
    }
}
