//! Posting: what the journal has and the tables have not, brought into the tables in one transaction. Any process may
//! post at any time; what another one posted meanwhile is not there any more.

use std::collections::BTreeMap;

use relay_shared::fault;
use rusqlite::{Connection, ErrorCode};
use tracing::error;

use super::{
    journal::{CallLine, CheckpointLine, CloseLine, Entry, HoldLine},
    rules::{Changes, OPERATOR_LOSS, REVENUE, Transfer},
    sql::{self, Paid, Unposted},
};
use crate::money::Nanos;

/// Why the books cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum BooksError {
    #[error("the database failed")]
    Sql(#[from] rusqlite::Error),
    #[error("the books do not fit what was decided: {0}")]
    Books(&'static str),
    #[error("a page of the journal cannot be read: a later relay-hub may have written it")]
    Unreadable(#[from] rmp_serde::decode::Error),
    #[error("the file of the last moments' holds cannot be used")]
    Flight(#[from] std::io::Error),
    #[error("an entry of the journal cannot be written")]
    Unwritable(#[from] rmp_serde::encode::Error),
}

impl BooksError {
    /// Whether the same may succeed later: the database is locked, full or not reachable.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Sql(rusqlite::Error::SqliteFailure(..))) && !self.is_refused()
    }

    /// Whether it is the entry that the tables do not take.
    fn is_refused(&self) -> bool {
        match self {
            Self::Sql(rusqlite::Error::SqliteFailure(failure, _)) => matches!(
                failure.code,
                ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch
            ),
            Self::Sql(_) | Self::Books(_) => true,
            Self::Unreadable(_) | Self::Unwritable(_) | Self::Flight(_) => false,
        }
    }
}

/// Brings the tables up to the journal.
pub(super) fn post(connection: &Connection) -> Result<(), BooksError> {
    sql::begin(connection)?;
    // All at once. Where the tables refuse something of it, again with a savepoint for each: those are not free.
    if refusal(bring(connection, together).map(drop))?.is_some() {
        sql::rollback(connection)?;
        sql::begin(connection)?;
        within(connection)?;
    }
    fault::point("posting");
    sql::commit(connection)?;
    fault::point("posted");
    Ok(())
}

/// The same inside an open transaction; the last page that the tables have then.
pub(super) fn within(connection: &Connection) -> Result<i64, BooksError> {
    bring(connection, all_or_each)
}

fn bring(
    connection: &Connection,
    write: fn(&Connection, &[Line<'_>]) -> Result<(), BooksError>,
) -> Result<i64, BooksError> {
    let posted = sql::standing(connection)?.posted;
    let unposted = sql::pages_after(connection, posted)?;
    let Some(page) = unposted.last().map(|last| last.seq) else {
        return Ok(posted);
    };
    let mut lines = Vec::new();
    for Unposted { seq, at_ms, page } in &unposted {
        let entries = page.read()?.into_iter();
        lines.extend(entries.map(|entry| Line {
            seq: *seq,
            at_ms: *at_ms,
            entry,
        }));
    }
    write(connection, &lines)?;
    sql::set_posted(connection, page)?;
    Ok(page)
}

/// Brings entries into the tables that stand on no page.
pub(super) fn entries(connection: &Connection, entries: Vec<Entry<'_>>, at_ms: i64) -> Result<(), BooksError> {
    let line = |entry| Line { seq: 0, at_ms, entry };
    let lines: Vec<_> = entries.into_iter().map(line).collect();
    all_or_each(connection, &lines)
}

/// An entry with its page's number and time.
struct Line<'a> {
    seq: i64,
    at_ms: i64,
    entry: Entry<'a>,
}

/// All lines; where the tables refuse one, an error.
fn together(connection: &Connection, lines: &[Line<'_>]) -> Result<(), BooksError> {
    Posting::of(lines)?.write(connection)
}

/// All lines together; where the tables refuse one, each alone, and the refused ones are set aside.
fn all_or_each(connection: &Connection, lines: &[Line<'_>]) -> Result<(), BooksError> {
    if refusal(attempt(connection, lines))?.is_none() {
        return Ok(());
    }
    for line in lines {
        if let Some(cause) = refusal(attempt(connection, std::slice::from_ref(line)))? {
            set_aside(connection, line, &cause)?;
        }
    }
    Ok(())
}

/// Why the tables refuse something, if they do; any other failure may have ended the transaction.
fn refusal(done: Result<(), BooksError>) -> Result<Option<BooksError>, BooksError> {
    match done {
        Ok(()) => Ok(None),
        Err(cause) if cause.is_refused() => Ok(Some(cause)),
        Err(cause) => Err(cause),
    }
}

fn attempt(connection: &Connection, lines: &[Line<'_>]) -> Result<(), BooksError> {
    sql::savepoint(connection)?;
    let done = together(connection, lines);
    if done.is_err() {
        sql::rollback_to_savepoint(connection)?;
    }
    done
}

fn set_aside(connection: &Connection, line: &Line<'_>, cause: &BooksError) -> Result<(), BooksError> {
    error!(
        error = cause as &dyn std::error::Error,
        page = line.seq,
        "the tables refuse an entry of the journal: `ledger verify` tells more"
    );
    let body = rmp_serde::to_vec(&line.entry)?;
    sql::set_aside(connection, line.seq, line.at_ms, &cause.to_string(), &body)?;
    Ok(())
}

/// What lines do to the tables, a hold that opened and closed among them left out.
#[derive(Default)]
struct Posting<'a> {
    changes: Changes<'a>,
    opens: BTreeMap<i64, &'a HoldLine<'a>>,
    /// More for holds that stay open: whose, and how much.
    extends: BTreeMap<i64, (&'a str, i64)>,
    checkpoints: BTreeMap<i64, &'a CheckpointLine>,
    closes: Vec<(i64, &'a CloseLine<'a>)>,
    notes: Vec<(i64, &'a CallLine<'a>)>,
    /// Closed here, open in the tables.
    ended: Vec<i64>,
}

impl<'a> Posting<'a> {
    fn of(lines: &'a [Line<'a>]) -> Result<Self, BooksError> {
        let mut posting = Self::default();
        for Line { at_ms, entry, .. } in lines {
            match entry {
                Entry::Open(hold) => drop(posting.opens.insert(hold.id, hold)),
                Entry::Close(close) => posting.close(*at_ms, close).ok_or(OUT_OF_RANGE)?,
                Entry::Note(call) => posting.notes.push((*at_ms, call)),
                Entry::Extend(line) => {
                    let (_, sum) = posting.extends.entry(line.id).or_insert((line.tenant, 0));
                    *sum = sum.checked_add(line.amount).ok_or(OUT_OF_RANGE)?;
                }
                Entry::Checkpoint(line) => drop(posting.checkpoints.insert(line.id, line)),
            }
        }
        for hold in posting.opens.values() {
            posting.changes.add(hold.tenant, hold.amount, 0).ok_or(OUT_OF_RANGE)?;
        }
        for (tenant, amount) in posting.extends.values() {
            posting.changes.add(tenant, *amount, 0).ok_or(OUT_OF_RANGE)?;
        }
        Ok(posting)
    }

    fn close(&mut self, at_ms: i64, close: &'a CloseLine<'a>) -> Option<()> {
        let CallLine { number, tenant, .. } = &close.call;
        let was_posted = close.was_open && self.opens.remove(number).is_none();
        self.checkpoints.remove(number);
        let unposted = self.extends.remove(number).map_or(0, |(_, amount)| amount);
        let released = if was_posted {
            unposted.checked_sub(close.durable.unwrap_or(close.held))?
        } else {
            0
        };
        if was_posted {
            self.ended.push(*number);
        }
        self.changes.add(tenant, released, close.charge.checked_neg()?)?;
        if close.charge != 0 || close.loss != 0 {
            self.changes.add(REVENUE, 0, close.charge.checked_add(close.loss)?)?;
        }
        if close.loss != 0 {
            self.changes.add(OPERATOR_LOSS, 0, close.loss.checked_neg()?)?;
        }
        self.closes.push((at_ms, close));
        Some(())
    }

    fn write(&self, connection: &Connection) -> Result<(), BooksError> {
        for id in &self.ended {
            if !sql::close_hold(connection, *id)? {
                return Err(BooksError::Books("a hold is not open"));
            }
        }
        for hold in self.opens.values() {
            sql::open_hold(connection, hold)?;
        }
        for (id, (_, amount)) in &self.extends {
            if !sql::extend_hold(connection, *id, *amount)? {
                return Err(BooksError::Books("a hold is not open"));
            }
        }
        for line in self.checkpoints.values() {
            // Of a call that ended there is nothing to say any more.
            sql::checkpoint(connection, line)?;
        }
        for (account, held, posted) in self.changes.iter() {
            change(connection, account, held, posted)?;
        }
        self.transfers(connection)?;
        self.usage(connection)
    }

    fn transfers(&self, connection: &Connection) -> Result<(), BooksError> {
        let head = sql::head(connection)?;
        let mut head = head.ok_or(BooksError::Books("a hash is not 32 bytes long"))?;
        let mut transfers = sql::Transfers::of(connection)?;
        for (at_ms, close) in &self.closes {
            let sides = [
                ("charge", close.call.tenant, close.charge),
                ("loss", OPERATOR_LOSS, close.loss),
            ];
            for (kind, debit, amount) in sides.into_iter().filter(|(_, _, amount)| *amount != 0) {
                let row = Transfer {
                    kind,
                    hold: Some(close.call.number),
                    idem: None,
                    debit,
                    credit: REVENUE,
                    amount: Nanos::new(amount),
                    at_ms: *at_ms,
                    note: "",
                };
                head = head.next(&row).ok_or(OUT_OF_RANGE)?;
                transfers.add(&row, &head)?;
            }
        }
        Ok(sql::set_head(connection, &head)?)
    }

    fn usage(&self, connection: &Connection) -> Result<(), BooksError> {
        let mut usage = sql::Usage::of(connection)?;
        for (at_ms, close) in &self.closes {
            let paid = Paid {
                held: Some(close.held),
                charged: close.charge,
            };
            usage.add(&close.call, &paid, *at_ms)?;
        }
        for (at_ms, call) in &self.notes {
            let paid = Paid { held: None, charged: 0 };
            usage.add(call, &paid, *at_ms)?;
        }
        Ok(())
    }
}

/// Changes what an account holds and has.
pub(super) fn change(connection: &Connection, account: &str, held: i64, posted: i64) -> Result<(), BooksError> {
    if sql::change(connection, account, held, posted)? {
        Ok(())
    } else {
        Err(BooksError::Books("an account is missing"))
    }
}

const OUT_OF_RANGE: BooksError = BooksError::Books("a sum is out of range");

#[cfg(test)]
mod tests {
    use super::*;

    fn sql(code: i32) -> BooksError {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None).into()
    }

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_refused_is_set_aside() {
        let unreadable = || rmp_serde::decode::Error::OutOfRange;
        // SQLITE_BUSY, SQLITE_FULL, SQLITE_IOERR; SQLITE_ERROR, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
        let wanted = [
            (sql(5), true, false),
            (sql(13), true, false),
            (sql(10), true, false),
            (sql(1), false, true),
            (sql(19), false, true),
            (sql(20), false, true),
            (rusqlite::Error::QueryReturnedNoRows.into(), false, true),
            (BooksError::Books("no"), false, true),
            (unreadable().into(), false, false),
        ];
        for (error, may_pass, is_refused) in wanted {
            assert_eq!(
                (error.may_pass(), error.is_refused()),
                (may_pass, is_refused),
                "{error:?}"
            );
            let passed_on = refusal(Err(error));
            assert_eq!(passed_on.is_err(), !is_refused, "{passed_on:?}");
        }
        assert!(matches!(refusal(Ok(())), Ok(None)));
    }
}
