-- migrate:up
SET LOCAL lock_timeout = '5s';

-- A CHECK lets NULL pass: spell out what a secured clip must have.
ALTER TABLE clips DROP CONSTRAINT clips_secured_was_read_back;
ALTER TABLE clips ADD CONSTRAINT clips_secured_was_read_back CHECK (
    state NOT IN ('secured', 'erase_pending')
    OR (sha256 IS NOT NULL AND sha256_readback IS NOT NULL AND sha256 = sha256_readback
        AND object_key IS NOT NULL AND secured_at IS NOT NULL));

-- How often the store said that a sealed object is not there: outages do not count.
ALTER TABLE clips ADD COLUMN read_back_lost_count integer NOT NULL DEFAULT 0;

-- migrate:down
