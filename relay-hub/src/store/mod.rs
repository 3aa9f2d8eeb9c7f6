//! The hub's SQLite database: opening, schema, and one file per aggregate. Knows no rules of money.

pub mod accounts;
pub mod codes;
pub mod devices;
pub mod idempotency;
pub mod keys;
pub mod limits;
pub mod lock;
pub mod nodes;
pub mod plans;
pub mod prices;
pub mod routes;
mod schema;
pub mod sealed;
pub mod sharing;
pub mod tenants;
#[cfg(test)]
pub(crate) mod testing;
pub mod token_keys;
pub mod transfers;
pub mod usage;
pub mod vendor_bill;
pub mod way_health;
pub mod ways;

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{
    ConnectOptions as _, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{config::DataDir, ids::IdError};

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database.
    #[error("there is no hub in {0}: run `relay-hub init` first")]
    Missing(String),
    /// A hub of a later version wrote it.
    #[error("the database has schema {found}, this relay-hub knows up to {known}: install the later relay-hub again")]
    Newer {
        /// What the database says.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// Another hub runs on this directory.
    #[error("another relay-hub{} runs on {path}", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Locked {
        /// The data directory.
        path: String,
        /// The holder, where it can be known.
        pid: Option<u32>,
    },
    /// A file of the data directory.
    #[error("cannot use {path}")]
    File {
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system has no thread left.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// SQLite refused.
    #[error("the database failed")]
    Sql(#[from] sqlx::Error),
    /// What is durable could not be brought into the tables.
    #[error("the books cannot be brought up to date")]
    Books(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row that no version of ours wrote.
    #[error("the database holds something impossible: {0}")]
    Corrupt(String),
}

impl From<IdError> for StoreError {
    fn from(error: IdError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// The open database. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    data: DataDir,
    readers: SqlitePool,
    /// Short writes of commands and enrolment, one at a time. The ledger has a connection of its own.
    writer: SqlitePool,
}

impl Store {
    /// Opens the database of a data directory, which must exist, and brings its schema up to date.
    pub async fn open(data: &DataDir) -> Result<Self, StoreError> {
        if !data.database().exists() {
            return Err(StoreError::Missing(data.path().display().to_string()));
        }
        schema::migrate(&mut options(data).connect().await?).await?;
        let pool = || SqlitePoolOptions::new().acquire_timeout(PATIENCE);
        let readers = pool().max_connections(READERS).connect_lazy_with(options(data));
        let writer = pool().max_connections(1).connect_lazy_with(options(data));
        Ok(Self {
            data: data.clone(),
            readers,
            writer,
        })
    }

    /// Makes the database of a data directory that has none.
    pub async fn create(data: &DataDir) -> Result<Self, StoreError> {
        let mut connection = options(data).create_if_missing(true).connect().await?;
        schema::migrate(&mut connection).await?;
        drop(connection);
        Self::open(data).await
    }

    /// The data directory.
    pub fn data(&self) -> &DataDir {
        &self.data
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// For reading.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// A transaction that has the write lock from its start, so that what it reads stays true until its commit.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A connection of one's own.
    #[cfg(test)]
    pub(crate) async fn connection(&self) -> Result<sqlx::SqliteConnection, StoreError> {
        Ok(options(&self.data).connect().await?)
    }
}

/// Milliseconds since 1970.
pub fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn options(data: &DataDir) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(data.database())
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY)
}

const READERS: u32 = 2;
/// A busy hub commits hundreds of times a second; a command gets its turn between two of them.
const BUSY: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(20);
