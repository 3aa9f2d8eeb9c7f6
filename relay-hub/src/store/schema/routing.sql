-- Who may use an account, and how much at once. Without a row: everybody, weight 1, no ceiling.
CREATE TABLE account_share (
    account     TEXT PRIMARY KEY REFERENCES vendor_account (id) ON DELETE CASCADE,
    sharing     TEXT NOT NULL DEFAULT 'all' CHECK (sharing IN ('all', 'named', 'exclusive')),
    weight      INTEGER NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100),
    concurrency INTEGER CHECK (concurrency > 0),          -- calls at once
    rpm         INTEGER CHECK (rpm > 0),                  -- calls a minute
    revived_ms  INTEGER NOT NULL DEFAULT 0                -- what its health was before is forgotten
) STRICT;

-- The tenants that may use an account which is not everybody's. An exclusive one has one at most.
CREATE TABLE account_tenants (
    account TEXT NOT NULL REFERENCES account_share (account) ON DELETE CASCADE,
    tenant  TEXT NOT NULL REFERENCES tenant (id),
    PRIMARY KEY (account, tenant)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER account_tenants_exclusive BEFORE INSERT ON account_tenants
    WHEN (SELECT sharing FROM account_share WHERE account = NEW.account) = 'exclusive'
     AND EXISTS (SELECT 1 FROM account_tenants WHERE account = NEW.account AND tenant <> NEW.tenant)
    BEGIN SELECT RAISE(ABORT, 'an exclusive account has one tenant'); END;
CREATE TRIGGER account_tenants_of_all BEFORE INSERT ON account_tenants
    WHEN (SELECT sharing FROM account_share WHERE account = NEW.account) = 'all'
    BEGIN SELECT RAISE(ABORT, 'everybody may use this account'); END;
CREATE TRIGGER account_tenants_no_update BEFORE UPDATE ON account_tenants
    BEGIN SELECT RAISE(ABORT, 'who may use an account is added and removed'); END;
CREATE TRIGGER account_share_exclusive BEFORE UPDATE OF sharing ON account_share
    WHEN NEW.sharing = 'exclusive' AND (SELECT count(*) FROM account_tenants WHERE account = NEW.account) > 1
    BEGIN SELECT RAISE(ABORT, 'an exclusive account has one tenant'); END;
CREATE TRIGGER account_share_of_all BEFORE UPDATE OF sharing ON account_share
    WHEN NEW.sharing = 'all' AND EXISTS (SELECT 1 FROM account_tenants WHERE account = NEW.account)
    BEGIN SELECT RAISE(ABORT, 'this account has tenants of its own'); END;
CREATE TRIGGER account_share_revision_insert AFTER INSERT ON account_share
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER account_share_revision_update AFTER UPDATE ON account_share
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER account_share_revision_delete AFTER DELETE ON account_share
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER account_tenants_revision_insert AFTER INSERT ON account_tenants
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER account_tenants_revision_delete AFTER DELETE ON account_tenants
    BEGIN UPDATE hub SET revision = revision + 1; END;

-- Whether a conversation may go on with another account when its own is out of use.
ALTER TABLE tenant ADD COLUMN repin TEXT NOT NULL DEFAULT 'refuse' CHECK (repin IN ('refuse', 'allow'));

-- Which account a conversation, a stored response or a turn's state belongs to. The name is a hash of the tenant and of
-- what its client calls it; the account may be gone.
CREATE TABLE pin (
    name    BLOB PRIMARY KEY CHECK (length(name) = 16),
    account TEXT NOT NULL,
    used_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_used ON pin (used_ms);

-- Accounts that are out of use, so that a hub that starts again does not find it out by its callers.
CREATE TABLE account_health (
    account  TEXT PRIMARY KEY REFERENCES vendor_account (id) ON DELETE CASCADE,
    state    TEXT NOT NULL CHECK (state IN ('down', 'quarantined')),
    cause    TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL               -- when it is tried again
) STRICT;

-- The attempts of calls that had more than one.
CREATE TABLE attempt (
    call              BLOB NOT NULL CHECK (length(call) = 16),
    n                 INTEGER NOT NULL,
    at_ms             INTEGER NOT NULL,
    account           TEXT NOT NULL,
    egress            TEXT NOT NULL,
    choice            TEXT NOT NULL,        -- why this account
    status            INTEGER,              -- none where there was no answer
    verdict           TEXT NOT NULL,
    ms                INTEGER NOT NULL,
    vendor_request_id TEXT,
    PRIMARY KEY (call, n)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER attempt_no_update BEFORE UPDATE ON attempt BEGIN SELECT RAISE(ABORT, 'attempts are immutable'); END;
