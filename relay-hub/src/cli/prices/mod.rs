//! `relay-hub price …`.

mod diff;
mod set;
mod tenant;

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _},
    path::PathBuf,
};

use clap::Subcommand;
use serde_json::{Value, json};

use self::diff::{Change, changes, figures, tell, told};
use super::{Desk, Failure, now_ms, print::moment};
use crate::{
    price_list,
    store::prices::{self, Imported, PriceRow},
};

#[derive(Subcommand)]
pub(super) enum PriceCommand {
    /// Show the price list: per 1,000,000 tokens; tools per call.
    List {
        /// Every version there ever was, not the last alone.
        #[arg(long, conflicts_with = "tenant")]
        all: bool,
        /// What this tenant pays; name or id.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Set one model's prices; what is not named stays as it is.
    Set(Box<set::Set>),
    /// Let a tenant pay by the list again for a model.
    Unset {
        /// The vendor's model name.
        model: String,
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
    /// Say how many times the list's price a tenant pays; models with a price of the tenant's own stay as they are.
    Times {
        /// A factor such as 0.8 or 1.25.
        factor: String,
        /// Name or id.
        #[arg(long)]
        tenant: String,
    },
    /// Take over a price list file, one version for all its changes. Shows the changes and asks.
    Import {
        /// TOML, or JSON with the same keys; relay-hub's own prices.toml shows the shape.
        file: PathBuf,
        /// Show what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(desk: &mut Desk<'_>, command: PriceCommand) -> Result<(), Failure> {
    match command {
        PriceCommand::List { tenant: Some(name), .. } => tenant::list(desk, &name).await,
        PriceCommand::List { all, tenant: None } => list(desk, all).await,
        PriceCommand::Set(words) => set::run(desk, *words).await,
        PriceCommand::Unset { model, tenant } => tenant::unset(desk, &model, &tenant).await,
        PriceCommand::Times { factor, tenant } => tenant::times(desk, &factor, &tenant).await,
        PriceCommand::Import { file, dry_run, yes } => import(desk, file, dry_run, yes).await,
    }
}

async fn list(desk: &mut Desk<'_>, all: bool) -> Result<(), Failure> {
    let store = desk.store().await?;
    let mut rows = prices::list(&store).await?;
    if all {
        let mut every = Vec::new();
        for row in &rows {
            every.extend(prices::history(&store, &row.model).await?);
        }
        rows = every;
    }
    let json: Vec<_> = rows.iter().map(shown).collect();
    let cells: Vec<_> = rows.iter().map(cells).collect();
    Ok(desk.print.list(&json, &HEADS, &cells)?)
}

const HEADS: [&str; 10] = [
    "MODEL",
    "VERSION",
    "INPUT",
    "CACHED",
    "CACHE WRITE",
    "OUTPUT",
    "CONTEXT",
    "MAX OUTPUT",
    "SINCE",
    "MORE",
];

fn cells(row: &PriceRow) -> Vec<String> {
    let base = &row.price.standard.base;
    let money = [base.input, base.cached, base.cache_write, base.output].map(|amount| amount.to_string());
    let sizes = [row.context, row.max_output].map(|tokens| tokens.to_string());
    let first = [row.model.clone(), row.price.version.to_string()];
    first
        .into_iter()
        .chain(money)
        .chain(sizes)
        .chain([moment(row.at_ms), more(row)])
        .collect()
}

/// What a line has beyond the columns, by name alone: `--json` has the figures.
fn more(row: &PriceRow) -> String {
    let price = &row.price;
    let base = price.standard.base.named().into_iter();
    let rare = base.filter(|(name, price)| price.is_some() && !PLAIN.contains(name));
    let tools = price.tools.named().into_iter().filter(|(_, price)| price.is_some());
    let named = rare.chain(tools).map(|(name, _)| name.to_owned());
    let long = price.standard.long.iter().map(|long| format!("over {}", long.above));
    let service = price.service.iter().map(|service| service.tier.clone());
    let all: Vec<_> = named.chain(long).chain(service).collect();
    all.join(", ")
}

const PLAIN: [&str; 4] = ["input", "cached", "cache_write", "output"];

fn shown(row: &PriceRow) -> Value {
    let mut value = figures(row);
    if let Value::Object(map) = &mut value {
        map.insert("model".to_owned(), json!(row.model));
        map.insert("version".to_owned(), json!(row.price.version));
        map.insert("source".to_owned(), json!(row.source));
        map.insert("at_ms".to_owned(), json!(row.at_ms));
    }
    value
}

async fn import(desk: &mut Desk<'_>, file: PathBuf, dry_run: bool, yes: bool) -> Result<(), Failure> {
    let name = file.display().to_string();
    let text = fs::read_to_string(&file).map_err(|error| {
        Failure::fixable(format!("cannot read {name}: {error}")).hint("name a price list in TOML or JSON")
    })?;
    let rows = price_list::read(&name, &text).map_err(|problems| Failure::from(problems).hint(UNCHANGED))?;
    let store = desk.store().await?;
    let before = prices::list(&store).await?;
    let changes = changes(&before, &rows);
    let same = rows.len().saturating_sub(changes.len());
    if desk.print.is_json() && dry_run {
        return Ok(desk
            .print
            .json(&json!({"changes": changes.iter().map(told).collect::<Vec<_>>()}))?);
    }
    if !desk.print.is_json() {
        tell(&mut desk.print, &changes)?;
    }
    if dry_run {
        let would = changes.len();
        return Ok(desk
            .print
            .line(&format!("{would} would change, {same} would stay: nothing was changed"))?);
    }
    if !changes.is_empty() && !yes {
        approve(desk, changes.len())?;
    }
    let done = prices::import(&store, &rows, now_ms()).await?;
    report(desk, &done, &changes)
}

/// A person at a terminal is asked; a script has to say beforehand that it means it.
fn approve(desk: &mut Desk<'_>, count: usize) -> Result<(), Failure> {
    let not_taken = |hint| Failure::fixable(format!("{count} models would change: {UNCHANGED}")).hint(hint);
    if desk.print.is_json() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(not_taken("look with --dry-run, then take the changes over with --yes"));
    }
    desk.print
        .talk(&format!("take over the prices of {count} models? [y/N]"))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(not_taken("answer y to take them over")),
    }
}

fn report(desk: &mut Desk<'_>, done: &Imported, changes: &[Change<'_>]) -> Result<(), Failure> {
    let Imported {
        version,
        added,
        changed,
        unchanged,
    } = done;
    let line = format!(
        "price list version {version}: {} added, {} changed, {unchanged} unchanged",
        added.len(),
        changed.len()
    );
    let changes: Vec<_> = changes.iter().map(told).collect();
    Ok(desk.print.done(
        &json!({
            "version": version, "added": added, "changed": changed, "unchanged": unchanged, "changes": changes,
        }),
        &line,
    )?)
}

const UNCHANGED: &str = "no price was changed";
