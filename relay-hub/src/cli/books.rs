//! `relay-hub usage` and `relay-hub ledger …`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Desk, Failure, print::moment};
use crate::{
    ledger,
    store::usage::{self, CallRow},
};

#[derive(Args)]
pub(super) struct Usage {
    /// Name or id; without it, everybody's.
    #[arg(long)]
    tenant: Option<String>,
    /// How many of the last calls are shown; the totals are over all.
    #[arg(long, default_value_t = 50, value_name = "CALLS")]
    last: u32,
}

#[derive(Subcommand)]
pub(super) enum LedgerCommand {
    /// Prove that the books add up and that nobody changed the past.
    Verify,
}

pub(super) async fn usage(desk: &mut Desk<'_>, words: Usage) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = match &words.tenant {
        Some(tenant) => Some(desk.tenant(&store, tenant).await?.id),
        None => None,
    };
    let calls = usage::last(&store, tenant.as_ref(), words.last).await?;
    let totals = usage::totals(&store, tenant.as_ref()).await?;
    if desk.print.is_json() {
        return Ok(desk.print.json(&json!({"calls": calls, "totals": totals}))?);
    }
    let heads = [
        "CALL", "AT", "TENANT", "BY", "MODEL", "INPUT", "CACHED", "OUTPUT", "COST", "CHARGED", "STATUS", "ENDING", "MS",
    ];
    let rows: Vec<_> = calls.iter().map(cells).collect();
    desk.print.table(&heads, &rows)?;
    desk.print.line("")?;
    let rows: Vec<_> = totals
        .iter()
        .map(|t| {
            let counts = [t.calls, t.input, t.cached, t.output].map(|count| count.to_string());
            let money = [t.cost.to_string(), t.charged.to_string()];
            [t.tenant.clone(), t.model.clone()]
                .into_iter()
                .chain(counts)
                .chain(money)
                .collect()
        })
        .collect();
    Ok(desk.print.table(
        &[
            "TENANT", "MODEL", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST", "CHARGED",
        ],
        &rows,
    )?)
}

fn cells(call: &CallRow) -> Vec<String> {
    let or_dash = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    vec![
        call.call.clone(),
        moment(call.at_ms),
        call.tenant.clone(),
        call.caller.clone(),
        call.model.clone(),
        or_dash(call.input),
        or_dash(call.cached),
        or_dash(call.output),
        call.cost.to_string(),
        call.charged.to_string(),
        call.status.to_string(),
        call.ending.clone(),
        or_dash(call.total_us.map(|us| us / 1000)),
    ]
}

pub(super) async fn verify(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let verdict = ledger::verify(&desk.store().await?).await?;
    let line = format!(
        "{} transfers, {} holds ({} open), {} accounts: {}; the chain ends in {}",
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
    desk.print.done(&verdict, &line)?;
    if verdict.ok {
        return Ok(());
    }
    Err(
        Failure::fixable(format!("the ledger does not verify:\n{}", verdict.problems.join("\n")))
            .hint("keep a copy of the data directory, and compare with a backup"),
    )
}
