-- By what each account leaves. A way out belongs to one account for good: nobody else may name the same address, or the
-- same user of the same proxy, and nothing about it changes but by removing it.
CREATE TABLE way_out (
    id             TEXT PRIMARY KEY,
    account        TEXT NOT NULL REFERENCES vendor_account (id) ON DELETE CASCADE,
    name           TEXT NOT NULL UNIQUE,
    through        TEXT NOT NULL UNIQUE,        -- `source ADDRESS`, or a proxy's URL with its user
    password       BLOB,                        -- of the proxy's user; sealed
    region         TEXT,
    priority       INTEGER NOT NULL,            -- the lowest is taken first
    prefers        INTEGER CHECK (prefers IN (4, 6)),
    allows_private INTEGER NOT NULL CHECK (allows_private IN (0, 1)),
    created_ms     INTEGER NOT NULL
) STRICT;
CREATE TRIGGER way_out_no_update BEFORE UPDATE ON way_out BEGIN SELECT RAISE(ABORT, 'a way out is immutable'); END;
CREATE TRIGGER way_out_revision_insert AFTER INSERT ON way_out BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER way_out_revision_delete AFTER DELETE ON way_out BEGIN UPDATE hub SET revision = revision + 1; END;

-- Whether the vendor may be at an address that is not public. Accounts from before could reach every address.
ALTER TABLE vendor_account ADD COLUMN allows_private INTEGER NOT NULL DEFAULT 1 CHECK (allows_private IN (0, 1));

ALTER TABLE usage ADD COLUMN local_address TEXT;

-- Where the calls of a tenant leave, where their client names no region.
ALTER TABLE tenant ADD COLUMN region TEXT;
