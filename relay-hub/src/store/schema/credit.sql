-- Credit that ends. What is not here never ends.
CREATE TABLE expiring_credit (
    transfer   INTEGER PRIMARY KEY,         -- of the credit
    tenant     TEXT NOT NULL REFERENCES tenant (id),
    source     TEXT NOT NULL,
    remaining  INTEGER NOT NULL CHECK (remaining >= 0),   -- neither spent nor gone back, as of the tenant's mark
    expires_ms INTEGER NOT NULL,
    debits     INTEGER NOT NULL DEFAULT 0   -- how often some of it went back
) STRICT;
CREATE INDEX expiring_credit_open ON expiring_credit (expires_ms) WHERE remaining > 0;
CREATE INDEX expiring_credit_tenant ON expiring_credit (tenant, expires_ms) WHERE remaining > 0;

-- The balance at which a tenant's spending was last told apart among its expiring credit; no row where it has none.
CREATE TABLE credit_mark (
    tenant TEXT PRIMARY KEY REFERENCES tenant (id),
    posted INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
