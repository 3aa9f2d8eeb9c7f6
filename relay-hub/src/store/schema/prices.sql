-- What a price says beyond text in the default tier, as JSON; NULL where there is nothing.
ALTER TABLE price ADD COLUMN detail TEXT;

-- What one tenant pays for a model instead of the list's price. Versions are of the same count as the list's.
CREATE TABLE tenant_price (
    version INTEGER NOT NULL,
    tenant  TEXT NOT NULL REFERENCES tenant (id),
    model   TEXT NOT NULL,
    price   TEXT,                           -- JSON; NULL: as the list again
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (tenant, model, version)
) STRICT;
CREATE TRIGGER tenant_price_no_update BEFORE UPDATE ON tenant_price
    BEGIN SELECT RAISE(ABORT, 'price rows are immutable'); END;
CREATE TRIGGER tenant_price_no_delete BEFORE DELETE ON tenant_price
    BEGIN SELECT RAISE(ABORT, 'price rows are immutable'); END;

-- By how much a tenant pays more or less than the list says.
CREATE TABLE tenant_times (
    version    INTEGER NOT NULL,
    tenant     TEXT NOT NULL REFERENCES tenant (id),
    millionths INTEGER NOT NULL CHECK (millionths BETWEEN 0 AND 1000000000),
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (tenant, version)
) STRICT;
CREATE TRIGGER tenant_times_no_update BEFORE UPDATE ON tenant_times
    BEGIN SELECT RAISE(ABORT, 'price rows are immutable'); END;
CREATE TRIGGER tenant_times_no_delete BEFORE DELETE ON tenant_times
    BEGIN SELECT RAISE(ABORT, 'price rows are immutable'); END;

CREATE TRIGGER tenant_price_revision_insert AFTER INSERT ON tenant_price
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER tenant_times_revision_insert AFTER INSERT ON tenant_times
    BEGIN UPDATE hub SET revision = revision + 1; END;
