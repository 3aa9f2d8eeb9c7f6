-- Which accounts serve what a tenant asks without naming a conversation: the first of them that may serve a call. Accounts
-- that are added later do not.
CREATE TABLE tenant_home (
    tenant   TEXT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    account  TEXT NOT NULL REFERENCES vendor_account (id) ON DELETE CASCADE,
    since_ms INTEGER NOT NULL,              -- when it served first
    PRIMARY KEY (tenant, account)
) STRICT, WITHOUT ROWID;
