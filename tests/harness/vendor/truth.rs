//! The truth log: what this vendor would put on its bill, call by call. The ledger is compared with it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::script::{Extra, Usage};
use super::soak::Soaked;

/// How a call ended, seen from the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Running,
    /// All that was scripted has been sent.
    Sent,
    /// The client went before that.
    ClientGone,
    /// The vendor broke the connection, as scripted.
    Broken,
    /// An error status.
    Refused,
}

/// One call as the vendor knows it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub response_id: String,
    pub model: String,
    pub endpoint: String,
    pub socket: bool,
    pub status: u16,
    /// Reported in the event that ends the answer; `None` when nothing was reported.
    pub usage: Option<Usage>,
    /// What the bill has beyond that.
    pub extra: Extra,
    /// Whether that event was handed to the connection: only then the vendor's bill is final.
    pub reported: bool,
    /// A warm-up makes no turn and is not billed.
    pub warm_up: bool,
    pub events_sent: usize,
    pub bytes_sent: usize,
    pub ended: Ended,
    /// Milliseconds since the vendor started.
    pub started_ms: u64,
    pub ended_ms: Option<u64>,
}

impl Entry {
    /// The tokens this call is billed with.
    pub fn billed(&self) -> Option<Usage> {
        self.usage.filter(|_| self.reported && !self.warm_up)
    }
}

/// Sums that stay exact when single calls are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub calls: u64,
    pub billed_calls: u64,
    pub input: u64,
    pub cached: u64,
    pub output: u64,
}

/// Collects entries; those of benchmark calls only as sums.
pub struct Truth {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
    fast: [AtomicU64; 5],
    soaked: Mutex<Vec<Soaked>>,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            entries: Mutex::new(Vec::new()),
            fast: Default::default(),
            soaked: Mutex::default(),
        }
    }

    /// Milliseconds since the vendor started.
    pub fn since_start(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn open(&self, mut entry: Entry) -> usize {
        entry.started_ms = self.since_start();
        let mut entries = self.entries.lock().expect("no holder panics");
        entries.push(entry);
        entries.len() - 1
    }

    pub(super) fn amend(&self, number: usize, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock().expect("no holder panics");
        if let Some(entry) = entries.get_mut(number) {
            change(entry);
        }
    }

    /// Ends the entry unless it has ended before.
    pub(super) fn close(&self, number: usize, how: Ended) {
        let now = self.since_start();
        self.amend(number, |entry| {
            if entry.ended == Ended::Running {
                entry.ended = how;
                entry.ended_ms = Some(now);
            }
        });
    }

    pub(super) fn count_fast(&self, usage: Option<Usage>) {
        let [calls, billed, input, cached, output] = &self.fast;
        calls.fetch_add(1, Ordering::Relaxed);
        if let Some(usage) = usage {
            billed.fetch_add(1, Ordering::Relaxed);
            input.fetch_add(usage.input, Ordering::Relaxed);
            cached.fetch_add(usage.cached, Ordering::Relaxed);
            output.fetch_add(usage.output, Ordering::Relaxed);
        }
    }

    /// Keeps a call of a soak; its number.
    pub(super) fn soaked(&self, call: Soaked) -> usize {
        let mut soaked = self.soaked.lock().expect("no holder panics");
        soaked.push(call);
        soaked.len() - 1
    }

    /// Every call of a soak, by its number.
    pub fn take_soaked(&self) -> Vec<Soaked> {
        std::mem::take(&mut self.soaked.lock().expect("no holder panics"))
    }

    /// Every call but those of benchmark models, in the order they arrived.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().expect("no holder panics").clone()
    }

    /// One entry.
    pub(super) fn entry(&self, number: usize) -> Entry {
        self.entries.lock().expect("no holder panics")[number].clone()
    }

    /// The entries from this number on.
    pub fn since(&self, number: usize) -> Vec<Entry> {
        let entries = self.entries.lock().expect("no holder panics");
        entries.get(number..).unwrap_or_default().to_vec()
    }

    /// The sums over all calls, benchmark calls included.
    pub fn totals(&self) -> Totals {
        let [calls, billed, input, cached, output] = &self.fast;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut sum = Totals {
            calls: read(calls),
            billed_calls: read(billed),
            input: read(input),
            cached: read(cached),
            output: read(output),
        };
        for entry in self.entries.lock().expect("no holder panics").iter() {
            sum.calls += 1;
            if let Some(usage) = entry.billed() {
                sum.billed_calls += 1;
                sum.input += usage.input;
                sum.cached += usage.cached;
                sum.output += usage.output;
            }
        }
        sum
    }
}
