//! What a command reports when it cannot go on: words for a person, a hint, and whose fault it is.

use std::fmt;

/// Whose turn it is to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The user can fix it: exit code 1.
    User,
    /// The program failed: exit code 3.
    Program,
}

/// An error as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    blame: Blame,
}

impl Failure {
    /// Something the user can fix, and how.
    #[must_use]
    pub fn user(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
            blame: Blame::User,
        }
    }

    /// Something that should not have happened.
    #[must_use]
    pub fn program(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            blame: Blame::Program,
        }
    }

    /// What went wrong, without the hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code for it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.blame {
            Blame::User => 1,
            Blame::Program => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
