//! `relay-hub price …`.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use relay_protocol::Tokens;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment};
use crate::{
    price_list,
    store::prices::{self, Imported, PriceRow},
};

#[derive(Subcommand)]
pub(super) enum PriceCommand {
    /// Show the price list: per 1,000,000 tokens.
    List,
    /// Set one model's prices; what is not named stays as it is.
    Set(Set),
    /// Take over a price list file, one version for all its changes.
    Import {
        /// TOML; relay-hub's own prices.toml shows the shape.
        file: PathBuf,
        /// Show what would change, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub(super) struct Set {
    /// The vendor's model name.
    model: String,
    /// Input that was not cached, per 1,000,000 tokens.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    input: Option<String>,
    /// Input read from the vendor's cache; for a model that is not listed: as other input.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    cached: Option<String>,
    /// Input written to the vendor's cache; for a model that is not listed: as other input.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    cache_write: Option<String>,
    /// Output, reasoning included.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    output: Option<String>,
    /// Context window in tokens; for a model that is not listed: 400000.
    #[arg(long, value_name = "TOKENS")]
    context: Option<u64>,
    /// Most output of one call in tokens; for a model that is not listed: 128000.
    #[arg(long, value_name = "TOKENS")]
    max_output: Option<u64>,
}

pub(super) async fn run(desk: &mut Desk<'_>, command: PriceCommand) -> Result<(), Failure> {
    match command {
        PriceCommand::List => list(desk).await,
        PriceCommand::Set(words) => set(desk, words).await,
        PriceCommand::Import { file, dry_run } => import(desk, file, dry_run).await,
    }
}

async fn list(desk: &mut Desk<'_>) -> Result<(), Failure> {
    let all = prices::list(&desk.store().await?).await?;
    let rows: Vec<_> = all
        .iter()
        .map(|row| {
            let p = &row.price;
            let money = [p.input, p.cached, p.cache_write, p.output].map(|amount| amount.to_string());
            let sizes = [row.context, row.max_output].map(|tokens| tokens.to_string());
            let first = [row.model.clone(), p.version.to_string()];
            first
                .into_iter()
                .chain(money)
                .chain(sizes)
                .chain([moment(row.at_ms), row.source.clone()])
                .collect()
        })
        .collect();
    let heads = [
        "MODEL",
        "VERSION",
        "INPUT",
        "CACHED",
        "CACHE WRITE",
        "OUTPUT",
        "CONTEXT",
        "MAX OUTPUT",
        "SINCE",
        "SOURCE",
    ];
    let json: Vec<_> = all.iter().map(shown).collect();
    Ok(desk.print.list(&json, &heads, &rows)?)
}

fn shown(row: &PriceRow) -> serde_json::Value {
    let PriceRow {
        model,
        price,
        context,
        max_output,
        source,
        at_ms,
    } = row;
    json!({
        "model": model, "version": price.version, "input": price.input, "cached": price.cached,
        "cache_write": price.cache_write, "output": price.output, "context": context, "max_output": max_output,
        "source": source, "at_ms": at_ms,
    })
}

async fn set(desk: &mut Desk<'_>, words: Set) -> Result<(), Failure> {
    let Set {
        model,
        input,
        cached,
        cache_write,
        output,
        context,
        max_output,
    } = words;
    let store = desk.store().await?;
    let known = prices::list(&store).await?.into_iter().find(|row| row.model == model);
    let text = |given: Option<String>, pick: fn(&PriceRow) -> crate::money::Nanos| {
        given.or_else(|| known.as_ref().map(|row| pick(row).to_string()))
    };
    let input = text(input, |row| row.price.input);
    let cached = text(cached, |row| row.price.cached);
    let cache_write = text(cache_write, |row| row.price.cache_write);
    let output = text(output, |row| row.price.output);
    if input.is_none() || output.is_none() {
        let told: String = model.chars().filter(|c| !c.is_control()).take(80).collect();
        return Err(Failure::fixable(format!("`{told}` is not in the price list"))
            .hint("name both --input and --output, such as --input 1.25 --output 10"));
    }
    let size = |given: Option<u64>, pick: fn(&PriceRow) -> Tokens, default: u64| {
        given
            .or_else(|| known.as_ref().map(|row| pick(row).get()))
            .unwrap_or(default)
    };
    let context = size(context, |row| row.context, CONTEXT);
    let max_output = size(max_output, |row| row.max_output, MAX_OUTPUT);
    let units = [&input, &cached, &cache_write, &output].map(|text| text.as_deref());
    let row = price_list::one(&model, units, context, max_output)?;
    let done = prices::import(&store, &[row], now_ms()).await?;
    report(desk, &done)
}

async fn import(desk: &mut Desk<'_>, file: PathBuf, dry_run: bool) -> Result<(), Failure> {
    let name = file.display().to_string();
    let text = fs::read_to_string(&file).map_err(|error| Failure::fixable(format!("cannot read {name}: {error}")))?;
    let rows = price_list::read(&name, &text)?;
    let store = desk.store().await?;
    if !dry_run {
        let done = prices::import(&store, &rows, now_ms()).await?;
        return report(desk, &done);
    }
    let known = prices::list(&store).await?;
    let changes: Vec<_> = rows
        .iter()
        .filter_map(|row| match known.iter().find(|known| known.model == row.model) {
            Some(known) if known.says_the_same(row) => None,
            before => Some((before, row)),
        })
        .collect();
    let cells = |(before, row): &(Option<&PriceRow>, &PriceRow)| {
        let change = |pick: fn(&PriceRow) -> String| match before.map(pick) {
            Some(before) if before == pick(row) => before,
            Some(before) => format!("{before} -> {}", pick(row)),
            None => pick(row),
        };
        vec![
            row.model.clone(),
            if before.is_some() { "changed" } else { "added" }.to_owned(),
            change(|row| row.price.input.to_string()),
            change(|row| row.price.cached.to_string()),
            change(|row| row.price.output.to_string()),
        ]
    };
    let table: Vec<_> = changes.iter().map(cells).collect();
    let json: Vec<_> = changes
        .iter()
        .map(|(before, row)| json!({"before": before.map(shown), "after": shown(row)}))
        .collect();
    Ok(desk
        .print
        .list(&json, &["MODEL", "CHANGE", "INPUT", "CACHED", "OUTPUT"], &table)?)
}

fn report(desk: &mut Desk<'_>, done: &Imported) -> Result<(), Failure> {
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
    Ok(desk.print.done(
        &json!({"version": version, "added": added, "changed": changed, "unchanged": unchanged}),
        &line,
    )?)
}

const CONTEXT: u64 = 400_000;
const MAX_OUTPUT: u64 = 128_000;
