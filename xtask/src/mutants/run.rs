//! The ledger's own tests with one change on: quick ones first, and the first that fails is enough.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A test failed.
    Caught,
    /// No test came to its end for long.
    Hung,
    /// All passed.
    Missed,
    /// It does not compile.
    Unviable,
}

impl Outcome {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Hung => "hung",
            Self::Missed => "missed",
            Self::Unviable => "unviable",
        }
    }
}

/// Tests that take seconds.
const LONG: [&str; 8] = [
    "model::",
    "of_two_thousand",
    "every_open_hold",
    "notes_that_find",
    "every_grant_ends",
    "expiry_under",
    "every_change",
    "kill_9",
];
/// Longer than any test takes on a machine that does much else.
const SILENCE: Duration = Duration::from_secs(180);

pub(super) struct Tests {
    program: PathBuf,
    folder: PathBuf,
}

impl Tests {
    pub(super) const fn new(program: PathBuf, folder: PathBuf) -> Self {
        Self { program, folder }
    }

    /// With the change of this number, or with none.
    pub(super) fn run(&self, number: Option<usize>) -> Outcome {
        let quick = LONG
            .into_iter()
            .flat_map(|name| ["--skip", name])
            .chain(["ledger::"])
            .collect();
        match self.some(number, quick) {
            Outcome::Missed => self.some(number, LONG.into_iter().collect()),
            found => found,
        }
    }

    fn some(&self, number: Option<usize>, which: Vec<&str>) -> Outcome {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .args(which)
            .args(["--test-threads", "2"]);
        // The switches make frames large.
        command
            .env("RUST_BACKTRACE", "0")
            .env("RUST_MIN_STACK", (16 << 20).to_string());
        // As many as find a plain mistake.
        command.env("RELAY_LEDGER_OPERATIONS", "5000");
        if let Some(number) = number {
            command.env("RELAY_MUTANT", number.to_string());
        }
        let running = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        running.map_or(Outcome::Unviable, |mut child| {
            let outcome = watched(&mut child);
            // It may have ended by itself.
            child.kill().ok();
            let has_passed = child.wait().is_ok_and(|status| status.success());
            outcome.unwrap_or(if has_passed { Outcome::Missed } else { Outcome::Caught })
        })
    }
}

/// Reads what tests say, up to the first that fails or hangs; none where they came to their end.
fn watched(child: &mut Child) -> Option<Outcome> {
    let (said, heard) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take()?).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| said.send(line)));
    loop {
        match heard.recv_timeout(SILENCE) {
            Ok(line) if line.starts_with("test ") && line.ends_with("FAILED") => return Some(Outcome::Caught),
            Ok(_) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => return Some(Outcome::Hung),
            Err(mpsc::RecvTimeoutError::Disconnected) => return None,
        }
    }
}
