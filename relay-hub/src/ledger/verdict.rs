//! What the books say about themselves: a verdict on each thing that must always hold. Knows no row.

use serde::Serialize;

/// Something that must always hold of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Invariant {
    /// Each account has what its transfers make of it.
    I1,
    /// Each account holds what its open holds make.
    I2,
    /// No account is below its floor.
    I3,
    /// A call has one hold, a hold one settlement, and the call's row says what was charged.
    I4,
    /// All accounts together have nothing: what one has another gave.
    I5,
    /// Transfers never changed: the chain of hashes is whole, to its end, and the guards are there.
    I10,
    /// The tables took everything that is durable.
    Posted,
}

impl Invariant {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I10,
        Self::Posted,
    ];

    /// Its short name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::I1 => "I1",
            Self::I2 => "I2",
            Self::I3 => "I3",
            Self::I4 => "I4",
            Self::I5 => "I5",
            Self::I10 => "I10",
            Self::Posted => "posted",
        }
    }

    /// What it says.
    pub const fn says(self) -> &'static str {
        match self {
            Self::I1 => "each account has what its transfers make",
            Self::I2 => "each account holds what its open holds make",
            Self::I3 => "no account is below its floor",
            Self::I4 => "each call is held and settled once, and its row says what was charged",
            Self::I5 => "all accounts together have nothing",
            Self::I10 => "no transfer was changed, added or taken away behind the hub's back",
            Self::Posted => "the tables took everything that is durable",
        }
    }
}

/// The verdict on one invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its short name.
    pub invariant: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// Where it does not, at most twenty lines.
    pub problems: Vec<String>,
    /// How many more there are.
    pub more: u64,
}

/// What the books say about themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether everything holds.
    pub ok: bool,
    /// Accounts looked at.
    pub accounts: u64,
    /// Holds looked at.
    pub holds: u64,
    /// Holds that are open.
    pub open_holds: u64,
    /// Transfers looked at; the chain covers all of them.
    pub transfers: u64,
    /// The last transfer's hash: whoever wrote it down can tell later whether the past was changed.
    pub head: String,
    /// One for each invariant.
    pub invariants: Vec<Finding>,
    /// What is wrong, all of it together.
    pub problems: Vec<String>,
}

/// A verdict as it grows.
#[derive(Debug)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn new() -> Self {
        let all = Invariant::ALL.iter().map(|invariant| Finding {
            invariant: invariant.name(),
            says: invariant.says(),
            ok: true,
            problems: Vec::new(),
            more: 0,
        });
        Self(all.collect())
    }

    /// Something does not hold.
    pub(super) fn wrong(&mut self, invariant: Invariant, problem: String) {
        for finding in &mut self.0 {
            if finding.invariant != invariant.name() {
                continue;
            }
            finding.ok = false;
            if finding.problems.len() < MOST_PROBLEMS {
                finding.problems.push(problem);
            } else {
                finding.more = finding.more.saturating_add(1);
            }
            return;
        }
    }

    pub(super) fn holds(&self, invariant: Invariant) -> bool {
        self.0
            .iter()
            .all(|finding| finding.ok || finding.invariant != invariant.name())
    }

    pub(super) fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

const MOST_PROBLEMS: usize = 20;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_invariant_has_a_name_and_a_sentence_of_its_own() {
        let findings = Findings::new().into_vec();
        let names: HashSet<_> = findings.iter().map(|finding| finding.invariant).collect();
        let sentences: HashSet<_> = findings.iter().map(|finding| finding.says).collect();
        assert_eq!(
            (names.len(), sentences.len()),
            (Invariant::ALL.len(), Invariant::ALL.len())
        );
    }

    #[test]
    fn twenty_problems_are_told_and_the_others_counted() {
        let mut findings = Findings::new();
        for number in 0..23 {
            findings.wrong(Invariant::I4, number.to_string());
        }
        assert!(!findings.holds(Invariant::I4) && findings.holds(Invariant::I5));
        for finding in findings.into_vec() {
            let told = (finding.ok, finding.problems.len(), finding.more);
            let wanted = if finding.invariant == "I4" {
                (false, 20, 3)
            } else {
                (true, 0, 0)
            };
            assert_eq!(told, wanted, "{}", finding.invariant);
        }
    }
}
