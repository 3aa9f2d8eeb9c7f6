//! The command line's words.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The developer's side of the relay: Codex and others call it on loopback, it carries their calls to the hub.
#[derive(Parser)]
#[command(name = "relay-agent", version, about, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make this machine a device of a tenant, with a one-time token from the operator.
    Enroll(Enroll),
    /// Listen on loopback and carry calls to the hub. Prints one JSON line when it listens.
    Run(Run),
    /// Say how the running agent is.
    Status(Report),
    /// Print the local key, for a client's configuration.
    Token(Data),
    /// Configure a client to use the agent.
    #[command(subcommand)]
    Setup(Setup),
    /// Look for what stands between a client and the hub. Exit code 1 when something fails.
    Doctor(Doctor),
}

#[derive(Args)]
pub(super) struct Data {
    /// The directory with the agent's keys and settings.
    #[arg(long, value_name = "DIR", env = "RELAY_AGENT_DATA")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Enroll {
    /// The token; `-` reads it from standard input.
    pub(super) token: String,
    /// What the hub shall call this device. Default: the machine's name.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Replace an enrolment that is there.
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Args)]
pub(super) struct Run {
    /// Where to listen; loopback only. 127.0.0.1 listens on [::1] as well.
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// Which transports to use towards the hub.
    #[arg(long)]
    pub(super) link: Option<Link>,
    /// Let every local program call without the local key.
    #[arg(long)]
    pub(super) no_local_key: bool,
    /// What to log, for example `info,relay_agent=debug`.
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Link {
    /// HTTP/3 over QUIC, HTTP/2 over TCP where UDP is blocked.
    Auto,
    /// HTTP/3 over QUIC only.
    Quic,
    /// HTTP/2 over TCP only.
    H2,
}

#[derive(Args)]
pub(super) struct Report {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Subcommand)]
pub(super) enum Setup {
    /// Point Codex at the agent: config.toml and .env, with a backup.
    Codex(Codex),
}

#[derive(Args)]
pub(super) struct Codex {
    /// Bring back what was there before.
    #[arg(long)]
    pub(super) undo: bool,
    /// Show what would change and change nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Codex's directory. Default: CODEX_HOME, else ~/.codex.
    #[arg(long, value_name = "DIR")]
    pub(super) codex_home: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data: Data,
}

#[derive(Args)]
pub(super) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Codex's directory. Default: CODEX_HOME, else ~/.codex.
    #[arg(long, value_name = "DIR")]
    pub(super) codex_home: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data: Data,
}
