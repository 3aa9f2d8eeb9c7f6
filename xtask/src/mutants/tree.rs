//! The copy of the work tree in which things are changed. Its hub ends above the ledger: a build has a third to do.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::switch;
use crate::paths;

/// Where the hub ends. The store's tests name the price list.
const TOPS: [&str; 2] = ["ledger", "price_list"];

/// Brings the copy up to the work tree.
pub(super) fn make(tree: &Path) -> Result<PathBuf> {
    copy(&paths::root(), tree)?;
    end_above_the_ledger(tree)?;
    Ok(tree.to_owned())
}

/// What is the same is left as it is, so that it is not built again.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let listed = Command::new("git")
        .current_dir(from)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("cannot start git")?;
    ensure!(listed.status.success(), "the files of the work tree cannot be listed");
    let names = String::from_utf8(listed.stdout)?;
    let mut kept = BTreeSet::new();
    for name in names.split_terminator('\0') {
        // A file that is not there any more may be listed yet.
        if let Ok(wanted) = fs::read(from.join(name)) {
            write(&to.join(name), &wanted)?;
            kept.insert(to.join(name));
        }
    }
    remove_others(to, &kept)
}

/// Removes what an earlier copy had.
fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            remove_others(&path, kept)?;
        } else if !kept.contains(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Writes a file where it is not the same already.
pub(super) fn write(file: &Path, wanted: &[u8]) -> Result<()> {
    if fs::read(file).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, wanted).with_context(|| format!("{} cannot be written", file.display()))
}

/// Takes out of the copy's hub whatever the ledger may not name, and puts in what the switches ask.
fn end_above_the_ledger(tree: &Path) -> Result<()> {
    let layers = fs::read_to_string(tree.join("ARCHITECTURE.md"))?;
    let kept = below(&layers);
    ensure!(kept.contains("identity"), "ARCHITECTURE.md tells no layers");
    let root = tree.join("relay-hub/src/lib.rs");
    let text = fs::read_to_string(&root)?;
    let is_kept = |line: &&str| module(line).is_none_or(|name| kept.contains(name));
    let less: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    write(&root, format!("{less}{}", switch::MODULE).as_bytes())
}

/// The module that a line declares.
fn module(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(';')
}

/// The ledger and all that it may name, by the table of layers.
fn below(layers: &str) -> BTreeSet<&str> {
    let table = layers.split("```layers relay-hub\n").nth(1).unwrap_or_default();
    let table = table.split("```").next().unwrap_or_default();
    let named = |module: &str| {
        let mut rows = table.lines().filter_map(|line| line.split_once("->"));
        let row = rows.find(|(name, _)| name.trim() == module).map(|(_, names)| names);
        row.unwrap_or_default().split_whitespace()
    };
    let (mut found, mut left) = (BTreeSet::new(), TOPS.to_vec());
    while let Some(module) = left.pop() {
        if found.insert(module) {
            left.extend(named(module));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{below, module};

    #[test]
    fn what_the_ledger_may_name_is_kept() {
        let layers = "```layers relay-hub\nids -> –\nmoney -> ids\nledger -> money\ncredit -> ledger\n```\n";
        let kept = below(layers);
        assert!(["ids", "money", "ledger"].iter().all(|name| kept.contains(name)));
        assert!(!kept.contains("credit"));
        assert_eq!(module("pub mod credit;"), Some("credit"));
        assert_eq!(module("mod files;"), Some("files"));
        assert_eq!(module("//! mod files;"), None);
    }
}
