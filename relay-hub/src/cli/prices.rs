//! `relay-hub price …`.

use std::{fs, path::PathBuf};

use clap::{Args, Subcommand};
use relay_protocol::Tokens;
use serde_json::json;

use super::{Desk, Failure, now_ms, print::moment, typed};
use crate::{
    money::{Nanos, Price},
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
        /// TOML, or JSON with the same keys; relay-hub's own prices.toml shows the shape.
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
                .chain([moment(row.at_ms)])
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
    let before = prices::list(&store).await?;
    let known = before.iter().find(|row| row.model == model);
    // A price of the cache that is that of other input says that there is none of its own: it follows.
    let text = |given: Option<String>, pick: fn(&Price) -> Nanos, follows: bool| {
        let kept = known.filter(|row| !follows || pick(&row.price) != row.price.input);
        given.or_else(|| kept.map(|row| pick(&row.price).to_string()))
    };
    let input = text(input, |price| price.input, false);
    let cached = text(cached, |price| price.cached, true);
    let cache_write = text(cache_write, |price| price.cache_write, true);
    let output = text(output, |price| price.output, false);
    if input.is_none() || output.is_none() {
        return Err(
            Failure::fixable(format!("`{}` is not in the price list", typed(&model)))
                .hint("name both --input and --output, such as --input 1.25 --output 10"),
        );
    }
    let size = |given: Option<u64>, pick: fn(&PriceRow) -> Tokens, default: u64| {
        given.or_else(|| known.map(|row| pick(row).get())).unwrap_or(default)
    };
    let context = size(context, |row| row.context, CONTEXT);
    let max_output = size(max_output, |row| row.max_output, MAX_OUTPUT);
    let units = [
        ("input", input),
        ("cached", cached),
        ("cache_write", cache_write),
        ("output", output),
    ];
    let rows = [price_list::one(&model, units, context, max_output)?];
    let done = prices::import(&store, &rows, now_ms()).await?;
    report(desk, &done, &changes(&before, &rows))
}

async fn import(desk: &mut Desk<'_>, file: PathBuf, dry_run: bool) -> Result<(), Failure> {
    let name = file.display().to_string();
    let text = fs::read_to_string(&file).map_err(|error| {
        Failure::fixable(format!("cannot read {name}: {error}")).hint("name a price list in TOML or JSON")
    })?;
    let rows = price_list::read(&name, &text).map_err(|problems| Failure::from(problems).hint(UNCHANGED))?;
    let store = desk.store().await?;
    let before = prices::list(&store).await?;
    let changes = changes(&before, &rows);
    if !dry_run {
        let done = prices::import(&store, &rows, now_ms()).await?;
        return report(desk, &done, &changes);
    }
    if desk.print.is_json() {
        return Ok(desk
            .print
            .json(&json!({"changes": changes.iter().map(told).collect::<Vec<_>>()}))?);
    }
    tell(desk, &changes)?;
    let (would, same) = (changes.len(), rows.len().saturating_sub(changes.len()));
    Ok(desk
        .print
        .line(&format!("{would} would change, {same} would stay: nothing was changed"))?)
}

/// A model whose line is not what it was; nothing before where it was not listed.
type Change<'a> = (Option<&'a PriceRow>, &'a PriceRow);

fn changes<'a>(before: &'a [PriceRow], after: &'a [PriceRow]) -> Vec<Change<'a>> {
    let known = |row: &PriceRow| before.iter().find(|known| known.model == row.model);
    let pairs = after.iter().map(|row| (known(row), row));
    pairs
        .filter(|(before, row)| before.is_none_or(|before| !before.says_the_same(row)))
        .collect()
}

fn told((before, row): &Change<'_>) -> serde_json::Value {
    json!({"model": row.model, "before": before.map(figures), "after": figures(row)})
}

fn tell(desk: &mut Desk<'_>, changes: &[Change<'_>]) -> Result<(), Failure> {
    for (before, row) in changes {
        desk.print.line(&difference(*before, row))?;
    }
    Ok(())
}

/// One line that says what became of a model.
fn difference(before: Option<&PriceRow>, after: &PriceRow) -> String {
    let now = columns(after).into_iter();
    let parts: Vec<_> = match before.map(columns) {
        None => now.map(|(name, value)| format!("{name} {value}")).collect(),
        Some(then) => now
            .zip(then)
            .filter(|((_, now), (_, then))| now != then)
            .map(|((name, now), (_, then))| format!("{name} {then} -> {now}"))
            .collect(),
    };
    let verb = if before.is_some() { "changed" } else { "added" };
    format!("{verb} {}: {}", after.model, parts.join(", "))
}

fn columns(row: &PriceRow) -> [(&'static str, String); 6] {
    let Price {
        version: _,
        input,
        cached,
        cache_write,
        output,
    } = &row.price;
    [
        ("input", input.to_string()),
        ("cached", cached.to_string()),
        ("cache write", cache_write.to_string()),
        ("output", output.to_string()),
        ("context", row.context.to_string()),
        ("max output", row.max_output.to_string()),
    ]
}

fn figures(row: &PriceRow) -> serde_json::Value {
    json!({
        "input": row.price.input, "cached": row.price.cached, "cache_write": row.price.cache_write,
        "output": row.price.output, "context": row.context, "max_output": row.max_output,
    })
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
    if !desk.print.is_json() {
        tell(desk, changes)?;
    }
    let changes: Vec<_> = changes.iter().map(told).collect();
    Ok(desk.print.done(
        &json!({
            "version": version, "added": added, "changed": changed, "unchanged": unchanged, "changes": changes,
        }),
        &line,
    )?)
}

const UNCHANGED: &str = "no price was changed";
const CONTEXT: u64 = 400_000;
const MAX_OUTPUT: u64 = 128_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_what_differs() {
        let list = |input: &str| {
            let text = format!("[[model]]\nname='m'\ninput='{input}'\ncached='0'\noutput='2'\ncontext=3\nmax_output=4");
            price_list::read("p", &text).unwrap()
        };
        let (before, after) = (list("1"), list("1.5"));
        let changed = changes(&before, &after);
        assert_eq!(
            difference(changed[0].0, changed[0].1),
            "changed m: input 1.00 -> 1.50, cache write 1.00 -> 1.50"
        );
        assert!(changes(&before, &before).is_empty());
        assert!(difference(None, &after[0]).starts_with("added m: input 1.50, cached 0.00"));
    }
}
