-- A hold grows while its call runs, and says how far that came; nothing else of it changes.
ALTER TABLE hold ADD COLUMN input INTEGER;      -- as of the last checkpoint, as are the next two
ALTER TABLE hold ADD COLUMN output INTEGER;
ALTER TABLE hold ADD COLUMN cost INTEGER;
DROP TRIGGER hold_no_update;
CREATE TRIGGER hold_no_update BEFORE UPDATE OF id, call, tenant, caller, model, price_version, epoch, at_ms ON hold
    BEGIN SELECT RAISE(ABORT, 'holds are immutable'); END;
CREATE TRIGGER hold_only_grows BEFORE UPDATE OF amount ON hold WHEN NEW.amount < OLD.amount
    BEGIN SELECT RAISE(ABORT, 'a hold only grows'); END;
