-- What tenants are given each month and day, and what becomes of their calls when it is used up.
CREATE TABLE plan (
    name       TEXT PRIMARY KEY,
    monthly    INTEGER NOT NULL CHECK (monthly >= 0),
    daily      INTEGER NOT NULL CHECK (daily >= 0),
    free       INTEGER NOT NULL CHECK (free >= 0),        -- once, when a tenant comes to it
    downgrade  TEXT,                        -- the model that serves when nothing is left; NULL: calls are refused
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE tenant_plan (
    tenant   TEXT PRIMARY KEY REFERENCES tenant (id),
    plan     TEXT NOT NULL REFERENCES plan (name),
    since_ms INTEGER NOT NULL,
    month    TEXT NOT NULL DEFAULT '',      -- the last month that was given, such as 2026-11
    day      TEXT NOT NULL DEFAULT '',      -- the last day
    free     INTEGER NOT NULL DEFAULT 0     -- whether what is given once was given
) STRICT;
CREATE TRIGGER plan_revision_insert AFTER INSERT ON plan BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER plan_revision_delete AFTER DELETE ON plan BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER plan_no_update BEFORE UPDATE ON plan BEGIN SELECT RAISE(ABORT, 'plans are immutable'); END;
CREATE TRIGGER tenant_plan_revision_insert AFTER INSERT ON tenant_plan
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER tenant_plan_revision_update AFTER UPDATE OF plan ON tenant_plan
    BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER tenant_plan_revision_delete AFTER DELETE ON tenant_plan
    BEGIN UPDATE hub SET revision = revision + 1; END;
