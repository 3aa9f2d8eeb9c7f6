-- Until when it is disabled, where that ends by itself.
ALTER TABLE vendor_account ADD COLUMN disabled_until_ms INTEGER;
