-- Pins again, as they are written: those of one moment and one account together, at the end. A row for each would cost the
-- books a page of the file for each. They are read at a start alone, where the later one of a name counts.
CREATE TABLE pinned (
    seq     INTEGER PRIMARY KEY,
    used_ms INTEGER NOT NULL,               -- when the last of them was used
    account TEXT NOT NULL,                  -- it may be gone
    names   BLOB NOT NULL CHECK (length(names) > 0 AND length(names) % 16 = 0)
) STRICT;
CREATE INDEX pinned_used ON pinned (used_ms);
INSERT INTO pinned (used_ms, account, names) SELECT used_ms, account, name FROM pin ORDER BY used_ms;
DROP TABLE pin;
