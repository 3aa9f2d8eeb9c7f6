//! How a command fails: what was tried, what helps, and the exit code.

use std::{error::Error, io::Write};

use relay_shared::config::Problems;

use crate::{
    app::StartError,
    ca::CaError,
    ledger::CreditError,
    seal::SealError,
    store::{StoreError, accounts::AddAccountError, tenants::TenantError},
};

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

const FIXABLE: u8 = 1;
const OURS: u8 = 3;

impl Failure {
    /// The operator can fix it.
    pub(super) fn fixable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            code: FIXABLE,
        }
    }

    fn of(error: &(dyn Error + 'static), code: u8) -> Self {
        Self {
            message: chain(error),
            hint: None,
            code,
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells the operator, and gives the exit code.
    pub(super) fn tell(&self, stderr: &mut dyn Write) -> u8 {
        // Where nobody reads any more the exit code still tells.
        writeln!(stderr, "error: {}", self.message).ok();
        if let Some(hint) = &self.hint {
            writeln!(stderr, "hint: {hint}").ok();
        }
        self.code
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        next = cause.source();
    }
    text
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Missing(_) => Self::of(&error, FIXABLE).hint("name the directory with --data DIR"),
            StoreError::Newer { .. } => Self::of(&error, FIXABLE),
            StoreError::Locked { .. } => Self::of(&error, FIXABLE).hint("stop it, or serve another directory"),
            StoreError::File { .. } => {
                Self::of(&error, FIXABLE).hint("look at the owner and the mode of the data directory")
            }
            StoreError::Sql(sql) if is_busy(sql) => {
                Self::of(&error, FIXABLE).hint("another process writes to it for a long time: try again")
            }
            StoreError::Sql(_) | StoreError::Corrupt(_) => Self::of(&error, OURS),
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => database
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| code & 0xff == SQLITE_BUSY),
        sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

const SQLITE_BUSY: u32 = 5;

impl From<TenantError> for Failure {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Store(store) => store.into(),
            TenantError::Unknown(_) => Self::of(&error, FIXABLE).hint("`relay-hub tenant list` shows them"),
            TenantError::Taken(_) | TenantError::BadName(_) => Self::of(&error, FIXABLE),
        }
    }
}

impl From<AddAccountError> for Failure {
    fn from(error: AddAccountError) -> Self {
        match error {
            AddAccountError::Store(store) => store.into(),
            AddAccountError::Taken(_) | AddAccountError::BadName => Self::of(&error, FIXABLE),
        }
    }
}

impl From<CreditError> for Failure {
    fn from(error: CreditError) -> Self {
        match error {
            CreditError::Store(store) => store.into(),
            CreditError::Nothing | CreditError::TooMuch | CreditError::Unknown(_) | CreditError::OtherCredit(_) => {
                Self::of(&error, FIXABLE)
            }
        }
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        Self::of(&error, FIXABLE)
    }
}

impl From<CaError> for Failure {
    fn from(error: CaError) -> Self {
        match error {
            CaError::File { .. } | CaError::Damaged { .. } => Self::of(&error, FIXABLE),
            CaError::Make(_) => Self::of(&error, OURS),
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        let count = problems.iter().count();
        let noun = if count == 1 { "problem" } else { "problems" };
        Self::fixable(format!("{count} {noun}:\n{problems}"))
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(store) => store.into(),
            StartError::Seal(seal) => seal.into(),
            StartError::Ca(ca) => ca.into(),
            StartError::Tunnel(_) | StartError::Bind { .. } => {
                Self::of(&error, FIXABLE).hint("another program has the port: choose another in hub.toml or by flag")
            }
            StartError::File { .. } | StartError::Tls(_) => Self::of(&error, FIXABLE),
        }
    }
}

impl From<std::io::Error> for Failure {
    /// Only where stdout cannot be written.
    fn from(error: std::io::Error) -> Self {
        Self {
            message: format!("cannot print: {error}"),
            hint: None,
            code: OURS,
        }
    }
}
