//! The ledger's statements, each prepared once. What a transaction reads it reads under its write lock.

use std::{path::Path, time::Duration};

use relay_shared::fault;
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension as _, params};

use super::{
    journal::{CallLine, CheckpointLine, HoldLine, Page},
    rules::{Head, Transfer},
};
use crate::money::Nanos;

/// Opens a write connection that waits so long for the database's lock.
pub(super) fn open(path: &Path, patience: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(patience)?;
    // What a statement may have to undo is not worth a file. What is written over and over, as pages of the journal are,
    // is brought from the write-ahead log to its place once for each time that it fills: 16 MiB rather than 4.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY; \
         PRAGMA wal_autocheckpoint = 4096",
    )?;
    if fault::is_set("unsynced") {
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    }
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
}

pub(super) fn commit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

/// Undoes the transaction and ends it.
pub(super) fn rollback(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("ROLLBACK")?.execute([]).map(drop)
}

/// Changes nothing, durably: tells whether the database takes writes.
pub(super) fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE hub SET epoch = epoch")?
        .execute([])
        .map(drop)
}

/// Undoes what was done since, and stays in the transaction.
pub(super) fn savepoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("SAVEPOINT step")?.execute([]).map(drop)
}

pub(super) fn rollback_to_savepoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("ROLLBACK TO step")?.execute([]).map(drop)
}

/// Where the hub stands: a later start has a later epoch, and the tables have every page up to `posted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) epoch: i64,
    pub(super) posted: i64,
}

pub(super) fn standing(connection: &Connection) -> rusqlite::Result<Standing> {
    connection
        .prepare_cached("SELECT epoch, posted FROM hub")?
        .query_row([], |row| {
            Ok(Standing {
                epoch: row.get(0)?,
                posted: row.get(1)?,
            })
        })
}

pub(super) fn set_posted(connection: &Connection, posted: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE hub SET posted = ?1")?
        .execute([posted])
        .map(drop)
}

/// A page at its slot, whatever stood there.
pub(super) fn page(connection: &Connection, slot: i64, seq: i64, at_ms: i64, page: &Page) -> rusqlite::Result<()> {
    connection
        .prepare_cached("REPLACE INTO journal (slot, seq, at_ms, entries, body) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![slot, seq, at_ms, page.entries, page.body])
        .map(drop)
}

/// A page that the tables do not have yet.
pub(super) struct Unposted {
    pub(super) seq: i64,
    pub(super) at_ms: i64,
    pub(super) page: Page,
}

/// The pages after `posted`, in their order. Slots are filled from the first one on, so where the numbers fall the
/// leavings of an earlier and longer filling begin; they are not looked through.
pub(super) fn pages_after(connection: &Connection, posted: i64) -> rusqlite::Result<Vec<Unposted>> {
    let mut slots = connection.prepare_cached("SELECT seq, at_ms, entries, body FROM journal ORDER BY slot")?;
    let mut rows = slots.query([])?;
    let (mut pages, mut last) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let seq = row.get(0)?;
        if seq < last {
            break;
        }
        last = seq;
        if seq > posted {
            pages.push(Unposted {
                seq,
                at_ms: row.get(1)?,
                page: Page {
                    entries: row.get(2)?,
                    body: row.get(3)?,
                },
            });
        }
    }
    Ok(pages)
}

/// Sets an entry aside that the tables refuse.
pub(super) fn set_aside(
    connection: &Connection,
    seq: i64,
    at_ms: i64,
    reason: &str,
    body: &[u8],
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO unposted (seq, at_ms, reason, body) VALUES (?, ?, ?, ?)")?
        .execute(params![seq, at_ms, reason, body])
        .map(drop)
}

/// Where the chain ends; `None` where a hash has another length.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    let last = connection
        .prepare_cached("SELECT seq, hash FROM transfer ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| {
            let hash = row.get_ref(1)?.as_blob()?.try_into().ok();
            Ok((row.get(0)?, hash))
        })
        .optional()?;
    Ok(match last {
        Some((seq, hash)) => hash.map(|hash| Head { seq, hash }),
        None => Some(Head::START),
    })
}

/// Where the chain ends now: written with the rows that made it longer.
pub(super) fn set_head(connection: &Connection, head: &Head) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE hub SET transfers = ?1, head = ?2")?
        .execute(params![head.seq, &head.hash[..]])
        .map(drop)
}

/// Changes an account; false where there is none of that name.
pub(super) fn change(connection: &Connection, account: &str, held: i64, posted: i64) -> rusqlite::Result<bool> {
    let mut change =
        connection.prepare_cached("UPDATE account SET held = held + ?2, posted = posted + ?3 WHERE id = ?1")?;
    Ok(change.execute(params![account, held, posted])? == 1)
}

/// What an account can spend; `None` where there is no such account.
pub(super) fn available(connection: &Connection, account: &str) -> rusqlite::Result<Option<Nanos>> {
    connection
        .prepare_cached("SELECT posted - held - floor FROM account WHERE id = ?1")?
        .query_row([account], |row| row.get(0).map(Nanos::new))
        .optional()
}

/// Every account with what it can spend.
pub(super) fn balances(connection: &Connection) -> rusqlite::Result<Vec<(String, Nanos)>> {
    let mut all = connection.prepare_cached("SELECT id, posted - held - floor FROM account")?;
    let rows = all.query_map([], |row| Ok((row.get(0)?, Nanos::new(row.get(1)?))))?;
    rows.collect()
}

/// What an account has, holds included.
pub(super) fn posted(connection: &Connection, account: &str) -> rusqlite::Result<Nanos> {
    connection
        .prepare_cached("SELECT posted FROM account WHERE id = ?1")?
        .query_row([account], |row| row.get(0).map(Nanos::new))
}

/// What open holds set aside of an account.
pub(super) fn held(connection: &Connection, account: &str) -> rusqlite::Result<Nanos> {
    connection
        .prepare_cached("SELECT held FROM account WHERE id = ?1")?
        .query_row([account], |row| row.get(0).map(Nanos::new))
}

/// A hold that is open.
pub(super) fn open_hold(connection: &Connection, line: &HoldLine<'_>) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO hold (id, call, tenant, caller, model, amount, price_version, epoch, at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert
        .execute(params![
            line.id,
            &line.call.to_be_bytes()[..],
            line.tenant,
            line.caller,
            line.model,
            line.amount,
            line.price_version,
            line.epoch,
            line.at_ms,
        ])
        .map(drop)
}

/// An open hold has more; false where it is not open.
pub(super) fn extend_hold(connection: &Connection, id: i64, by: i64) -> rusqlite::Result<bool> {
    let mut update = connection.prepare_cached("UPDATE hold SET amount = amount + ?2 WHERE id = ?1")?;
    Ok(update.execute([id, by])? == 1)
}

/// How far the call of an open hold came.
pub(super) fn checkpoint(connection: &Connection, line: &CheckpointLine) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE hold SET input = ?2, output = ?3, cost = ?4 WHERE id = ?1")?
        .execute([line.id, line.input, line.output, line.cost])
        .map(drop)
}

/// A hold is open no more; false where it was not.
pub(super) fn close_hold(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    let mut delete = connection.prepare_cached("DELETE FROM hold WHERE id = ?1")?;
    Ok(delete.execute([id])? == 1)
}

/// Whether a hold of that number is open, or was.
pub(super) fn is_known(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM usage WHERE seq = ?1 UNION ALL SELECT 1 FROM hold WHERE id = ?1)",
        )?
        .query_row([id], |row| row.get(0))
}

/// Adds transfers. Prepared once for many: to look the statement up again costs a tenth of a row.
pub(super) struct Transfers<'c>(CachedStatement<'c>);

impl<'c> Transfers<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached(TRANSFER).map(Self)
    }

    /// A transfer at its place in the chain.
    pub(super) fn add(&mut self, row: &Transfer<'_>, at: &Head) -> rusqlite::Result<()> {
        self.0
            .execute(params![
                at.seq,
                row.kind,
                row.hold,
                row.debit,
                row.credit,
                row.amount.get(),
                row.at_ms,
                &at.hash[..],
            ])
            .map(drop)
    }
}

/// What a call's row says of money.
pub(super) struct Paid {
    /// What was set aside, where anything was.
    pub(super) held: Option<i64>,
    pub(super) charged: i64,
}

/// Adds rows of calls. Prepared once for many, as [`Transfers`].
pub(super) struct Usage<'c>(CachedStatement<'c>);

impl<'c> Usage<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached(USAGE).map(Self)
    }

    /// The row of a call. Its number can be booked once.
    pub(super) fn add(&mut self, line: &CallLine<'_>, paid: &Paid, at_ms: i64) -> rusqlite::Result<()> {
        let tokens = line.tokens.as_ref();
        let source = tokens.map(|tokens| if tokens.is_estimated { "estimated" } else { "reported" });
        self.0
            .execute(params![
                line.number,
                at_ms,
                &line.call.to_be_bytes()[..],
                paid.held.map(|_| line.number),
                paid.held,
                line.tenant,
                line.caller,
                line.account,
                line.egress,
                line.endpoint,
                line.model,
                line.upstream_model,
                tokens.map(|tokens| tokens.input),
                tokens.map(|tokens| tokens.cached),
                tokens.map(|tokens| tokens.cache_write),
                tokens.map(|tokens| tokens.output),
                tokens.map(|tokens| tokens.reasoning),
                source,
                line.cost,
                paid.charged,
                line.price_version,
                line.status,
                line.ending,
                line.started_ms,
                line.hold_us,
                line.first_byte_us,
                line.total_us,
                line.vendor_request_id,
                line.response_id,
                line.link,
                line.streamed,
                line.detail,
                line.local_address,
            ])
            .map(drop)
    }
}

const TRANSFER: &str =
    "INSERT INTO transfer (seq, kind, hold, debit, credit, amount, at_ms, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
const USAGE: &str = "INSERT INTO usage (seq, at_ms, call, hold, held, tenant, caller, account, egress, endpoint, model, \
    upstream_model, input, cached, cache_write, output, reasoning, source, cost, charged, price_version, status, \
    ending, started_ms, hold_us, first_byte_us, total_us, vendor_request_id, response_id, link, streamed, \
    detail, local_address) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const STATEMENTS: usize = 40;
