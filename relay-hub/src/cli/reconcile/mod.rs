//! `relay-hub reconcile FILE`: a vendor's export beside the hub's books.

mod days;
mod file;
mod requests;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use relay_shared::config::Problems;
use serde::Serialize;

use self::file::{Column, Export};
use super::{Desk, Failure, books::Window, typed};
use crate::money::Nanos;

#[derive(Args)]
pub(super) struct Reconcile {
    /// The vendor's export: CSV with heads.
    file: PathBuf,
    /// What is compared: each request by the vendor's id, or the sums of a day and a model. Without it, requests where
    /// the file has ids.
    #[arg(long, value_enum)]
    by: Option<By>,
    /// The head of a column that is not found by itself: id, time, model, requests, input, cached, output or cost.
    #[arg(long = "column", value_name = "WHAT=HEAD")]
    columns: Vec<String>,
    #[command(flatten)]
    window: Window,
    /// Leave costs alone: tenants may pay otherwise than the operator.
    #[arg(long)]
    no_cost: bool,
    /// By how much a cost may differ, for each request.
    #[arg(long, value_name = "AMOUNT", default_value = "0.000001")]
    tolerance: String,
    /// How many differences are shown; all are counted.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Request,
    Day,
}

/// Something that is not the same on both sides.
#[derive(Debug, Serialize)]
struct Difference {
    /// `missing_here`, `missing_there`, `twice_there`, `tokens`, `requests`, `cost`.
    kind: &'static str,
    /// The vendor's id, or the day.
    what: String,
    /// The model, where a day's sums differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// The line of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// The call's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    /// What the books say.
    here: String,
    /// What the vendor says.
    there: String,
}

/// What the comparison came to.
#[derive(Debug, Default, Serialize)]
struct Findings {
    equal: bool,
    /// Requests, or days and models, that are on both sides.
    matched: u64,
    missing_here: u64,
    missing_there: u64,
    twice_there: u64,
    tokens_differ: u64,
    requests_differ: u64,
    costs_differ: u64,
    differences: Vec<Difference>,
    #[serde(skip)]
    limit: usize,
}

impl Findings {
    fn note(&mut self, difference: Difference) {
        let count = match difference.kind {
            MISSING_HERE => &mut self.missing_here,
            MISSING_THERE => &mut self.missing_there,
            TWICE_THERE => &mut self.twice_there,
            TOKENS => &mut self.tokens_differ,
            REQUESTS => &mut self.requests_differ,
            _ => &mut self.costs_differ,
        };
        *count = count.saturating_add(1);
        if self.differences.len() < self.limit {
            self.differences.push(difference);
        }
    }

    fn count(&self) -> u64 {
        let parts = [
            self.missing_here,
            self.missing_there,
            self.twice_there,
            self.tokens_differ,
            self.requests_differ,
            self.costs_differ,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// How costs are compared: not at all, or up to so many billionths.
#[derive(Clone, Copy)]
struct Costs(Option<i64>);

impl Costs {
    /// Whether two costs of so many requests differ.
    fn differ(self, here: i64, there: i64, requests: i64) -> bool {
        let Some(tolerance) = self.0 else { return false };
        i128::from(here).abs_diff(i128::from(there))
            > u128::from(tolerance.unsigned_abs()) * u128::from(requests.max(1).unsigned_abs())
    }
}

pub(super) async fn run(desk: &mut Desk<'_>, words: &Reconcile) -> Result<(), Failure> {
    let mut problems = Problems::new();
    let named = named(&words.columns, &mut problems);
    let window = words.window.read(&mut problems);
    let tolerance = words.tolerance.parse::<Nanos>();
    let tolerance = tolerance
        .map_err(|error| problems.push("--tolerance", error.to_string(), ""))
        .ok();
    if !problems.is_empty() {
        return Err(Failure::from(problems).into_usage());
    }
    let costs = Costs(tolerance.map(Nanos::get).filter(|_| !words.no_cost));
    let (by, export) = open(words, &named).map_err(|problems| Failure::from(problems).into_usage())?;
    let store = desk.books().await?;
    let mut findings = Findings {
        limit: words.limit as usize,
        ..Findings::default()
    };
    let wrong = match by {
        By::Request => requests::compare(&store, export, window, costs, &mut findings).await?,
        By::Day => days::compare(&store, export, window, costs, &mut findings).await?,
    };
    if !wrong.is_empty() {
        return Err(Failure::from(wrong).into_usage().hint("nothing was compared"));
    }
    findings.equal = findings.count() == 0;
    tell(desk, by, &findings)
}

/// The export, and what can be compared by it.
fn open(words: &Reconcile, named: &[(Column, String)]) -> Result<(By, Export), Problems> {
    let needed = |by| match by {
        By::Request => &[Column::Id][..],
        By::Day => &[Column::Time, Column::Model],
    };
    if let Some(by) = words.by {
        return Ok((by, Export::open(&words.file, named, needed(by))?));
    }
    let export = Export::open(&words.file, named, &[])?;
    if export.has(Column::Id) {
        return Ok((By::Request, export));
    }
    Ok((By::Day, Export::open(&words.file, named, needed(By::Day))?))
}

fn named(words: &[String], problems: &mut Problems) -> Vec<(Column, String)> {
    let mut named = Vec::new();
    for word in words {
        let parts = word.split_once('=').filter(|(_, head)| !head.trim().is_empty());
        let column = parts.and_then(|(what, _)| Column::ALL.into_iter().find(|column| column.name() == what.trim()));
        match (parts, column) {
            (Some((_, head)), Some(column)) => named.push((column, head.to_owned())),
            _ => {
                let names = Column::ALL.map(Column::name).join(", ");
                let hint = format!("write WHAT=HEAD, with one of {names}");
                problems.push("--column", format!("`{}` names no column", typed(word)), hint);
            }
        }
    }
    named
}

fn tell(desk: &mut Desk<'_>, by: By, findings: &Findings) -> Result<(), Failure> {
    let things = match by {
        By::Request => "requests",
        By::Day => "days and models",
    };
    if desk.print.is_json() {
        desk.print.json(findings)?;
    } else {
        let cells = |d: &Difference| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            vec![
                d.kind.to_owned(),
                or_dash(d.line.map(|line| line.to_string())),
                d.what.clone(),
                or_dash(d.model.clone().or_else(|| d.call.clone())),
                d.here.clone(),
                d.there.clone(),
            ]
        };
        let rows: Vec<_> = findings.differences.iter().map(cells).collect();
        if !rows.is_empty() {
            let heads = ["DIFFERENCE", "LINE", "ID OR DAY", "CALL OR MODEL", "HERE", "THERE"];
            desk.print.table(&heads, &rows)?;
        }
        let line = format!(
            "{} {things} on both sides; missing here {}, missing there {}, twice there {}, other tokens {}, \
             other requests {}, other costs {}",
            findings.matched,
            findings.missing_here,
            findings.missing_there,
            findings.twice_there,
            findings.tokens_differ,
            findings.requests_differ,
            findings.costs_differ,
        );
        desk.print.line(&line)?;
    }
    match findings.count() {
        0 => Ok(()),
        count => {
            let failure = Failure::fixable(format!("{count} differences between the vendor's export and the books"));
            Err(failure.hint("`relay-hub usage show ID` tells all of a call; docs/books.md says what can differ"))
        }
    }
}

const MISSING_HERE: &str = "missing_here";
const MISSING_THERE: &str = "missing_there";
const TWICE_THERE: &str = "twice_there";
const TOKENS: &str = "tokens";
const REQUESTS: &str = "requests";
const COST: &str = "cost";
