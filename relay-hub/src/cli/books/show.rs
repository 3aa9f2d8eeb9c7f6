//! `relay-hub usage show CALL` and `relay-hub ledger show CALL`: one call with all that is known of it.

use clap::Args;
use relay_shared::call::CallId;
use serde::Serialize;

use super::{
    super::{Desk, Failure, print::moment, typed},
    calls::Told,
};
use crate::store::{
    Store,
    routes::{self, AttemptRow},
    transfers::{self, TransferRow},
    usage::{self, CallRow},
};

#[derive(Args)]
pub(super) struct Show {
    /// The call's id (`relay-call-id`), or the vendor's id of the request or of the answer.
    call: String,
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    call: Told<'a>,
    transfers: Vec<TransferRow>,
    attempts: Vec<AttemptRow>,
}

pub(super) async fn run(desk: &mut Desk<'_>, words: &Show) -> Result<(), Failure> {
    let store = desk.books().await?;
    let calls = usage::find(&store, words.call.trim()).await?;
    if calls.is_empty() {
        return Err(not_ended(&store, words.call.trim()).await?);
    }
    let mut all = Vec::new();
    for call in &calls {
        let transfers = match call.hold {
            Some(hold) => transfers::of_hold(&store, hold).await?,
            None => Vec::new(),
        };
        let attempts = match CallId::parse(&call.call) {
            Some(id) => routes::attempts(&store, *id.as_bytes()).await?,
            None => Vec::new(),
        };
        let call = Told::of(call);
        all.push(Whole {
            call,
            transfers,
            attempts,
        });
    }
    if desk.print.is_json() {
        return Ok(desk.print.json(&all)?);
    }
    for (call, whole) in calls.iter().zip(&all) {
        tell(desk, call, &whole.transfers)?;
        tell_attempts(desk, &whole.attempts)?;
    }
    Ok(())
}

async fn not_ended(store: &Store, id: &str) -> Result<Failure, Failure> {
    if let Some(call) = CallId::parse(id)
        && let Some(held) = usage::held(store, call).await?
    {
        let problem = format!("call {id} is running: {held} is held for it");
        return Ok(Failure::fixable(problem).hint("it is shown when it has ended"));
    }
    Ok(Failure::fixable(format!("there is no call `{}`", typed(id)))
        .hint("`relay-hub usage` shows ids; an answer has it as relay-call-id"))
}

fn tell(desk: &mut Desk<'_>, call: &CallRow, transfers: &[TransferRow]) -> Result<(), Failure> {
    let rows: Vec<_> = lines(call)
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    desk.print.table(&["CALL", &call.call], &rows)?;
    desk.print.line("")?;
    if transfers.is_empty() {
        return Ok(desk.print.line("nothing was moved for it")?);
    }
    let rows: Vec<_> = transfers
        .iter()
        .map(|t| {
            let sides = [t.kind.clone(), t.debit.clone(), t.credit.clone()];
            let [kind, debit, credit] = sides;
            vec![
                t.seq.to_string(),
                moment(t.at_ms),
                kind,
                debit,
                credit,
                t.amount.to_string(),
            ]
        })
        .collect();
    Ok(desk
        .print
        .table(&["TRANSFER", "AT", "KIND", "FROM", "TO", "AMOUNT"], &rows)?)
}

fn tell_attempts(desk: &mut Desk<'_>, attempts: &[AttemptRow]) -> Result<(), Failure> {
    if attempts.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            vec![
                attempt.n.to_string(),
                moment(attempt.at_ms),
                attempt.account.clone(),
                attempt.egress.clone(),
                attempt.choice.clone(),
                attempt.status.map(|status| status.to_string()).unwrap_or_default(),
                attempt.verdict.clone(),
                format!("{} ms", attempt.ms),
            ]
        })
        .collect();
    desk.print.line("")?;
    let heads = [
        "ATTEMPT", "AT", "ACCOUNT", "WAY OUT", "CHOICE", "STATUS", "VERDICT", "TOOK",
    ];
    Ok(desk.print.table(&heads, &rows)?)
}

fn lines(call: &CallRow) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let count = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    let millis = |us: Option<i64>| {
        us.map(|us| format!("{}.{:03} ms", us / 1000, us % 1000))
            .unwrap_or_default()
    };
    let named = |name: &Option<String>, id: &str| match name {
        Some(name) => format!("{name} ({id})"),
        None => id.to_owned(),
    };
    vec![
        ("started", moment(call.started_ms)),
        ("booked", moment(call.at_ms)),
        ("tenant", named(&call.tenant_name, &call.tenant)),
        ("by", call.by.clone()),
        ("link", call.link.clone()),
        ("endpoint", call.endpoint.clone()),
        ("streamed", if call.streamed { "yes" } else { "no" }.to_owned()),
        ("model", call.model.clone()),
        ("upstream model", call.upstream_model.clone()),
        ("account", named(&call.account_name, &text(&call.account))),
        ("account chosen", choice(call)),
        ("way out", text(&call.egress)),
        ("left by", text(&call.local_address)),
        ("vendor request", text(&call.vendor_request_id)),
        ("response", text(&call.response_id)),
        ("status", call.status.to_string()),
        ("ending", call.ending.clone()),
        ("usage", text(&call.usage_source)),
        ("input", count(call.input)),
        ("cached", count(call.cached)),
        ("cache write", count(call.cache_write)),
        ("output", count(call.output)),
        ("reasoning", count(call.reasoning)),
        (
            "detail",
            call.detail.as_ref().map(ToString::to_string).unwrap_or_default(),
        ),
        ("held", call.held.map(|held| held.to_string()).unwrap_or_default()),
        ("cost", call.cost.to_string()),
        ("charged", call.charged.to_string()),
        ("price version", call.price_version.to_string()),
        ("until held", millis(call.hold_us)),
        ("until first byte", millis(call.first_byte_us)),
        ("until its end", millis(call.total_us)),
    ]
}

/// Why that account: in words, for whoever asks.
fn choice(call: &CallRow) -> String {
    if call.account.is_none() {
        return String::new();
    }
    let detail = call.detail.as_ref().and_then(|detail| detail["choice"].as_str());
    match detail {
        None => "its tenant has no other",
        Some("tenant") => "the tenant's own: the call names no conversation",
        Some("ranked") => "ranks first for a new conversation",
        Some("pinned") => "the conversation belongs to it",
        Some("bound") => "the response that it goes on from is there",
        Some("reasoning") => "made the reasoning that the call sends back",
        Some("repinned") => "the conversation's account is out of use, and the tenant allows another",
        Some("detour") => "what ranks before it is out of use, resting or busy",
        Some("failover") => "another account failed at this call",
        Some(other) => other,
    }
    .to_owned()
}
