//! Taking over the books at start: what was durable is posted, a new epoch fences what an earlier hub left, and its
//! open holds are released, those of its last moments among them.

use std::{path::Path, time::Duration};

use relay_shared::fault;
use rusqlite::{Connection, params};

use super::{
    flight, lines,
    post::{self, BooksError},
    row::Ending,
    sql::{self, Paid},
};

/// What the start found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Recovered {
    /// The epoch of this start.
    pub(super) epoch: i64,
    /// How many open holds were released.
    pub(super) holds: usize,
    /// The number of the last hold or note.
    pub(super) last_number: i64,
    /// The last page of the journal.
    pub(super) page: i64,
}

/// One transaction. Nobody saw the end of the answers that were open, so nobody is charged for them.
pub(super) fn take_over(
    database: &Path,
    flight: &Path,
    patience: Duration,
    now_ms: i64,
) -> Result<Recovered, BooksError> {
    let connection = sql::open(database, patience)?;
    let flight = flight::left(flight)?;
    sql::begin(&connection)?;
    let page = post::within(&connection)?.page;
    let in_flight = note(&connection, &flight, now_ms)?;
    let epoch = connection.query_row("UPDATE hub SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0))?;
    let holds = release(&connection, now_ms)?.saturating_add(in_flight);
    let last_number = connection.query_row(LAST_NUMBER, [], |row| row.get(0))?;
    fault::point("taking over");
    sql::commit(&connection)?;
    Ok(Recovered {
        epoch,
        holds,
        last_number,
        page,
    })
}

/// Rows for the holds of the last moments that the tables know nothing of. They were taken from no balance.
fn note(connection: &Connection, flight: &[u8], now_ms: i64) -> rusqlite::Result<usize> {
    let epoch = sql::standing(connection)?.epoch;
    let mut noted = 0_usize;
    for hold in flight::holds(flight).filter(|hold| hold.epoch == epoch) {
        if !sql::is_known(connection, hold.id)? {
            let paid = Paid {
                held: Some(hold.amount),
                charged: 0,
            };
            sql::usage(connection, &lines::unsettled(hold, &Ending::Recovered), &paid, now_ms)?;
            noted = noted.saturating_add(1);
        }
    }
    Ok(noted)
}

fn release(connection: &Connection, now_ms: i64) -> rusqlite::Result<usize> {
    connection.execute(RELEASE_ROWS, params![now_ms])?;
    connection.execute(RELEASE_HELD, [])?;
    connection.execute("DELETE FROM hold", [])
}

const RELEASE_ROWS: &str = "INSERT INTO usage (seq, at_ms, call, hold, held, tenant, caller, endpoint, model, upstream_model, \
    cost, charged, price_version, status, ending, started_ms, link, streamed) \
    SELECT id, ?1, call, id, amount, tenant, caller, '', model, '', 0, 0, price_version, 0, 'recovered', at_ms, '', 0 \
    FROM hold";
const RELEASE_HELD: &str = "UPDATE account SET held = held - open.sum \
    FROM (SELECT tenant, sum(amount) AS sum FROM hold GROUP BY tenant) AS open \
    WHERE account.id = open.tenant";
const LAST_NUMBER: &str = "SELECT max(coalesce((SELECT max(seq) FROM usage), 0), \
    coalesce((SELECT max(hold) FROM transfer WHERE hold IS NOT NULL), 0))";
