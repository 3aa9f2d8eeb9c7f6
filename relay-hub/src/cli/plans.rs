//! `relay-hub plan …`, and `relay-hub tenant plan`.

use clap::{Args, Subcommand};
use relay_shared::config::Problems;
use serde_json::json;

use super::{Desk, Failure, now_ms, terms, there_are};
use crate::{
    credit,
    money::Nanos,
    store::{
        Store,
        plans::{self, Changed, Plan},
        prices,
        tenants::is_name,
    },
};

#[derive(Subcommand)]
pub(super) enum PlanCommand {
    /// Add a plan: what its tenants are given each month and day, UTC.
    Add(Add),
    /// Show all plans.
    List,
    /// Remove a plan that no tenant is on.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Args)]
pub(super) struct Add {
    /// What you call it.
    name: String,
    /// Given at the beginning of each month; what is left goes back at its end.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    monthly: Option<String>,
    /// Given at the beginning of each day; what is left goes back at its end.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    daily: Option<String>,
    /// Given once, when a tenant comes to the plan; it does not end.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    free: Option<String>,
    /// The model that serves when nothing is left; without it such calls are refused.
    #[arg(long, value_name = "MODEL")]
    downgrade: Option<String>,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: PlanCommand) -> Result<(), Failure> {
    match command {
        PlanCommand::Add(words) => add(desk, words).await,
        PlanCommand::List => list(desk).await,
        PlanCommand::Remove { name } => remove(desk, &name).await,
    }
}

async fn add(desk: &mut Desk<'_>, words: Add) -> Result<(), Failure> {
    let mut problems = Problems::new();
    let mut read = |key, text: Option<String>| {
        let amount = text.and_then(|text| terms::some_amount(&mut problems, key, &text));
        amount.unwrap_or(Nanos::ZERO)
    };
    let monthly = read("--monthly", words.monthly);
    let (daily, free) = (read("--daily", words.daily), read("--free", words.free));
    if !is_name(&words.name) {
        problems.push("NAME", "cannot be a plan's name", NAME);
    }
    if problems.is_empty() && [monthly, daily, free].iter().all(|amount| amount.is_zero()) {
        problems.push(
            "NAME",
            "the plan gives nothing",
            "name one of --monthly, --daily and --free",
        );
    }
    let store = desk.store().await?;
    if let Some(model) = &words.downgrade {
        known_model(&store, model, &mut problems).await?;
    }
    let plan = problems.or(Plan {
        name: words.name,
        monthly,
        daily,
        free,
        downgrade: words.downgrade,
        created_ms: now_ms(),
    })?;
    match plans::add(&store, &plan).await? {
        Changed::Taken => Err(Failure::fixable(format!("there is a plan `{}` already", plan.name))
            .hint("a plan is never changed: add one of another name, and move its tenants")),
        Changed::Done | Changed::Already | Changed::Unknown => {
            Ok(desk.print.done(&json!(plan), &format!("added plan {}", plan.name))?)
        }
    }
}

/// A model without a price is not served; an alias of hub.toml cannot be known here.
async fn known_model(store: &Store, model: &str, problems: &mut Problems) -> Result<(), Failure> {
    let known = prices::list(store).await?;
    if !known.iter().any(|row| row.model == model) {
        let names: Vec<_> = known.iter().map(|row| row.model.as_str()).collect();
        let hint = there_are(&names, "relay-hub price set MODEL …");
        problems.push("--downgrade", format!("`{}` has no price", super::typed(model)), hint);
    }
    Ok(())
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let all = plans::list(&desk.store().await?).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|row| {
            let plan = &row.plan;
            vec![
                plan.name.clone(),
                plan.monthly.to_string(),
                plan.daily.to_string(),
                plan.free.to_string(),
                plan.downgrade.clone().unwrap_or_else(|| "refuse".to_owned()),
                row.tenants.to_string(),
            ]
        })
        .collect();
    let heads = ["NAME", "MONTHLY", "DAILY", "FREE", "USED UP", "TENANTS"];
    Ok(desk.print.list(&all, &heads, &rows)?)
}

async fn remove(desk: &mut Desk<'_>, name: &str) -> Result<(), Failure> {
    let store = desk.store().await?;
    match plans::remove(&store, name).await? {
        Changed::Unknown => Err(unknown(&store, name).await?),
        Changed::Taken => Err(Failure::fixable(format!("tenants are on the plan `{name}`"))
            .hint("move them with `relay-hub tenant plan TENANT OTHER`, or `--none`")),
        Changed::Done | Changed::Already => Ok(desk
            .print
            .done(&json!({"name": name, "removed": true}), &format!("removed plan {name}"))?),
    }
}

async fn unknown(store: &Store, name: &str) -> Result<Failure, Failure> {
    let known = plans::list(store).await?;
    let names: Vec<_> = known.iter().map(|row| row.plan.name.as_str()).collect();
    let failure = Failure::fixable(format!("there is no plan `{}`", super::typed(name)));
    Ok(failure.hint(there_are(&names, "relay-hub plan add NAME --monthly AMOUNT")))
}

/// `relay-hub tenant plan`: what the plan gives for this month and day is there when it returns.
pub(super) async fn assign(desk: &mut Desk<'_>, tenant: &str, plan: Option<&str>) -> Result<(), Failure> {
    let store = desk.store().await?;
    let tenant = desk.tenant(&store, tenant).await?;
    let changed = plans::assign(&store, &tenant.id, plan, now_ms()).await?;
    if changed == Changed::Unknown {
        return Err(unknown(&store, plan.unwrap_or_default()).await?);
    }
    credit::give(&store, now_ms()).await?;
    let already = if changed == Changed::Already { " already" } else { "" };
    let line = match plan {
        Some(plan) => format!("tenant {} is on plan {plan}{already}", tenant.name),
        None => format!("tenant {} is on no plan{already}", tenant.name),
    };
    let json = json!({
        "tenant": tenant.id, "name": tenant.name, "plan": plan, "changed": changed == Changed::Done,
    });
    Ok(desk.print.done(&json, &line)?)
}

const NAME: &str = "use 1 to 64 letters, digits, `.`, `_`, `-`, `@`, or spaces between them";
