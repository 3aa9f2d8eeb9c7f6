//! The one task that writes money: takes what queued, writes it as one transaction, tells those who wait.

mod batch;
mod sql;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use relay_shared::{
    call::CallId,
    clock::{Clock as _, SystemClock},
};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, sqlite::SqliteConnection, sqlite::SqliteRow};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{
    LedgerDown,
    inbox::{Inbox, Op, Settle},
    recover::Recovered,
    rows::Rows,
    rules::{Balance, Changes, Head},
};
use crate::{
    money::Nanos,
    store::{Store, StoreError, millis},
};
use batch::{Batch, Resolve, finish};

/// Owner of the write connection.
pub(super) struct Writer {
    store: Store,
    inbox: Arc<Inbox>,
    epoch: i64,
    next_hold: i64,
    open: HashSet<CallId>,
    connection: Option<SqliteConnection>,
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
    pub(super) fn new(store: Store, inbox: Arc<Inbox>, recovered: Recovered) -> Self {
        let Recovered {
            epoch,
            holds: _,
            next_hold,
        } = recovered;
        let (open, connection) = (HashSet::new(), None);
        Self {
            store,
            inbox,
            epoch,
            next_hold,
            open,
            connection,
            failures: 0,
            singles: 0,
        }
    }

    /// Writes until `stop` and the end of the last hold.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let _close = CloseOnDrop(self.inbox.clone());
        loop {
            let ops = self.inbox.take(if self.singles > 0 { 1 } else { LARGEST_BATCH });
            if !ops.is_empty() {
                self.singles = self.singles.saturating_sub(1);
                self.write(ops).await;
            } else if stop.is_cancelled() {
                if self.open.is_empty() && self.inbox.close_if_empty() {
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
        if let Some(connection) = self.connection.take() {
            // The commits are done; a failure to say goodbye changes nothing.
            drop(connection.close().await);
        }
    }

    async fn write(&mut self, ops: Vec<Op>) {
        let size = ops.len();
        let mut batch = Batch::plan(ops, &self.open);
        match self.transact(&mut batch).await {
            Ok(()) => {
                self.failures = 0;
                batch.done(&self.inbox, &mut self.open);
            }
            Err(cause) => self.failed(batch, size, &cause).await,
        }
    }

    /// Settlements are tried again until they are written. What can never be written is given up alone.
    async fn failed(&mut self, batch: Batch, size: usize, cause: &BatchError) {
        self.failures = self.failures.saturating_add(1);
        // The connection's transaction goes with it.
        if let Some(connection) = self.connection.take() {
            drop(connection.close().await);
        }
        warn!(
            error = cause as &dyn std::error::Error,
            ops = size,
            failures = self.failures,
            "the ledger cannot write"
        );
        let again = batch.failed();
        if cause.may_pass() {
            self.inbox.put_back(again);
            tokio::time::sleep(pause(self.failures)).await;
        } else if size > 1 {
            // Not known which of them it was.
            self.singles = again.len();
            self.inbox.put_back(again);
        } else {
            for op in again {
                if let Op::Settle(settle) = op {
                    error!(
                        hold = settle.facts.id,
                        "a settlement does not fit the books: `ledger verify` tells more"
                    );
                    finish(settle, Err(LedgerDown), &self.inbox, &mut self.open);
                }
            }
        }
    }

    async fn transact(&mut self, batch: &mut Batch) -> Result<(), BatchError> {
        self.clear_doubts(batch).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let at_ms = millis(SystemClock.wall());
        let (granted, head) = self.begin(batch).await?;
        let short = batch.short(&granted);
        if !short.is_empty() {
            self.one_by_one(batch, &short, &granted).await?;
        }
        batch.grant(&self.inbox, &mut self.next_hold, &mut self.open, at_ms);
        let rows = batch
            .rows(self.epoch, head, at_ms)
            .ok_or(BatchError::Books("the chain is full"))?;
        let [holds, transfers, usage] = rows;
        let finish = sqlx::query(sql::FINISH).bind(holds).bind(transfers).bind(usage);
        finish.execute(self.connection().await?).await?;
        Ok(())
    }

    /// After a failure it is not certain what was written: settlements that were, and holds that were not, are told
    /// apart here. A hold that never was has delivered nothing, so nothing is charged.
    async fn clear_doubts(&mut self, batch: &mut Batch) -> Result<(), BatchError> {
        let in_doubt = |settle: &Settle| settle.tries > 0 || settle.facts.outcome.get().is_some_and(Result::is_err);
        if !batch.resolves.iter().any(|resolve| in_doubt(&resolve.settle)) {
            return Ok(());
        }
        let ids: Vec<i64> = batch
            .resolves
            .iter()
            .map(|r| &r.settle)
            .filter(|s| in_doubt(s))
            .map(|s| s.facts.id)
            .collect();
        let ids = serde_json::to_string(&ids).map_err(|_| BatchError::Books("hold numbers"))?;
        let found = sqlx::query(sql::DOUBT)
            .bind(ids)
            .fetch_all(self.connection().await?)
            .await?;
        let mut standing: HashMap<i64, (i64, i64)> = HashMap::new();
        for row in found {
            standing.insert(row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?));
        }
        let mut kept = Vec::with_capacity(batch.resolves.len());
        for resolve in batch.resolves.drain(..) {
            if !in_doubt(&resolve.settle) {
                kept.push(resolve);
                continue;
            }
            match standing.get(&resolve.settle.facts.id) {
                Some((0, _)) => kept.push(resolve),
                Some((_, charged)) => finish(resolve.settle, Ok(Nanos::new(*charged)), &self.inbox, &mut self.open),
                None => {
                    let Resolve { mut settle, .. } = resolve;
                    batch.notes.extend(settle.row.take().map(|row| *row));
                    finish(settle, Err(LedgerDown), &self.inbox, &mut self.open);
                }
            }
        }
        batch.resolves = kept;
        Ok(())
    }

    /// The first trip. Tells who was granted all he asked for, and where the chain ends.
    async fn begin(&mut self, batch: &Batch) -> Result<(HashSet<String>, Head), BatchError> {
        let covered = batch.covered().ok_or(BatchError::Books("a sum is out of range"))?;
        let mut states = Rows::new();
        for resolve in &batch.resolves {
            let is_paid = !(resolve.charge.is_zero() && resolve.rest.is_zero());
            states
                .row()
                .int(resolve.settle.facts.id)
                .int(if is_paid { POSTED } else { VOID });
        }
        let begin = sqlx::query(sql::BEGIN)
            .bind(states.finish())
            .bind(json(&covered))
            .bind(json_sums(&batch.asked()))
            .bind(self.epoch);
        let rows = begin.fetch_all(self.connection().await?).await?;
        let (mut granted, mut head) = (HashSet::new(), Head::START);
        for row in &rows {
            match row.try_get::<i64, _>(0)? {
                1 => expect_count(row, batch.resolves.len(), "a hold is not open")?,
                2 => expect_count(row, covered.len(), "an account is missing")?,
                3 => drop(granted.insert(row.try_get::<String, _>(1)?)),
                _ => {
                    head = Head {
                        seq: row.try_get(1)?,
                        hash: hash(row, 2)?,
                    }
                }
            }
        }
        Ok((granted, head))
    }

    /// Who cannot pay for all he asks for is decided in order; who owes more than he held pays what he can.
    async fn one_by_one(
        &mut self,
        batch: &mut Batch,
        short: &HashSet<String>,
        granted: &HashSet<String>,
    ) -> Result<(), BatchError> {
        let names = serde_json::to_string(short).map_err(|_| BatchError::Books("names"))?;
        let rows = sqlx::query(sql::LOOK)
            .bind(names)
            .fetch_all(self.connection().await?)
            .await?;
        let mut balances: HashMap<String, Balance> = HashMap::new();
        for row in rows {
            let money = |column: usize| row.try_get(column).map(Nanos::new);
            balances.insert(
                row.try_get(0)?,
                Balance {
                    posted: money(1)?,
                    held: money(2)?,
                    floor: money(3)?,
                },
            );
        }
        let nothing = Balance {
            posted: Nanos::ZERO,
            held: Nanos::ZERO,
            floor: Nanos::ZERO,
        };
        let mut changes = Changes::default();
        for tenant in short {
            let mut balance = balances.get(tenant).copied().unwrap_or(nothing);
            let fits = batch.collect(tenant, &mut balance, &mut changes).and_then(|()| {
                if granted.contains(tenant) {
                    Some(())
                } else {
                    batch.decide(tenant, balance, &mut changes)
                }
            });
            fits.ok_or(BatchError::Books("a sum is out of range"))?;
        }
        if !changes.is_empty() {
            let moved = sqlx::query(sql::MOVE)
                .bind(json(&changes))
                .fetch_one(self.connection().await?)
                .await?;
            if usize::try_from(moved.try_get::<i64, _>(0)?) != Ok(changes.len()) {
                return Err(BatchError::Books("a balance changed under the write lock"));
            }
        }
        Ok(())
    }

    async fn connection(&mut self) -> Result<&mut SqliteConnection, BatchError> {
        if self.connection.is_none() {
            let mut connection = self.store.connection().await?;
            let settings = format!("PRAGMA busy_timeout = {BUSY_MS}; PRAGMA cache_size = -{CACHE_KIB}");
            sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut connection).await?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(BatchError::Books("no connection"))
    }
}

fn json(changes: &Changes) -> String {
    let mut rows = Rows::new();
    for (account, held, posted) in changes.iter() {
        rows.row().plain(account).int(held).int(posted);
    }
    rows.finish()
}

fn json_sums(sums: &Changes) -> String {
    let mut rows = Rows::new();
    for (tenant, sum, _) in sums.iter() {
        rows.row().plain(tenant).int(sum);
    }
    rows.finish()
}

fn expect_count(row: &SqliteRow, expected: usize, otherwise: &'static str) -> Result<(), BatchError> {
    let is_right = usize::try_from(row.try_get::<i64, _>(1)?) == Ok(expected);
    if is_right {
        Ok(())
    } else {
        Err(BatchError::Books(otherwise))
    }
}

fn hash(row: &SqliteRow, column: usize) -> Result<[u8; 32], BatchError> {
    row.try_get::<&[u8], _>(column)?
        .try_into()
        .map_err(|_| BatchError::Books("a hash is not 32 bytes long"))
}

/// 50 ms, doubled up to a second.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(50)
        .saturating_mul(1 << failures.saturating_sub(1).min(5))
        .min(Duration::from_secs(1))
}

const LARGEST_BATCH: usize = 1024;
const BUSY_MS: u32 = 2_000;
const CACHE_KIB: u32 = 16_384;
const POSTED: i64 = 1;
const VOID: i64 = 2;
const SQLITE_ERROR: u32 = 1;
const SQLITE_CONSTRAINT: u32 = 19;
const SQLITE_MISMATCH: u32 = 20;
