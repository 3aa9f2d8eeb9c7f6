//! The ledger's statements. A batch is one script and one trip to the database's thread, whose cost is shared by all of
//! its calls. Conditional writes come first; nothing is read before the write lock is held.

use std::fmt::Write as _;

/// How many rows a script has room for: scripts are prepared once each, so there are few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Room {
    /// Whether it begins the transaction itself.
    pub(super) begins: bool,
    /// Whether holds that stand in the database are resolved.
    pub(super) resolves: bool,
    pub(super) holds: usize,
    pub(super) transfers: usize,
    pub(super) usage: usize,
}

impl Room {
    /// Room for so many rows of each kind.
    pub(super) fn of(resolves: bool, holds: usize, transfers: usize, usage: usize) -> Self {
        let room = |rows: usize| STEPS.into_iter().find(|step| *step >= rows).unwrap_or(rows);
        let settled = room(transfers.max(usage));
        Self {
            begins: true,
            resolves,
            holds: room(holds),
            transfers: settled,
            usage: settled,
        }
    }
}

/// Sizes of scripts.
const STEPS: [usize; 6] = [0, 1, 4, 16, 64, 256];

/// What a connection is given before its first batch. A script cannot look at a count and go back by itself: an
/// insertion into `expect` of anything but true fails, and with it the batch.
pub(super) const EXPECT: &str = "\
    CREATE TEMP VIEW expect AS SELECT 1 AS met; \
    CREATE TEMP TRIGGER expectation INSTEAD OF INSERT ON expect WHEN NEW.met IS NOT TRUE \
        BEGIN SELECT RAISE(ABORT, 'the books do not fit what was decided'); END";

/// A whole batch. Arguments in their order: with `resolves`, \[\[hold, state\]\], epoch and how many; then
/// \[\[account, held, posted\]\], epoch, how many; then rows of holds, transfers and usage. A row of nothing fills room
/// that is not needed. Returns what each changed account can spend.
pub(super) fn batch(room: Room) -> String {
    let mut sql = String::new();
    if room.begins {
        sql.push_str("BEGIN IMMEDIATE; ");
    }
    if room.resolves {
        sql.push_str(
            "UPDATE hold SET state = j.value ->> 1 FROM json_each(?) AS j \
                 WHERE hold.id = j.value ->> 0 AND hold.state = 0 AND hold.epoch = ?; \
             INSERT INTO expect VALUES (changes() = ?); ",
        );
    }
    sql.push_str(
        "UPDATE account SET held = held + (j.value ->> 1), posted = posted + (j.value ->> 2) FROM json_each(?) AS j \
             WHERE account.id = j.value ->> 0 RETURNING id, posted - held - floor; \
         INSERT INTO expect SELECT epoch = ? AND changes() = ? FROM hub; ",
    );
    insert(&mut sql, "hold", HOLD, room.holds);
    insert(&mut sql, "transfer", TRANSFER, room.transfers);
    insert(&mut sql, "usage", USAGE, room.usage);
    sql.push_str("COMMIT");
    sql
}

fn insert(sql: &mut String, table: &str, columns: &[&str], rows: usize) {
    if rows == 0 {
        return;
    }
    let row = format!("({})", vec!["?"; columns.len()].join(","));
    let rows = vec![row.as_str(); rows].join(",");
    write!(
        sql,
        "INSERT INTO {table} ({}) SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL; ",
        columns.join(", ")
    )
    .expect("a String takes all text");
}

pub(super) const HOLD: &[&str] = &[
    "id",
    "call",
    "tenant",
    "caller",
    "model",
    "amount",
    "price_version",
    "epoch",
    "state",
    "at_ms",
];
pub(super) const TRANSFER: &[&str] = &["seq", "kind", "hold", "debit", "credit", "amount", "at_ms", "hash"];
pub(super) const USAGE: &[&str] = &[
    "at_ms",
    "call",
    "hold",
    "tenant",
    "caller",
    "account",
    "egress",
    "endpoint",
    "model",
    "upstream_model",
    "input",
    "cached",
    "cache_write",
    "output",
    "reasoning",
    "source",
    "cost",
    "charged",
    "price_version",
    "status",
    "ending",
    "started_ms",
    "hold_us",
    "first_byte_us",
    "total_us",
    "vendor_request_id",
    "response_id",
    "link",
    "streamed",
];

/// Begins a transaction, and tells where the chain ends under its lock.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE; SELECT seq, hash FROM transfer ORDER BY seq DESC LIMIT 1";

/// What tenants can spend. `$1` a JSON array of accounts.
pub(super) const LOOK: &str =
    "SELECT id, posted - held - floor FROM account WHERE id IN (SELECT value FROM json_each($1))";

/// Changes nothing, durably: tells whether the database takes writes.
pub(super) const PROBE: &str = "BEGIN IMMEDIATE; UPDATE hub SET epoch = epoch; COMMIT";

/// Where holds stand of which it is not certain that they were written, or are still open. `$1` holds.
pub(super) const DOUBT: &str = "\
    SELECT id, state, coalesce((SELECT amount FROM transfer AS t WHERE t.hold = hold.id AND t.kind = 'charge'), 0) \
    FROM hold WHERE id IN (SELECT value FROM json_each($1))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_room_for_every_row_and_there_are_few_scripts() {
        let mut rooms = std::collections::HashSet::new();
        for rows in 0..=256 {
            let room = Room::of(false, rows, 0, rows);
            assert!(room.holds >= rows && room.usage >= rows && room.transfers == room.usage);
            rooms.insert(room);
        }
        assert_eq!(rooms.len(), STEPS.len());
        assert!(Room::of(true, 0, 128, 64).transfers >= 128);
    }
}
