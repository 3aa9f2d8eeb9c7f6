-- Where the chain of transfers ends, written in the transaction that makes it longer: rows taken away at its end leave a
-- chain that is whole.
ALTER TABLE hub ADD COLUMN transfers INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hub ADD COLUMN head BLOB NOT NULL
    DEFAULT x'0000000000000000000000000000000000000000000000000000000000000000';
UPDATE hub SET transfers = t.seq, head = t.hash FROM (SELECT seq, hash FROM transfer ORDER BY seq DESC LIMIT 1) AS t;
