-- A way out is immutable but for how its password is sealed: the master key may change.
DROP TRIGGER way_out_no_update;
CREATE TRIGGER way_out_no_update
    BEFORE UPDATE OF id, account, name, through, region, priority, prefers, allows_private, created_ms ON way_out
    BEGIN SELECT RAISE(ABORT, 'a way out is immutable'); END;
