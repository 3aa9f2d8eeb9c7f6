//! Builds of the changed tree: one with all changes, and one for each that cannot be switched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    switch::{self, Mutant},
    tree,
};
use crate::paths;

/// So often what does not compile is taken out: errors of one kind hide those of another.
const ROUNDS: usize = 8;

pub(super) struct Builder {
    /// Where cargo-mutants is.
    tool: PathBuf,
    target: PathBuf,
}

/// The tests with all changes in them.
pub(super) struct Built {
    pub(super) program: PathBuf,
    /// By their places in the list: what does not compile, and what cannot be switched.
    pub(super) unviable: BTreeSet<usize>,
    pub(super) alone: BTreeSet<usize>,
}

impl Builder {
    pub(super) fn new(place: &Path, tool: PathBuf) -> Self {
        let target = place.join("build");
        Self { tool, target }
    }

    /// All changes of the ledger; `.cargo/mutants.toml` says which are none.
    pub(super) fn list(&self, tree: &Path) -> Result<Vec<Mutant>> {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(tree).args(["mutants", "--list", "--json"]);
        cargo.env("PATH", paths::search_path(std::slice::from_ref(&self.tool)));
        let listed = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
        ensure!(listed.status.success(), "cargo-mutants lists nothing");
        Ok(serde_json::from_slice(&listed.stdout)?)
    }

    /// One program with every change that compiles, each behind its number, counted from one.
    pub(super) fn switched(&self, tree: &Path, mutants: &[Mutant]) -> Result<Built> {
        let (mut unviable, mut alone) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..ROUNDS {
            for file in files(mutants) {
                let text = fs::read_to_string(paths::root().join(file))?;
                let here = (1..).zip(mutants).filter(|(_, mutant)| mutant.file == file);
                let here =
                    here.filter(|(number, _)| !unviable.contains(&(number - 1)) && !alone.contains(&(number - 1)));
                let (changed, left) = switch::put_in(&text, &here.collect::<Vec<_>>(), &self.target)?;
                alone.extend(left.into_iter().map(|number| number - 1));
                tree::write(&tree.join(file), changed.as_bytes())?;
            }
            let messages = self.compile(tree)?;
            if let Some(program) = program(&messages) {
                return Ok(Built {
                    program,
                    unviable,
                    alone,
                });
            }
            let before = unviable.len() + alone.len();
            unviable.extend(at_fault(&messages, true).into_iter().map(|number| number - 1));
            if unviable.len() + alone.len() == before {
                // A change that takes what the line below needs compiles where it stands instead of it.
                alone.extend(at_fault(&messages, false).into_iter().map(|number| number - 1));
            }
            ensure!(
                unviable.len() + alone.len() > before,
                "the changed tree does not compile: {}",
                errors(&messages)
            );
        }
        anyhow::bail!("the changed tree does not compile")
    }

    /// The tests with this change alone; none where it does not compile.
    pub(super) fn alone(&self, tree: &Path, mutant: &Mutant) -> Result<Option<PathBuf>> {
        for file in files(std::slice::from_ref(mutant)) {
            let text = fs::read_to_string(paths::root().join(file))?;
            tree::write(&tree.join(file), switch::changed(&text, mutant).as_bytes())?;
        }
        Ok(program(&self.compile(tree)?))
    }

    /// What the compiler says of the hub's own tests.
    fn compile(&self, tree: &Path) -> Result<Vec<Value>> {
        let mut cargo = Command::new("cargo");
        cargo
            .current_dir(tree)
            .args(["test", "--package", "relay-hub", "--lib", "--no-run"]);
        cargo.args(["--message-format", "json"]).stderr(Stdio::null());
        cargo
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        let built = cargo.output().context("cannot start cargo")?;
        let lines = built
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }
}

fn files(mutants: &[Mutant]) -> BTreeSet<&str> {
    mutants.iter().map(|mutant| mutant.file.as_str()).collect()
}

fn program(messages: &[Value]) -> Option<PathBuf> {
    let mut built = messages
        .iter()
        .filter(|message| message["target"]["name"] == "relay_hub");
    built.find_map(|message| Some(message["executable"].as_str()?.into()))
}

fn problems(messages: &[Value]) -> impl Iterator<Item = &Value> {
    let problems = messages.iter().map(|message| &message["message"]);
    problems.filter(|problem| problem["level"] == "error")
}

fn errors(messages: &[Value]) -> String {
    let told = problems(messages).filter_map(|problem| problem["rendered"].as_str());
    told.take(3).collect::<Vec<_>>().join("\n")
}

/// The numbers of the changes in which the compiler found errors; or of those that it names beside them.
fn at_fault(messages: &[Value], is_primary: bool) -> BTreeSet<usize> {
    let spans = problems(messages)
        .filter_map(|problem| problem["spans"].as_array())
        .flatten();
    let lines = spans
        .filter(|span| span["is_primary"] == is_primary)
        .filter_map(|span| span["text"].as_array());
    let mut found = BTreeSet::new();
    for line in lines.flatten() {
        let text = line["text"].as_str().unwrap_or_default();
        let from = line["highlight_start"].as_u64().unwrap_or_default();
        found.extend(switched_at(text, usize::try_from(from).unwrap_or(usize::MAX)));
    }
    found
}

/// The numbers of the switches of a line to which a place in it belongs: of several values that a function may return
/// early the last one before the place, else all of them.
fn switched_at(text: &str, place: usize) -> BTreeSet<usize> {
    let numbered = |call: &'static str| {
        text.match_indices(call).filter_map(move |(at, call)| {
            let digits = text.get(at + call.len()..)?.trim_start_matches("crate::mutant::is(");
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            Some((at, digits.parse::<usize>().ok()?))
        })
    };
    let returned: BTreeMap<usize, usize> = numbered("if crate::mutant::is(").collect();
    if let Some((_, number)) = returned.range(..place).next_back() {
        return BTreeSet::from([*number]);
    }
    ["is(", "and(", "or(", "either("]
        .into_iter()
        .flat_map(numbered)
        .map(|(_, number)| number)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::switched_at;

    #[test]
    fn an_error_is_told_of_the_change_it_stands_in() {
        let line = "if crate::mutant::is(3) { return a; } if crate::mutant::is(14) { return b; } c";
        assert_eq!(switched_at(line, 33), BTreeSet::from([3]));
        assert_eq!(switched_at(line, 72), BTreeSet::from([14]));
        assert_eq!(switched_at("crate::mutant::and(7, a , || b)", 20), BTreeSet::from([7]));
    }
}
