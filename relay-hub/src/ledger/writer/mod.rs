//! The one task that writes money: takes what queued, writes it as one transaction, tells those who wait.

mod batch;
mod sql;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use relay_shared::clock::{Clock as _, SystemClock};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, sqlite::SqliteConnection};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    Hold, HoldError, LedgerDown,
    book::{Book, NotGranted},
    inbox::{Inbox, Op, Settle, Wish},
    rules::Head,
};
use crate::{
    ids::TenantId,
    money::Nanos,
    store::{Store, StoreError, millis},
};
use batch::{Batch, Plan, close, told};
use sql::Room;

/// Owner of the write connection.
pub(super) struct Writer {
    store: Store,
    inbox: Arc<Inbox>,
    epoch: i64,
    /// Open holds that stand in the database.
    written: HashSet<i64>,
    /// Where the chain ended at the last look; another process may have added to it.
    head: Option<Head>,
    connection: Option<SqliteConnection>,
    scripts: HashMap<Room, Arc<str>>,
    /// Batches that failed in a row.
    failures: u32,
    /// Ops to write one at a time: one of them spoils every batch it is in.
    singles: usize,
}

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the books do not fit what was decided: {0}")]
    Books(&'static str),
}

impl From<sqlx::Error> for BatchError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl BatchError {
    /// Whether the same ops may succeed later: the database is locked, full or not reachable.
    fn may_pass(&self) -> bool {
        match self {
            Self::Store(StoreError::Sql(sqlx::Error::Database(error))) => {
                let code: u32 = error.code().and_then(|code| code.parse().ok()).unwrap_or_default();
                !matches!(code & 0xff, SQLITE_ERROR | SQLITE_CONSTRAINT | SQLITE_MISMATCH)
            }
            Self::Store(_) => true,
            Self::Books(_) => false,
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
    pub(super) fn new(store: Store, inbox: Arc<Inbox>, epoch: i64) -> Self {
        Self {
            store,
            inbox,
            epoch,
            written: HashSet::new(),
            head: None,
            connection: None,
            scripts: HashMap::new(),
            failures: 0,
            singles: 0,
        }
    }

    /// Writes until `stop` and the end of the last hold.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let _close = CloseOnDrop(self.inbox.clone());
        loop {
            let ops = self.gather().await;
            if !ops.is_empty() {
                self.write(ops).await;
            } else if stop.is_cancelled() {
                if self.inbox.close_if_empty() {
                    break;
                }
                self.inbox.filled().await;
            } else {
                tokio::select! {
                    () = self.inbox.filled() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        // The commits are done; a failure to say goodbye changes nothing.
        self.disconnect().await;
    }

    /// What waits, and what comes while others who are about to say something have their turn: a commit costs the
    /// same for many as for one.
    async fn gather(&mut self) -> Vec<Op> {
        if self.singles > 0 {
            self.singles = self.singles.saturating_sub(1);
            return self.inbox.take(1);
        }
        let mut ops = self.inbox.take(LARGEST_BATCH);
        for _ in 0..TURNS {
            let seen = ops.len();
            if seen == 0 || seen >= LARGEST_BATCH || seen >= self.inbox.open() {
                break;
            }
            tokio::task::yield_now().await;
            ops.extend(self.inbox.take(LARGEST_BATCH.saturating_sub(seen)));
            if ops.len() == seen {
                break;
            }
        }
        ops
    }

    async fn write(&mut self, ops: Vec<Op>) {
        let Plan { batch, above, wishes } = Plan::of(ops);
        if let Err(cause) = self.commit(batch).await {
            self.inbox.put_back(above.into_iter().map(Op::Settle).collect());
            if cause.may_pass() {
                refuse(wishes);
                tokio::time::sleep(pause(self.failures)).await;
            } else {
                // Behind what comes again: settlements give back what they held.
                for wish in wishes {
                    self.inbox.push(Op::Ask(Box::new(wish)));
                }
            }
            return;
        }
        if !above.is_empty() {
            self.commit_above(above).await;
        }
        if !wishes.is_empty() {
            self.decide(wishes).await;
        }
    }

    /// Writes a batch and tells everybody in it; what could not be written is queued again.
    async fn commit(&mut self, mut batch: Batch) -> Result<(), BatchError> {
        match self.transact(&mut batch).await {
            Ok(available) => {
                if batch.len() > 0 {
                    self.failures = 0;
                }
                batch.done(&self.inbox, &mut self.written, available);
                Ok(())
            }
            Err(cause) => {
                self.failed(batch, &cause).await;
                Err(cause)
            }
        }
    }

    /// Charges above their holds, on balances fresh from the database.
    async fn commit_above(&mut self, settles: Vec<Settle>) {
        let tenants = settles.iter().map(|settle| settle.facts.reserve.tenant.clone());
        if let Err(cause) = self.learn(tenants.collect()).await {
            self.inbox.put_back(settles.into_iter().map(Op::Settle).collect());
            return self.shaken(&cause).await;
        }
        let batch = self.inbox.book(|book| Batch::above(settles, book));
        if self.commit(batch).await.is_err() {
            tokio::time::sleep(pause(self.failures)).await;
        }
    }

    /// Decides wishes in their order, on balances fresh from the database.
    async fn decide(&mut self, wishes: Vec<Wish>) {
        let tenants = wishes.iter().map(|wish| wish.reserve.tenant.clone()).collect();
        let ready = match self.probe().await {
            Ok(()) => self.learn(tenants).await,
            Err(cause) => Err(cause),
        };
        if let Err(cause) = ready {
            refuse(wishes);
            return self.shaken(&cause).await;
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
    async fn failed(&mut self, batch: Batch, cause: &BatchError) {
        let size = batch.len();
        self.shaken(cause).await;
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
    async fn shaken(&mut self, cause: &BatchError) {
        self.failures = self.failures.saturating_add(1);
        warn!(
            error = cause as &dyn std::error::Error,
            failures = self.failures,
            "the ledger cannot write"
        );
        self.inbox.book(Book::doubt);
        self.disconnect().await;
    }

    async fn disconnect(&mut self) {
        self.head = None;
        if let Some(connection) = self.connection.take() {
            drop(connection.close().await);
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

    /// Returns what the changed accounts can spend.
    async fn transact(&mut self, batch: &mut Batch) -> Result<HashMap<String, Nanos>, BatchError> {
        self.clear_doubts(batch).await?;
        if batch.len() == 0 {
            return Ok(HashMap::new());
        }
        let Some(head) = self.head else {
            return self.execute_behind(batch).await;
        };
        match self.execute(batch, head, true).await {
            // Another process may have added to the chain: once more, from where it ends now.
            Err(cause) if !cause.may_pass() => {
                self.disconnect().await;
                self.execute_behind(batch).await
            }
            result => result,
        }
    }

    /// Two trips: the chain's end is read first, under the write lock.
    async fn execute_behind(&mut self, batch: &Batch) -> Result<HashMap<String, Nanos>, BatchError> {
        let last = sqlx::query(sql::BEGIN).fetch_all(self.connection().await?).await?;
        let head = match last.first() {
            Some(row) => Head {
                seq: row.try_get(0)?,
                hash: row
                    .try_get::<&[u8], _>(1)?
                    .try_into()
                    .map_err(|_| BatchError::Books("a hash is not 32 bytes long"))?,
            },
            None => Head::START,
        };
        self.execute(batch, head, false).await
    }

    /// One trip, from where the chain is known to end.
    async fn execute(&mut self, batch: &Batch, head: Head, begins: bool) -> Result<HashMap<String, Nanos>, BatchError> {
        let (values, room, head) = batch
            .script(self.epoch, &self.written, head, millis(SystemClock.wall()))
            .ok_or(BatchError::Books("a sum is out of range"))?;
        let room = Room { begins, ..room };
        let script = self.scripts.entry(room).or_insert_with(|| sql::batch(room).into());
        let query = sqlx::query_with(AssertSqlSafe(script.clone()), values.finish());
        let rows = query.fetch_all(self.connection().await?).await?;
        self.head = Some(head);
        let mut available = HashMap::with_capacity(rows.len());
        for row in rows {
            available.insert(row.try_get(0)?, Nanos::new(row.try_get(1)?));
        }
        Ok(available)
    }

    /// After a failure it is not certain what was written: settlements that were, and holds that were not, are told
    /// apart here. A hold that should have been written and was not has delivered nothing, so nothing is charged; one
    /// that was to be written with its settlement is settled now.
    async fn clear_doubts(&mut self, batch: &mut Batch) -> Result<(), BatchError> {
        let has_failed = |settle: &Settle| settle.facts.written.get().is_some_and(Result::is_err);
        let in_doubt = |settle: &Settle| settle.tries > 0 || has_failed(settle);
        let doubted = batch.resolves.iter().map(|resolve| &resolve.settle);
        let ids: Vec<i64> = doubted.filter(|s| in_doubt(s)).map(|s| s.facts.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let standing = self.standing(&ids).await?;
        for resolve in std::mem::take(&mut batch.resolves) {
            let facts = resolve.settle.facts.clone();
            let stands = standing.get(&facts.id);
            match stands {
                _ if !in_doubt(&resolve.settle) => batch.resolves.push(resolve),
                Some((OPEN, _)) => {
                    if self.written.insert(facts.id) {
                        self.inbox.book(|book| book.kept(&facts.reserve.tenant, facts.amount()));
                    }
                    batch.resolves.push(resolve);
                }
                Some((_, charged)) => self.finish(resolve.settle, Ok(Nanos::new(*charged))),
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

    /// State and charge of those holds that are in the database.
    async fn standing(&mut self, ids: &[i64]) -> Result<HashMap<i64, (i64, i64)>, BatchError> {
        let ids = serde_json::to_string(ids).map_err(|_| BatchError::Books("hold numbers"))?;
        let rows = sqlx::query(sql::DOUBT)
            .bind(ids)
            .fetch_all(self.connection().await?)
            .await?;
        let mut standing = HashMap::new();
        for row in rows {
            standing.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
        }
        Ok(standing)
    }

    /// Tells the book what these tenants can spend.
    async fn learn(&mut self, tenants: HashSet<TenantId>) -> Result<(), BatchError> {
        let names = serde_json::to_string(&tenants).map_err(|_| BatchError::Books("names"))?;
        let rows = sqlx::query(sql::LOOK)
            .bind(names)
            .fetch_all(self.connection().await?)
            .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(tenant) = tenants.get(row.try_get::<&str, _>(0)?) {
                found.push((tenant.clone(), Nanos::new(row.try_get(1)?)));
            }
        }
        self.inbox.book(|book| {
            for (tenant, available) in found {
                book.learn(tenant, available);
            }
        });
        Ok(())
    }

    /// After a failure: whether the database takes writes again, before more is promised.
    async fn probe(&mut self) -> Result<(), BatchError> {
        if self.failures > 0 {
            sqlx::raw_sql(sql::PROBE).execute(self.connection().await?).await?;
            self.failures = 0;
        }
        Ok(())
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, BatchError> {
        if self.connection.is_none() {
            let mut connection = self.store.connection().await?;
            // A batch that may have to be undone keeps a journal of its own, which is not worth a file.
            let settings = format!(
                "PRAGMA busy_timeout = {BUSY_MS}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY"
            );
            sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
            sqlx::raw_sql(sql::EXPECT).execute(&mut connection).await?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(BatchError::Books("no connection"))
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

const LARGEST_BATCH: usize = 64;
/// How often the writer lets others go first before a commit.
const TURNS: usize = 4;
const BUSY_MS: u32 = 2_000;
const CACHE_KIB: u32 = 16_384;
const OPEN: i64 = 0;
const SQLITE_ERROR: u32 = 1;
const SQLITE_CONSTRAINT: u32 = 19;
const SQLITE_MISMATCH: u32 = 20;
