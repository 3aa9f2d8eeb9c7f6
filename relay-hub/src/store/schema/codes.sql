-- Codes that stand for credit: each redeemed once. Of a code's text only its SHA-256 is kept.
CREATE TABLE code (
    id          TEXT PRIMARY KEY,
    hash        BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    amount      INTEGER NOT NULL CHECK (amount > 0),
    expires_ms  INTEGER,                    -- it cannot be redeemed from then on
    days        INTEGER CHECK (days > 0),   -- the credit ends so long after it was redeemed
    note        TEXT NOT NULL,
    created_ms  INTEGER NOT NULL,
    revoked_ms  INTEGER,
    tenant      TEXT REFERENCES tenant (id),              -- who redeemed it
    redeemed_ms INTEGER,
    CHECK ((tenant IS NULL) = (redeemed_ms IS NULL)),
    CHECK (tenant IS NULL OR revoked_ms IS NULL)
) STRICT;
CREATE TRIGGER code_redeemed_once BEFORE UPDATE ON code WHEN OLD.tenant IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a code is redeemed once'); END;
CREATE TRIGGER code_no_delete BEFORE DELETE ON code BEGIN SELECT RAISE(ABORT, 'codes are kept'); END;
