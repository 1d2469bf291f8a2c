-- migrate:up
SET LOCAL lock_timeout = '5s';

-- A repeated request for a final finds the one that it opened before. By hash, for a list of 500
-- partials is longer than a B-tree's entry may be.
CREATE INDEX uploads_partial_ids_idx ON uploads USING hash (partial_ids) WHERE kind = 'final';

-- migrate:down
