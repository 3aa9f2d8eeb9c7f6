-- What is durable before the tables have it, so that many calls share the cost of the tables. Slots are written over
-- and over; a page counts while its `seq` is above `hub.posted`.
CREATE TABLE journal (
    slot    INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    body    BLOB NOT NULL
) STRICT;
ALTER TABLE hub ADD COLUMN posted INTEGER NOT NULL DEFAULT 0;   -- the last page that the tables have

-- Entries that the tables refused. The books are not right while there is one.
CREATE TABLE unposted (
    seq    INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    reason TEXT NOT NULL,
    body   BLOB NOT NULL
) STRICT;

-- A hold is a row while it is open; how it ended stands in `usage`, with what was held.
ALTER TABLE usage ADD COLUMN held INTEGER;
CREATE TABLE open_hold (
    id            INTEGER PRIMARY KEY,
    call          BLOB NOT NULL CHECK (length(call) = 16),
    tenant        TEXT NOT NULL,
    caller        TEXT NOT NULL,            -- key or device
    model         TEXT NOT NULL,
    amount        INTEGER NOT NULL CHECK (amount >= 0),
    price_version INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    at_ms         INTEGER NOT NULL
) STRICT;
INSERT INTO open_hold SELECT id, call, tenant, caller, model, amount, price_version, epoch, at_ms FROM hold WHERE state = 0;
DROP TABLE hold;
ALTER TABLE open_hold RENAME TO hold;
CREATE TRIGGER hold_no_update BEFORE UPDATE ON hold BEGIN SELECT RAISE(ABORT, 'holds are immutable'); END;
-- The number of a call is the number of its row: it can be booked once.
DROP INDEX usage_hold;

-- A charge has no reference, so it needs no entry in the index of references.
ALTER TABLE transfer RENAME TO old_transfer;
DROP INDEX transfer_hold;
CREATE TABLE transfer (
    seq    INTEGER PRIMARY KEY,
    kind   TEXT NOT NULL,                   -- charge, loss, credit
    hold   INTEGER,
    idem   TEXT,                            -- of a credit: applied once
    debit  TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms  INTEGER NOT NULL,
    note   TEXT NOT NULL DEFAULT '',
    hash   BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO transfer SELECT seq, kind, hold, idem, debit, credit, amount, at_ms, note, hash FROM old_transfer;
DROP TABLE old_transfer;
CREATE UNIQUE INDEX transfer_hold ON transfer (hold, kind) WHERE hold IS NOT NULL;
CREATE UNIQUE INDEX transfer_idem ON transfer (idem) WHERE idem IS NOT NULL;
CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer BEGIN SELECT RAISE(ABORT, 'transfers are immutable'); END;
CREATE TRIGGER transfer_no_delete BEFORE DELETE ON transfer BEGIN SELECT RAISE(ABORT, 'transfers are immutable'); END;
