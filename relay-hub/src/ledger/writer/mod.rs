//! The one thread that writes money: takes what queued, writes it as one transaction, tells those who wait.
//!
//! It speaks to SQLite directly: through an asynchronous connection each batch would be handed to another thread and
//! back, statement by statement, at a cost above that of the batch itself.

mod batch;
mod sql;

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use relay_shared::clock::{Clock as _, SystemClock};
use rusqlite::{Connection, ErrorCode};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Hold, HoldError, LedgerDown,
    book::{Book, NotGranted},
    inbox::{Inbox, Op, Settle, Wish},
};
use crate::{ids::TenantId, money::Nanos, store::millis};
use batch::{Available, Batch, Plan, close, told};

/// Owner of the write connection.
pub(super) struct Writer {
    database: PathBuf,
    inbox: Arc<Inbox>,
    epoch: i64,
    /// Open holds that stand in the database.
    written: HashSet<i64>,
    connection: Option<Connection>,
    /// Batches that failed in a row.
    failures: u32,
    /// No try before that.
    not_before: Option<Instant>,
    /// Ops to write one at a time: one of them spoils every batch it is in.
    singles: usize,
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("the database failed")]
    Sql(#[from] rusqlite::Error),
    #[error("the books do not fit what was decided: {0}")]
    Books(&'static str),
}

impl BatchError {
    /// Whether the same ops may succeed later: the database is locked, full or not reachable.
    fn may_pass(&self) -> bool {
        match self {
            Self::Sql(rusqlite::Error::SqliteFailure(failure, _)) => !matches!(
                failure.code,
                ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch
            ),
            Self::Sql(_) | Self::Books(_) => false,
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
    pub(super) fn new(database: PathBuf, inbox: Arc<Inbox>, epoch: i64) -> Self {
        Self {
            database,
            inbox,
            epoch,
            written: HashSet::new(),
            connection: None,
            failures: 0,
            not_before: None,
            singles: 0,
        }
    }

    /// Writes until `stop` and the end of the last hold, or until it is `cut`.
    pub(super) fn run(mut self, stop: &CancellationToken, cut: &CancellationToken) {
        let _close = CloseOnDrop(self.inbox.clone());
        while !cut.is_cancelled() {
            if let Some(pause) = self.pause() {
                std::thread::sleep(pause);
                continue;
            }
            let ops = self.take();
            if !ops.is_empty() {
                self.write(ops);
            } else if stop.is_cancelled() && self.inbox.close_if_empty() {
                break;
            } else {
                self.inbox.wait(LONGEST_WAIT);
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

    fn take(&mut self) -> Vec<Op> {
        if self.singles > 0 {
            self.singles = self.singles.saturating_sub(1);
            return self.inbox.take(1);
        }
        self.inbox.take(LARGEST_BATCH)
    }

    fn write(&mut self, ops: Vec<Op>) {
        let Plan { batch, above, wishes } = Plan::of(ops);
        if let Err(cause) = self.commit(batch) {
            self.inbox.put_back(above.into_iter().map(Op::Settle).collect());
            if cause.may_pass() {
                return refuse(wishes);
            }
            // Behind what comes again: settlements give back what they held.
            for wish in wishes {
                self.inbox.push(Op::Ask(Box::new(wish)));
            }
            return;
        }
        if !above.is_empty() {
            self.commit_above(above);
        }
        if !wishes.is_empty() {
            self.decide(wishes);
        }
    }

    /// Writes a batch and tells everybody in it; what could not be written is queued again.
    fn commit(&mut self, mut batch: Batch) -> Result<(), BatchError> {
        match self.transact(&mut batch) {
            Ok(available) => {
                if batch.len() > 0 {
                    self.failures = 0;
                }
                batch.done(&self.inbox, &mut self.written, available);
                Ok(())
            }
            Err(cause) => {
                self.failed(batch, &cause);
                Err(cause)
            }
        }
    }

    /// Charges above their holds, on balances fresh from the database.
    fn commit_above(&mut self, settles: Vec<Settle>) {
        let tenants = settles.iter().map(|settle| settle.facts.reserve.tenant.clone());
        if let Err(cause) = self.learn(tenants.collect()) {
            self.inbox.put_back(settles.into_iter().map(Op::Settle).collect());
            return self.shaken(&cause);
        }
        let batch = self.inbox.book(|book| Batch::above(settles, book));
        // A failure was told and its ops are queued again.
        drop(self.commit(batch));
    }

    /// Decides wishes in their order, on balances fresh from the database.
    fn decide(&mut self, wishes: Vec<Wish>) {
        let tenants = wishes.iter().map(|wish| wish.reserve.tenant.clone()).collect();
        if let Err(cause) = self.probe().and_then(|()| self.learn(tenants)) {
            refuse(wishes);
            return self.shaken(&cause);
        }
        for Wish { reserve, reply } in wishes {
            if reply.is_closed() {
                continue;
            }
            let answer = match self.inbox.grant(reserve) {
                Ok(facts) => Ok(Hold::new(facts, self.inbox.clone())),
                Err((_, NotGranted::Duplicate)) => Err(HoldError::Duplicate),
                Err((_, NotGranted::Unknown)) => Err(HoldError::Insufficient { available: Nanos::ZERO }),
                Err((_, NotGranted::Short(available))) => Err(HoldError::Insufficient { available }),
            };
            // Where nobody waits any more the hold comes back, and its drop queues its release.
            reply.send(answer).ok();
        }
    }

    /// Settlements are tried again until they are written. What can never be written is given up alone.
    fn failed(&mut self, batch: Batch, cause: &BatchError) {
        let size = batch.len();
        self.shaken(cause);
        if cause.may_pass() {
            self.inbox.put_back(batch.doubtful(&self.inbox));
        } else if size > 1 {
            // Not known which of them it was.
            let again = batch.undone(&self.inbox);
            self.singles = again.len();
            self.inbox.put_back(again);
        } else {
            self.give_up(batch.undone(&self.inbox));
        }
    }

    /// The database failed: nothing that was known of it holds any more. The connection's transaction goes with it.
    fn shaken(&mut self, cause: &BatchError) {
        self.failures = self.failures.saturating_add(1);
        warn!(
            error = cause as &dyn std::error::Error,
            failures = self.failures,
            "the ledger cannot write"
        );
        self.inbox.book(Book::doubt);
        self.connection = None;
        if cause.may_pass() {
            self.not_before = Instant::now().checked_add(pause(self.failures));
        }
    }

    fn give_up(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Settle(settle) => {
                    error!(
                        hold = settle.facts.id,
                        "a settlement does not fit the books: `ledger verify` tells more"
                    );
                    self.finish(settle, Err(LedgerDown));
                }
                Op::Open(facts) => drop(facts.written.set(Err(LedgerDown))),
                Op::Note(_) | Op::Ask(_) => {}
            }
        }
    }

    fn finish(&mut self, settle: Settle, result: Result<Nanos, LedgerDown>) {
        let written = &mut self.written;
        self.inbox.book(|book| close(&settle.facts, book, written));
        told(settle, result);
    }

    fn transact(&mut self, batch: &mut Batch) -> Result<Available, BatchError> {
        self.clear_doubts(batch)?;
        if batch.len() == 0 {
            return Ok(Available::new());
        }
        self.connect()?;
        let connection = self.connection.as_ref().ok_or(NO_CONNECTION)?;
        sql::begin(connection)?;
        let available = batch.write(connection, self.epoch, &self.written, millis(SystemClock.wall()))?;
        sql::commit(connection)?;
        Ok(available)
    }

    /// After a failure it is not certain what was written: settlements that were, and holds that were not, are told
    /// apart here. A hold that should have been written and was not has delivered nothing, so nothing is charged; one
    /// that was to be written with its settlement is settled now.
    fn clear_doubts(&mut self, batch: &mut Batch) -> Result<(), BatchError> {
        let has_failed = |settle: &Settle| settle.facts.written.get().is_some_and(Result::is_err);
        let in_doubt = |settle: &Settle| settle.tries > 0 || has_failed(settle);
        if !batch.resolves.iter().any(|resolve| in_doubt(&resolve.settle)) {
            return Ok(());
        }
        self.connect()?;
        let connection = self.connection.as_ref().ok_or(NO_CONNECTION)?;
        let mut standing = Vec::with_capacity(batch.resolves.len());
        for resolve in &batch.resolves {
            standing.push(sql::standing(connection, resolve.settle.facts.id)?);
        }
        for (resolve, stands) in std::mem::take(&mut batch.resolves).into_iter().zip(standing) {
            let facts = resolve.settle.facts.clone();
            match stands {
                _ if !in_doubt(&resolve.settle) => batch.resolves.push(resolve),
                Some((sql::OPEN, _)) => {
                    if self.written.insert(facts.id) {
                        self.inbox.book(|book| book.kept(&facts.reserve.tenant, facts.amount()));
                    }
                    batch.resolves.push(resolve);
                }
                Some((_, charged)) => self.finish(resolve.settle, Ok(charged)),
                None if has_failed(&resolve.settle) => {
                    let mut settle = resolve.settle;
                    batch.notes.extend(settle.row.take().map(|row| *row));
                    self.finish(settle, Err(LedgerDown));
                }
                None => batch.resolves.push(resolve),
            }
        }
        Ok(())
    }

    /// Tells the book what these tenants can spend.
    fn learn(&mut self, tenants: HashSet<TenantId>) -> Result<(), BatchError> {
        self.connect()?;
        let connection = self.connection.as_ref().ok_or(NO_CONNECTION)?;
        for tenant in tenants {
            if let Some(available) = sql::available(connection, &tenant)? {
                self.inbox.book(|book| book.learn(tenant, available));
            }
        }
        Ok(())
    }

    /// After a failure: whether the database takes writes again, before more is promised.
    fn probe(&mut self) -> Result<(), BatchError> {
        if self.failures > 0 {
            self.connect()?;
            sql::probe(self.connection.as_ref().ok_or(NO_CONNECTION)?)?;
            self.failures = 0;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), BatchError> {
        if self.connection.is_none() {
            self.connection = Some(sql::open(&self.database)?);
        }
        Ok(())
    }
}

fn refuse(wishes: Vec<Wish>) {
    for wish in wishes {
        // Nobody may wait any more.
        wish.reply.send(Err(LedgerDown.into())).ok();
    }
}

/// 50 ms, doubled up to a second.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(50)
        .saturating_mul(1 << failures.saturating_sub(1).min(5))
        .min(Duration::from_secs(1))
}

const NO_CONNECTION: BatchError = BatchError::Books("no connection");
const LARGEST_BATCH: usize = 256;
/// The writer looks up at least this often, for it may have been cut.
const LONGEST_WAIT: Duration = Duration::from_millis(250);
