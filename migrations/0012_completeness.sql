-- migrate:up
SET LOCAL lock_timeout = '5s';

-- The newest manifest of each camera, as far as it was understood.
CREATE TABLE device_contacts (
    device_serial       text        NOT NULL,
    manifest_id         uuid        NOT NULL,
    station_id          text        NOT NULL,
    reported_at         timestamptz NOT NULL,
    first_recording_seq bigint,
    last_recording_seq  bigint,
    storage_used_pct    double precision,
    -- What is on the camera; four arrays of one length.
    recording_ids       text[]      NOT NULL,
    segment_nos         integer[]   NOT NULL,
    recording_seqs      bigint[]    NOT NULL,
    recording_bytes     bigint[]    NOT NULL,
    CONSTRAINT device_contacts_pkey PRIMARY KEY (device_serial),
    CONSTRAINT device_contacts_station_fkey FOREIGN KEY (station_id) REFERENCES stations (station_id)
);

-- What each camera recorded against what came in; computed again when the log names the camera.
CREATE TABLE device_completeness (
    device_serial     text           NOT NULL,
    station_id        text           NOT NULL,
    site_id           text           NOT NULL,
    borough           text           NOT NULL,
    first_seq         bigint,
    last_seq          bigint,
    received_count    bigint         NOT NULL,
    pending_count     bigint         NOT NULL,
    pending_bytes     bigint         NOT NULL,
    unaccounted_count bigint         NOT NULL,
    gaps              int8multirange NOT NULL,
    -- Gaps of which there is an event: each is told once.
    told_gaps         int8multirange NOT NULL DEFAULT '{}',
    unsecured_count   bigint         NOT NULL,
    unsecured_bytes   bigint         NOT NULL,
    clip_since        timestamptz,
    held_since        timestamptz,
    last_received_at  timestamptz,
    computed_at       timestamptz    NOT NULL DEFAULT now(),
    CONSTRAINT device_completeness_pkey PRIMARY KEY (device_serial)
);
CREATE INDEX device_completeness_station_idx ON device_completeness (station_id, device_serial);
CREATE INDEX device_completeness_borough_idx ON device_completeness (borough, device_serial);
CREATE INDEX device_completeness_at_risk_idx ON device_completeness (station_id)
    WHERE unsecured_count > 0;

-- How far the log was read for it. Cameras that were here before are seen at their next contact.
CREATE TABLE completeness_cursor (
    is_only    boolean NOT NULL DEFAULT true,
    next_index bigint  NOT NULL,
    CONSTRAINT completeness_cursor_pkey PRIMARY KEY (is_only),
    CONSTRAINT completeness_cursor_one_row CHECK (is_only)
);
INSERT INTO completeness_cursor (next_index) SELECT tree_size FROM log_state;

GRANT SELECT, INSERT, UPDATE ON device_contacts, device_completeness TO ingest_service;
GRANT SELECT, UPDATE ON completeness_cursor TO ingest_service;

-- migrate:down
