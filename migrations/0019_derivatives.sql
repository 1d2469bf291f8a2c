-- migrate:up
SET LOCAL lock_timeout = '5s';

-- What was made from a clip: a redacted copy, an excerpt. It points at the master by id and hash.
-- No foreign key to clips, which every update of a clip would pay for: rows are written while both
-- clips are locked, and no clip's row is ever deleted.
CREATE TABLE derivatives (
    derivative_id      uuid        NOT NULL,
    master_clip_id     uuid        NOT NULL,
    master_sha256      bytea       NOT NULL,
    derivative_clip_id uuid,
    sha256             bytea       NOT NULL,
    size_bytes         bigint      NOT NULL,
    kind               text        NOT NULL,
    tool               text        NOT NULL,
    parameters         jsonb       NOT NULL,
    made_by            text        NOT NULL,
    registered_by      text        NOT NULL,
    registered_at      timestamptz NOT NULL,
    CONSTRAINT derivatives_pkey PRIMARY KEY (derivative_id),
    CONSTRAINT derivatives_master_key UNIQUE (master_clip_id, sha256),
    CONSTRAINT derivatives_digests CHECK (
        octet_length(master_sha256) = 32 AND octet_length(sha256) = 32),
    CONSTRAINT derivatives_differ CHECK (
        sha256 <> master_sha256 AND derivative_clip_id IS DISTINCT FROM master_clip_id),
    CONSTRAINT derivatives_size CHECK (size_bytes >= 0)
);
CREATE INDEX derivatives_clip_idx ON derivatives (derivative_clip_id)
    WHERE derivative_clip_id IS NOT NULL;
CREATE TRIGGER derivatives_append_only BEFORE UPDATE OR DELETE ON derivatives
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER derivatives_no_truncate BEFORE TRUNCATE ON derivatives
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON derivatives TO ingest_service;

-- migrate:down
