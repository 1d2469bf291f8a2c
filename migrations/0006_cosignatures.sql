-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Second parties' signatures over published checkpoints: beside the notes, which never change.
CREATE TABLE log_cosignatures (
    tree_size   bigint      NOT NULL,
    witness     text        NOT NULL,
    line        text        NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT log_cosignatures_pkey PRIMARY KEY (tree_size, witness),
    CONSTRAINT log_cosignatures_checkpoint_fkey
        FOREIGN KEY (tree_size) REFERENCES log_checkpoints (tree_size)
);
CREATE TRIGGER log_cosignatures_append_only
    BEFORE UPDATE OR DELETE ON log_cosignatures
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER log_cosignatures_no_truncate
    BEFORE TRUNCATE ON log_cosignatures
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON log_cosignatures TO ingest_service;

-- migrate:down
