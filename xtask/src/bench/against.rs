//! `cargo xtask bench --against HUB`: this hub and one that was built before, in turns: what the changes between them cost.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Size,
    load::Load,
    turns::{Rounds, paired},
};
use crate::{say, stand::Programs};

const NOW: &str = "now";
const BEFORE: &str = "before";

/// What each load is judged by: the figure's name, where its report has it, and its unit.
fn figure(load: Load) -> (&'static str, &'static str, &'static str) {
    match load {
        Load::Unary(1, _) => ("one call, p50", "/latency/p50_ms", "ms"),
        Load::Unary(..) => ("small calls", "/per_second", "/s"),
        Load::Flat(_) => ("events", "/per_second", "/s"),
        Load::Paced(_) | Load::Idle(_) => ("first byte, p50", "/first_byte/p50_ms", "ms"),
    }
}

/// Measures both and tells each load's figure of both, and the median of what this hub's is of the other's in one round.
pub(crate) fn run(now: &Programs, before: &Programs, size: &Size) -> Result<(Value, String)> {
    let loads = Load::of(size);
    let rounds = Rounds::run([(NOW, now), (BEFORE, before)], &loads, size)?;
    let mut rows = vec![
        ["load", "figure", BEFORE, NOW, "now / before"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut figures = Vec::new();
    for load in loads {
        let (name, path, unit) = figure(load);
        let (new, old) = (rounds.median(load, NOW, path), rounds.median(load, BEFORE, path));
        let share = paired(
            &rounds.all(load, NOW, path),
            &rounds.all(load, BEFORE, path),
            |new, old| new / old,
        );
        figures.push(
            json!({"load": load.name(), "figure": name, "unit": unit, "before": old, "now": new, "share": share}),
        );
        let say = |value: f64| match unit {
            "ms" => format!("{value:.3} ms"),
            _ => format!("{value:.0}/s"),
        };
        rows.push(vec![
            load.name(),
            name.to_owned(),
            say(old),
            say(new),
            format!("{share:.3}"),
        ]);
    }
    Ok((json!({ "against": figures }), say::markdown(&rows)))
}
