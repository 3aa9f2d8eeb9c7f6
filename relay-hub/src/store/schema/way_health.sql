-- How ways out did lately, as the running hub saw them. Nothing is decided by it.
CREATE TABLE way_health (
    way          TEXT PRIMARY KEY REFERENCES way_out (id) ON DELETE CASCADE,
    is_down      INTEGER NOT NULL CHECK (is_down IN (0, 1)),
    failed_ms    INTEGER,
    failure      TEXT,
    connected_ms INTEGER,
    connect_us   INTEGER,
    tls_us       INTEGER
) STRICT;
