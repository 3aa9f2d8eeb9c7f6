//! The one thread that writes money: takes what queued, writes it to the journal as one transaction, tells those who
//! wait, and brings the tables up to the journal many calls at a time.
//!
//! It speaks to SQLite directly: through an asynchronous connection each batch would be handed to another thread and
//! back, statement by statement, at a cost above that of the batch itself.

mod batch;
mod expire;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_shared::{
    clock::{Clock as _, SystemClock},
    fault,
};
use rusqlite::Connection;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Hold, HoldError,
    book::{Book, NotGranted},
    inbox::{Expire, Inbox, Op, Settle, UNWRITTEN_FOR, Wish},
    journal::Page,
    post::{self, BooksError},
    recover::Recovered,
    sql,
};
use crate::{ids::TenantId, money::Nanos, store::millis};
use batch::{Batch, Plan};

/// Owner of the write connection.
pub(super) struct Writer {
    database: PathBuf,
    inbox: Arc<Inbox>,
    epoch: i64,
    /// Open holds that the journal or the tables have, and with how much.
    opened: HashMap<i64, Nanos>,
    connection: Option<Connection>,
    /// Tries that failed in a row.
    failures: u32,
    /// No try before that.
    not_before: Option<Instant>,
    /// A batch of which it is not known whether it was written.
    doubtful: Option<Written>,
    next: Place,
    backlog: Backlog,
    /// Since when the last batch was written.
    wrote: Option<Instant>,
}

/// Where in the journal a page goes.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The page's number; no two have the same.
    seq: i64,
    /// Where it is written. What stood there is posted.
    slot: i64,
}

/// A batch with its pages and their place.
struct Written {
    batch: Batch,
    at: Place,
    pages: Vec<Page>,
}

/// What the tables do not have yet.
#[derive(Debug, Default)]
struct Backlog {
    calls: usize,
    since: Option<Instant>,
}

impl Backlog {
    fn add(&mut self, calls: usize) {
        self.calls = self.calls.saturating_add(calls);
        self.since.get_or_insert_with(Instant::now);
    }

    /// How long it may still wait; `None` where there is nothing.
    fn patience(&self) -> Option<Duration> {
        let waited = self.since?.elapsed();
        Some(self.longest().saturating_sub(waited))
    }

    /// How long as much may wait.
    fn longest(&self) -> Duration {
        if self.calls < MOST_UNPOSTED {
            UNPOSTED_FOR
        } else {
            Duration::ZERO
        }
    }
}

/// Whoever waits learns that the writer is gone, however it went.
struct CloseOnDrop(Arc<Inbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Writer {
    pub(super) fn new(database: PathBuf, inbox: Arc<Inbox>, recovered: &Recovered) -> Self {
        Self {
            database,
            inbox,
            epoch: recovered.epoch,
            opened: HashMap::new(),
            connection: None,
            failures: 0,
            not_before: None,
            doubtful: None,
            next: Place {
                seq: recovered.page.saturating_add(1),
                slot: 0,
            },
            backlog: Backlog::default(),
            wrote: None,
        }
    }

    /// Writes until `stop` and the end of the last hold, or until it is `cut`.
    pub(super) fn run(mut self, stop: &CancellationToken, cut: &CancellationToken) {
        let _close = CloseOnDrop(self.inbox.clone());
        while !cut.is_cancelled() {
            if let Some(pause) = self.pause() {
                std::thread::sleep(pause);
            } else if let Some(again) = self.doubtful.take() {
                self.append(again, true).ok();
            } else if self.backlog.patience() == Some(Duration::ZERO) {
                self.post().ok();
            } else if !self.write_next() {
                if stop.is_cancelled() && self.inbox.close_if_empty() {
                    // What is left the next start posts.
                    self.post().ok();
                    break;
                }
                let most = self.backlog.patience().unwrap_or(LONGEST_WAIT);
                self.inbox.wait(most.min(LONGEST_WAIT));
            }
        }
    }

    /// What is left of the pause after a failure, in pieces short enough to hear of a cut.
    fn pause(&mut self) -> Option<Duration> {
        let left = self.not_before?.checked_duration_since(Instant::now());
        if left.is_none() {
            self.not_before = None;
        }
        left.map(|left| left.min(LONGEST_WAIT))
    }

    /// Writes what waits; false where nothing does.
    fn write_next(&mut self) -> bool {
        if let Some(next) = self.wrote.and_then(|wrote| wrote.checked_add(PACE)) {
            self.inbox.gather(next);
        }
        let ops = self.inbox.take(LARGEST_BATCH);
        if ops.is_empty() {
            return false;
        }
        self.wrote = Some(Instant::now());
        let Plan {
            batch,
            above,
            wishes,
            expiries,
        } = Plan::of(ops, &self.inbox);
        if self.write(batch).is_err() {
            // Who wished for something sees that nobody answers.
            self.inbox.put_back(above.into_iter().map(Op::Settle).collect());
            return true;
        }
        if !above.is_empty() {
            self.write_above(above);
        }
        if !wishes.is_empty() {
            self.decide(wishes);
        }
        for Expire { tenants, now_ms, reply } in expiries {
            if let Ok(taken) = self.expire(&tenants, now_ms) {
                // Whoever asked may have gone.
                reply.send(taken).ok();
            }
        }
        true
    }

    fn write(&mut self, batch: Batch) -> Result<(), BooksError> {
        if batch.len() == 0 {
            return Ok(());
        }
        match batch.pages(self.epoch, &self.opened) {
            Ok(pages) => {
                let at = self.next;
                let count = i64::try_from(pages.len()).unwrap_or(i64::MAX);
                self.next.seq = at.seq.saturating_add(count);
                self.next.slot = at.slot.saturating_add(count);
                self.append(Written { batch, at, pages }, false)
            }
            Err(cause) => {
                self.shaken(&cause);
                batch.lost(&self.inbox, &mut self.opened);
                Err(cause)
            }
        }
    }

    /// Makes a batch durable and tells everybody in it. `again` where it was tried before.
    fn append(&mut self, written: Written, again: bool) -> Result<(), BooksError> {
        match self.transact(&written, again) {
            Ok(()) => {
                self.failures = 0;
                self.backlog.add(written.batch.len());
                let (charged, lost) = written.batch.sums();
                self.inbox.counts().committed(written.batch.len(), charged, lost);
                written.batch.done(&self.inbox, &mut self.opened);
                Ok(())
            }
            Err(cause) => {
                self.shaken(&cause);
                if cause.may_pass() {
                    written.batch.doubt();
                    self.doubtful = Some(written);
                } else {
                    error!("calls can never be booked: `ledger verify` tells more");
                    // No gap among the slots: whoever posts stops where the numbers fall.
                    self.next = written.at;
                    written.batch.lost(&self.inbox, &mut self.opened);
                }
                Err(cause)
            }
        }
    }

    /// One transaction. The same pages at the same place change nothing, unless they were posted meanwhile.
    fn transact(&mut self, written: &Written, again: bool) -> Result<(), BooksError> {
        let epoch = self.epoch;
        let connection = self.connected()?;
        sql::begin(connection)?;
        let standing = sql::standing(connection)?;
        if standing.epoch != epoch {
            return Err(REPLACED);
        }
        if !(again && standing.posted >= written.at.seq) {
            let at_ms = millis(SystemClock.wall());
            let Place { mut seq, mut slot } = written.at;
            for page in &written.pages {
                sql::page(connection, slot, seq, at_ms, page)?;
                (seq, slot) = (seq.saturating_add(1), slot.saturating_add(1));
            }
        }
        fault::point("pages uncommitted");
        sql::commit(connection)?;
        Ok(())
    }

    /// Brings the tables up to the journal; from then on its slots are free.
    fn post(&mut self) -> Result<(), BooksError> {
        if self.backlog.since.is_none() {
            return Ok(());
        }
        match self.connected().and_then(post::post) {
            Ok(()) => {
                self.backlog = Backlog::default();
                self.next.slot = 0;
                self.inbox.counts().posted();
                Ok(())
            }
            Err(cause) => {
                self.shaken(&cause);
                Err(cause)
            }
        }
    }

    /// Charges above their holds, on balances fresh from the database.
    fn write_above(&mut self, settles: Vec<Settle>) {
        let tenants = settles.iter().map(|settle| settle.facts.reserve.tenant.clone());
        if self.learn(tenants.collect()).is_err() {
            return self.inbox.put_back(settles.into_iter().map(Op::Settle).collect());
        }
        let batch = self.inbox.book(|book| Batch::above(settles, book));
        // A failure was told, and what it hit is kept.
        self.write(batch).ok();
    }

    /// Decides wishes in their order, on balances fresh from the database.
    fn decide(&mut self, wishes: Vec<Wish>) {
        let tenants = wishes.iter().map(|wish| wish.tenant().clone()).collect();
        if self.learn(tenants).is_err() {
            return;
        }
        for wish in wishes {
            if !wish.is_forgotten() {
                self.grant(wish);
            }
        }
    }

    fn grant(&self, wish: Wish) {
        match wish {
            Wish::Hold(reserve, reply) => {
                let granted = self.inbox.grant(reserve);
                let answer = granted
                    .map(|facts| Hold::new(facts, self.inbox.clone()))
                    .map_err(|(_, not)| not.into());
                // Where nobody waits any more the hold comes back, and its drop queues its release.
                reply.send(answer).ok();
            }
            Wish::More(facts, amount, reply) => {
                let granted = self.inbox.extend(&facts, amount);
                // What nobody waits for ends with its hold.
                reply.send(granted.map_err(HoldError::from)).ok();
            }
        }
    }

    /// Tells the book what these tenants can spend, all that is durable included. After a failure it is seen first
    /// whether the database takes writes again.
    fn learn(&mut self, tenants: HashSet<TenantId>) -> Result<(), BooksError> {
        self.post()?;
        let learned = self.look_up(tenants);
        if let Err(cause) = &learned {
            self.shaken(cause);
        }
        learned
    }

    fn look_up(&mut self, tenants: HashSet<TenantId>) -> Result<(), BooksError> {
        let epoch = self.epoch;
        if sql::standing(self.connected()?)?.epoch != epoch {
            return Err(REPLACED);
        }
        if self.failures > 0 {
            sql::probe(self.connected()?)?;
            self.failures = 0;
        }
        for tenant in tenants {
            if let Some(available) = sql::available(self.connected()?, tenant.as_str())? {
                self.inbox.book(|book| book.learn(tenant, available));
            }
        }
        Ok(())
    }

    /// The database failed: nothing that was known of it holds any more, and nobody waits for it who need not.
    fn shaken(&mut self, cause: &BooksError) {
        self.failures = self.failures.saturating_add(1);
        self.inbox.counts().failed();
        warn!(
            error = cause as &dyn std::error::Error,
            failures = self.failures,
            "the ledger cannot write"
        );
        self.inbox.book(Book::doubt);
        self.inbox.refuse_waiting();
        // The connection's transaction goes with it.
        self.connection = None;
        self.not_before = Instant::now().checked_add(pause(self.failures));
    }

    fn connected(&mut self) -> Result<&Connection, BooksError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => sql::open(&self.database, PATIENCE)?,
        };
        Ok(self.connection.insert(connection))
    }
}

impl From<NotGranted> for HoldError {
    fn from(not: NotGranted) -> Self {
        match not {
            NotGranted::Duplicate => Self::Duplicate,
            NotGranted::Unknown => Self::Insufficient { available: Nanos::ZERO },
            NotGranted::Short(available) => Self::Insufficient { available },
        }
    }
}

/// 50 ms, doubled up to a second.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(50)
        .saturating_mul(1 << failures.saturating_sub(1).min(5))
        .min(Duration::from_secs(1))
}

const REPLACED: BooksError = BooksError::Books("a later hub has taken over");
/// New calls wait no longer for a locked database.
const PATIENCE: Duration = Duration::from_secs(2);
const LARGEST_BATCH: usize = 256;
/// A commit costs what the tables cost ten calls, however few are in it. So while calls run side by side one begins at most
/// this often, and they share it; after a pause, or where none but streams run beside a call, it begins at once.
const PACE: Duration = Duration::from_millis(2);
/// So many entries share the cost of the tables, or as many as come in that time.
const MOST_UNPOSTED: usize = 2_048;
const UNPOSTED_FOR: Duration = Duration::from_millis(50);
/// The writer looks up at least this often: a hold is due that nobody wakes it for, or it may have been cut.
const LONGEST_WAIT: Duration = UNWRITTEN_FOR;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;
    use crate::ledger::flight::Flight;

    #[test]
    fn a_backlog_is_posted_when_it_is_large_or_old() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.patience(), None);
        backlog.add(MOST_UNPOSTED - 1);
        assert_eq!(backlog.longest(), UNPOSTED_FOR);
        assert!(backlog.patience().unwrap() <= UNPOSTED_FOR);
        backlog.add(1);
        assert_eq!(
            (backlog.longest(), backlog.patience()),
            (Duration::ZERO, Some(Duration::ZERO))
        );
    }

    #[test]
    fn a_writer_that_failed_pauses() {
        let dir = tempfile::tempdir().unwrap();
        let flight = Flight::begin(&dir.path().join("flight"), 1).unwrap();
        let inbox = Arc::new(Inbox::new(Book::default(), flight));
        let recovered = Recovered {
            epoch: 1,
            holds: 0,
            last_number: 0,
            page: 0,
        };
        let mut writer = Writer::new(dir.path().join("nothing"), inbox, &recovered);
        assert_eq!(writer.pause(), None);
        (0..9).for_each(|_| writer.shaken(&REPLACED));
        assert!(writer.pause().is_some());
    }

    #[test]
    fn pauses_grow_up_to_a_second() {
        let pauses = [1, 2, 3, 4, 5, 6, 60].map(pause);
        assert_eq!(
            pauses,
            [50, 100, 200, 400, 800, 1_000, 1_000].map(Duration::from_millis)
        );
    }
}
