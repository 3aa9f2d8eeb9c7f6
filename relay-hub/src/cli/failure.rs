//! How a command fails: one sentence, what helps, and an exit code. Knows no command.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
};

use relay_shared::config::Problems;

use crate::{seal::SealError, store::StoreError};

/// Whose turn it is after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// The operator can fix it.
    Fixable = 1,
    /// The command was typed wrongly.
    Usage = 2,
    /// We failed.
    Ours = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    /// What helps; may be empty.
    pub(super) hint: String,
    pub(super) exit: Exit,
    /// Each thing wrong with the settings, where that is the reason.
    pub(super) problems: Problems,
}

impl Failure {
    /// A failure in one sentence with what helps.
    pub(super) fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            exit,
            problems: Problems::new(),
        }
    }

    /// The operator can fix it: exit code 1.
    pub(super) fn fixable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Fixable, message, hint)
    }

    /// We failed at something nobody could foresee: exit code 3.
    pub(super) fn ours(doing: &str, error: &dyn Error) -> Self {
        Self::new(Exit::Ours, format!("{doing}: {}", chain(error)), "")
    }

    /// The arguments make no command: exit code 2.
    pub(super) fn usage(told: clap::Error) -> Self {
        let text = told.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        Self::new(Exit::Usage, text, "")
    }

    /// Settings that cannot be used: exit code 1.
    pub(super) fn settings(problems: Problems) -> Self {
        let message = match problems.iter().count() {
            1 => "there is a problem with the settings".to_owned(),
            n => format!("there are {n} problems with the settings"),
        };
        Self {
            problems,
            ..Self::fixable(message, "change hub.toml and try again with `relay-hub check-config`")
        }
    }

    /// Writes it to stderr, as lines or as one JSON object.
    pub(super) fn tell(&self, json: bool) {
        let text = if json { self.json() } else { self.lines() };
        // Nobody is left to hear that stderr is closed.
        drop(io::stderr().lock().write_all(text.as_bytes()));
    }

    fn lines(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for problem in self.problems.iter() {
            writeln!(text, "  {problem}").expect("a String takes all text");
        }
        if !self.hint.is_empty() {
            writeln!(text, "hint: {}", self.hint).expect("a String takes all text");
        }
        text
    }

    fn json(&self) -> String {
        let mut error = serde_json::json!({"message": self.message, "hint": self.hint, "exit": self.exit as u8});
        if !self.problems.is_empty() {
            let problems = self.problems.iter();
            error["problems"] = problems
                .map(|p| serde_json::json!({"key": p.key, "problem": p.problem, "hint": p.hint}))
                .collect();
        }
        format!("{}\n", serde_json::json!({ "error": error }))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let (exit, hint) = match &error {
            StoreError::Missing(_) => (
                Exit::Fixable,
                "or name the right data directory with --data DIR or RELAY_HUB_DATA",
            ),
            StoreError::Newer { .. } => (Exit::Fixable, ""),
            StoreError::Locked { .. } => (Exit::Fixable, "stop that one first, or use another data directory"),
            StoreError::File { .. } => (
                Exit::Fixable,
                "look at the file's owner, its mode and the space on its disk",
            ),
            StoreError::Sql(_) => (Exit::Ours, ""),
            StoreError::Corrupt(_) => (Exit::Ours, "restore the database from a backup"),
        };
        Self::new(exit, chain(&error), hint)
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::fixable(chain(&error), "restore seal.key from a backup")
    }
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("a String takes all text");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_hint_below() {
        let failure = Failure::fixable("no such tenant `x`", "see `relay-hub tenant list`");
        assert_eq!(
            failure.lines(),
            "error: no such tenant `x`\nhint: see `relay-hub tenant list`\n"
        );
    }

    #[test]
    fn a_failure_in_json_is_one_object_with_every_problem() {
        let mut problems = Problems::new();
        problems.push("tunnel.listen", "no address", "such as 0.0.0.0:8443");
        let told: serde_json::Value = serde_json::from_str(&Failure::settings(problems).json()).unwrap();
        assert_eq!(told["error"]["problems"][0]["key"], "tunnel.listen");
        assert_eq!(told["error"]["exit"], 1);
    }
}
