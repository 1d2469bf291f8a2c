-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Subject access requests. The subject is a pseudonym, and in the custody log a hash with this salt.
CREATE TABLE access_requests (
    request_id       uuid        NOT NULL,
    reference        text        NOT NULL,
    subject          text        NOT NULL,
    salt             bytea       NOT NULL,
    received_at      timestamptz NOT NULL,
    due_on           date        NOT NULL,
    made_by          text        NOT NULL,
    made_at          timestamptz NOT NULL,
    extension_months integer     NOT NULL DEFAULT 0,
    extension_reason text,
    extended_by      text,
    extended_at      timestamptz,
    outcome          text,
    disclosure_id    uuid,
    fulfilled_by     text,
    fulfilled_at     timestamptz,
    CONSTRAINT access_requests_pkey PRIMARY KEY (request_id),
    CONSTRAINT access_requests_reference_key UNIQUE (reference),
    CONSTRAINT access_requests_disclosure_fkey FOREIGN KEY (disclosure_id)
        REFERENCES disclosures (disclosure_id),
    CONSTRAINT access_requests_extension CHECK (extension_months BETWEEN 0 AND 2),
    CONSTRAINT access_requests_extended_whole CHECK (
        (extension_months = 0) = (extended_at IS NULL)
        AND (extended_at IS NULL) = (extended_by IS NULL)
        AND (extended_at IS NULL) = (extension_reason IS NULL)),
    CONSTRAINT access_requests_outcome CHECK (
        outcome IN ('disclosed', 'nothing_held', 'refused')),
    CONSTRAINT access_requests_fulfilled_whole CHECK (
        (fulfilled_at IS NULL) = (fulfilled_by IS NULL)
        AND (fulfilled_at IS NULL) = (outcome IS NULL)
        AND (disclosure_id IS NOT NULL) = (outcome IS NOT DISTINCT FROM 'disclosed'))
);
CREATE INDEX access_requests_open_idx ON access_requests (due_on, request_id)
    WHERE fulfilled_at IS NULL;
CREATE TABLE access_request_clips (
    request_id uuid        NOT NULL,
    clip_id    uuid        NOT NULL,
    hold_id    uuid        NOT NULL,
    linked_by  text        NOT NULL,
    linked_at  timestamptz NOT NULL,
    CONSTRAINT access_request_clips_pkey PRIMARY KEY (request_id, clip_id),
    CONSTRAINT access_request_clips_request_fkey FOREIGN KEY (request_id)
        REFERENCES access_requests (request_id),
    CONSTRAINT access_request_clips_hold_fkey FOREIGN KEY (hold_id) REFERENCES holds (hold_id)
);
CREATE INDEX access_request_clips_clip_idx ON access_request_clips (clip_id);

-- Each reference to clips is a trigger that every update of a clip pays for; the hold beside it
-- refers to the clip already.
ALTER TABLE disclosure_clips DROP CONSTRAINT disclosure_clips_clip_fkey;

-- Who asked and when is never changed; it is extended once and fulfilled once.
CREATE FUNCTION refuse_access_request_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    extension CONSTANT text[] := ARRAY[
        'due_on', 'extension_months', 'extension_reason', 'extended_by', 'extended_at'];
    ending CONSTANT text[] := ARRAY['outcome', 'disclosure_id', 'fulfilled_by', 'fulfilled_at'];
BEGIN
    IF to_jsonb(NEW) - extension - ending <> to_jsonb(OLD) - extension - ending
       OR OLD.fulfilled_at IS NOT NULL
       OR (NEW.due_on <> OLD.due_on AND NEW.extension_months = OLD.extension_months)
       OR (OLD.extended_at IS NOT NULL
           AND to_jsonb(NEW) - ending <> to_jsonb(OLD) - ending) THEN
        RAISE EXCEPTION 'an access request is not changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER access_requests_changed_once BEFORE UPDATE ON access_requests
    FOR EACH ROW EXECUTE FUNCTION refuse_access_request_change();
CREATE TRIGGER access_requests_not_deleted BEFORE DELETE ON access_requests
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER access_request_clips_append_only BEFORE UPDATE OR DELETE ON access_request_clips
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON access_requests, access_request_clips TO ingest_service;
GRANT UPDATE (
    due_on, extension_months, extension_reason, extended_by, extended_at, outcome, disclosure_id,
    fulfilled_by, fulfilled_at) ON access_requests TO ingest_service;

-- migrate:down
