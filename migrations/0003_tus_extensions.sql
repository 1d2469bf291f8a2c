-- migrate:up
SET LOCAL lock_timeout = '5s';

-- whole: a clip by appends. partial: a piece of clips to come, without a clip of its own.
-- final: a clip joined from partials (tus concatenation).
ALTER TABLE uploads
    ALTER COLUMN clip_id DROP NOT NULL,
    ADD COLUMN kind text NOT NULL DEFAULT 'whole',
    ADD COLUMN concat text, -- Upload-Concat as received
    ADD COLUMN partial_ids uuid[],
    ADD COLUMN is_ietf boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT uploads_kind CHECK (kind IN ('whole', 'partial', 'final')),
    ADD CONSTRAINT uploads_clip_by_kind CHECK ((clip_id IS NULL) = (kind = 'partial')),
    ADD CONSTRAINT uploads_partials_by_kind CHECK ((partial_ids IS NOT NULL) = (kind = 'final'));

-- Partials stay after they are complete, for finals to come, until they expire.
CREATE INDEX uploads_partial_expiry_idx
    ON uploads (expires_at) WHERE kind = 'partial' AND state = 'finished';
CREATE INDEX uploads_joining_idx ON uploads (finish_after) WHERE kind = 'final' AND state = 'open';

-- migrate:down
