-- migrate:up
SET LOCAL lock_timeout = '5s';

-- What probes of secured clips have found; a later probe of a clip is another row.
CREATE TABLE media_facts (
    clip_id       uuid             NOT NULL,
    probe_no      integer          NOT NULL,
    probed_at     timestamptz      NOT NULL,
    prober        text             NOT NULL,
    container     text,
    codec         text,
    width         integer,
    height        integer,
    fps           double precision,
    duration_ms   bigint,
    audio_present boolean,
    creation_time timestamptz,
    flags         text[]           NOT NULL,
    bytes_read    bigint           NOT NULL,
    CONSTRAINT media_facts_pkey PRIMARY KEY (clip_id, probe_no),
    CONSTRAINT media_facts_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips (clip_id)
);
CREATE TRIGGER media_facts_append_only BEFORE UPDATE OR DELETE ON media_facts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Clips that are to be probed. Filled from the log, behind whatever comes in; whoever has one now
-- has it until due_at.
CREATE TABLE media_probes (
    clip_id uuid        NOT NULL,
    due_at  timestamptz NOT NULL,
    attempt integer     NOT NULL DEFAULT 0,
    CONSTRAINT media_probes_pkey PRIMARY KEY (clip_id)
);
CREATE INDEX media_probes_due_idx ON media_probes (due_at);

-- How far the log was read for it.
CREATE TABLE media_cursor (
    is_only    boolean NOT NULL DEFAULT true,
    next_index bigint  NOT NULL,
    CONSTRAINT media_cursor_pkey PRIMARY KEY (is_only),
    CONSTRAINT media_cursor_one_row CHECK (is_only)
);
INSERT INTO media_cursor (next_index) VALUES (0);

GRANT SELECT, INSERT ON media_facts TO ingest_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON media_probes TO ingest_service;
GRANT SELECT, UPDATE ON media_cursor TO ingest_service;

-- migrate:down
