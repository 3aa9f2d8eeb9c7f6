-- What operators allow, one row a limit. `scope` says whose calls, `value` is as the command line takes it.
CREATE TABLE call_limit (
    scope      TEXT NOT NULL,               -- global, tenant:…, key:…, device:…, endpoint:…, model:…, tenant:…/model:…
    name       TEXT NOT NULL,
    value      TEXT NOT NULL,
    changed_ms INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT;
CREATE TRIGGER call_limit_revision_insert AFTER INSERT ON call_limit BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER call_limit_revision_update AFTER UPDATE ON call_limit BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER call_limit_revision_delete AFTER DELETE ON call_limit BEGIN UPDATE hub SET revision = revision + 1; END;
