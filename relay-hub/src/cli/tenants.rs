//! `relay-hub tenant …`.

use clap::Subcommand;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment};
use crate::{ids::random_name, ledger, money::Nanos, store::tenants};

#[derive(Subcommand)]
pub(super) enum Tenant {
    /// Add a tenant with an empty balance.
    Add {
        /// What you call it.
        name: String,
    },
    /// Show all tenants and their balances.
    List,
    /// Book a credit.
    Credit {
        /// Name or id.
        tenant: String,
        /// A decimal such as 10 or 10.50.
        #[arg(allow_hyphen_values = true)]
        amount: String,
        /// Your own reference, such as an invoice number: the same one is booked once.
        #[arg(long, value_name = "TEXT")]
        reference: Option<String>,
        /// Kept with the entry.
        #[arg(long, default_value = "", value_name = "TEXT")]
        note: String,
    },
    /// Refuse a tenant's calls from now on.
    Suspend {
        /// Name or id.
        tenant: String,
    },
    /// Admit a suspended tenant's calls again.
    Resume {
        /// Name or id.
        tenant: String,
    },
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Tenant) -> Result<(), Failure> {
    match command {
        Tenant::Add { name } => add(desk, &name).await,
        Tenant::List => list(desk).await,
        Tenant::Credit {
            tenant,
            amount,
            reference,
            note,
        } => credit(desk, &tenant, &amount, reference, &note).await,
        Tenant::Suspend { tenant } => suspend(desk, &tenant, true).await,
        Tenant::Resume { tenant } => suspend(desk, &tenant, false).await,
    }
}

async fn add(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let id = tenants::add(&store, name, now_ms()).await?;
    Ok(desk
        .print
        .done(&json!({"id": id, "name": name}), &format!("added tenant {name} ({id})"))?)
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let all = tenants::list(&desk.store().await?).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|t| {
            let state = if t.suspended { "suspended" } else { "active" };
            let (balance, held, available) = (t.balance.to_string(), t.held.to_string(), t.available.to_string());
            vec![
                t.name.clone(),
                t.id.to_string(),
                state.to_owned(),
                balance,
                held,
                available,
                moment(t.created_ms),
            ]
        })
        .collect();
    let heads = ["NAME", "ID", "STATE", "BALANCE", "HELD", "AVAILABLE", "ADDED"];
    Ok(desk.print.list(&all, &heads, &rows)?)
}

async fn credit(
    desk: &mut Desk<'_>,
    tenant: &str,
    amount: &str,
    reference: Option<String>,
    note: &str,
) -> Result<(), Failure> {
    let amount: Nanos = amount
        .parse()
        .map_err(|error: crate::money::AmountError| Failure::fixable(error.to_string()))?;
    let (reference, note) = (
        text("reference", reference.as_deref())?,
        text("note", Some(note))?.unwrap_or_default(),
    );
    let reference = reference.unwrap_or_else(|| format!("cli-{}", random_name()));
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let done = ledger::credit(&store, &tenant.id, amount, &reference, &note, now_ms()).await?;
    let line = if done.is_first {
        format!("credited {amount} to {}: the balance is {}", tenant.name, done.balance)
    } else {
        format!(
            "this credit was booked before: the balance of {} is {}",
            tenant.name, done.balance
        )
    };
    let json = json!({
        "tenant": tenant.id, "amount": amount, "balance": done.balance, "reference": reference, "booked": done.is_first,
    });
    Ok(desk.print.done(&json, &line)?)
}

/// A short text that is kept with an entry.
fn text(what: &str, text: Option<&str>) -> Result<Option<String>, Failure> {
    let fits = |text: &&str| text.len() <= 200 && !text.chars().any(char::is_control);
    match text {
        Some(text) if !fits(&text) => {
            Err(Failure::fixable(format!("the {what} is too long or has control characters")).hint("at most 200 bytes"))
        }
        Some(text) => Ok(Some(text.to_owned())),
        None => Ok(None),
    }
}

async fn suspend(desk: &mut Desk<'_>, tenant: &str, is_suspended: bool) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let changed = tenants::suspend(&store, &tenant.id, is_suspended.then(now_ms)).await?;
    let state = if is_suspended { "suspended" } else { "active" };
    let line = format!(
        "tenant {} is {state}{}",
        tenant.name,
        if changed { "" } else { " already" }
    );
    Ok(desk.print.done(
        &json!({"id": tenant.id, "suspended": is_suspended, "changed": changed}),
        &line,
    )?)
}
