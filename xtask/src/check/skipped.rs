//! The tests that could not run here: they tell so in a file, since for their runner they passed.

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::count::Counts;
use crate::paths;

/// Each test that skipped itself, by name, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped(BTreeMap<String, String>);

impl Skipped {
    /// Forgets what an earlier run told.
    pub(crate) fn forget() {
        fs::remove_file(file()).ok();
    }

    /// What the last run told.
    pub(crate) fn told() -> Self {
        Self::parse(&fs::read_to_string(file()).unwrap_or_default())
    }

    /// A line for each: the name, a tab, the reason.
    fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let (name, why) = line.split_once('\t')?;
            Some((name.to_owned(), why.to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// Counts them as what they are.
    pub(crate) fn correct(&self, counts: &mut Counts) {
        let skipped = u64::try_from(self.0.len()).unwrap_or(u64::MAX).min(counts.passed);
        counts.passed -= skipped;
        counts.skipped += skipped;
    }

    /// Name and reason of each.
    pub(crate) fn all(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter()
    }
}

/// `tests/harness/skip.rs` writes it.
fn file() -> PathBuf {
    paths::target().join("skipped.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_skipped_itself_counts_once_and_not_as_passed() {
        let told = Skipped::parse("codex::a\tno npm\nbrowser::b\tno chromium\ncodex::a\tno npm\nodd line\n");
        let mut counts = Counts {
            passed: 10,
            failed: 1,
            skipped: 3,
        };
        told.correct(&mut counts);
        let corrected = Counts {
            passed: 8,
            failed: 1,
            skipped: 5,
        };
        assert_eq!(counts, corrected);
        let names: Vec<_> = told.all().map(|(name, _)| name).collect();
        assert_eq!(names, ["browser::b", "codex::a"]);
    }
}
