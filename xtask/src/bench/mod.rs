//! `cargo xtask bench`: what the relay costs, beside a plain reverse proxy and beside nothing, in one
//! run. The targets take turns in rounds and the medians are told, since no machine is quiet.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

use crate::{
    dist::Dist,
    say,
    stand::{
        FILES, Plan, Programs, Stand,
        child::{check_interrupt, end_with_us},
    },
};

mod accounts;
mod against;
mod billing;
mod load;
mod nginx;
mod report;
mod turns;

use load::{Load, Target};
use report::Report;

/// What `cargo xtask bench` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fewer rounds and calls: shows that all of it works, the figures are rough.
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON on stdout instead of the table.
    #[arg(long)]
    json: bool,
    /// Write the figures as JSON to this file too.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measure the programs in this folder instead of building them.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Measure instead what booking costs: the same hub with its books and without. Builds a second hub, which takes
    /// minutes.
    #[arg(long)]
    billing: bool,
    /// Measure instead what the choice of an account and its own ways out cost: one account, one that is bound to an
    /// address, twenty of them.
    #[arg(long, conflicts_with = "billing")]
    accounts: bool,
    /// Measure instead this hub and another one in turns: a `relay-hub` that was built before, of the same profile.
    #[arg(long, value_name = "HUB", conflicts_with_all = ["billing", "accounts"])]
    against: Option<PathBuf>,
}

/// How much is measured.
pub(crate) struct Size {
    rounds: usize,
    requests: usize,
    alone: usize,
    streams: usize,
    paced_events: usize,
    idle: &'static [usize],
}

const FULL: Size = Size {
    rounds: 5,
    requests: 20_000,
    alone: 2_000,
    streams: 160,
    paced_events: 300,
    idle: &[1_000, 5_000],
};
const QUICK: Size = Size {
    rounds: 1,
    requests: 4_000,
    alone: 500,
    streams: 32,
    paced_events: 100,
    idle: &[500, 1_000],
};

/// Enough to tell which code is hot.
const EXERCISE: Size = Size {
    rounds: 1,
    requests: 5_000,
    alone: 500,
    streams: 32,
    paced_events: 100,
    idle: &[],
};

/// One agent's connection carries all streams of a load.
const CALLS_PER_CONNECTION: usize = 6_000;

/// Builds, measures, tells.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    end_with_us()?;
    let size = if options.quick { &QUICK } else { &FULL };
    let (programs, build) = match &options.programs {
        Some(folder) => (Programs::built(folder)?, "programs that were built before"),
        None => {
            let dist = Dist::train()?;
            (dist.programs()?, dist.about())
        }
    };
    if options.billing {
        return what_booking_costs(options, &programs, size);
    }
    if options.accounts {
        let (figures, text) = accounts::run(&programs, options.programs.is_some(), size)?;
        return tell(options, &figures, &text);
    }
    if let Some(hub) = &options.against {
        let folder = tempfile::tempdir()?;
        let before = programs.with_hub(hub, folder.path())?;
        let (figures, text) = against::run(&programs, &before, size)?;
        return tell(options, &figures, &text);
    }
    let mut report = Report::new(size, build);
    rounds(&programs, size, &mut report)?;
    memory(&programs, size, &mut report)?;
    tell(options, &report.json(), &report.text())
}

fn what_booking_costs(options: &Options, programs: &Programs, size: &Size) -> Result<ExitCode> {
    say::heading("build: a hub that books nothing, to compare with");
    let folder = tempfile::tempdir()?;
    let unbilled = billing::unbilled(programs, folder.path())?;
    let (figures, text) = billing::run(programs, &unbilled, size)?;
    tell(options, &figures, &text)
}

fn tell(options: &Options, figures: &serde_json::Value, text: &str) -> Result<ExitCode> {
    if let Some(file) = &options.out {
        let text = serde_json::to_string_pretty(figures)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    if options.json {
        say::data(&figures.to_string());
    } else {
        say::heading("result");
        say::data(text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Has the programs do once what the rounds have them do, by each way into the hub.
pub(crate) fn exercise(programs: &Programs) -> Result<()> {
    let stand = Stand::start(programs.clone(), &plan(&EXERCISE))?;
    let targets = Target::all(&stand, None);
    for target in targets.iter().filter(|target| target.name != load::DIRECT) {
        for load in Load::of(&EXERCISE) {
            check_interrupt()?;
            let report = load.run(programs, target)?;
            show(load, target, &report);
        }
    }
    Ok(())
}

fn rounds(programs: &Programs, size: &Size, report: &mut Report) -> Result<()> {
    say::heading("set-up");
    let stand = Stand::start(programs.clone(), &plan(size))?;
    let nginx = nginx::Nginx::start(&stand)?;
    report.nginx = nginx.as_ref().map(|nginx| nginx.about.clone());
    let targets = Target::all(&stand, nginx.as_ref());
    for round in 0..size.rounds {
        say::heading(&format!("round {} of {}", round + 1, size.rounds));
        for load in Load::of(size) {
            for at in 0..targets.len() {
                check_interrupt()?;
                let target = &targets[(at + round) % targets.len()];
                let Some(measured) = attempt(programs, target, load)? else {
                    continue;
                };
                show(load, target, &measured);
                report.add(target.name, load, &measured);
            }
        }
    }
    say::heading("books");
    say::line(stand.hub_tool(&["ledger", "verify"])?.trim());
    Ok(())
}

/// Each target begins afresh: what earlier calls left in an allocator would hide what a stream costs.
fn memory(programs: &Programs, size: &Size, report: &mut Report) -> Result<()> {
    say::heading("memory of idle streams");
    let names: Vec<&'static str> = report.targets();
    for name in names.into_iter().filter(|name| *name != load::DIRECT) {
        check_interrupt()?;
        let stand = Stand::start(programs.clone(), &plan(size))?;
        let nginx = nginx::Nginx::start(&stand)?;
        let targets = Target::all(&stand, nginx.as_ref());
        let Some(target) = targets.iter().find(|target| target.name == name) else {
            continue;
        };
        let load = Load::Idle(size.idle);
        let Some(measured) = attempt(programs, target, load)? else {
            continue;
        };
        show(load, target, &measured);
        report.add(target.name, load, &measured);
    }
    Ok(())
}

fn show(load: Load, target: &Target, report: &serde_json::Value) {
    say::line(&format!(
        "{:<24} {:<10} {}",
        load.name(),
        target.name,
        load.headline(report)
    ));
}

/// A load that fails is told and leaves a gap in the table; an interrupt ends the run.
fn attempt(programs: &Programs, target: &Target, load: Load) -> Result<Option<serde_json::Value>> {
    let measured = load.run(programs, target);
    check_interrupt()?;
    match measured {
        Ok(measured) => Ok(Some(measured)),
        Err(error) => {
            say::line(&format!("{:<24} {:<10} FAILED: {error:#}", load.name(), target.name));
            Ok(None)
        }
    }
}

fn plan(size: &Size) -> Plan {
    Plan {
        vendor: Some(Vec::new()),
        base_url: None,
        credential: "bench-credential".to_owned(),
        hub_toml: format!("limits.calls_per_connection = {CALLS_PER_CONNECTION}\n"),
        models: load::models(size),
        files: FILES,
    }
}
