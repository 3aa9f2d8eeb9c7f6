-- What belongs to one account is not taken by another in its place either, as INSERT OR REPLACE would.
CREATE TRIGGER way_out_one_owner BEFORE INSERT ON way_out
    WHEN EXISTS (SELECT 1 FROM way_out
                 WHERE account <> NEW.account AND (through = NEW.through OR id = NEW.id OR name = NEW.name))
    BEGIN SELECT RAISE(ABORT, 'a way out belongs to one account'); END;
