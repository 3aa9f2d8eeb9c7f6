//! The command line: what an operator types, and how the answer looks. Decides nothing about tenants, money or devices.

mod account;
mod check;
mod device;
mod failure;
mod init;
mod key;
mod ledger;
mod output;
mod price;
mod serve;
mod tenant;
mod usage;

use std::{ffi::OsString, future::Future, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{config::DataDir, store::Store};
use failure::{Exit, Failure};

/// The provider's side of codex-relay: tenants, money, vendor accounts and the way out to vendors.
#[derive(Parser)]
#[command(name = "relay-hub", version, about, max_term_width = 100)]
struct Cli {
    /// The hub's data directory [default: the user's data directory of this system]
    #[arg(long, global = true, env = "RELAY_HUB_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Answer in JSON: results on stdout, errors on stderr
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new hub: settings, database, certificates, keys and price list
    Init(init::Args),
    /// Run the hub until SIGTERM or SIGINT
    Serve(serve::Args),
    /// Read hub.toml and tell everything that is wrong with it
    CheckConfig(check::Args),
    /// Tenants and their credit
    Tenant(tenant::Args),
    /// API keys of a tenant
    Key(key::Args),
    /// Devices of a tenant and the tokens they enrol with
    Device(device::Args),
    /// The vendors' accounts that calls are sent with
    Account(account::Args),
    /// The price list
    Price(price::Args),
    /// What was called and what it cost
    Usage(usage::Args),
    /// The books
    Ledger(ledger::Args),
}

/// What every command is given.
struct Context {
    data: DataDir,
    /// Answers are JSON.
    json: bool,
}

impl Context {
    /// The database that `init` made. Works beside a running hub.
    async fn store(&self) -> Result<Store, Failure> {
        Ok(Store::open(&self.data).await?)
    }
}

/// Runs `relay-hub` with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let done = match Cli::try_parse_from(arguments) {
        Ok(cli) => run(cli),
        // Help and version are answers, not errors.
        Err(told) if !told.use_stderr() => output::say(&told.render().to_string()),
        Err(told) => Err(Failure::usage(told)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell(wants_json);
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let context = Context {
        data: DataDir::new(data_directory(cli.data)?),
        json: cli.json,
    };
    match cli.command {
        Command::Init(args) => block_on(init::run(args, &context)),
        Command::Serve(args) => serve::run(args, &context),
        Command::CheckConfig(args) => check::run(args, &context),
        Command::Tenant(args) => block_on(tenant::run(args, &context)),
        Command::Key(args) => block_on(key::run(args, &context)),
        Command::Device(args) => block_on(device::run(args, &context)),
        Command::Account(args) => block_on(account::run(args, &context)),
        Command::Price(args) => block_on(price::run(args, &context)),
        Command::Usage(args) => block_on(usage::run(args, &context)),
        Command::Ledger(args) => block_on(ledger::run(args, &context)),
    }
}

/// Short commands need one thread.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::ours("cannot start the runtime", &error))?
        .block_on(command)
}

fn data_directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let of_the_user = || directories::ProjectDirs::from("", "", "relay-hub").map(|dirs| dirs.data_dir().to_owned());
    let found = given.filter(|path| !path.as_os_str().is_empty()).or_else(of_the_user);
    found.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "this user has no home directory to keep a hub in",
            "name a data directory with --data DIR or RELAY_HUB_DATA",
        )
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_are_taken_before_and_after_the_command() {
        for line in [
            ["relay-hub", "--data", "/d", "--json", "check-config"],
            ["relay-hub", "check-config", "--json", "--data", "/d"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.json);
            assert_eq!(cli.data.unwrap(), PathBuf::from("/d"));
        }
    }
}
