//! What routing counts for whoever watches the hub. Labels are words of ours: no account, no tenant.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{ledger::Choice, metrics::Page, vendor::Trouble};

/// Everything since the hub started.
#[derive(Default)]
pub(super) struct Counts {
    choices: [AtomicU64; Choice::ALL.len()],
    troubles: [AtomicU64; Trouble::ALL.len()],
    turns: [AtomicU64; CACHED.len()],
    refused: AtomicU64,
    unnoted: AtomicU64,
}

/// How much of a turn's input came from the vendor's cache, in hundredths: up to here.
const CACHED: [(u64, &str); 4] = [(10, "0-10"), (50, "10-50"), (90, "50-90"), (u64::MAX, "90-100")];

impl Counts {
    pub(super) fn chosen(&self, choice: Choice) {
        add(self.choices.get(choice as usize));
    }

    pub(super) fn met(&self, trouble: Trouble) {
        add(self.troubles.get(trouble as usize));
    }

    pub(super) fn turn(&self, cached: u64) {
        let at = CACHED.iter().position(|(most, _)| cached < *most);
        add(at.and_then(|at| self.turns.get(at)));
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn unnoted(&self) {
        self.unnoted.fetch_add(1, Relaxed);
    }

    pub(super) fn tell(&self, page: &mut Page, unwritten_pins: u64) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let choices = Choice::ALL.iter().zip(&self.choices);
        let choices = choices.map(|(choice, count)| ([("choice", choice.as_str())], read(count)));
        page.counters(
            "relay_choices",
            "Calls that were given an account, by the reason.",
            choices,
        );
        let troubles = Trouble::ALL.iter().zip(&self.troubles);
        let troubles = troubles.map(|(trouble, count)| ([("trouble", trouble.as_str())], read(count)));
        page.counters("relay_account_troubles", "What calls met at their accounts.", troubles);
        let turns = CACHED.iter().zip(&self.turns);
        let turns = turns.map(|((_, label), count)| ([("cached", *label)], read(count)));
        page.counters(
            "relay_conversation_turns",
            "Further turns of conversations, by the hundredths of their input that the vendor had cached.",
            turns,
        );
        page.counter(
            "relay_routing_refusals",
            "Calls for which there was no account.",
            read(&self.refused),
        );
        page.counter(
            "relay_unwritten_pins",
            "Pins that a restart forgets, for too many came at once.",
            unwritten_pins,
        );
        page.counter(
            "relay_unnoted_attempts",
            "Attempts that were not noted, for too many came at once.",
            read(&self.unnoted),
        );
    }
}

fn add(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Relaxed);
    }
}
