-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Who was refused what. Of one principal and one route at most two rows a minute and process: the
-- rest of a minute is counted in one.
CREATE TABLE security_events (
    security_event_id bigint      GENERATED ALWAYS AS IDENTITY,
    recorded_at       timestamptz NOT NULL,
    principal_kind    text,
    principal_id      text,
    method            text        NOT NULL,
    route             text        NOT NULL,
    problem           text        NOT NULL,
    denial_count      bigint      NOT NULL,
    first_at          timestamptz NOT NULL,
    last_at           timestamptz NOT NULL,
    last_request_id   text,
    last_source       text,
    CONSTRAINT security_events_pkey PRIMARY KEY (security_event_id),
    CONSTRAINT security_events_count CHECK (denial_count > 0)
);
CREATE INDEX security_events_principal_idx ON security_events (principal_id, security_event_id);
CREATE TRIGGER security_events_append_only
    BEFORE UPDATE OR DELETE ON security_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER security_events_no_truncate
    BEFORE TRUNCATE ON security_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
GRANT SELECT, INSERT ON security_events TO ingest_service;

-- migrate:down
