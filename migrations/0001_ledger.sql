-- migrate:up
SET LOCAL lock_timeout = '5s';

-- The service logs in as a member of this role. It may insert events, never change them.
DO $$
BEGIN
    CREATE ROLE ingest_service NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
END
$$;

CREATE TABLE stations (
    station_id    text        NOT NULL,
    site_id       text        NOT NULL,
    borough       text        NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT stations_pkey PRIMARY KEY (station_id),
    CONSTRAINT stations_id_shape CHECK (length(station_id) BETWEEN 1 AND 100)
);

-- key_id is the RFC 7638 thumbprint of the public key: a key cannot carry another's name.
CREATE TABLE station_keys (
    key_id        text        NOT NULL,
    station_id    text        NOT NULL,
    public_jwk    jsonb       NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz,
    CONSTRAINT station_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT station_keys_station_fkey FOREIGN KEY (station_id) REFERENCES stations
);
CREATE INDEX station_keys_station_idx ON station_keys (station_id);

-- Who and what is known: an unknown one is flagged on the clip, never refused.
CREATE TABLE directory_entries (
    kind          text        NOT NULL,
    entry_id      text        NOT NULL,
    display_name  text,
    registered_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT directory_entries_pkey PRIMARY KEY (kind, entry_id),
    CONSTRAINT directory_entries_kind CHECK (kind IN ('device', 'officer', 'category'))
);

CREATE TABLE clips (
    clip_id              uuid        NOT NULL,
    state                text        NOT NULL DEFAULT 'receiving',
    upload_id            uuid        NOT NULL, -- the present attempt to bring it in
    -- raw: as received, never changed
    device_serial        text        NOT NULL,
    recording_id         text        NOT NULL,
    segment_no           integer     NOT NULL,
    device_recording_seq bigint,
    announcement         jsonb       NOT NULL,
    size_bytes           bigint,
    sha256_device        bytea,
    station_id           text        NOT NULL,
    site_id              text        NOT NULL,
    borough              text        NOT NULL,
    started_at           timestamptz,
    ended_at             timestamptz,
    clock_offset_ms      bigint,
    clock_uncertainty_ms bigint,
    -- computed
    duplicate_of         uuid,
    flags                text[]      NOT NULL DEFAULT '{}',
    clock_state          text        NOT NULL,
    started_at_corrected timestamptz,
    announced_at         timestamptz NOT NULL,
    sealed_at            timestamptz,
    secured_at           timestamptz,
    released_at          timestamptz,
    -- current assertions
    officer_id           text,
    incident_id          text,
    crime_ref            text,
    category             text,
    evidential_state     text        NOT NULL DEFAULT 'unclassified',
    title                text,
    -- integrity and storage
    sha256               bytea,
    sha256_readback      bytea,
    read_back_attempts   integer     NOT NULL DEFAULT 0,
    read_back_after      timestamptz,
    quarantine_reason    text,
    bucket               text,
    object_key           text,
    object_version       text,
    manifest             jsonb,
    -- retention
    is_held              boolean     NOT NULL DEFAULT false,
    erase_due_at         timestamptz,
    -- head of the clip's chain of custody
    event_count          integer     NOT NULL DEFAULT 0,
    last_leaf_hash       bytea,
    CONSTRAINT clips_pkey PRIMARY KEY (clip_id),
    CONSTRAINT clips_station_fkey FOREIGN KEY (station_id) REFERENCES stations,
    CONSTRAINT clips_duplicate_fkey FOREIGN KEY (duplicate_of) REFERENCES clips,
    CONSTRAINT clips_state CHECK (state IN (
        'receiving', 'finishing', 'sealed', 'secured', 'quarantined', 'expired',
        'erase_pending', 'erased')),
    CONSTRAINT clips_clock_state CHECK (clock_state IN (
        'synced', 'free_running', 'not_set', 'implausible')),
    CONSTRAINT clips_evidential_state CHECK (evidential_state IN (
        'unclassified', 'non_evidential', 'evidential', 'policing_purpose')),
    CONSTRAINT clips_size CHECK (size_bytes >= 0),
    CONSTRAINT clips_digests CHECK (
        octet_length(sha256) = 32 AND octet_length(sha256_device) = 32
        AND octet_length(sha256_readback) = 32),
    CONSTRAINT clips_secured_was_read_back CHECK (
        state <> 'secured' OR (sha256 = sha256_readback AND object_key IS NOT NULL)),
    CONSTRAINT clips_sealed_has_object CHECK (
        state <> 'sealed' OR (object_key IS NOT NULL AND size_bytes IS NOT NULL))
) WITH (fillfactor = 80);

-- One clip per identity; a second one by tus is kept beside it and says so.
CREATE UNIQUE INDEX clips_identity_key
    ON clips (device_serial, recording_id, segment_no) WHERE duplicate_of IS NULL;
CREATE INDEX clips_device_idx ON clips (device_serial, clip_id);
CREATE INDEX clips_officer_idx ON clips (officer_id, clip_id) WHERE officer_id IS NOT NULL;
CREATE INDEX clips_station_idx ON clips (station_id, clip_id);
CREATE INDEX clips_site_idx ON clips (site_id, clip_id);
CREATE INDEX clips_borough_idx ON clips (borough, clip_id);
CREATE INDEX clips_category_idx ON clips (category, clip_id) WHERE category IS NOT NULL;
CREATE INDEX clips_crime_ref_idx ON clips (crime_ref, clip_id) WHERE crime_ref IS NOT NULL;
CREATE INDEX clips_incident_idx ON clips (incident_id, clip_id) WHERE incident_id IS NOT NULL;
CREATE INDEX clips_upload_idx ON clips (upload_id);
CREATE INDEX clips_read_back_idx ON clips (sealed_at) WHERE state = 'sealed';

CREATE TABLE uploads (
    upload_id           uuid        NOT NULL,
    clip_id             uuid        NOT NULL,
    station_id          text        NOT NULL,
    surface             text        NOT NULL DEFAULT 'undecided',
    state               text        NOT NULL DEFAULT 'open',
    length_bytes        bigint,
    part_bytes          bigint      NOT NULL,
    offset_bytes        bigint      NOT NULL DEFAULT 0,
    hashed_bytes        bigint      NOT NULL DEFAULT 0,
    sha256_state        bytea,
    epoch               integer     NOT NULL DEFAULT 0,
    leased_by           text,
    multipart_key       text,
    multipart_id        text,
    tus_metadata        text,
    failure             text,
    -- a writer was overtaken or died: something nobody completes with may lie in the vault
    sweep_after         timestamptz,
    opened_at           timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    finish_after        timestamptz,
    finish_attempts     integer     NOT NULL DEFAULT 0,
    CONSTRAINT uploads_pkey PRIMARY KEY (upload_id),
    CONSTRAINT uploads_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips,
    CONSTRAINT uploads_station_fkey FOREIGN KEY (station_id) REFERENCES stations,
    CONSTRAINT uploads_surface CHECK (surface IN ('undecided', 'native', 'tus')),
    CONSTRAINT uploads_state CHECK (state IN (
        'open', 'finishing', 'finished', 'expired', 'terminated', 'failed')),
    CONSTRAINT uploads_offset CHECK (offset_bytes >= 0 AND offset_bytes <= length_bytes),
    CONSTRAINT uploads_hashed CHECK (hashed_bytes >= 0 AND hashed_bytes <= length_bytes),
    CONSTRAINT uploads_part CHECK (part_bytes > 0)
) WITH (fillfactor = 70);
CREATE INDEX uploads_clip_idx ON uploads (clip_id);
CREATE INDEX uploads_finishing_idx ON uploads (finish_after) WHERE state = 'finishing';
CREATE INDEX uploads_sweep_idx ON uploads (sweep_after) WHERE sweep_after IS NOT NULL;
CREATE INDEX uploads_expiry_idx ON uploads (expires_at) WHERE state = 'open';

-- A claimed part has no etag yet. Rows are folded into clips.manifest when the clip is sealed.
CREATE TABLE parts (
    upload_id      uuid    NOT NULL,
    part_index     integer NOT NULL,
    attempt        integer NOT NULL,
    length_bytes   bigint  NOT NULL,
    sha256         bytea,
    part_number    integer,
    etag           text,
    object_key     text,
    object_version text,
    CONSTRAINT parts_pkey PRIMARY KEY (upload_id, part_index),
    CONSTRAINT parts_upload_fkey FOREIGN KEY (upload_id) REFERENCES uploads,
    CONSTRAINT parts_sha256 CHECK (octet_length(sha256) = 32),
    CONSTRAINT parts_length CHECK (length_bytes >= 0)
);

-- Acknowledged bytes that do not fill a part yet, as small objects.
CREATE TABLE tails (
    upload_id      uuid   NOT NULL,
    offset_bytes   bigint NOT NULL,
    length_bytes   bigint NOT NULL,
    object_key     text   NOT NULL,
    object_version text,
    CONSTRAINT tails_pkey PRIMARY KEY (upload_id, offset_bytes),
    CONSTRAINT tails_upload_fkey FOREIGN KEY (upload_id) REFERENCES uploads,
    CONSTRAINT tails_length CHECK (length_bytes > 0)
);

CREATE TABLE custody_events (
    event_id      uuid        NOT NULL,
    clip_id       uuid,
    clip_seq      integer,
    type          text        NOT NULL,
    recorded_at   timestamptz NOT NULL,
    actor_kind    text        NOT NULL,
    actor_id      text        NOT NULL,
    device_serial text,
    leaf          bytea       NOT NULL,
    leaf_hash     bytea       NOT NULL,
    CONSTRAINT custody_events_pkey PRIMARY KEY (event_id),
    CONSTRAINT custody_events_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips,
    CONSTRAINT custody_events_gapless UNIQUE (clip_id, clip_seq),
    CONSTRAINT custody_events_seq CHECK ((clip_id IS NULL) = (clip_seq IS NULL) AND clip_seq >= 0),
    CONSTRAINT custody_events_actor CHECK (
        actor_kind IN ('person', 'device', 'station', 'service', 'policy')),
    CONSTRAINT custody_events_leaf_hash CHECK (leaf_hash = sha256('\x00'::bytea || leaf))
);
CREATE INDEX custody_events_device_idx
    ON custody_events (device_serial, event_id) WHERE device_serial IS NOT NULL;
CREATE INDEX custody_events_actor_idx ON custody_events (actor_id, event_id);

-- What one statement hands over as an array. It has its own type, not the table's row type, so
-- that running code survives a new column.
CREATE TYPE custody_link AS (
    event_id      uuid,
    clip_id       uuid,
    clip_seq      integer,
    type          text,
    recorded_at   timestamptz,
    actor_kind    text,
    actor_id      text,
    device_serial text,
    leaf          bytea,
    leaf_hash     bytea
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'custody events are append-only: % refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER custody_events_append_only
    BEFORE UPDATE OR DELETE ON custody_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER custody_events_no_truncate
    BEFORE TRUNCATE ON custody_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE device_manifests (
    manifest_id   uuid        NOT NULL,
    device_serial text        NOT NULL,
    station_id    text        NOT NULL,
    reported_at   timestamptz NOT NULL,
    manifest      jsonb       NOT NULL,
    CONSTRAINT device_manifests_pkey PRIMARY KEY (manifest_id),
    CONSTRAINT device_manifests_station_fkey FOREIGN KEY (station_id) REFERENCES stations
);
CREATE INDEX device_manifests_device_idx ON device_manifests (device_serial, manifest_id);

CREATE TABLE worker_beats (
    worker_id text        NOT NULL,
    beat_at   timestamptz NOT NULL,
    CONSTRAINT worker_beats_pkey PRIMARY KEY (worker_id)
);

GRANT USAGE ON SCHEMA public TO ingest_service;
GRANT SELECT, INSERT ON custody_events, device_manifests TO ingest_service;
GRANT SELECT, INSERT, UPDATE ON stations, station_keys, directory_entries, clips, uploads, worker_beats
    TO ingest_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON parts, tails TO ingest_service;
GRANT DELETE ON worker_beats TO ingest_service;
GRANT SELECT ON schema_migrations TO ingest_service;

-- migrate:down
