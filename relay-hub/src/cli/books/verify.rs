//! `relay-hub ledger verify`.

use serde::Serialize;

use super::super::{Desk, Failure};
use crate::{ledger, store::usage};

#[derive(Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    verdict: &'a ledger::Verdict,
    /// Rows of calls.
    calls: u64,
}

pub(super) async fn run(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let verdict = ledger::verify(&store).await?;
    let calls = usage::count(&store).await?;
    let line = format!(
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
    let verified = Verified {
        verdict: &verdict,
        calls,
    };
    desk.print.done(&verified, &line)?;
    if verdict.ok {
        return Ok(());
    }
    Err(
        Failure::fixable(format!("the ledger does not verify:\n{}", verdict.problems.join("\n")))
            .hint("keep a copy of the data directory, and compare with a backup"),
    )
}
