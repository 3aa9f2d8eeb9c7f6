-- What the sealed secret of an account is, and what is set about the account and is no secret: JSON.
ALTER TABLE vendor_account ADD COLUMN credential TEXT NOT NULL DEFAULT 'api-key';
ALTER TABLE vendor_account ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';
ALTER TABLE vendor_account ADD COLUMN more_secret BLOB; -- a client's secret beside a refresh token; sealed

-- Who renews a credential has it alone until then: a refresh token may be good for one use only.
CREATE TABLE credential_lease (
    account  TEXT PRIMARY KEY REFERENCES vendor_account (id) ON DELETE CASCADE,
    until_ms INTEGER NOT NULL
) STRICT;
