-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Time authorities' answers (RFC 3161) over published checkpoints.
CREATE TABLE log_timestamps (
    tree_size   bigint      NOT NULL,
    token       bytea       NOT NULL,
    gen_time    timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    CONSTRAINT log_timestamps_pkey PRIMARY KEY (tree_size),
    CONSTRAINT log_timestamps_checkpoint_fkey
        FOREIGN KEY (tree_size) REFERENCES log_checkpoints (tree_size)
);
CREATE TRIGGER log_timestamps_append_only
    BEFORE UPDATE OR DELETE ON log_timestamps
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER log_timestamps_no_truncate
    BEFORE TRUNCATE ON log_timestamps
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON log_timestamps TO ingest_service;

-- migrate:down
