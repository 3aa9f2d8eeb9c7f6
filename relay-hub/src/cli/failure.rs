//! How a command fails: what was tried, what helps, and the exit code.

use std::{
    error::Error,
    io::{self, Write},
    net::SocketAddr,
};

use relay_shared::{
    config::{Problem, Problems},
    holder::{Protocol, holder_of},
    tunnel::server::BindError,
};
use serde_json::{Value, json};

use crate::{
    app::StartError,
    ca::CaError,
    credit::RedeemError,
    ledger::CreditError,
    rotation::RotationError,
    seal::SealError,
    store::{StoreError, accounts::AddAccountError, tenants::TenantError, ways::AddWayError},
};

/// A failed command.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    hint: Option<String>,
    /// What a program tells failures of one command apart by.
    kind: Option<&'static str>,
    code: u8,
    /// Each thing wrong with a file, where that is the reason.
    problems: Problems,
}

const FIXABLE: u8 = 1;
const USAGE: u8 = 2;
const OURS: u8 = 3;

impl Failure {
    /// The operator can fix it.
    pub(super) fn fixable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            kind: None,
            code: FIXABLE,
            problems: Problems::new(),
        }
    }

    /// The words make no command.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            ..Self::fixable(message)
        }
    }

    /// What failed, with its causes; the operator can fix it.
    pub(super) fn from_error(error: &(dyn Error + 'static)) -> Self {
        Self::of(error, FIXABLE)
    }

    fn of(error: &(dyn Error + 'static), code: u8) -> Self {
        Self {
            message: chain(error),
            hint: None,
            kind: None,
            code,
            problems: Problems::new(),
        }
    }

    /// The words, or the file they name, cannot be used.
    pub(super) fn into_usage(mut self) -> Self {
        self.code = USAGE;
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names it, for programs.
    pub(super) fn kind(mut self, kind: &'static str) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Notes a word that cannot be used beside the others that cannot; what is not the operator's to fix stays a failure.
    pub(super) fn note(self, word: &str, problems: &mut Problems) -> Result<(), Self> {
        if self.code != FIXABLE {
            return Err(self);
        }
        problems.push(word, self.message, self.hint.unwrap_or_default());
        Ok(())
    }

    /// Tells the operator, as lines or as one JSON object, and gives the exit code.
    pub(super) fn tell(&self, json: bool, stderr: &mut dyn Write) -> u8 {
        let text = if json { self.json() } else { self.lines() };
        // Where nobody reads any more the exit code still tells.
        writeln!(stderr, "{text}").ok();
        self.code
    }

    fn lines(&self) -> String {
        let mut lines = vec![format!("error: {}", self.message)];
        lines.extend(self.problems.iter().map(|problem| format!("  {problem}")));
        lines.extend(self.hint.iter().map(|hint| format!("hint: {hint}")));
        lines.join("\n")
    }

    fn json(&self) -> String {
        let mut error = json!({"message": self.message, "hint": self.hint, "exit_code": self.code});
        if let Some(kind) = self.kind {
            error["kind"] = kind.into();
        }
        if !self.problems.is_empty() {
            error["problems"] = listed(&self.problems);
        }
        json!({ "error": error }).to_string()
    }
}

/// Problems as JSON.
pub(super) fn listed(problems: &Problems) -> Value {
    let one = |p: &Problem| json!({"key": p.key, "problem": p.problem, "hint": p.hint});
    problems.iter().map(one).collect()
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
            StoreError::Books(_) => Self::of(&error, FIXABLE)
                .hint("see that the disk has room and that nothing holds the database, then try again"),
            StoreError::Thread(_) => Self::of(&error, FIXABLE).hint("raise the limit of threads or processes"),
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

impl From<AddWayError> for Failure {
    fn from(error: AddWayError) -> Self {
        match error {
            AddWayError::Store(store) => store.into(),
            AddWayError::Owned { .. } => Self::of(&error, FIXABLE).hint(
                "give each account an address, or a user of a proxy, of its own; `relay-hub way remove` gives one up",
            ),
            AddWayError::Taken(_) | AddWayError::BadName => Self::of(&error, FIXABLE),
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
            CreditError::Nothing
            | CreditError::Over
            | CreditError::TooMuch
            | CreditError::Full
            | CreditError::Unknown(_)
            | CreditError::OtherCredit(_) => Self::of(&error, FIXABLE),
        }
    }
}

impl From<RedeemError> for Failure {
    fn from(error: RedeemError) -> Self {
        match error {
            RedeemError::Credit(credit) => credit.into(),
            RedeemError::Unknown | RedeemError::Used | RedeemError::Revoked | RedeemError::Expired => {
                Self::of(&error, FIXABLE).hint("nothing was booked: `relay-hub code list` shows what became of codes")
            }
        }
    }
}

impl From<RotationError> for Failure {
    fn from(error: RotationError) -> Self {
        match error {
            RotationError::Seal(seal) => seal.into(),
            RotationError::Store(store) => store.into(),
        }
    }
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        let failure = Self::of(&error, FIXABLE);
        match error {
            SealError::Unwritable { .. } => failure.hint(
                "where its owner is somebody else, put 32 new random bytes in front of those that are there, then `relay-hub seal rewrap`",
            ),
            SealError::Unreadable { .. } | SealError::BadKey(_) | SealError::Broken => failure,
        }
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
        let message = match problems.iter().count() {
            1 => "there is a problem:".to_owned(),
            n => format!("there are {n} problems:"),
        };
        Self {
            problems,
            ..Self::fixable(message)
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(store) => store.into(),
            StartError::Seal(seal) => seal.into(),
            StartError::Rotation(rotation) => rotation.into(),
            StartError::Ca(ca) => ca.into(),
            StartError::Tunnel(BindError::Io { addr, protocol, source }) => taken(addr, protocol, &source),
            StartError::Bind { address, source } => taken(address, Protocol::Tcp, &source),
            StartError::Tunnel(BindError::Tls(_)) => {
                Self::of(&error, FIXABLE).hint("restore the directory tls from a backup")
            }
            StartError::File { .. } => Self::of(&error, FIXABLE).hint("look at its content, its owner and its mode"),
            StartError::Countries(_) => Self::of(&error, FIXABLE)
                .hint("name a file such as GeoLite2-Country.mmdb in countries.database, or take the line out"),
            StartError::Tls(_) => Self::of(&error, FIXABLE)
                .hint("look at https.certificate and https.key: the key must belong to the first certificate"),
        }
    }
}

/// An address that cannot be listened on.
fn taken(address: SocketAddr, protocol: Protocol, error: &io::Error) -> Failure {
    let is_taken = error.kind() == io::ErrorKind::AddrInUse;
    let holder = is_taken.then(|| holder_of(address, protocol)).flatten();
    let by = holder.map(|holder| format!(": {holder} has it")).unwrap_or_default();
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "stop the program that listens there, or choose another address in hub.toml or with --tunnel, --https or \
             --http"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose a higher one, or grant it",
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address: use one of its own, or 0.0.0.0",
        _ => "choose another address in hub.toml or with --tunnel, --https or --http",
    };
    Failure::fixable(format!("cannot listen on {address} ({protocol}): {error}{by}")).hint(hint)
}

impl From<io::Error> for Failure {
    /// Only where stdout cannot be written.
    fn from(error: io::Error) -> Self {
        Self {
            code: OURS,
            ..Self::fixable(format!("cannot print: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_in_json_is_one_object_with_every_problem() {
        let mut problems = Problems::new();
        problems.push("tunnel.listen", "no address", "such as 0.0.0.0:8443");
        let mut told = Vec::new();
        assert_eq!(Failure::from(problems).tell(true, &mut told), 1);
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["error"]["problems"][0]["key"], "tunnel.listen");
    }

    #[test]
    fn a_taken_port_is_named_with_its_holder_and_what_helps() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let failure = Failure::from(StartError::Bind {
            address,
            source: io::ErrorKind::AddrInUse.into(),
        });
        let told = failure.lines();
        assert!(
            told.contains(&format!("{address} (TCP)")) && told.contains("--https"),
            "{told}"
        );
        #[cfg(target_os = "linux")]
        assert!(told.contains(&format!("(pid {}) has it", std::process::id())), "{told}");
    }
}
