//! `relay-hub usage` and `relay-hub ledger …`.

use clap::{Args, Subcommand};
use serde::Serialize;

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
    #[arg(long, default_value_t = 50, value_name = "CALLS", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show only the totals by tenant and model.
    #[arg(long)]
    totals: bool,
}

#[derive(Subcommand)]
pub(super) enum LedgerCommand {
    /// Prove that the books add up and that nobody changed the past.
    Verify,
}

pub(super) async fn usage(desk: &mut Desk<'_>, words: Usage) -> Result<(), Failure> {
    let Usage { tenant, limit, totals } = words;
    let store = desk.books().await?;
    let tenant = match &tenant {
        Some(tenant) => Some(desk.tenant(&store, tenant).await?.id),
        None => None,
    };
    if !totals {
        let calls = usage::last(&store, tenant.as_ref(), limit).await?;
        if desk.print.is_json() {
            return Ok(desk.print.json(&calls.iter().map(Told::of).collect::<Vec<_>>())?);
        }
        desk.print.table(&HEADS, &calls.iter().map(cells).collect::<Vec<_>>())?;
        desk.print.line("")?;
    }
    let totals = usage::totals(&store, tenant.as_ref()).await?;
    let rows: Vec<_> = totals
        .iter()
        .map(|t| {
            let counts = [t.calls, t.input, t.cached, t.output].map(|count| count.to_string());
            let money = [t.cost.to_string(), t.charged.to_string()];
            [t.tenant.clone(), t.model.clone()]
                .into_iter()
                .chain(counts)
                .chain(money)
                .chain([t.flagged.to_string()])
                .collect()
        })
        .collect();
    Ok(desk.print.list(
        &totals,
        &[
            "TENANT", "MODEL", "CALLS", "INPUT", "CACHED", "OUTPUT", "COST", "CHARGED", "FLAGGED",
        ],
        &rows,
    )?)
}

/// A call with its time as a person reads it.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    call: &'a CallRow,
    started: String,
}

impl<'a> Told<'a> {
    fn of(call: &'a CallRow) -> Self {
        Self {
            call,
            started: moment(call.started_ms),
        }
    }
}

const HEADS: [&str; 15] = [
    "CALL", "STARTED", "TENANT", "BY", "MODEL", "INPUT", "CACHED", "OUTPUT", "USAGE", "COST", "CHARGED", "STATUS",
    "ENDING", "LINK", "MS",
];

fn cells(call: &CallRow) -> Vec<String> {
    let or_dash = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    vec![
        call.call.clone(),
        moment(call.started_ms),
        call.tenant_name.as_ref().unwrap_or(&call.tenant).clone(),
        call.by.clone(),
        call.model.clone(),
        or_dash(call.input),
        or_dash(call.cached),
        or_dash(call.output),
        call.usage_source.clone().unwrap_or_else(|| "-".to_owned()),
        call.cost.to_string(),
        call.charged.to_string(),
        call.status.to_string(),
        call.ending.clone(),
        call.link.clone(),
        or_dash(call.total_us.map(|us| us / 1000)),
    ]
}

#[derive(Serialize)]
struct Verified<'a> {
    #[serde(flatten)]
    verdict: &'a ledger::Verdict,
    /// Rows of calls.
    calls: u64,
}

pub(super) async fn verify(desk: &mut Desk<'_>) -> Result<(), Failure> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use relay_protocol::{Tokens, Usage, UsageSource};
    use relay_shared::{call::CallId, tasks::Tasks};

    use super::*;
    use crate::{
        identity::By,
        ids::{KeyId, TenantId},
        ledger::{Ending, Flags, Ledger, Link, Reserve, UsageRow},
        money::Nanos,
        store::{tenants, testing::TestHub},
    };

    fn row(call: CallId, tenant: &TenantId, by: By) -> UsageRow {
        let tokens = Tokens::new;
        let used = Usage {
            input: tokens(100),
            cached: tokens(40),
            cache_write: tokens(3),
            output: tokens(20),
            reasoning: tokens(7),
            ..Usage::default()
        };
        UsageRow {
            call,
            tenant: tenant.clone(),
            by,
            account: None,
            egress: Some("direct".into()),
            endpoint: "/v1/responses",
            model: "m".into(),
            upstream_model: "m-1".into(),
            usage: Some((used, UsageSource::Reported)),
            cost: Nanos::new(1_500),
            price_version: 1,
            status: 200,
            ending: Ending::Completed,
            started_ms: 1_795_244_400_000,
            hold_us: Some(80),
            first_byte_us: Some(12_345),
            total_us: Some(99_999),
            vendor_request_id: Some("req_1".into()),
            response_id: Some("resp_1".into()),
            link: Link::Quic,
            streamed: true,
            tier: None,
            flags: Flags::default(),
        }
    }

    #[tokio::test]
    async fn a_settled_call_is_shown_with_all_that_is_known_of_it() {
        let hub = TestHub::bare().await;
        let acme = tenants::add(&hub.store, "acme", 1).await.unwrap();
        let other = tenants::add(&hub.store, "other", 1).await.unwrap();
        ledger::credit(&hub.store, &acme, Nanos::new(1_000_000), "r", "", 1)
            .await
            .unwrap();
        let (call, by, tasks) = (CallId::random(), By::Key(KeyId::random()), Tasks::new());
        let books = Ledger::start(&hub.store, &tasks).await.unwrap();
        let reserve = Reserve {
            call,
            tenant: acme.clone(),
            by: by.clone(),
            model: "m".into(),
            amount: Nanos::new(5_000),
            price_version: 1,
        };
        let hold = books.reserve(reserve).await.unwrap();
        hold.settle(Nanos::new(1_500), row(call, &acme, by)).await.unwrap();
        drop(books);
        tasks.shutdown(Duration::from_secs(5)).await;
        let calls = usage::last(&hub.store, Some(&acme), 10).await.unwrap();
        let told = serde_json::to_value(Told::of(&calls[0])).unwrap();
        assert_eq!(told["call"], call.to_string());
        assert_eq!(
            (&told["cost"], &told["cost_nanos"]),
            (&"0.0000015".into(), &1_500.into())
        );
        assert_eq!((&told["input"], &told["reasoning"]), (&100.into(), &7.into()));
        assert_eq!(
            (&told["usage_source"], &told["ending"]),
            (&"reported".into(), &"completed".into())
        );
        assert_eq!(
            (&told["link"], &told["started"]),
            (&"quic".into(), &"2026-11-21T07:00:00Z".into())
        );
        assert_eq!(
            (&told["tenant"], &told["tenant_name"]),
            (&acme.as_str().into(), &"acme".into())
        );
        let cells = cells(&calls[0]);
        assert_eq!(cells.len(), HEADS.len());
        assert_eq!((cells[2].as_str(), cells[14].as_str()), ("acme", "99"));
        assert_eq!(usage::count(&hub.store).await.unwrap(), 1);
        assert!(usage::last(&hub.store, Some(&other), 10).await.unwrap().is_empty());
    }
}
