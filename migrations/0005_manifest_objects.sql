-- migrate:up
SET LOCAL lock_timeout = '5s';

-- The manifest object beside the clip, by which the bucket alone can rebuild the ledger:
-- manifests/<clip_id>/<this>.json. NULL until it is stored.
ALTER TABLE clips ADD COLUMN manifest_sha256 bytea;
ALTER TABLE clips ADD CONSTRAINT clips_manifest_sha256 CHECK (octet_length(manifest_sha256) = 32);

-- Settled clips without one: quarantined at the seal, or from before there were any.
CREATE INDEX clips_manifest_due_idx ON clips (clip_id)
    WHERE manifest_sha256 IS NULL AND state IN ('secured', 'quarantined', 'erase_pending');

-- migrate:down
