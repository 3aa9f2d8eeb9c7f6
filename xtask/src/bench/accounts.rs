//! `cargo xtask bench --accounts`: what the choice of an account and ways out of its own cost. The same hub with one
//! account, with one that is bound to an address, and with twenty of them, in turns; then the choice by itself.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    Size,
    load::{self, HUB, Load, Target},
    plan,
    turns::{median, paired},
};
use crate::{
    dist::Dist,
    say,
    stand::{Programs, Stand, child::check_interrupt},
};

/// The share of the throughput that counts as none: rounds of the same thing differ by as much.
const NOISE: f64 = 0.03;
/// What may be added to a call that is alone, half of the time.
const MOST_US: f64 = 20.0;
/// A running hub sees within this what a command changed.
const SEEN: Duration = Duration::from_secs(1);

/// The hubs that are compared: name, accounts, and whether each is bound to an address. The first one is the measure.
const HUBS: [(&str, usize, bool); 3] = [
    ("one account", 1, false),
    ("one, bound", 1, true),
    ("twenty, bound", 20, true),
];

/// Each round's value, by load and hub.
type Figures = BTreeMap<(String, &'static str), Vec<f64>>;

/// Measures all of them, and tells what each adds to the first.
pub(crate) fn run(programs: &Programs, are_built: bool, size: &Size) -> Result<(Value, String)> {
    let loads = Load::of(size)
        .into_iter()
        .filter(|load| matches!(load, Load::Unary(..)));
    let loads: Vec<Load> = loads.collect();
    let (mut rates, mut middles) = (Figures::new(), Figures::new());
    for round in 0..size.rounds {
        say::heading(&format!("round {} of {}", round + 1, size.rounds));
        // Anew in each round: where a process and its threads come to lie makes more than what is measured.
        let stands = stands(programs, size)?;
        for load in &loads {
            for at in 0..stands.len() {
                check_interrupt()?;
                let Some((name, _, stand)) = stands.get((at + round) % stands.len()) else {
                    continue;
                };
                let targets = Target::all(stand, None);
                let hub = targets.iter().find(|target| target.name == HUB);
                let report = load.run(programs, hub.context("the stand has a hub")?)?;
                say::line(&format!("{:<24} {name:<16} {}", load.name(), load.headline(&report)));
                let middle = report.pointer("/latency/p50_ms").and_then(Value::as_f64);
                rates.entry((load.name(), name)).or_default().push(load::rate(&report));
                middles.entry((load.name(), name)).or_default().extend(middle);
            }
        }
        for (name, is_bound, stand) in &stands {
            ensure!(
                !is_bound || leaves_by_its_ways(stand)?,
                "{name}: no call left by a way of its account"
            );
            say::line(stand.hub_tool(&["ledger", "verify"])?.trim());
        }
    }
    let (figures, mut text) = tell(&loads, &rates, &middles);
    // The choice by itself takes minutes more.
    say::line(&text);
    text.push_str(&format!("\n\n{}", choice(programs, are_built)?));
    Ok((figures, text))
}

/// One of each kind, with its name and whether its accounts are bound.
fn stands(programs: &Programs, size: &Size) -> Result<Vec<(&'static str, bool, Stand)>> {
    let mut stands = Vec::new();
    for (name, accounts, is_bound) in HUBS {
        let stand = Stand::start(programs.clone(), &plan(size))?;
        add(&stand, accounts, is_bound)?;
        stands.push((name, is_bound, stand));
    }
    thread::sleep(SEEN);
    Ok(stands)
}

/// Accounts of the stand's vendor up to this number, each with an address of its own to leave by.
fn add(stand: &Stand, accounts: usize, is_bound: bool) -> Result<()> {
    let secret = stand.folder().join("secret");
    fs::write(&secret, "bench-credential")?;
    let secret = secret.display().to_string();
    let url = stand.vendor_url.clone().context("the stand has a vendor")?;
    let base_url = format!("{url}/v1");
    for at in 0..accounts {
        let name = if at == 0 {
            "main".to_owned()
        } else {
            format!("account-{at}")
        };
        if at > 0 {
            let words = ["account", "add", &name, "--vendor", "openai", "--base-url", &base_url];
            stand.hub_tool(&[&words[..], &["--secret-file", &secret]].concat())?;
        }
        if is_bound {
            let source = format!("127.0.0.{}", at + 2);
            stand.hub_tool(&["way", "add", &name, "--account", &name, "--source", &source])?;
        }
    }
    Ok(())
}

/// Whether the hub connected by a way out of an account.
fn leaves_by_its_ways(stand: &Stand) -> Result<bool> {
    let listed: Value = serde_json::from_str(&stand.hub_tool(&["way", "list", "--json"])?)?;
    let mut ways = listed.as_array().into_iter().flatten();
    Ok(ways.any(|way| way.pointer("/health/connect_us").is_some_and(Value::is_number)))
}

fn tell(loads: &[Load], rates: &Figures, middles: &Figures) -> (Value, String) {
    let (mut figures, mut rows) = (Vec::new(), Vec::new());
    rows.push(
        [
            "load",
            "hub",
            "calls/s",
            "of one account's",
            "p50 ms",
            "added µs, p50",
            "goal",
        ]
        .map(str::to_owned)
        .to_vec(),
    );
    let first = HUBS.map(|(name, ..)| name)[0];
    for load in loads {
        for (name, ..) in HUBS {
            let of = |figures: &Figures, name| figures.get(&(load.name(), name)).cloned().unwrap_or_default();
            let share = paired(&of(rates, name), &of(rates, first), |now, plain| now / plain);
            let added = paired(&of(middles, name), &of(middles, first), |now, plain| {
                (now - plain) * 1_000.0
            });
            let (rate, middle) = (median(of(rates, name)), median(of(middles, name)));
            let goal = match (name == first, load.is_crowd()) {
                (true, _) => "–",
                (_, true) if share >= 1.0 - NOISE => "reached: ≥ 0.97",
                (_, true) => "missed: ≥ 0.97",
                (_, false) if added <= MOST_US => "reached: ≤ 20 µs",
                (_, false) => "missed: ≤ 20 µs",
            };
            figures.push(
                json!({"load": load.name(), "hub": name, "per_second": rate, "share": share,
                "p50_ms": middle, "added_p50_us": added, "goal": goal}),
            );
            rows.push(vec![
                load.name(),
                name.to_owned(),
                format!("{rate:.0}"),
                format!("{share:.3}"),
                format!("{middle:.3}"),
                format!("{added:+.1}"),
                goal.to_owned(),
            ]);
        }
    }
    (json!({ "accounts": figures }), say::markdown(&rows))
}

/// What `routing_bench` says of the choice by itself; built with the others, unless they were there.
fn choice(programs: &Programs, are_built: bool) -> Result<String> {
    say::heading("the choice by itself");
    if !are_built {
        Dist::as_before()?.example("routing_bench")?;
    }
    let mut bench = programs.command("examples/routing_bench");
    let said = bench.output().context("cannot start routing_bench")?;
    ensure!(
        said.status.success(),
        "routing_bench failed: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    Ok(String::from_utf8(said.stdout)?)
}
