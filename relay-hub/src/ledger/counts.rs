//! What the books count for whoever watches the hub: atomics alone, so that a call pays a few nanoseconds. Labels are
//! words of ours: no tenant, no key, no model.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use relay_protocol::Code;

use super::{
    Flag,
    row::{Ending, UsageRow},
};
use crate::{metrics::Page, money::Nanos};

/// Everything since the hub started.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By ending, for Responses and for Chat Completions.
    calls: [[AtomicU64; 2]; ENDINGS.len()],
    refusals: [AtomicU64; Code::ALL.len()],
    /// By kind.
    tokens: [AtomicU64; TOKENS.len()],
    estimated: AtomicU64,
    vendor_errors: [AtomicU64; STATUSES.len()],
    charged: AtomicU64,
    lost: AtomicU64,
    batches: AtomicU64,
    entries: AtomicU64,
    postings: AtomicU64,
    unposted: AtomicU64,
    failures: AtomicU64,
}

impl Counts {
    /// A call that ended.
    pub(super) fn call(&self, row: &UsageRow) {
        self.ended(row.ending, row.endpoint);
        let add = |counter: Option<&AtomicU64>, count: u64| {
            if let Some(counter) = counter.filter(|_| count != 0) {
                counter.fetch_add(count, Relaxed);
            }
        };
        match row.ending {
            Ending::Refused(code) => add(self.refusals.get(code as usize), 1),
            Ending::VendorError => add(self.vendor_errors.get(status(row.status)), 1),
            _ => {}
        }
        if let Some((usage, source)) = &row.usage {
            let parts = [
                usage.input,
                usage.cached,
                usage.cache_write,
                usage.output,
                usage.reasoning,
            ];
            for (counter, tokens) in self.tokens.iter().zip(parts) {
                add(Some(counter), tokens.get());
            }
            add(
                Some(&self.estimated),
                u64::from(*source == relay_protocol::UsageSource::Estimated),
            );
        }
    }

    /// A call of which nothing else is known.
    pub(super) fn ended(&self, ending: Ending, endpoint: &str) {
        let wires = self.calls.get(slot(ending));
        if let Some(counter) = wires.and_then(|wires| wires.get(usize::from(endpoint == CHAT))) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// A batch is durable.
    pub(super) fn committed(&self, entries: usize, charged: Nanos, lost: Nanos) {
        self.batches.fetch_add(1, Relaxed);
        self.entries.fetch_add(entries as u64, Relaxed);
        self.unposted.fetch_add(entries as u64, Relaxed);
        self.charged.fetch_add(charged.get().unsigned_abs(), Relaxed);
        self.lost.fetch_add(lost.get().unsigned_abs(), Relaxed);
    }

    /// The tables have everything.
    pub(super) fn posted(&self) {
        self.postings.fetch_add(1, Relaxed);
        self.unposted.store(0, Relaxed);
    }

    /// The database failed.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// Tells all of it.
    pub(super) fn tell(&self, page: &mut Page) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let by_ending = ENDINGS.iter().zip(&self.calls);
        let calls = by_ending.flat_map(|(ending, wires)| {
            let wires = WIRES.iter().zip(wires);
            wires.map(move |(wire, count)| ([("ending", *ending), ("wire", *wire)], read(count)))
        });
        page.counters("relay_calls", "Calls that ended, refused ones among them.", calls);
        // Several reasons have one name.
        let mut refusals = BTreeMap::<_, u64>::new();
        for (code, count) in Code::ALL.iter().zip(&self.refusals) {
            let sum = refusals.entry(code.name()).or_default();
            *sum = sum.saturating_add(read(count));
        }
        let refusals = refusals.into_iter().map(|(code, count)| ([("code", code)], count));
        page.counters("relay_refusals", "Calls that the hub refused.", refusals);
        let errors = STATUSES.iter().zip(&self.vendor_errors);
        let errors = errors.map(|(status, count)| ([("status", *status)], read(count)));
        page.counters(
            "relay_vendor_errors",
            "Errors that vendors answered with; 502 is none reached.",
            errors,
        );
        let tokens = TOKENS
            .iter()
            .zip(&self.tokens)
            .map(|(kind, count)| ([("kind", *kind)], read(count)));
        let help = "Tokens; cached and cache_write are part of input, reasoning is part of output.";
        page.counters("relay_tokens", help, tokens);
        page.counter(
            "relay_estimated_calls",
            "Calls whose tokens the relay counted.",
            read(&self.estimated),
        );
        let flags = Flag::ALL.map(|flag| ([("flag", flag.as_str())], flag.bills()));
        page.counters("relay_flagged_bills", "Bills that an operator should look at.", flags);
        page.counter("relay_charged_nanos", "Charged, in billionths.", read(&self.charged));
        page.counter(
            "relay_lost_nanos",
            "Cost that no balance covered, in billionths.",
            read(&self.lost),
        );
        page.counter("relay_ledger_batches", "Commits of the journal.", read(&self.batches));
        page.counter(
            "relay_ledger_entries",
            "Holds, settlements and notes in them.",
            read(&self.entries),
        );
        page.counter(
            "relay_ledger_postings",
            "Times that the tables were brought up to the journal.",
            read(&self.postings),
        );
        page.counter(
            "relay_ledger_failures",
            "Writes that the database refused.",
            read(&self.failures),
        );
        page.gauge(
            "relay_ledger_unposted_entries",
            "Durable, and not in the tables yet.",
            read(&self.unposted),
        );
    }
}

/// The place of an ending among [`ENDINGS`].
const fn slot(ending: Ending) -> usize {
    match ending {
        Ending::Completed => 0,
        Ending::Incomplete => 1,
        Ending::Failed => 2,
        Ending::Refused(_) => 3,
        Ending::VendorError => 4,
        Ending::VendorCut => 5,
        Ending::VendorTimeout => 6,
        Ending::ClientGone => 7,
        Ending::ClientGoneBeforeDispatch => 8,
        Ending::Suspended => 9,
        Ending::Warmup => 10,
        Ending::HubDraining => 11,
        Ending::HubFault => 12,
        Ending::Recovered => 13,
        Ending::Abandoned => 14,
        Ending::OutOfCredit => 15,
        Ending::OverLimit => 16,
    }
}

const ENDINGS: [&str; 17] = [
    "completed",
    "incomplete",
    "failed",
    "refused",
    "vendor_error",
    "vendor_cut",
    "vendor_timeout",
    "client_gone",
    "client_gone_before_dispatch",
    "tenant_suspended",
    "warmup",
    "hub_draining",
    "hub_fault",
    "recovered",
    "abandoned",
    "out_of_credit",
    "over_limit",
];
const CHAT: &str = "/v1/chat/completions";
const WIRES: [&str; 2] = ["responses", "chat"];
const TOKENS: [&str; 5] = ["input", "cached", "cache_write", "output", "reasoning"];
const STATUSES: [&str; 5] = ["429", "4xx", "502", "5xx", "other"];

const fn status(status: u16) -> usize {
    match status {
        429 => 0,
        400..500 => 1,
        502 => 2,
        500..600 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn each_ending_is_counted_under_its_own_name() {
        for ending in [
            Ending::Completed,
            Ending::Incomplete,
            Ending::Failed,
            Ending::VendorError,
            Ending::VendorCut,
            Ending::VendorTimeout,
            Ending::ClientGone,
            Ending::ClientGoneBeforeDispatch,
            Ending::Suspended,
            Ending::OutOfCredit,
            Ending::Warmup,
            Ending::HubDraining,
            Ending::HubFault,
            Ending::Recovered,
            Ending::Abandoned,
        ] {
            assert_eq!(ENDINGS[slot(ending)], ending.name());
            let counts = Counts::default();
            counts.ended(ending, CHAT);
            let line = format!("relay_calls_total{{ending=\"{}\",wire=\"chat\"}} 1\n", ending.name());
            assert!(told(&counts).contains(&line), "{line}");
        }
        assert_eq!(ENDINGS[slot(Ending::Refused(Code::Internal))], "refused");
    }

    fn told(counts: &Counts) -> String {
        let mut page = Page::new(Format::Prometheus);
        counts.tell(&mut page);
        page.end()
    }

    #[test]
    fn what_is_durable_and_what_failed_is_summed_up() {
        let counts = Counts::default();
        counts.committed(3, Nanos::new(70), Nanos::new(5));
        counts.committed(4, Nanos::new(30), Nanos::new(6));
        counts.failed();
        let page = told(&counts);
        for line in [
            "relay_charged_nanos_total 100\n",
            "relay_lost_nanos_total 11\n",
            "relay_ledger_batches_total 2\n",
            "relay_ledger_entries_total 7\n",
            "relay_ledger_postings_total 0\n",
            "relay_ledger_failures_total 1\n",
            "relay_ledger_unposted_entries 7\n",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
        counts.posted();
        let page = told(&counts);
        assert!(page.contains("relay_ledger_postings_total 1\n") && page.contains("relay_ledger_unposted_entries 0\n"));
    }

    #[test]
    fn each_code_has_a_place_of_its_own() {
        for (at, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, at);
        }
    }
}
