-- Keys that sign app tokens, each for one tenant: its last one that is not revoked signs, all that are not revoked are
-- believed.
CREATE TABLE token_key (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL REFERENCES tenant (id),
    public     BLOB NOT NULL CHECK (length(public) = 32),
    secret     BLOB NOT NULL, -- sealed, bound to this id
    created_ms INTEGER NOT NULL,
    revoked_ms INTEGER
) STRICT;
CREATE INDEX token_key_tenant ON token_key (tenant);
CREATE TRIGGER token_key_revision_insert AFTER INSERT ON token_key BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER token_key_revision_update AFTER UPDATE OF revoked_ms ON token_key
    BEGIN UPDATE hub SET revision = revision + 1; END;
