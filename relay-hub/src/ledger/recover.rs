//! Taking over the books at start: what was durable is posted, a new epoch fences what an earlier hub left, and its
//! open holds are settled at their last checkpoint or released, those of its last moments among them.

use std::{path::Path, time::Duration};

use relay_shared::fault;
use rusqlite::{Connection, Row, params};

use super::{
    flight,
    journal::{CallLine, CloseLine, Entry, HoldLine, TokenLine},
    lines,
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

/// One transaction. Of an answer that was open, what its last checkpoint tells is charged; without one, nothing.
pub(super) fn take_over(
    database: &Path,
    flight: &Path,
    patience: Duration,
    now_ms: i64,
) -> Result<Recovered, BooksError> {
    let connection = sql::open(database, patience)?;
    let flight = flight::left(flight)?;
    sql::begin(&connection)?;
    let page = post::within(&connection)?;
    let in_flight = note(&connection, &flight, now_ms)?;
    let epoch = connection.query_row("UPDATE hub SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0))?;
    let settled = settle(&connection, now_ms)?;
    let released = release(&connection, now_ms)?;
    let holds = settled.saturating_add(released).saturating_add(in_flight);
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
    let (mut usage, mut noted) = (sql::Usage::of(connection)?, 0_usize);
    for hold in flight::holds(flight).filter(|hold| hold.epoch == epoch) {
        if !sql::is_known(connection, hold.id)? {
            let paid = Paid {
                held: Some(hold.amount),
                charged: 0,
            };
            usage.add(&lines::unsettled(hold, &Ending::Recovered), &paid, now_ms)?;
            noted = noted.saturating_add(1);
        }
    }
    Ok(noted)
}

/// Charges holds at their checkpoint, at most what is set aside.
fn settle(connection: &Connection, now_ms: i64) -> Result<usize, BooksError> {
    let mut open = connection.prepare(CHECKPOINTS)?;
    let left: Vec<Left> = open.query_map([], Left::read)?.collect::<Result<_, _>>()?;
    post::entries(connection, left.iter().map(Left::close).collect(), now_ms)?;
    Ok(left.len())
}

/// A hold with its checkpoint.
struct Left {
    id: i64,
    call: u128,
    tenant: String,
    caller: String,
    model: String,
    amount: i64,
    price_version: i64,
    epoch: i64,
    at_ms: i64,
    input: i64,
    output: i64,
    cost: i64,
}

impl Left {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            call: u128::from_be_bytes(row.get(1)?),
            tenant: row.get(2)?,
            caller: row.get(3)?,
            model: row.get(4)?,
            amount: row.get(5)?,
            price_version: row.get(6)?,
            epoch: row.get(7)?,
            at_ms: row.get(8)?,
            input: row.get(9)?,
            output: row.get(10)?,
            cost: row.get(11)?,
        })
    }

    fn close(&self) -> Entry<'_> {
        let hold = HoldLine {
            id: self.id,
            call: self.call,
            tenant: &self.tenant,
            caller: &self.caller,
            model: self.model.as_str().into(),
            amount: self.amount,
            price_version: self.price_version,
            epoch: self.epoch,
            at_ms: self.at_ms,
        };
        let charge = self.cost.clamp(0, self.amount);
        let tokens = TokenLine {
            input: self.input,
            cached: 0,
            cache_write: 0,
            output: self.output,
            reasoning: 0,
            is_estimated: true,
        };
        Entry::Close(CloseLine {
            was_open: true,
            held: self.amount,
            charge,
            loss: 0,
            call: CallLine {
                tokens: Some(tokens),
                cost: charge,
                ..lines::unsettled(hold, &Ending::Recovered)
            },
            durable: None,
        })
    }
}

fn release(connection: &Connection, now_ms: i64) -> rusqlite::Result<usize> {
    connection.execute(RELEASE_ROWS, params![now_ms])?;
    connection.execute(RELEASE_HELD, [])?;
    connection.execute("DELETE FROM hold", [])
}

const CHECKPOINTS: &str = "SELECT id, call, tenant, caller, model, amount, price_version, epoch, at_ms, input, output, cost \
    FROM hold WHERE cost IS NOT NULL ORDER BY id";
const RELEASE_ROWS: &str = "INSERT INTO usage (seq, at_ms, call, hold, held, tenant, caller, endpoint, model, upstream_model, \
    cost, charged, price_version, status, ending, started_ms, link, streamed) \
    SELECT id, ?1, call, id, amount, tenant, caller, '', model, '', 0, 0, price_version, 0, 'recovered', at_ms, '', 0 \
    FROM hold";
const RELEASE_HELD: &str = "UPDATE account SET held = held - open.sum \
    FROM (SELECT tenant, sum(amount) AS sum FROM hold GROUP BY tenant) AS open \
    WHERE account.id = open.tenant";
const LAST_NUMBER: &str = "SELECT max(coalesce((SELECT max(seq) FROM usage), 0), \
    coalesce((SELECT max(hold) FROM transfer WHERE hold IS NOT NULL), 0))";
