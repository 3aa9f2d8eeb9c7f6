//! `relay-hub tenant …`.

use std::collections::HashMap;

use clap::{Args, Subcommand};
use relay_shared::config::Problems;
use serde_json::json;

use super::{Desk, Failure, now_ms, plans, print::moment, terms, ways};
use crate::{
    directory::OnAbort,
    ids::random_name,
    ledger,
    money::{AmountError, Nanos},
    store::{accounts, routes, tenants},
    way::Region,
};

#[derive(Subcommand)]
pub(super) enum Tenant {
    /// Add a tenant.
    Add {
        /// What you call it.
        name: String,
        /// What it begins with, a decimal such as 10 or 10.50.
        #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
        credit: Option<String>,
    },
    /// Show all tenants and their balances.
    List,
    /// Book a credit.
    #[command(override_usage = "relay-hub tenant credit [OPTIONS] <TENANT> <AMOUNT>")]
    Credit(Credit),
    /// Change a tenant's settings.
    Set(Set),
    /// Show a tenant's credit that ends.
    Grants {
        /// Name or id.
        tenant: String,
    },
    /// Put a tenant on a plan, or take it off its own.
    Plan {
        /// Name or id.
        tenant: String,
        /// The plan's name.
        #[arg(required_unless_present = "none")]
        plan: Option<String>,
        /// Take the tenant off its plan; what it was given stays until it ends.
        #[arg(long, conflicts_with = "plan")]
        none: bool,
    },
    /// Refuse a tenant's calls from now on, and end those that run.
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

#[derive(Args)]
#[group(required = true, multiple = true, args = ["on_abort", "region", "repin"])]
pub(super) struct Set {
    /// Name or id.
    tenant: String,
    /// When a client leaves: `cut` cancels the vendor's call and charges what came, by the relay's count; `drain`
    /// reads on to the vendor's count.
    #[arg(long, value_name = "CUT|DRAIN", value_parser = OnAbort::NAMES)]
    on_abort: Option<String>,
    /// Its calls leave in this region where the client names none; `any` for whichever works.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// When the account of a conversation is out of use: `refuse` its calls, or `allow` it to go on with another of the
    /// tenant's accounts, which knows nothing of it.
    #[arg(long, value_name = "REFUSE|ALLOW", value_parser = ["refuse", "allow"])]
    repin: Option<String>,
}

#[derive(Args)]
pub(super) struct Credit {
    /// Name or id, then a decimal such as 10 or 10.50.
    #[arg(value_names = ["TENANT", "AMOUNT"], num_args = 1..=2, required = true, allow_negative_numbers = true)]
    words: Vec<String>,
    /// Name or id, in place of the first word.
    #[arg(long)]
    tenant: Option<String>,
    /// Your own reference, such as an invoice number: the same one is booked once.
    #[arg(long, visible_alias = "id", value_name = "TEXT")]
    reference: Option<String>,
    /// When what is left of it goes back, such as 2030-12-31.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    expires: Option<String>,
    /// Kept with the entry.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    note: String,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: Tenant) -> Result<(), Failure> {
    match command {
        Tenant::Add { name, credit } => add(desk, &name, credit.as_deref()).await,
        Tenant::List => list(desk).await,
        Tenant::Credit(words) => credit(desk, words).await,
        Tenant::Set(words) => set(desk, words).await,
        Tenant::Grants { tenant } => grants(desk, &tenant).await,
        Tenant::Plan { tenant, plan, none: _ } => plans::assign(desk, &tenant, plan.as_deref()).await,
        Tenant::Suspend { tenant } => suspend(desk, &tenant, true).await,
        Tenant::Resume { tenant } => suspend(desk, &tenant, false).await,
    }
}

async fn add(desk: &mut Desk<'_>, name: &str, credit: Option<&str>) -> Result<(), Failure> {
    // Before the tenant is added: a wrong amount must not leave half of what was asked for.
    let credit = credit.map(credit_amount).transpose()?;
    let store = desk.store().await?;
    let id = tenants::add(&store, name, now_ms()).await?;
    if let Some(amount) = credit {
        ledger::credit(&store, &id, amount, &fresh_reference(), "", now_ms()).await?;
    }
    let balance = credit.unwrap_or(Nanos::ZERO);
    Ok(desk.print.done(
        &json!({"tenant": id, "id": id, "name": name, "balance": balance}),
        &format!("added tenant {name} ({id}) with a balance of {balance}"),
    )?)
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let store = desk.books().await?;
    let all = tenants::list(&store).await?;
    let accounts = accounts::list(&store).await?.into_iter();
    let accounts: HashMap<_, _> = accounts.map(|account| (account.id, account.name)).collect();
    let mut homes = HashMap::<_, Vec<_>>::new();
    for row in routes::homes(&store).await? {
        homes
            .entry(row.tenant)
            .or_default()
            .extend(accounts.get(&row.account).cloned());
    }
    let homes = |tenant| homes.get(tenant).map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = all
        .iter()
        .map(|t| {
            let state = if t.suspended { "suspended" } else { "active" };
            let (balance, held, available) = (t.balance.to_string(), t.held.to_string(), t.available.to_string());
            vec![
                t.name.clone(),
                t.id.to_string(),
                state.to_owned(),
                t.on_abort.clone(),
                balance,
                held,
                available,
                moment(t.created_ms),
                homes(&t.id).join(" "),
            ]
        })
        .collect();
    let heads = [
        "NAME",
        "ID",
        "STATE",
        "ON ABORT",
        "BALANCE",
        "HELD",
        "AVAILABLE",
        "ADDED",
        "HOME",
    ];
    let told = all.iter().map(|t| {
        let mut told = serde_json::to_value(t).map_err(|error| Failure::from_error(&error))?;
        told["home"] = homes(&t.id).into();
        Ok(told)
    });
    let told = told.collect::<Result<Vec<_>, Failure>>()?;
    Ok(desk.print.list(&told, &heads, &rows)?)
}

async fn credit(desk: &mut Desk<'_>, words: Credit) -> Result<(), Failure> {
    let (tenant, amount) = words.entry()?;
    let Credit {
        reference,
        note,
        expires,
        ..
    } = words;
    let mut problems = Problems::new();
    let expires_ms = expires.and_then(|text| terms::moment(&mut problems, "--expires", &text, now_ms()));
    problems.or(())?;
    let (reference, note) = (
        text("reference", reference.as_deref())?,
        text("note", Some(&note))?.unwrap_or_default(),
    );
    let reference = reference.unwrap_or_else(fresh_reference);
    let store = desk.books().await?;
    let tenant = desk.tenant(&store, &tenant).await?;
    let grant = ledger::Grant {
        tenant: tenant.id.clone(),
        amount,
        source: reference.clone(),
        note,
        at_ms: now_ms(),
        expires_ms,
    };
    let done = ledger::grant(&store, grant).await?;
    let line = if done.is_first {
        format!("credited {amount} to {}: the balance is {}", tenant.name, done.balance)
    } else {
        format!(
            "this credit was booked before: the balance of {} is {}",
            tenant.name, done.balance
        )
    };
    let json = json!({
        "tenant": tenant.id, "amount": amount, "balance": done.balance, "reference": reference,
        "expires_ms": expires_ms, "booked": done.is_first,
    });
    Ok(desk.print.done(&json, &line)?)
}

async fn grants(desk: &mut Desk<'_>, tenant: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let all = ledger::expiring(&store, &tenant.id).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|grant| {
            let money = [grant.amount, grant.remaining].map(|amount| amount.to_string());
            [grant.source.clone()]
                .into_iter()
                .chain(money)
                .chain([moment(grant.expires_ms)])
                .collect()
        })
        .collect();
    Ok(desk.print.list(&all, &["SOURCE", "AMOUNT", "LEFT", "EXPIRES"], &rows)?)
}

impl Credit {
    fn entry(&self) -> Result<(String, Nanos), Failure> {
        let (tenant, amount) = match (self.tenant.as_deref(), self.words.as_slice()) {
            (Some(tenant), [amount]) => (tenant, amount),
            (None, [tenant, amount]) => (tenant.as_str(), amount),
            (Some(_), _) => return Err(Failure::usage("the tenant is named twice").hint(CREDIT)),
            (None, _) => return Err(Failure::usage("the tenant or the amount is missing").hint(CREDIT)),
        };
        Ok((tenant.to_owned(), credit_amount(amount)?))
    }
}

fn credit_amount(text: &str) -> Result<Nanos, Failure> {
    let refused = |problem: String| Failure::fixable(problem).hint("nothing was booked");
    let amount: Nanos = text.parse().map_err(|error: AmountError| refused(error.to_string()))?;
    if amount.is_zero() {
        return Err(refused(ledger::CreditError::Nothing.to_string()));
    }
    Ok(amount)
}

fn fresh_reference() -> String {
    format!("cli-{}", random_name())
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

async fn set(desk: &mut Desk<'_>, words: Set) -> Result<(), Failure> {
    let region = match words.region.as_deref() {
        None => None,
        Some("any") => Some(None),
        Some(text) => Some(Some(ways::read_region(text)?)),
    };
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, &words.tenant).await?;
    let mut json = json!({"tenant": tenant.id, "name": tenant.name, "changed": false});
    let mut lines = Vec::new();
    let mut told = |setting: &str, value: &str, changed: bool| {
        json[setting] = value.into();
        json["changed"] = (changed || json["changed"] == true).into();
        let already = if changed { "" } else { " already" };
        lines.push(format!("tenant {}: {setting} is {value}{already}", tenant.name));
    };
    if let Some(on_abort) = &words.on_abort {
        told(
            "on_abort",
            on_abort,
            tenants::set_on_abort(&store, &tenant.id, on_abort).await?,
        );
    }
    if let Some(repin) = &words.repin {
        told("repin", repin, tenants::set_repin(&store, &tenant.id, repin).await?);
    }
    if let Some(region) = &region {
        let changed = tenants::set_region(&store, &tenant.id, region.as_ref()).await?;
        told("region", region.as_ref().map_or("any", Region::as_str), changed);
    }
    Ok(desk.print.done(&json, &lines.join("\n"))?)
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
        &json!({"tenant": tenant.id, "name": tenant.name, "suspended": is_suspended, "changed": changed}),
        &line,
    )?)
}

const CREDIT: &str = "write `relay-hub tenant credit TENANT AMOUNT`";
