//! The command line: reads arguments, calls the library, writes data to stdout and talk to stderr.

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use relay_shared::secret::Secret;

use crate::config::dir::DataDir;
use crate::config::{Config, env};
use crate::enroll::{self, Enrolment};
use crate::failure::Failure;
use crate::tunnel::LinkMode;
use crate::{doctor, keystore};

mod args;
mod run;
mod setup;
mod status;

use args::{Cli, Command, Link, Setup};

/// Runs the program with the process's arguments. Exit code 0 is done, 1 you can fix it, 2 wrong usage, 3 we failed.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nothing is left to tell when not even this can be printed.
            return if error.print().is_ok() {
                ExitCode::from(code)
            } else {
                ExitCode::from(3)
            };
        }
    };
    match obey(cli.command) {
        Ok(code) => code,
        Err(failure) => {
            talk(&format!("error: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn obey(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Enroll(args) => enroll(args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => status::status(&args),
        Command::Token(args) => token(args.data),
        Command::Setup(Setup::Codex(args)) => setup::codex(args),
        Command::Doctor(args) => examine(args),
    }
}

fn enroll(args: args::Enroll) -> Result<ExitCode, Failure> {
    let config = Config::load(data_or_default(args.data.data)?)?;
    let dir = config.data.clone();
    let enrolment = Enrolment {
        data: config.data,
        token: token_text(args.token)?,
        name: args.name.unwrap_or_else(env::machine_name),
        force: args.force,
        key_place: config.key_place,
    };
    let enrolled = block_on(enroll::enrol(enrolment))??;
    let (device, dir) = (enrolled.device, DataDir::open(&dir)?);
    if let Some(reason) = enrolled.no_keyring {
        talk(&format!("note: {reason}; the device key is kept in a file"));
    }
    print(&format!(
        "enrolled as device {} of tenant {}\nhub: {}\ndevice key: {}\nnext: relay-agent run, then relay-agent setup codex\n",
        device.device,
        device.tenant,
        device.hub,
        enroll::describe(device.key_store, &dir),
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Tokens work once and for ten minutes; on a machine with other users they are better not seen in a process list.
fn token_text(argument: String) -> Result<Secret<String>, Failure> {
    if argument != "-" {
        return Ok(Secret::new(argument));
    }
    io::read_to_string(io::stdin()).map(Secret::new).map_err(|error| {
        Failure::user(
            format!("cannot read the token from standard input: {error}"),
            "pipe it in",
        )
    })
}

fn token(data: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let dir = DataDir::open(&data_or_default(data)?)?;
    let key = keystore::local_key(&dir)?;
    print(&format!("{}\n", key.expose()))?;
    Ok(ExitCode::SUCCESS)
}

fn examine(args: args::Doctor) -> Result<ExitCode, Failure> {
    let config = Config::load(data_or_default(args.data.data)?)?;
    let codex_home = args.codex_home.or_else(env::codex_home);
    let findings = block_on(doctor::examine(&config, codex_home))?;
    if args.json {
        print_json(&findings)?;
    } else {
        let lines: Vec<_> = findings.iter().map(doctor::Finding::to_text).collect();
        print(&format!("{}\n", lines.join("\n")))?;
    }
    Ok(if doctor::is_bad(&findings) {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

impl From<Link> for LinkMode {
    fn from(link: Link) -> Self {
        match link {
            Link::Auto => Self::Auto,
            Link::Quic => Self::Quic,
            Link::H2 => Self::H2,
        }
    }
}

/// The data directory as an absolute path: it goes into other programs' configuration.
fn data_or_default(data: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let data = data.or_else(env::default_data).ok_or_else(|| {
        Failure::user(
            "there is no home directory to keep the agent's files in",
            "name a directory with --data DIR",
        )
    })?;
    std::path::absolute(&data).map_err(|error| {
        Failure::user(
            format!("{}: {error}", data.display()),
            "name a directory with --data DIR",
        )
    })
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::program(format!("cannot start: {error}")))?;
    let outcome = runtime.block_on(work);
    // A keyring that never answers must not keep the command from ending.
    runtime.shutdown_background();
    Ok(outcome)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let outcome = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match outcome {
        // Who reads has seen enough (`relay-agent status | head -1`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| Failure::program(format!("cannot write the answer: {error}"))),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::program(error.to_string()))?;
    print(&format!("{text}\n"))
}

fn talk(text: &str) {
    let mut out = io::stderr().lock();
    if writeln!(out, "{text}").is_err() {
        tracing::debug!("nobody listens on stderr");
    }
}
