//! The ledger's statements: a batch is two scripts, each one trip to the database's thread.
//! `$n` is a JSON array of rows. Conditional writes come first; nothing is read before the write lock is held.

/// Opens the transaction, resolves holds, moves what their settlements change, and grants reserves for tenants who
/// can pay for all of theirs. `$1` hold, state · `$2` account, held, posted · `$3` tenant, sum · `$4` epoch.
/// Rows: 1 holds resolved · 2 accounts changed · 3 tenant granted · 4 the chain's last row.
pub(super) const BEGIN: &str = "\
    BEGIN IMMEDIATE; \
    UPDATE hold SET state = j.value ->> 1 FROM json_each($1) AS j \
        WHERE hold.id = j.value ->> 0 AND hold.state = 0 AND hold.epoch = $4; \
    SELECT 1, changes(), NULL; \
    UPDATE account SET held = held + (j.value ->> 1), posted = posted + (j.value ->> 2) FROM json_each($2) AS j \
        WHERE account.id = j.value ->> 0; \
    SELECT 2, changes(), NULL; \
    UPDATE account SET held = held + (j.value ->> 1) FROM json_each($3) AS j \
        WHERE account.id = j.value ->> 0 AND posted - held - (j.value ->> 1) >= floor \
        RETURNING 3, id, NULL; \
    SELECT 4, seq, hash FROM transfer ORDER BY seq DESC LIMIT 1";

/// The accounts of those who cannot pay for all, or who owe more than they held. The write lock is held.
pub(super) const LOOK: &str =
    "SELECT id, posted, held, floor FROM account WHERE id IN (SELECT value FROM json_each($1))";

/// What was decided one by one. `$1` account, held, posted; the floor is checked again.
pub(super) const MOVE: &str = "\
    UPDATE account SET held = held + (j.value ->> 1), posted = posted + (j.value ->> 2) FROM json_each($1) AS j \
        WHERE account.id = j.value ->> 0 \
        AND posted + (j.value ->> 2) - held - (j.value ->> 1) >= floor; \
    SELECT changes()";

/// Writes what is new, and commits. `$1` holds · `$2` transfers · `$3` usage.
pub(super) const FINISH: &str = "\
    INSERT INTO hold (id, call, tenant, caller, model, amount, price_version, epoch, state, at_ms) \
        SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
               value ->> 7, 0, value ->> 8 FROM json_each($1); \
    INSERT INTO transfer (seq, kind, hold, debit, credit, amount, at_ms, hash) \
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
               unhex(value ->> 7) FROM json_each($2); \
    INSERT INTO usage (at_ms, call, hold, tenant, caller, account, egress, endpoint, model, upstream_model, \
        input, cached, cache_write, output, reasoning, source, cost, charged, price_version, status, ending, \
        started_ms, hold_us, first_byte_us, total_us, vendor_request_id, response_id, link, streamed) \
        SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, \
               value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, \
               value ->> 14, value ->> 15, value ->> 16, value ->> 17, value ->> 18, value ->> 19, value ->> 20, \
               value ->> 21, value ->> 22, value ->> 23, value ->> 24, value ->> 25, value ->> 26, value ->> 27, \
               value ->> 28 FROM json_each($3); \
    COMMIT";

/// Where holds stand of which it is not certain that they were written, or are still open. `$1` holds.
pub(super) const DOUBT: &str = "\
    SELECT id, state, coalesce((SELECT amount FROM transfer AS t WHERE t.hold = hold.id AND t.kind = 'charge'), 0) \
    FROM hold WHERE id IN (SELECT value FROM json_each($1))";
