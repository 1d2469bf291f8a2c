-- migrate:up
SET LOCAL lock_timeout = '5s';

-- What operators look at over the last hour. One row per five seconds, however many processes there
-- are: each adds what it did to the row, so the table is small whatever comes in; older rows than
-- two hours are deleted. Nothing else reads these tables.
CREATE TABLE traffic_samples (
    sampled_at        timestamptz NOT NULL,
    received_bytes    bigint      NOT NULL,
    received_count    bigint      NOT NULL,
    secured_bytes     bigint      NOT NULL,
    secured_count     bigint      NOT NULL,
    quarantined_count bigint      NOT NULL,
    shed_count        bigint      NOT NULL,
    failed_count      bigint      NOT NULL,
    CONSTRAINT traffic_samples_pkey PRIMARY KEY (sampled_at)
) WITH (fillfactor = 50);

CREATE TABLE backlog_samples (
    sampled_at       timestamptz NOT NULL,
    active_count     bigint      NOT NULL,
    unsecured_bytes  bigint      NOT NULL,
    stalled_count    bigint      NOT NULL,
    finishing_count  bigint      NOT NULL,
    read_back_count  bigint      NOT NULL,
    sequencing_count bigint      NOT NULL,
    manifest_count   bigint      NOT NULL,
    log_lag_s        float8      NOT NULL,
    CONSTRAINT backlog_samples_pkey PRIMARY KEY (sampled_at)
);

-- Requests of a station in one minute; receiving_s is the time that those with a body took.
CREATE TABLE station_traffic (
    minute         timestamptz NOT NULL,
    station_id     text        NOT NULL,
    request_count  bigint      NOT NULL,
    failed_count   bigint      NOT NULL,
    received_bytes bigint      NOT NULL,
    receiving_s    float8      NOT NULL,
    CONSTRAINT station_traffic_pkey PRIMARY KEY (minute, station_id)
) WITH (fillfactor = 50);

GRANT SELECT, INSERT, UPDATE, DELETE ON traffic_samples TO ingest_service;
GRANT SELECT, INSERT, DELETE ON backlog_samples TO ingest_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON station_traffic TO ingest_service;

-- migrate:down
