//! Day by day and model by model: what a vendor's own export has, which sums its requests.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use relay_shared::config::Problems;

use super::{
    super::Failure,
    COST, Costs, Difference, Findings, MISSING_HERE, MISSING_THERE, REQUESTS, TOKENS,
    file::{Column, Export},
};
use crate::{
    money::Nanos,
    store::{
        Store,
        usage::{self, Filter, Group},
    },
};

/// The sums of a day and a model.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    requests: i64,
    input: i64,
    cached: i64,
    output: i64,
    cost: i64,
    line: u64,
}

/// Day and model.
type Key = (String, String);

/// Compares; what is wrong with the file's lines instead, where anything is.
pub(super) async fn compare(
    store: &Store,
    mut export: Export,
    window: (Option<i64>, Option<i64>),
    costs: Costs,
    findings: &mut Findings,
) -> Result<Problems, Failure> {
    let has = |column| export.has(column);
    let columns = [
        Column::Requests,
        Column::Input,
        Column::Cached,
        Column::Output,
        Column::Cost,
    ]
    .map(has);
    let mut there = BTreeMap::<Key, Sums>::new();
    while let Some(line) = export.next() {
        let Some(at_ms) = line.at_ms else {
            export.wrong(
                line.figures.line,
                "the time is empty".to_owned(),
                "a line without a day cannot be compared",
            );
            continue;
        };
        let is_within = window.0.is_none_or(|since| at_ms >= since) && window.1.is_none_or(|until| at_ms < until);
        if !is_within || (line.model.is_empty() && line.requests.is_none_or(|requests| requests == 0)) {
            // An export has a line for a day without requests.
            continue;
        }
        let sums = there.entry((day(at_ms), family(&line.model).to_owned())).or_default();
        sums.add(&Sums {
            requests: line.requests.unwrap_or(1),
            input: line.figures.input.unwrap_or(0),
            cached: line.figures.cached.unwrap_or(0),
            output: line.figures.output.unwrap_or(0),
            cost: line.figures.cost.unwrap_or(0),
            line: line.figures.line,
        });
    }
    let problems = export.end();
    if problems.is_empty() {
        let here = here(store, window, &there).await?;
        differences(&here, &there, columns, costs, findings);
    }
    Ok(problems)
}

impl Sums {
    fn add(&mut self, more: &Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.input = self.input.saturating_add(more.input);
        self.cached = self.cached.saturating_add(more.cached);
        self.output = self.output.saturating_add(more.output);
        self.cost = self.cost.saturating_add(more.cost);
        self.line = more.line;
    }
}

/// The books of the window; without one, of the days that the file has.
async fn here(
    store: &Store,
    window: (Option<i64>, Option<i64>),
    there: &BTreeMap<Key, Sums>,
) -> Result<BTreeMap<Key, Sums>, Failure> {
    let filter = Filter {
        since_ms: window.0,
        until_ms: window.1,
        has_usage: true,
        ..Filter::default()
    };
    let (first, last) = (there.keys().next(), there.keys().next_back());
    let mut here = BTreeMap::<Key, Sums>::new();
    usage::sums(store, &filter, &[Group::Day, Group::UpstreamModel], |row| {
        let mut values = row.group.values().map(|value| value.unwrap_or_default().to_owned());
        let (day, model) = (values.next().unwrap_or_default(), values.next().unwrap_or_default());
        let is_before = window.0.is_none() && first.is_none_or(|(first, _)| day < *first);
        let is_after = window.1.is_none() && last.is_none_or(|(last, _)| day > *last);
        if !is_before && !is_after {
            let figures = row.figures;
            here.entry((day, family(&model).to_owned())).or_default().add(&Sums {
                requests: figures.calls,
                input: figures.input,
                cached: figures.cached,
                output: figures.output,
                cost: figures.cost.get(),
                line: 0,
            });
        }
        Ok::<_, Failure>(())
    })
    .await?;
    Ok(here)
}

fn differences(
    here: &BTreeMap<Key, Sums>,
    there: &BTreeMap<Key, Sums>,
    columns: [bool; 5],
    costs: Costs,
    findings: &mut Findings,
) {
    let [has_requests, has_input, has_cached, has_output, has_cost] = columns;
    for (key, theirs) in there {
        let Some(ours) = here.get(key) else {
            findings.note(difference(
                MISSING_HERE,
                key,
                theirs.line,
                "-".to_owned(),
                tokens(theirs),
            ));
            continue;
        };
        findings.matched = findings.matched.saturating_add(1);
        let line = theirs.line;
        if has_requests && ours.requests != theirs.requests {
            let (ours, theirs) = (ours.requests.to_string(), theirs.requests.to_string());
            findings.note(difference(REQUESTS, key, line, ours, theirs));
        }
        let other = (has_input && ours.input != theirs.input)
            || (has_cached && ours.cached != theirs.cached)
            || (has_output && ours.output != theirs.output);
        if other {
            findings.note(difference(TOKENS, key, line, tokens(ours), tokens(theirs)));
        }
        if has_cost && costs.differ(ours.cost, theirs.cost, ours.requests) {
            let cost = |sums: &Sums| Nanos::new(sums.cost).to_string();
            findings.note(difference(COST, key, line, cost(ours), cost(theirs)));
        }
    }
    for (key, ours) in here.iter().filter(|(key, _)| !there.contains_key(*key)) {
        let mut missing = difference(MISSING_THERE, key, 0, tokens(ours), "-".to_owned());
        missing.line = None;
        findings.note(missing);
    }
}

fn difference(kind: &'static str, (day, model): &Key, line: u64, here: String, there: String) -> Difference {
    Difference {
        kind,
        what: day.clone(),
        model: Some(model.clone()),
        line: Some(line),
        call: None,
        here,
        there,
    }
}

fn tokens(sums: &Sums) -> String {
    let Sums {
        requests,
        input,
        cached,
        output,
        ..
    } = sums;
    format!("requests {requests} in {input} cached {cached} out {output}")
}

fn day(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// A model without the date of its snapshot: vendors name on a bill the snapshot that an alias stood for.
fn family(model: &str) -> &str {
    let Some((family, date)) = model
        .len()
        .checked_sub(DATE.len())
        .and_then(|at| model.split_at_checked(at))
    else {
        return model;
    };
    let fits = date.bytes().zip(DATE.bytes()).all(|(has, wants)| match wants {
        b'0' => has.is_ascii_digit(),
        wants => has == wants,
    });
    if fits { family } else { model }
}

const DATE: &str = "-0000-00-00";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_belongs_to_its_model() {
        assert_eq!(family("gpt-5-2025-08-07"), "gpt-5");
        assert_eq!(
            [family("gpt-5"), family("o3-2025-4-7"), family("é-2025-08-07")],
            ["gpt-5", "o3-2025-4-7", "é"]
        );
    }
}
