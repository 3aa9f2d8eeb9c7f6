//! `relay-hub ledger verify`: a verdict on each thing that must always hold.

use clap::Args;
use serde::Serialize;

use super::super::{Desk, Failure, typed};
use crate::{
    ledger::{self, Anchor, Finding, Verdict},
    store::usage,
};

#[derive(Args)]
pub(super) struct Verify {
    /// Where the chain ended when an earlier `verify` told it, 64 digits that were kept outside this machine: the chain
    /// must pass it.
    #[arg(long, value_name = "HASH")]
    anchor: Option<String>,
}

#[derive(Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    verdict: &'a Verdict,
    /// Rows of calls.
    calls: u64,
}

pub(super) async fn run(desk: &mut Desk<'_>, words: &Verify) -> Result<(), Failure> {
    let anchor = words.anchor.as_deref().map(anchor).transpose()?;
    let store = desk.store().await?;
    let verdict = ledger::verify_past(&store, anchor).await?;
    let calls = usage::count(&store).await?;
    let verified = Verified {
        verdict: &verdict,
        calls,
    };
    desk.print.done(&verified, &told(&verdict, calls))?;
    if verdict.ok {
        return Ok(());
    }
    let broken: Vec<_> = verdict
        .invariants
        .iter()
        .filter(|finding| !finding.ok)
        .map(broken)
        .collect();
    Err(
        Failure::fixable(format!("the ledger does not verify:\n{}", broken.join("\n")))
            .hint("keep a copy of the data directory, and compare with a backup"),
    )
}

fn anchor(text: &str) -> Result<Anchor, Failure> {
    Anchor::parse(text.trim()).ok_or_else(|| {
        Failure::usage(format!("--anchor: `{}` is no end of a chain", typed(text)))
            .hint("write the 64 digits that `relay-hub ledger verify` told")
    })
}

/// A line for each invariant, and one for all.
fn told(verdict: &Verdict, calls: u64) -> String {
    let mark = |finding: &Finding| if finding.ok { "ok    " } else { "BROKEN" };
    let lines = verdict
        .invariants
        .iter()
        .map(|finding| format!("{:<7} {}  {}", finding.invariant, mark(finding), finding.says));
    let all = format!(
        "{} transfers, {} holds ({} open), {} accounts, {calls} calls: {}; the chain ends in {}",
        verdict.transfers,
        verdict.holds,
        verdict.open_holds,
        verdict.accounts,
        if verdict.ok {
            "everything adds up"
        } else {
            "the books do NOT add up"
        },
        verdict.head,
    );
    lines.chain([all]).collect::<Vec<_>>().join("\n")
}

fn broken(finding: &Finding) -> String {
    let more = (finding.more > 0).then(|| format!("{}: … and {} more", finding.invariant, finding.more));
    let problems = finding
        .problems
        .iter()
        .map(|problem| format!("{}: {problem}", finding.invariant));
    problems.chain(more).collect::<Vec<_>>().join("\n")
}
