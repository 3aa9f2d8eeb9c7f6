//! `cargo xtask prove mutants`: the ledger with one thing changed at a time, of which a test of its own must fail.
//!
//! cargo-mutants lists the changes. Built one by one they would take hours, so all of them are put into one copy of the
//! tree, in which the hub ends above the ledger, each behind a switch that its tests are run with. What has no such form
//! is built by itself. What was caught once is not tried again: a run goes on where the one before stopped.

mod build;
mod run;
mod switch;
mod tree;

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};

use self::{
    build::Builder,
    run::{Outcome, Tests},
    switch::Mutant,
};
use crate::{check::tools, paths, say};

/// What `cargo xtask prove mutants` can be asked.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Try those again too that were caught before.
    #[arg(long)]
    fresh: bool,
    /// How many at once.
    #[arg(long, default_value_t = 3)]
    at_once: usize,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let tool = tools::mutants().context("cargo-mutants could not be had")?;
    let place = paths::target().join("mutants");
    let builder = Builder::new(&place, tool);
    let tree = tree::make(&place.join("tree"))?;
    let results = Results::open(&place.join("results"), options.fresh)?;
    say::heading("one build for all changes");
    let mutants = builder.list(&tree)?;
    let built = builder.switched(&tree, &mutants)?;
    say::line(&format!(
        "{} changes: {} do not compile, {} have to be built by themselves",
        mutants.len(),
        built.unviable.len(),
        built.alone.len()
    ));
    let tests = Tests::new(built.program, tree.join("relay-hub"));
    ensure!(
        tests.run(None) == Outcome::Missed,
        "the tests fail with nothing changed"
    );
    let todo: Vec<usize> = (0..mutants.len())
        .filter(|at| !built.unviable.contains(at) && !built.alone.contains(at))
        .filter(|at| !results.has(&mutants[*at].name))
        .collect();
    say::heading(&format!("{} changes, switched on one by one", todo.len()));
    let mut missed = switched_on(&todo, &mutants, &tests, &results, options.at_once)?;
    let alone: Vec<&Mutant> = built.alone.iter().map(|at| &mutants[*at]).collect();
    let alone: Vec<&Mutant> = alone.into_iter().filter(|mutant| !results.has(&mutant.name)).collect();
    say::heading(&format!("{} changes, built one by one", alone.len()));
    missed.extend(built_alone(&alone, &builder, &tree, &results)?);
    missed.iter().for_each(|name| say::line(&format!("SURVIVED: {name}")));
    say::line(&format!("{} changes, {} survivors", mutants.len(), missed.len()));
    Ok(if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn switched_on(
    todo: &[usize],
    mutants: &[Mutant],
    tests: &Tests,
    results: &Results,
    at_once: usize,
) -> Result<Vec<String>> {
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        while let Some(at) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, outcome) = (&mutants[*at].name, tests.run(Some(*at + 1)));
            results.tell(name, outcome)?;
            if outcome == Outcome::Missed {
                missed.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
        })
    })?;
    Ok(missed.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn built_alone(mutants: &[&Mutant], builder: &Builder, tree: &Path, results: &Results) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    for mutant in mutants {
        let outcome = match builder.alone(tree, mutant)? {
            Some(program) => Tests::new(program, tree.join("relay-hub")).run(None),
            None => Outcome::Unviable,
        };
        results.tell(&mutant.name, outcome)?;
        if outcome == Outcome::Missed {
            missed.push(mutant.name.clone());
        }
    }
    Ok(missed)
}

/// What was found so far, a line each, where the next run reads it.
struct Results {
    file: PathBuf,
    caught: BTreeSet<String>,
    lock: Mutex<usize>,
}

impl Results {
    fn open(file: &Path, is_fresh: bool) -> Result<Self> {
        if is_fresh && file.exists() {
            fs::remove_file(file)?;
        }
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        let caught = lines
            .filter(|(outcome, _)| *outcome != "missed")
            .map(|(_, name)| name.to_owned());
        Ok(Self {
            file: file.to_owned(),
            caught: caught.collect(),
            lock: Mutex::default(),
        })
    }

    fn has(&self, name: &str) -> bool {
        self.caught.contains(name)
    }

    fn tell(&self, name: &str, outcome: Outcome) -> Result<()> {
        let mut told = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        *told += 1;
        let line = format!("{} {name}", outcome.as_str());
        say::line(&format!("{told}: {line}"));
        let mut file = fs::File::options().append(true).create(true).open(&self.file)?;
        Ok(writeln!(file, "{line}")?)
    }
}
