-- Egress nodes: small proxies of the operator's own, each a way out of one account.
CREATE TABLE egress_node (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    address      TEXT NOT NULL,              -- host:port, as the hub dials it
    public_key   BLOB,                       -- SHA-256 of the key it enrolled with
    created_ms   INTEGER NOT NULL,
    enrolled_ms  INTEGER,
    renewed_ms   INTEGER,
    not_after_ms INTEGER,
    revoked_ms   INTEGER
) STRICT;
CREATE TABLE egress_node_token (
    hash       BLOB PRIMARY KEY,
    node       TEXT NOT NULL REFERENCES egress_node (id) ON DELETE CASCADE,
    expires_ms INTEGER NOT NULL,
    used_ms    INTEGER
) STRICT;
CREATE TRIGGER egress_node_revision_insert AFTER INSERT ON egress_node BEGIN UPDATE hub SET revision = revision + 1; END;
CREATE TRIGGER egress_node_revision_update AFTER UPDATE OF address, revoked_ms ON egress_node
BEGIN UPDATE hub SET revision = revision + 1; END;
