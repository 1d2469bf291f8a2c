-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Every event waits here, from its own transaction on, for its place in the log.
CREATE TABLE log_queue (
    queue_id  bigint GENERATED ALWAYS AS IDENTITY,
    event_id  uuid  NOT NULL,
    leaf_hash bytea NOT NULL,
    CONSTRAINT log_queue_pkey PRIMARY KEY (queue_id),
    CONSTRAINT log_queue_leaf_hash CHECK (octet_length(leaf_hash) = 32)
);

CREATE FUNCTION enqueue_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log_queue (event_id, leaf_hash) VALUES (NEW.event_id, NEW.leaf_hash);
    RETURN NULL;
END
$$;
CREATE TRIGGER custody_events_enqueue
    AFTER INSERT ON custody_events
    FOR EACH ROW EXECUTE FUNCTION enqueue_event();

-- One row: whoever appends locks it, so two sequencers can never number the same leaf.
CREATE TABLE log_state (
    is_only       boolean NOT NULL DEFAULT true,
    tree_size     bigint  NOT NULL DEFAULT 0,
    halted_reason text, -- why nothing is sequenced; NULL = it is
    CONSTRAINT log_state_pkey PRIMARY KEY (is_only),
    CONSTRAINT log_state_one_row CHECK (is_only),
    CONSTRAINT log_state_size CHECK (tree_size >= 0)
);
INSERT INTO log_state DEFAULT VALUES;

CREATE TABLE log_leaves (
    leaf_index bigint NOT NULL,
    event_id   uuid   NOT NULL,
    CONSTRAINT log_leaves_pkey PRIMARY KEY (leaf_index),
    CONSTRAINT log_leaves_event_key UNIQUE (event_id),
    CONSTRAINT log_leaves_event_fkey FOREIGN KEY (event_id) REFERENCES custody_events
);

-- C2SP tiles; only the right edge is ever rewritten, and only to grow.
CREATE TABLE log_tiles (
    level      integer NOT NULL,
    tile_index bigint  NOT NULL,
    hashes     bytea   NOT NULL,
    CONSTRAINT log_tiles_pkey PRIMARY KEY (level, tile_index),
    CONSTRAINT log_tiles_width CHECK (
        octet_length(hashes) % 32 = 0 AND octet_length(hashes) BETWEEN 32 AND 8192)
);

CREATE TABLE log_checkpoints (
    tree_size    bigint      NOT NULL,
    note         text        NOT NULL,
    signed_at    timestamptz NOT NULL,
    published_at timestamptz,
    CONSTRAINT log_checkpoints_pkey PRIMARY KEY (tree_size)
);
CREATE INDEX log_checkpoints_unpublished_idx
    ON log_checkpoints (tree_size) WHERE published_at IS NULL;

CREATE FUNCTION refuse_shrinking() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF substring(NEW.hashes FROM 1 FOR octet_length(OLD.hashes)) <> OLD.hashes THEN
        RAISE EXCEPTION 'a tile of the log only grows'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER log_tiles_only_grow
    BEFORE UPDATE ON log_tiles
    FOR EACH ROW EXECUTE FUNCTION refuse_shrinking();
CREATE TRIGGER log_tiles_not_deleted
    BEFORE DELETE ON log_tiles
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER log_leaves_append_only
    BEFORE UPDATE OR DELETE ON log_leaves
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER log_leaves_no_truncate
    BEFORE TRUNCATE ON log_leaves
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER log_tiles_no_truncate
    BEFORE TRUNCATE ON log_tiles
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT, DELETE ON log_queue TO ingest_service;
GRANT SELECT, UPDATE ON log_state TO ingest_service;
GRANT SELECT, INSERT ON log_leaves TO ingest_service;
GRANT SELECT, INSERT, UPDATE ON log_tiles TO ingest_service;
GRANT SELECT, INSERT, UPDATE ON log_checkpoints TO ingest_service;

-- Events that were recorded before there was a log.
INSERT INTO log_queue (event_id, leaf_hash)
SELECT event_id, leaf_hash FROM custody_events ORDER BY event_id;

-- migrate:down
