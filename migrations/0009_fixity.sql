-- migrate:up
SET LOCAL lock_timeout = '5s';

-- When the stored object was last read again, and what came of it; NULL until the first time.
ALTER TABLE clips ADD COLUMN last_fixity_at timestamptz;
ALTER TABLE clips ADD COLUMN last_fixity_result text;
ALTER TABLE clips ADD CONSTRAINT clips_fixity_result
    CHECK (last_fixity_result IN ('match', 'mismatch', 'not_verifiable'));
-- Whoever reads it now has it until then.
ALTER TABLE clips ADD COLUMN fixity_claimed_until timestamptz;

CREATE INDEX clips_fixity_due_idx ON clips ((COALESCE(last_fixity_at, secured_at)))
    WHERE state IN ('secured', 'erase_pending');

-- migrate:down
