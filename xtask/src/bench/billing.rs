//! `cargo xtask bench --billing`: the same hub with its books and without, in turns: what booking costs.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Size,
    load::{self, HUB, Load, Target},
    plan,
};
use crate::{
    say,
    stand::{Programs, Stand, child::check_interrupt},
};

/// The share of the throughput that booking may take.
const MOST: f64 = 0.20;

/// Calls a second of each round, by load and by hub.
type Rates = BTreeMap<(String, &'static str), Vec<f64>>;

/// Measures both and tells the share that booking takes of each load's throughput.
pub(crate) fn run(billed: &Programs, unbilled: &Programs, size: &Size) -> Result<(Value, String)> {
    let loads = Load::of(size).into_iter().filter(Load::is_crowd);
    let loads: Vec<Load> = loads.collect();
    let mut rates = Rates::new();
    for round in 0..size.rounds {
        say::heading(&format!("round {} of {}", round + 1, size.rounds));
        // Each begins afresh, and the other one goes first every second time.
        let mut turns = [("billed", billed), ("unbilled", unbilled)];
        turns.rotate_left(round % 2);
        for (name, programs) in turns {
            let stand = Stand::start(programs.clone(), &plan(size))?;
            let targets = Target::all(&stand, None);
            let hub = targets.iter().find(|target| target.name == HUB);
            let hub = hub.context("the stand has a hub")?;
            for load in &loads {
                check_interrupt()?;
                let rate = load::rate(&load.run(programs, hub)?);
                say::line(&format!("{:<24} {name:<10} {rate:>9.0}/s", load.name()));
                rates.entry((load.name(), name)).or_default().push(rate);
            }
        }
    }
    Ok(tell(&loads, &mut rates))
}

fn tell(loads: &[Load], rates: &mut Rates) -> (Value, String) {
    let (mut figures, mut lines) = (Vec::new(), Vec::new());
    for load in loads {
        let mut median = |name| median(rates.entry((load.name(), name)).or_default());
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

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A folder like `billed`, but for a hub that books nothing.
pub(crate) fn unbilled(billed: &Programs, folder: &Path) -> Result<Programs> {
    billed.with_hub(&Programs::build_unbilled_hub()?, folder)
}
