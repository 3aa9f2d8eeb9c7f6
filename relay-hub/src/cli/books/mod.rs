//! `relay-hub usage …` and `relay-hub ledger …`: what was used, what was moved, and the proof that it adds up.

mod calls;
mod show;
mod transfers;
mod verify;
mod which;

use clap::{Args, Subcommand};

pub(super) use self::which::Window;
use super::{Desk, Failure};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Usage {
    #[command(subcommand)]
    command: Option<UsageCommand>,
    #[command(flatten)]
    calls: calls::Calls,
}

#[derive(Subcommand)]
enum UsageCommand {
    /// One call with all that is known of it: hold, transfers, prices, flags.
    Show(show::Show),
}

#[derive(Args)]
pub(super) struct Ledger {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Prove that the books add up and that nobody changed the past.
    Verify(verify::Verify),
    /// What was moved: the last transfers, or sums of them.
    List(transfers::Transfers),
    /// One call with all that is known of it: hold, transfers, prices, flags.
    Show(show::Show),
}

/// How a list is written.
#[derive(Args)]
struct Form {
    /// How many rows; without it all of them in CSV and JSON.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print CSV (RFC 4180).
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub(super) async fn usage(desk: &mut Desk<'_>, words: Usage) -> Result<(), Failure> {
    match words.command {
        Some(UsageCommand::Show(call)) => show::run(desk, &call).await,
        None => calls::run(desk, &words.calls).await,
    }
}

pub(super) async fn ledger(desk: &mut Desk<'_>, words: Ledger) -> Result<(), Failure> {
    match words.command {
        LedgerCommand::Verify(words) => verify::run(desk, &words).await,
        LedgerCommand::List(words) => transfers::run(desk, &words).await,
        LedgerCommand::Show(call) => show::run(desk, &call).await,
    }
}

/// So many rows are read at once where all are wanted.
const PAGE: u32 = 1_000;
