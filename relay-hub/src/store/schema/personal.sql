-- A refresh token stands for the person who gave it: its account serves one tenant, for good; until that is named, nobody.
INSERT INTO account_share (account, sharing) SELECT id, 'exclusive' FROM vendor_account WHERE credential = 'refresh-token'
    ON CONFLICT (account) DO NOTHING;
CREATE TRIGGER vendor_account_personal AFTER INSERT ON vendor_account
    WHEN NEW.credential = 'refresh-token'
    BEGIN INSERT INTO account_share (account, sharing) VALUES (NEW.id, 'exclusive'); END;
CREATE TRIGGER account_share_personal BEFORE UPDATE OF sharing ON account_share
    WHEN NEW.sharing <> 'exclusive'
     AND (SELECT credential FROM vendor_account WHERE id = NEW.account) = 'refresh-token'
    BEGIN SELECT RAISE(ABORT, 'a personal credential serves one tenant'); END;
-- Where the account itself is removed, it is gone by the time these are asked.
CREATE TRIGGER account_share_personal_stays BEFORE DELETE ON account_share
    WHEN (SELECT credential FROM vendor_account WHERE id = OLD.account) = 'refresh-token'
    BEGIN SELECT RAISE(ABORT, 'a personal credential serves one tenant'); END;
CREATE TRIGGER account_tenants_personal_stays BEFORE DELETE ON account_tenants
    WHEN (SELECT credential FROM vendor_account WHERE id = OLD.account) = 'refresh-token'
    BEGIN SELECT RAISE(ABORT, 'a personal credential serves one tenant'); END;
