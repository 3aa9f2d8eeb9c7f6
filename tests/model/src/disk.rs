//! The database: the journal's slots and the tables. Each method is one transaction.

use std::collections::BTreeMap;

use crate::{Bug, CREDIT, Call, HOLD};

/// What the journal has of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// Its hold.
    Open(Call),
    /// Its end: whether the hold was written before, and the charge.
    Close(Call, bool, i8),
}

/// A slot of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// Its number.
    pub seq: u8,
    /// What happened.
    pub entries: Vec<Entry>,
}

/// What a database file says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// Of the last hub that took over.
    pub epoch: u8,
    /// The journal, by slot.
    pub slots: Vec<Page>,
    /// The last page that the tables have.
    pub posted: u8,
    /// The tenant's balance.
    pub balance: i8,
    /// What is set aside of it.
    pub held: i8,
    /// What calls brought in.
    pub revenue: i8,
    /// Open holds.
    pub holds: BTreeMap<Call, u8>,
    /// A row for each call that ended: its charge.
    pub rows: Vec<(Call, i8)>,
    /// Entries that the tables refused.
    pub refused: u8,
}

impl Disk {
    /// With the tenant's credit and no call.
    pub fn new() -> Self {
        Self {
            epoch: 0,
            slots: Vec::new(),
            posted: 0,
            balance: CREDIT,
            held: 0,
            revenue: 0,
            holds: BTreeMap::new(),
            rows: Vec::new(),
            refused: 0,
        }
    }

    /// Writes a page over whatever stood in its slot.
    pub fn write(&mut self, slot: usize, page: Page) {
        match self.slots.get_mut(slot) {
            Some(old) => *old = page,
            None => self.slots.push(page),
        }
    }

    /// Brings the tables up to the journal.
    pub fn post(&mut self, bug: Option<Bug>) {
        let (mut last, mut pages) = (0, Vec::new());
        for page in &self.slots {
            // Where the numbers fall, the leavings of a longer filling begin.
            if page.seq < last || (bug == Some(Bug::StopsAtPostedPages) && page.seq <= self.posted) {
                break;
            }
            last = page.seq;
            if page.seq > self.posted {
                pages.push(page.clone());
            }
        }
        for page in &pages {
            page.entries.iter().for_each(|entry| self.apply(entry));
        }
        if bug != Some(Bug::PostsAgain) {
            self.posted = self.posted.max(pages.last().map_or(0, |page| page.seq));
        }
    }

    fn apply(&mut self, entry: &Entry) {
        match *entry {
            Entry::Open(call) => {
                self.held += HOLD[call];
                if self.holds.insert(call, self.epoch).is_some() {
                    self.refused += 1;
                }
            }
            Entry::Close(call, was_open, charge) => {
                if was_open && self.holds.remove(&call).is_none() {
                    self.refused += 1;
                } else if was_open {
                    self.held -= HOLD[call];
                }
                self.end(call, charge);
            }
        }
    }

    fn end(&mut self, call: Call, charge: i8) {
        self.balance -= charge;
        self.revenue += charge;
        self.rows.push((call, charge));
        self.rows.sort_unstable();
    }

    /// What a new hub does first; `flight` is what the file of the last moments has of the epoch before.
    pub fn take_over(&mut self, flight: &[Call], bug: Option<Bug>) {
        if bug != Some(Bug::ReleasesBeforePosting) {
            self.post(bug);
        }
        for call in flight.iter().filter(|_| bug != Some(Bug::ForgetsTheFlight)) {
            if !self.knows(*call) || bug == Some(Bug::RecoversTheKnown) {
                self.end(*call, 0);
            }
        }
        self.epoch += 1;
        if bug != Some(Bug::LeavesHoldsOpen) {
            for call in std::mem::take(&mut self.holds).into_keys() {
                self.held -= HOLD[call];
                self.end(call, 0);
            }
        }
        if bug == Some(Bug::ReleasesBeforePosting) {
            self.post(bug);
        }
    }

    /// Whether its hold is open, or was.
    pub fn knows(&self, call: Call) -> bool {
        self.holds.contains_key(&call) || self.rows.iter().any(|row| row.0 == call)
    }

    /// What the tables will say once all of the journal is posted.
    pub fn to_come(&self, bug: Option<Bug>) -> Self {
        let mut later = self.clone();
        later.post(bug);
        later
    }

    /// What can be spent by the tables.
    pub fn available(&self) -> i8 {
        self.balance - self.held
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}
