//! Everything together: one database, the file of the last moments, hubs, and what clients saw. Every step that anybody
//! can take, and what must hold after each.

use std::collections::BTreeSet;

use crate::{
    Bug, CALLS, COST, CREDIT, Call, Disk, HOLD, Hub,
    hub::{Op, Written},
};

/// What the client of a call knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Table {
    /// By the hub of this epoch.
    pub granted: Option<u8>,
    /// It saw a byte of the answer.
    pub is_served: bool,
    /// Its bill was handed to the writer.
    pub is_settling: bool,
    /// What its hub was told of the charge.
    pub charged: Option<i8>,
    /// It saw the end of the answer.
    pub has_ended: bool,
    /// The machine lost its hold with the power: nobody is charged, and there is no row.
    pub is_forgiven: bool,
    /// A hub that was replaced served it: nobody is charged, and there may be no row.
    pub is_haunted: bool,
}

/// The whole state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// As the system has it.
    pub disk: Disk,
    /// As it is after a loss of power.
    pub synced: Disk,
    /// The file of the last moments: calls with their epochs.
    pub flight: BTreeSet<(u8, Call)>,
    /// Those that run; only the last one is in the right.
    pub hubs: Vec<Hub>,
    /// The clients.
    pub calls: [Table; CALLS],
    /// How much may still go wrong: a death, a loss of power, a commit of unknown fate, a hub that takes over from one
    /// that runs, another process that posts.
    pub mishaps: u8,
}

/// What can happen. The first number is the hub's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A hub takes over.
    Start,
    /// The writer posts, and looks up what the tenant can spend.
    Learn(usize),
    /// A hold is promised.
    Grant(usize, Call),
    /// It is written to the file of the last moments.
    Fly(usize, Call),
    /// It is queued for the journal.
    Queue(usize, Call),
    /// The client gets a first byte.
    Serve(usize, Call),
    /// The bill is handed to the writer.
    Settle(usize, Call),
    /// The queue is written and committed.
    Commit(usize),
    /// The same, and the answer of the database is lost; whether it was written is the last word.
    Doubt(usize, bool),
    /// What is in doubt is written again.
    Retry(usize),
    /// Everybody in the batch is told.
    Tell(usize),
    /// The client gets the end.
    End(usize, Call),
    /// Another process posts.
    Post,
    /// A hub dies.
    Die(usize),
    /// The machine dies; whether the file of the last moments reached the disk is the last word.
    Cut(bool),
}

impl World {
    /// Nothing happened yet, and so much may go wrong.
    pub fn new(mishaps: u8) -> Self {
        Self {
            disk: Disk::new(),
            synced: Disk::new(),
            flight: BTreeSet::new(),
            hubs: Vec::new(),
            calls: Default::default(),
            mishaps,
        }
    }

    /// What can happen now.
    pub fn steps(&self, steps: &mut Vec<Step>, bug: Option<Bug>) {
        if self.hubs.is_empty() || (self.hubs.len() == 1 && self.mishaps > 0) {
            steps.push(Step::Start);
        }
        for (at, hub) in self.hubs.iter().enumerate() {
            self.steps_of(at, hub, steps, bug);
        }
        if self.mishaps > 0 {
            steps.push(Step::Post);
            if !self.hubs.is_empty() {
                steps.extend([Step::Cut(true), Step::Cut(false)]);
            }
        }
    }

    fn steps_of(&self, at: usize, hub: &Hub, steps: &mut Vec<Step>, bug: Option<Bug>) {
        if hub.is_free() && (hub.available.is_none() || hub.slot > 0) {
            steps.push(Step::Learn(at));
        }
        if hub.can_write() {
            steps.push(Step::Commit(at));
            if self.mishaps > 0 {
                steps.extend([Step::Doubt(at, true), Step::Doubt(at, false)]);
            }
        }
        if hub.doubtful.is_some() {
            steps.push(Step::Retry(at));
        }
        if hub.committed.is_some() {
            steps.push(Step::Tell(at));
        }
        if self.mishaps > 0 {
            steps.push(Step::Die(at));
        }
        for (call, table) in self.calls.iter().enumerate() {
            if table.granted.is_none() && hub.covers(call, bug) {
                steps.push(Step::Grant(at, call));
            }
            if table.granted == Some(hub.epoch) {
                self.steps_of_call(at, hub, call, steps, bug);
            }
        }
    }

    fn steps_of_call(&self, at: usize, hub: &Hub, call: Call, steps: &mut Vec<Step>, bug: Option<Bug>) {
        let table = &self.calls[call];
        let is_open = hub.open.contains(&call) && !table.is_settling;
        let is_written = hub.opened.contains(&call) || hub.in_flight.contains(&call);
        if is_open && !is_written && !hub.queue.contains(&Op::Open(call)) {
            steps.push(Step::Fly(at, call));
        }
        if is_open && !hub.opened.contains(&call) && !hub.queue.contains(&Op::Open(call)) && hub.is_free() {
            steps.push(Step::Queue(at, call));
        }
        if is_open && !table.is_served && (is_written || bug == Some(Bug::DeliversBeforeTheHold)) {
            steps.push(Step::Serve(at, call));
        }
        if is_open {
            steps.push(Step::Settle(at, call));
        }
        let may_end = table.charged.is_some() || (bug == Some(Bug::EndsBeforeTheSettlement) && table.is_settling);
        if may_end && !table.has_ended {
            steps.push(Step::End(at, call));
        }
    }

    /// The state after a step.
    pub fn after(&self, step: Step, bug: Option<Bug>) -> Self {
        let mut next = self.clone();
        match step {
            Step::Start => next.start(bug),
            Step::Learn(at) => next.learn(at, bug),
            Step::Grant(at, call) => {
                next.hubs[at].grant(call);
                next.calls[call].granted = Some(next.hubs[at].epoch);
            }
            Step::Fly(at, call) => {
                next.hubs[at].in_flight.insert(call);
                next.flight.insert((next.hubs[at].epoch, call));
            }
            Step::Queue(at, call) => {
                next.hubs[at].queue.push(Op::Open(call));
                if bug == Some(Bug::FreesTheFlightEarly) {
                    next.flight.remove(&(next.hubs[at].epoch, call));
                }
            }
            Step::Serve(at, call) => {
                next.calls[call].is_served = true;
                next.calls[call].is_haunted = next.hubs[at].epoch != next.disk.epoch;
            }
            Step::Settle(at, call) => {
                next.calls[call].is_settling = true;
                let times = if bug == Some(Bug::SettlesTwice) { 2 } else { 1 };
                (0..times).for_each(|_| next.hubs[at].queue.push(Op::Settle(call)));
            }
            Step::Commit(at) => next.commit(at, bug),
            Step::Doubt(at, is_written) => next.doubt(at, is_written, bug),
            Step::Retry(at) => next.retry(at, bug),
            Step::Tell(at) => next.tell(at),
            Step::End(_, call) => next.calls[call].has_ended = true,
            Step::Post => {
                next.mishaps -= 1;
                next.disk.post(bug);
                next.sync(bug);
            }
            Step::Die(at) => {
                next.mishaps -= 1;
                next.hubs.remove(at);
            }
            Step::Cut(keeps_flight) => next.cut(keeps_flight),
        }
        next
    }

    fn sync(&mut self, bug: Option<Bug>) {
        if bug != Some(Bug::NeverSyncs) {
            self.synced = self.disk.clone();
        }
    }

    fn start(&mut self, bug: Option<Bug>) {
        if !self.hubs.is_empty() {
            self.mishaps -= 1;
        }
        let of_the_last = self.flight.iter().filter(|(epoch, _)| *epoch == self.disk.epoch);
        let flight: Vec<Call> = of_the_last.map(|(_, call)| *call).collect();
        self.disk.take_over(&flight, bug);
        self.sync(bug);
        self.flight.clear();
        self.hubs.push(Hub::after(&self.disk, bug));
    }

    fn learn(&mut self, at: usize, bug: Option<Bug>) {
        self.disk.post(bug);
        self.sync(bug);
        let hub = &mut self.hubs[at];
        hub.slot = 0;
        if hub.epoch == self.disk.epoch || bug == Some(Bug::LearnsInAnyEpoch) {
            hub.available = Some(self.disk.available());
        } else {
            hub.available = None;
            hub.is_over = true;
        }
    }

    /// Whether a hub may write: no later one has taken over.
    fn is_current(&self, at: usize, bug: Option<Bug>) -> bool {
        self.hubs[at].epoch == self.disk.epoch || bug == Some(Bug::CommitsInAnyEpoch)
    }

    fn commit(&mut self, at: usize, bug: Option<Bug>) {
        let written = self.hubs[at].page(bug);
        if self.is_current(at, bug) {
            self.disk.write(written.slot, written.page.clone());
            self.sync(bug);
            self.hubs[at].committed = Some(written);
        } else {
            self.refuse(at, &written);
        }
    }

    fn refuse(&mut self, at: usize, written: &Written) {
        let hub = &mut self.hubs[at];
        hub.slot = written.slot;
        hub.seq = written.page.seq;
        hub.lost(written);
        hub.is_over = true;
    }

    fn doubt(&mut self, at: usize, is_written: bool, bug: Option<Bug>) {
        self.mishaps -= 1;
        let written = self.hubs[at].page(bug);
        if is_written && self.is_current(at, bug) {
            self.disk.write(written.slot, written.page.clone());
            self.sync(bug);
        }
        let hub = &mut self.hubs[at];
        hub.available = None;
        if bug == Some(Bug::ForgetsTheDoubtful) {
            hub.lost(&written);
        } else {
            hub.doubtful = Some(written);
        }
    }

    fn retry(&mut self, at: usize, bug: Option<Bug>) {
        let Some(mut written) = self.hubs[at].doubtful.take() else {
            return;
        };
        if !self.is_current(at, bug) {
            return self.refuse(at, &written);
        }
        if bug == Some(Bug::RetriesElsewhere) {
            let hub = &mut self.hubs[at];
            (written.slot, written.page.seq) = (hub.slot, hub.seq);
            (hub.slot, hub.seq) = (hub.slot + 1, hub.seq + 1);
        }
        if self.disk.posted < written.page.seq {
            self.disk.write(written.slot, written.page.clone());
            self.sync(bug);
        }
        self.hubs[at].committed = Some(written);
    }

    fn tell(&mut self, at: usize) {
        let hub = &mut self.hubs[at];
        let Some(written) = hub.committed.take() else { return };
        for (call, charge) in hub.told(&written) {
            self.calls[call].charged = Some(charge);
        }
    }

    fn cut(&mut self, keeps_flight: bool) {
        self.mishaps -= 1;
        self.hubs.clear();
        self.disk = self.synced.clone();
        if !keeps_flight {
            for (_, call) in std::mem::take(&mut self.flight) {
                self.calls[call].is_forgiven = !self.disk.to_come(None).knows(call);
            }
        }
    }
}

/// What must hold, each by the number that reliability engineering gave it here: see `docs/proofs.md`.
impl World {
    /// I1, I5: a balance is the credit less its charges, and what one pays another gets.
    pub fn adds_up(&self) -> bool {
        let charged: i8 = self.disk.rows.iter().map(|row| row.1).sum();
        self.disk.balance == CREDIT - charged && self.disk.revenue == charged
    }

    /// I2: what is set aside is what open holds set aside.
    pub fn holds_add_up(&self) -> bool {
        let open: i8 = self.disk.holds.keys().map(|call| HOLD[*call]).sum();
        self.disk.held == open
    }

    /// I3: nobody spends what he has not, with all that is durable counted.
    pub fn stays_above_the_floor(&self, bug: Option<Bug>) -> bool {
        self.disk.available() >= 0 && self.disk.to_come(bug).available() >= 0
    }

    /// I4: one row a call, and the tables refuse nothing.
    pub fn settles_once(&self, bug: Option<Bug>) -> bool {
        let later = self.disk.to_come(bug);
        let is_once = later.rows.windows(2).all(|pair| pair[0].0 != pair[1].0);
        is_once && later.refused == 0 && later.rows.iter().all(|row| !later.holds.contains_key(&row.0))
    }

    /// I6: nobody pays more than his call costs, nor for one that nobody settled.
    pub fn charges_what_it_costs(&self, bug: Option<Bug>) -> bool {
        let is_fair = |row: &(Call, i8)| row.1 == 0 || (row.1 <= COST[row.0] && self.calls[row.0].is_settling);
        self.disk.to_come(bug).rows.iter().all(is_fair)
    }

    /// I7: who was served has a hold or a row, whatever happens to the hub.
    pub fn serves_what_is_held(&self, bug: Option<Bug>) -> bool {
        let later = self.disk.to_come(bug);
        self.calls.iter().enumerate().all(|(call, table)| {
            let is_in_flight = self.flight.contains(&(self.disk.epoch, call));
            !table.is_served || table.is_forgiven || table.is_haunted || later.knows(call) || is_in_flight
        })
    }

    /// I8: who saw the end is charged what his hub was told, also after a loss of power.
    pub fn ends_what_is_settled(&self, bug: Option<Bug>) -> bool {
        [self.disk.to_come(bug), self.synced.to_come(bug)].iter().all(|later| {
            let is_booked = |call: Call, charge: i8| later.rows.contains(&(call, charge));
            self.calls
                .iter()
                .enumerate()
                .filter(|(_, table)| table.has_ended)
                .all(|(call, table)| table.charged.is_some_and(|charge| is_booked(call, charge)))
        })
    }

    /// The same the other way: what a hub was told is what is booked.
    pub fn books_what_it_tells(&self, bug: Option<Bug>) -> bool {
        let later = self.disk.to_come(bug);
        let told = self
            .calls
            .iter()
            .enumerate()
            .filter_map(|(call, table)| Some((call, table.charged?)));
        told.into_iter().all(|row| later.rows.contains(&row))
    }

    /// I9: no hold of an earlier life is open.
    pub fn releases_the_dead(&self, bug: Option<Bug>) -> bool {
        let later = self.disk.to_come(bug);
        later
            .holds
            .keys()
            .all(|call| self.calls[*call].granted == Some(self.disk.epoch))
    }

    /// A hub that was told of its end grants nothing.
    pub fn rests_when_told(&self) -> bool {
        self.hubs.iter().all(|hub| !hub.is_over || hub.available.is_none())
    }

    /// I11: posting twice changes what posting once did not.
    pub fn posts_once(&self, bug: Option<Bug>) -> bool {
        let once = self.disk.to_come(bug);
        once.to_come(bug) == once
    }
}
