-- While set, no new call is given to the account.
ALTER TABLE vendor_account ADD COLUMN disabled_ms INTEGER;
