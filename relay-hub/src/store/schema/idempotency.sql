-- The calls of a day that came with an `Idempotency-Key`: which request a key stands for, and under which number its call
-- is booked. Neither the key's text nor a body is kept. Rows are written before the vendor is called.
CREATE TABLE idempotency (
    caller  TEXT NOT NULL,                  -- key or device
    name    BLOB NOT NULL CHECK (length(name) = 32),      -- SHA-256 of the key
    request BLOB NOT NULL CHECK (length(request) = 32),   -- SHA-256 of path and body
    call    BLOB NOT NULL CHECK (length(call) = 16),
    number  INTEGER NOT NULL,               -- of its hold and its usage row
    epoch   INTEGER NOT NULL,
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (caller, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at_ms);
