//! `cargo xtask bench --billing`: the same hub with its books and without, in turns: what booking costs.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Size, load::Load, turns::Rounds};
use crate::{dist::Dist, stand::Programs};

/// The share of the throughput that booking may take.
const MOST: f64 = 0.20;

/// Measures both and tells the share that booking takes of each load's throughput.
pub(crate) fn run(billed: &Programs, unbilled: &Programs, size: &Size) -> Result<(Value, String)> {
    let loads = Load::of(size).into_iter().filter(Load::is_crowd);
    let loads: Vec<Load> = loads.collect();
    let rounds = Rounds::run([("billed", billed), ("unbilled", unbilled)], &loads, size)?;
    Ok(tell(&loads, &rounds))
}

fn tell(loads: &[Load], rounds: &Rounds) -> (Value, String) {
    let (mut figures, mut lines) = (Vec::new(), Vec::new());
    for load in loads {
        let median = |name| rounds.median(*load, name, "/per_second");
        let (billed, unbilled) = (median("billed"), median("unbilled"));
        let share = 1.0 - billed / unbilled;
        let verdict = if share <= MOST { "reached" } else { "missed" };
        figures.push(json!({"load": load.name(), "billed": billed, "unbilled": unbilled, "share": share}));
        lines.push(format!(
            "{:<24} {billed:>8.0}/s with books  {unbilled:>8.0}/s without: they take {:>5.1} %  (goal {:.0} %: {verdict})",
            load.name(),
            share * 100.0,
            MOST * 100.0,
        ));
    }
    (json!({ "billing": figures }), lines.join("\n"))
}

/// A folder like `billed`, but for a hub that books nothing.
pub(crate) fn unbilled(billed: &Programs, folder: &Path) -> Result<Programs> {
    billed.with_hub(&Dist::as_before()?.unbilled_hub()?, folder)
}
