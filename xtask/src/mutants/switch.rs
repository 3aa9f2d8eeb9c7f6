//! The form of a changed file in which each change has a switch. `xtask/switch` is the program that makes it.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::paths;

/// A change, as cargo-mutants lists it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Mutant {
    pub(super) name: String,
    pub(super) file: String,
    replacement: String,
    span: Place,
    #[serde(flatten)]
    more: Value,
}

/// Lines and columns count from one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    start: Point,
    end: Point,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Point {
    line: usize,
    column: usize,
}

#[derive(Deserialize)]
struct Changed {
    text: String,
    left: Vec<usize>,
}

/// What a changed file asks: which change is on, and what goes by it.
pub(super) const MODULE: &str = r#"
#[allow(missing_docs)]
pub mod mutant {
    pub fn is(number: usize) -> bool {
        static ON: std::sync::LazyLock<Option<usize>> =
            std::sync::LazyLock::new(|| std::env::var("RELAY_MUTANT").ok()?.parse().ok());
        *ON == Some(number)
    }

    pub fn compare<L: PartialOrd<R>, R>(left: &L, right: &R, operators: &[(usize, &str)]) -> bool {
        let (_, operator) = operators.iter().find(|(number, _)| *number == 0 || is(*number)).unwrap();
        match *operator {
            "<" => left < right,
            "<=" => left <= right,
            ">" => left > right,
            ">=" => left >= right,
            "==" => left == right,
            _ => left != right,
        }
    }

    pub fn and(number: usize, left: bool, right: impl FnOnce() -> bool) -> bool {
        if is(number) { left || right() } else { left && right() }
    }

    pub fn or(number: usize, left: bool, right: impl FnOnce() -> bool) -> bool {
        if is(number) { left && right() } else { left || right() }
    }

    pub fn either<'a, I>(
        is_first: bool,
        first: impl Iterator<Item = I> + 'a,
        second: impl Iterator<Item = I> + 'a,
    ) -> Box<dyn Iterator<Item = I> + 'a> {
        if is_first { Box::new(first) } else { Box::new(second) }
    }
}
"#;

/// The file with the numbered changes in it, and the numbers of those that it has not.
pub(super) fn put_in(text: &str, mutants: &[(usize, &Mutant)], target: &Path) -> Result<(String, Vec<usize>)> {
    let mut cargo = Command::new("cargo");
    let manifest = paths::root().join("xtask/switch/Cargo.toml");
    cargo
        .args(["run", "--quiet", "--locked", "--manifest-path"])
        .arg(manifest);
    cargo
        .env("CARGO_TARGET_DIR", target)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().context("cannot start cargo")?;
    let asked = json!({"text": text, "mutants": mutants}).to_string();
    // It reads all before it writes.
    child
        .stdin
        .take()
        .context("stdin is piped")?
        .write_all(asked.as_bytes())?;
    let said = child.wait_with_output()?;
    ensure!(said.status.success(), "the changes cannot be put into the file");
    let changed: Changed = serde_json::from_slice(&said.stdout)?;
    Ok((changed.text, changed.left))
}

/// The file with one change in it, as cargo-mutants makes it.
pub(super) fn changed(text: &str, mutant: &Mutant) -> String {
    let offset = |point: Point| {
        let lines = text.split_inclusive('\n').take(point.line.saturating_sub(1));
        let start: usize = lines.map(str::len).sum();
        let line = text.get(start..).unwrap_or_default();
        let column = line.char_indices().nth(point.column.saturating_sub(1));
        start + column.map_or(line.len(), |(at, _)| at)
    };
    let (before, after) = (
        text.get(..offset(mutant.span.start)),
        text.get(offset(mutant.span.end)..),
    );
    [
        before.unwrap_or_default(),
        &mutant.replacement,
        after.unwrap_or_default(),
    ]
    .concat()
}
