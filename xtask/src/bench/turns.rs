//! Two builds of the hub under the same loads, in turns: what differs between them, and not between minutes of the machine.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    Size,
    load::{HUB, Load, Target},
    plan,
};
use crate::{
    say,
    stand::{Programs, Stand, child::check_interrupt},
};

/// What was measured in each round, by load and by side.
pub(crate) struct Rounds(BTreeMap<(String, &'static str), Vec<Value>>);

impl Rounds {
    /// Each side begins every round afresh, and the other one goes first every second time.
    pub(crate) fn run(sides: [(&'static str, &Programs); 2], loads: &[Load], size: &Size) -> Result<Self> {
        let mut reports = BTreeMap::<_, Vec<Value>>::new();
        for round in 0..size.rounds {
            say::heading(&format!("round {} of {}", round + 1, size.rounds));
            let mut turns = sides;
            turns.rotate_left(round % 2);
            for (name, programs) in turns {
                let stand = Stand::start(programs.clone(), &plan(size))?;
                let targets = Target::all(&stand, None);
                let hub = targets.iter().find(|target| target.name == HUB);
                let hub = hub.context("the stand has a hub")?;
                for load in loads {
                    check_interrupt()?;
                    let report = load.run(programs, hub)?;
                    say::line(&format!("{:<24} {name:<10} {}", load.name(), load.headline(&report)));
                    reports.entry((load.name(), name)).or_default().push(report);
                }
            }
        }
        Ok(Self(reports))
    }

    /// What all rounds of one side say at this place of their reports.
    pub(crate) fn all(&self, load: Load, side: &'static str, path: &str) -> Vec<f64> {
        let reports = self.0.get(&(load.name(), side)).into_iter().flatten();
        reports
            .filter_map(|report| report.pointer(path).and_then(Value::as_f64))
            .collect()
    }

    pub(crate) fn median(&self, load: Load, side: &'static str, path: &str) -> f64 {
        median(self.all(load, side, path))
    }
}

/// The median of what rounds side by side make.
pub(crate) fn paired(one: &[f64], other: &[f64], make: impl Fn(f64, f64) -> f64) -> f64 {
    median(one.iter().zip(other).map(|(one, other)| make(*one, *other)).collect())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
