//! The ledger's statements, each prepared once. Writes are conditional; what a batch reads it reads under its write lock.

use std::{borrow::Cow, path::Path, time::Duration};

use relay_protocol::{Usage, UsageSource};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::super::{
    detail::detail,
    inbox::Facts,
    row::UsageRow,
    rules::{Head, Transfer},
};
use crate::{
    ids::{AccountId, TenantId},
    money::Nanos,
};

/// Where a hold stands.
pub(super) const OPEN: i64 = 0;
pub(super) const POSTED: i64 = 1;
pub(super) const VOID: i64 = 2;

/// Opens the write connection.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // What a statement may have to undo is not worth a file.
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY",
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

pub(super) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
}

pub(super) fn commit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

/// Changes nothing, durably: tells whether the database takes writes.
pub(super) fn probe(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE hub SET epoch = epoch")?
        .execute([])
        .map(drop)
}

/// Whose turn it is: a later start of a hub has a later epoch.
pub(super) fn epoch(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("SELECT epoch FROM hub")?
        .query_row([], |row| row.get(0))
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

/// Resolves an open hold of this epoch; false where there is none.
pub(super) fn resolve(connection: &Connection, hold: i64, state: i64, epoch: i64) -> rusqlite::Result<bool> {
    let mut resolve =
        connection.prepare_cached("UPDATE hold SET state = ?2 WHERE id = ?1 AND state = 0 AND epoch = ?3")?;
    Ok(resolve.execute(params![hold, state, epoch])? == 1)
}

/// Changes an account and returns what it can spend then; `None` where there is no such account.
pub(super) fn change(
    connection: &Connection,
    account: &str,
    held: i64,
    posted: i64,
) -> rusqlite::Result<Option<Nanos>> {
    let mut change = connection.prepare_cached(
        "UPDATE account SET held = held + ?2, posted = posted + ?3 WHERE id = ?1 RETURNING posted - held - floor",
    )?;
    // Read to its end: a statement that is left halfway would stay open over the commit.
    let mut left = change.query_map(params![account, held, posted], |row| row.get(0).map(Nanos::new))?;
    let first = left.next().transpose()?;
    left.next().transpose()?;
    Ok(first)
}

/// What a tenant can spend.
pub(super) fn available(connection: &Connection, tenant: &TenantId) -> rusqlite::Result<Option<Nanos>> {
    connection
        .prepare_cached("SELECT posted - held - floor FROM account WHERE id = ?1")?
        .query_row([tenant.as_str()], |row| row.get(0).map(Nanos::new))
        .optional()
}

/// State and charge of a hold, if it is in the database.
pub(super) fn standing(connection: &Connection, hold: i64) -> rusqlite::Result<Option<(i64, Nanos)>> {
    connection
        .prepare_cached(
            "SELECT state, coalesce((SELECT amount FROM transfer WHERE hold = ?1 AND kind = 'charge'), 0) \
             FROM hold WHERE id = ?1",
        )?
        .query_row([hold], |row| Ok((row.get(0)?, Nanos::new(row.get(1)?))))
        .optional()
}

/// A hold in its state.
pub(super) fn hold(connection: &Connection, facts: &Facts, epoch: i64, state: i64) -> rusqlite::Result<()> {
    let reserve = &facts.reserve;
    let mut insert = connection.prepare_cached(
        "INSERT INTO hold (id, call, tenant, caller, model, amount, price_version, epoch, state, at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert
        .execute(params![
            facts.id,
            &reserve.call.as_bytes()[..],
            reserve.tenant.as_str(),
            reserve.by.as_str(),
            cut(&reserve.model),
            reserve.amount.get(),
            reserve.price_version,
            epoch,
            state,
            facts.at_ms,
        ])
        .map(drop)
}

/// A transfer at its place in the chain.
pub(super) fn transfer(connection: &Connection, row: &Transfer<'_>, at: &Head) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO transfer (seq, kind, hold, debit, credit, amount, at_ms, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    insert
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

/// The row of a call.
pub(super) fn usage(
    connection: &Connection,
    row: &UsageRow,
    hold: Option<i64>,
    charged: Nanos,
    at_ms: i64,
) -> rusqlite::Result<()> {
    let source = row.usage.as_ref().map(|(_, source)| match source {
        UsageSource::Reported => "reported",
        UsageSource::Estimated => "estimated",
    });
    let tokens = |pick: fn(&Usage) -> relay_protocol::Tokens| {
        let usage = row.usage.as_ref().map(|(usage, _)| pick(usage).get());
        whole(usage)
    };
    let mut insert = connection.prepare_cached(USAGE)?;
    insert
        .execute(params![
            at_ms,
            &row.call.as_bytes()[..],
            hold,
            row.tenant.as_str(),
            row.by.as_str(),
            row.account.as_ref().map(AccountId::as_str),
            row.egress.as_deref(),
            row.endpoint,
            cut(&row.model),
            cut(&row.upstream_model),
            tokens(|usage| usage.input),
            tokens(|usage| usage.cached),
            tokens(|usage| usage.cache_write),
            tokens(|usage| usage.output),
            tokens(|usage| usage.reasoning),
            source,
            row.cost.get(),
            charged.get(),
            row.price_version,
            row.status,
            row.ending.to_string(),
            row.started_ms,
            whole(row.hold_us),
            whole(row.first_byte_us),
            whole(row.total_us),
            row.vendor_request_id.as_deref().map(cut),
            row.response_id.as_deref().map(cut),
            row.link.as_str(),
            row.streamed,
            detail(row),
        ])
        .map(drop)
}

/// The row of a call whose hold was dropped without a word.
pub(super) fn abandoned(connection: &Connection, facts: &Facts, at_ms: i64) -> rusqlite::Result<()> {
    let reserve = &facts.reserve;
    let mut insert = connection.prepare_cached(
        "INSERT INTO usage (at_ms, call, hold, tenant, caller, endpoint, model, upstream_model, cost, charged, \
         price_version, status, ending, started_ms, link, streamed) \
         VALUES (?, ?, ?, ?, ?, '', ?, '', 0, 0, ?, 0, 'abandoned', ?, '', 0)",
    )?;
    insert
        .execute(params![
            at_ms,
            &reserve.call.as_bytes()[..],
            facts.id,
            reserve.tenant.as_str(),
            reserve.by.as_str(),
            cut(&reserve.model),
            reserve.price_version,
            facts.at_ms,
        ])
        .map(drop)
}

/// A count; what does not fit is the largest that does.
fn whole(count: Option<u64>) -> Option<i64> {
    count.map(|count| i64::try_from(count).unwrap_or(i64::MAX))
}

/// A text from outside, cut to a length that a table can bear.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_TEXT && !text.bytes().any(|byte| byte.is_ascii_control()) {
        return Cow::Borrowed(text);
    }
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

const USAGE: &str = "INSERT INTO usage (at_ms, call, hold, tenant, caller, account, egress, endpoint, model, \
    upstream_model, input, cached, cache_write, output, reasoning, source, cost, charged, price_version, status, \
    ending, started_ms, hold_us, first_byte_us, total_us, vendor_request_id, response_id, link, streamed, detail) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const BUSY: Duration = Duration::from_secs(2);
const STATEMENTS: usize = 32;
const LONGEST_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_from_outside_is_cut_and_cleaned() {
        assert_eq!(cut("a\"b\\c\n\u{0}é\u{1F600}"), "a\"b\\cé\u{1F600}");
        assert_eq!(cut(&"é".repeat(1000)).chars().count(), LONGEST_TEXT);
        assert!(matches!(cut("gpt-5"), Cow::Borrowed(_)));
    }
}
