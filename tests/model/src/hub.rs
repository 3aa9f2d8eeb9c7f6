//! A hub: what its memory has. All of it is gone when it dies.

use std::collections::BTreeSet;

use crate::{Bug, COST, Call, Disk, Entry, HOLD, Page};

/// What waits for the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Write a granted hold.
    Open(Call),
    /// End it.
    Settle(Call),
}

/// A page on its way: its slot, and the calls whose end is in it with what each is charged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Written {
    /// Where it goes.
    pub slot: usize,
    /// What it says.
    pub page: Page,
}

/// A hub that runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hub {
    /// Of its start.
    pub epoch: u8,
    /// What can be spent by all that it knows to be durable; none where that is not certain.
    pub available: Option<i8>,
    /// Granted, and not durable yet.
    pub promised: i8,
    /// Its open calls.
    pub open: BTreeSet<Call>,
    /// Of those: the journal has the hold, as far as the hub knows.
    pub opened: BTreeSet<Call>,
    /// Of those: the file of the last moments has it.
    pub in_flight: BTreeSet<Call>,
    /// What waits for the writer.
    pub queue: Vec<Op>,
    /// Committed, and nobody was told yet.
    pub committed: Option<Written>,
    /// Tried, and of unknown fate.
    pub doubtful: Option<Written>,
    /// The number of its next page.
    pub seq: u8,
    /// Where that goes.
    pub slot: usize,
    /// Whether it was told that a later hub took over.
    pub is_over: bool,
}

impl Hub {
    /// A hub that has just taken over.
    pub fn after(disk: &Disk, bug: Option<Bug>) -> Self {
        let last = if bug == Some(Bug::NumbersPagesAnew) {
            0
        } else {
            disk.posted
        };
        Self {
            epoch: disk.epoch,
            available: None,
            promised: 0,
            open: BTreeSet::new(),
            opened: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            queue: Vec::new(),
            committed: None,
            doubtful: None,
            seq: last + 1,
            slot: 0,
            is_over: false,
        }
    }

    /// Whether it would grant this call's hold by what it knows.
    pub fn covers(&self, call: Call, bug: Option<Bug>) -> bool {
        let promised = if bug == Some(Bug::GrantsTwice) {
            0
        } else {
            self.promised
        };
        self.available
            .is_some_and(|available| HOLD[call] <= available - promised)
    }

    /// Promises a call its hold.
    pub fn grant(&mut self, call: Call) {
        self.promised += HOLD[call];
        self.open.insert(call);
    }

    /// Whether the writer has nothing that it must end first.
    pub fn is_free(&self) -> bool {
        self.committed.is_none() && self.doubtful.is_none()
    }

    /// Whether a charge above its hold waits: it is decided on a balance that is known.
    fn is_above(queue: &[Op]) -> bool {
        queue
            .iter()
            .any(|op| matches!(op, Op::Settle(call) if COST[*call] > HOLD[*call]))
    }

    /// Whether the queue can be written by what is known.
    pub fn can_write(&self) -> bool {
        self.is_free() && !self.queue.is_empty() && (self.available.is_some() || !Self::is_above(&self.queue))
    }

    /// Makes a page of the queue. What its calls take beyond their holds is promised to them.
    pub fn page(&mut self, bug: Option<Bug>) -> Written {
        let queue = std::mem::take(&mut self.queue);
        let ended = |call: &Call| queue.contains(&Op::Settle(*call));
        let mut entries = Vec::new();
        for op in &queue {
            match *op {
                Op::Open(call) if ended(&call) && bug != Some(Bug::OpensTheEnded) => {}
                Op::Open(call) => entries.push(Entry::Open(call)),
                Op::Settle(call) => {
                    let charge = self.charge(call, bug);
                    let was_open = self.opened.contains(&call) && bug != Some(Bug::ClosesAsNeverOpened);
                    entries.push(Entry::Close(call, was_open, charge));
                }
            }
        }
        let written = Written {
            slot: self.slot,
            page: Page { seq: self.seq, entries },
        };
        self.seq += 1;
        self.slot = if bug == Some(Bug::ReusesSlotsEarly) {
            0
        } else {
            self.slot + 1
        };
        written
    }

    fn charge(&mut self, call: Call, bug: Option<Bug>) -> i8 {
        let rest = (COST[call] - HOLD[call]).max(0);
        let left = self.available.map_or(0, |available| (available - self.promised).max(0));
        let taken = if bug == Some(Bug::OverdrawsAboveTheHold) {
            rest
        } else {
            rest.min(left)
        };
        self.promised += taken;
        COST[call].min(HOLD[call]) + taken
    }

    /// The page is durable: the book and everybody who waited know. Returns the calls that ended.
    pub fn told(&mut self, written: &Written) -> Vec<(Call, i8)> {
        let mut ended = Vec::new();
        for entry in &written.page.entries {
            match *entry {
                Entry::Open(call) => {
                    self.opened.insert(call);
                    self.in_flight.remove(&call);
                    self.promised -= HOLD[call];
                    self.change(-HOLD[call]);
                }
                Entry::Close(call, _, charge) => {
                    self.close(call, charge);
                    self.change(-charge);
                    ended.push((call, charge));
                }
            }
        }
        ended
    }

    fn close(&mut self, call: Call, charge: i8) {
        self.promised -= (charge - HOLD[call]).max(0);
        self.in_flight.remove(&call);
        self.open.remove(&call);
        if self.opened.remove(&call) {
            self.change(HOLD[call]);
        } else {
            self.promised -= HOLD[call];
        }
    }

    fn change(&mut self, by: i8) {
        self.available = self.available.map(|available| available + by);
    }

    /// A page can never be written: its calls end without a charge.
    pub fn lost(&mut self, written: &Written) {
        for entry in &written.page.entries {
            if let Entry::Close(call, _, charge) = *entry {
                self.close(call, charge);
            }
        }
        self.available = None;
    }
}
