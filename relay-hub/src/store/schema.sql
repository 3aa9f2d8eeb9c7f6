-- Schema 1. Ids are text, times are milliseconds since 1970, money is billionths of a unit.

CREATE TABLE hub (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    epoch    INTEGER NOT NULL,              -- bumped at each start of a hub; fences what an earlier one left
    revision INTEGER NOT NULL               -- bumped by each change of what the directory shows
) STRICT;
INSERT INTO hub VALUES (1, 0, 1);

CREATE TABLE tenant (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    suspended_ms INTEGER,
    created_ms   INTEGER NOT NULL
) STRICT;

CREATE TABLE api_key (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL REFERENCES tenant (id),
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX api_key_tenant ON api_key (tenant);

CREATE TABLE device (
    id           TEXT PRIMARY KEY,
    tenant       TEXT NOT NULL REFERENCES tenant (id),
    name         TEXT NOT NULL,
    public_key   BLOB NOT NULL,             -- SHA-256 of the subject public key info
    created_ms   INTEGER NOT NULL,
    renewed_ms   INTEGER NOT NULL,
    not_after_ms INTEGER NOT NULL,
    revoked_ms   INTEGER
) STRICT;
CREATE INDEX device_tenant ON device (tenant);

CREATE TABLE device_token (
    hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
    tenant     TEXT NOT NULL REFERENCES tenant (id),
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,
    used_ms    INTEGER
) STRICT;

CREATE TABLE vendor_account (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    vendor     TEXT NOT NULL,
    base_url   TEXT NOT NULL,
    secret     BLOB NOT NULL,               -- sealed
    websocket  INTEGER NOT NULL CHECK (websocket IN (0, 1)),
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE price (
    version     INTEGER NOT NULL,
    model       TEXT NOT NULL,
    input       INTEGER NOT NULL CHECK (input >= 0),
    cached      INTEGER NOT NULL CHECK (cached >= 0),
    cache_write INTEGER NOT NULL CHECK (cache_write >= 0),
    output      INTEGER NOT NULL CHECK (output >= 0),
    context     INTEGER NOT NULL CHECK (context > 0),
    max_output  INTEGER NOT NULL CHECK (max_output > 0),
    source      TEXT NOT NULL,
    at_ms       INTEGER NOT NULL,
    PRIMARY KEY (model, version)
) STRICT;
CREATE TRIGGER price_no_update BEFORE UPDATE ON price BEGIN SELECT RAISE(ABORT, 'price rows are immutable'); END;
CREATE TRIGGER price_no_delete BEFORE DELETE ON price BEGIN SELECT RAISE(ABORT, 'price rows are immutable'); END;

-- Money. `posted` of all accounts sums to zero; a tenant's available amount is posted - held - floor.
CREATE TABLE account (
    id     TEXT PRIMARY KEY,                -- a tenant's id, or one of the hub's own: funding, revenue, operator_loss
    posted INTEGER NOT NULL DEFAULT 0,
    held   INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    floor  INTEGER NOT NULL DEFAULT 0,
    CHECK (posted - held >= floor)
) STRICT;
INSERT INTO account (id, floor) VALUES
    ('funding', -9000000000000000000), ('revenue', -9000000000000000000), ('operator_loss', -9000000000000000000);

CREATE TABLE hold (
    id            INTEGER PRIMARY KEY,
    call          BLOB NOT NULL CHECK (length(call) = 16),
    tenant        TEXT NOT NULL,
    caller        TEXT NOT NULL,            -- key or device
    model         TEXT NOT NULL,
    amount        INTEGER NOT NULL CHECK (amount >= 0),
    price_version INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    state         INTEGER NOT NULL CHECK (state IN (0, 1, 2)),   -- open, posted, void
    at_ms         INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX hold_open ON hold (call) WHERE state = 0;
CREATE TRIGGER hold_resolved_once BEFORE UPDATE ON hold WHEN OLD.state <> 0
    BEGIN SELECT RAISE(ABORT, 'a hold is resolved once'); END;
CREATE TRIGGER hold_no_delete BEFORE DELETE ON hold BEGIN SELECT RAISE(ABORT, 'holds are kept'); END;

-- One row is both sides of a transfer. Append-only, each row hashed over the one before.
CREATE TABLE transfer (
    seq    INTEGER PRIMARY KEY,
    kind   TEXT NOT NULL,                   -- charge, loss, credit
    hold   INTEGER,
    idem   TEXT UNIQUE,                     -- of a credit: applied once
    debit  TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    at_ms  INTEGER NOT NULL,
    note   TEXT NOT NULL DEFAULT '',
    hash   BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;
CREATE UNIQUE INDEX transfer_hold ON transfer (hold, kind) WHERE hold IS NOT NULL;
CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer BEGIN SELECT RAISE(ABORT, 'transfers are immutable'); END;
CREATE TRIGGER transfer_no_delete BEFORE DELETE ON transfer BEGIN SELECT RAISE(ABORT, 'transfers are immutable'); END;

-- One row a call, whatever became of it. Never a body.
CREATE TABLE usage (
    seq               INTEGER PRIMARY KEY,
    at_ms             INTEGER NOT NULL,
    call              BLOB NOT NULL,
    hold              INTEGER,
    tenant            TEXT NOT NULL,
    caller            TEXT NOT NULL,
    account           TEXT,
    egress            TEXT,
    endpoint          TEXT NOT NULL,
    model             TEXT NOT NULL,
    upstream_model    TEXT NOT NULL,
    input             INTEGER,
    cached            INTEGER,
    cache_write       INTEGER,
    output            INTEGER,
    reasoning         INTEGER,
    source            TEXT,                 -- reported, estimated
    cost              INTEGER NOT NULL,     -- by the price list
    charged           INTEGER NOT NULL,     -- what the tenant paid; the rest is in operator_loss
    price_version     INTEGER NOT NULL,
    status            INTEGER NOT NULL,
    ending            TEXT NOT NULL,
    started_ms        INTEGER NOT NULL,
    hold_us           INTEGER,
    first_byte_us     INTEGER,
    total_us          INTEGER,
    vendor_request_id TEXT,
    response_id       TEXT,
    link              TEXT NOT NULL,
    streamed          INTEGER NOT NULL
) STRICT;
CREATE INDEX usage_tenant ON usage (tenant, at_ms);
CREATE UNIQUE INDEX usage_hold ON usage (hold) WHERE hold IS NOT NULL;
CREATE TRIGGER usage_no_update BEFORE UPDATE ON usage BEGIN SELECT RAISE(ABORT, 'usage rows are immutable'); END;

-- What the directory shows has changed.
CREATE TRIGGER tenant_revision_insert AFTER INSERT ON tenant BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER tenant_revision_update AFTER UPDATE ON tenant BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER tenant_revision_delete AFTER DELETE ON tenant BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER api_key_revision_insert AFTER INSERT ON api_key BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER api_key_revision_update AFTER UPDATE ON api_key BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER api_key_revision_delete AFTER DELETE ON api_key BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER device_revision_insert AFTER INSERT ON device BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER device_revision_update AFTER UPDATE ON device BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER device_revision_delete AFTER DELETE ON device BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER vendor_account_revision_insert AFTER INSERT ON vendor_account BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER vendor_account_revision_update AFTER UPDATE ON vendor_account BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER vendor_account_revision_delete AFTER DELETE ON vendor_account BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER price_revision_insert AFTER INSERT ON price BEGIN UPDATE hub SET revision = revision + 1; END;
