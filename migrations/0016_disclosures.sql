-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Clips given out to somebody by a link. Of the link's token only the SHA-256 is here; who it was
-- given to stands here in clear, and in the custody log as hashes with this salt.
CREATE TABLE disclosures (
    disclosure_id     uuid        NOT NULL,
    token_sha256      bytea       NOT NULL,
    recipient_kind    text        NOT NULL,
    organisation      text,
    person            text,
    reference         text        NOT NULL,
    salt              bytea       NOT NULL,
    purpose           text        NOT NULL,
    legal_basis       text        NOT NULL,
    allows            text[]      NOT NULL,
    terms             text        NOT NULL,
    boroughs          text[]      NOT NULL,
    clip_count        integer     NOT NULL,
    made_by           text        NOT NULL,
    made_at           timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL,
    revoked_at        timestamptz,
    revoked_by        text,
    revoked_authority text,
    settled_at        timestamptz,
    CONSTRAINT disclosures_pkey PRIMARY KEY (disclosure_id),
    CONSTRAINT disclosures_token_key UNIQUE (token_sha256),
    CONSTRAINT disclosures_token CHECK (octet_length(token_sha256) = 32),
    CONSTRAINT disclosures_salt CHECK (octet_length(salt) >= 16),
    CONSTRAINT disclosures_kind CHECK (
        recipient_kind IN ('cps', 'defence', 'data_subject', 'other')),
    CONSTRAINT disclosures_to_somebody CHECK (organisation IS NOT NULL OR person IS NOT NULL),
    CONSTRAINT disclosures_allows CHECK (
        allows <@ ARRAY['pack', 'clips'] AND cardinality(allows) > 0),
    CONSTRAINT disclosures_clips CHECK (clip_count > 0),
    CONSTRAINT disclosures_expires_later CHECK (expires_at > made_at),
    CONSTRAINT disclosures_revoked_whole CHECK (
        (revoked_at IS NULL) = (revoked_by IS NULL)
        AND (revoked_at IS NULL) = (revoked_authority IS NULL))
);
-- settled_at: its end was recorded and its holds were seen to; only the others are looked at.
CREATE INDEX disclosures_unsettled_idx ON disclosures (expires_at) WHERE settled_at IS NULL;
CREATE TABLE disclosure_clips (
    disclosure_id uuid NOT NULL,
    clip_id       uuid NOT NULL,
    hold_id       uuid NOT NULL,
    CONSTRAINT disclosure_clips_pkey PRIMARY KEY (disclosure_id, clip_id),
    CONSTRAINT disclosure_clips_disclosure_fkey FOREIGN KEY (disclosure_id)
        REFERENCES disclosures (disclosure_id),
    CONSTRAINT disclosure_clips_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips (clip_id),
    CONSTRAINT disclosure_clips_hold_fkey FOREIGN KEY (hold_id) REFERENCES holds (hold_id)
);
CREATE INDEX disclosure_clips_clip_idx ON disclosure_clips (clip_id);
CREATE TABLE disclosure_acceptances (
    disclosure_id uuid        NOT NULL,
    accepted_at   timestamptz NOT NULL,
    name          text        NOT NULL,
    source        text,
    CONSTRAINT disclosure_acceptances_pkey PRIMARY KEY (disclosure_id, accepted_at),
    CONSTRAINT disclosure_acceptances_disclosure_fkey FOREIGN KEY (disclosure_id)
        REFERENCES disclosures (disclosure_id)
);
CREATE TABLE disclosure_accesses (
    access_id     bigint      GENERATED ALWAYS AS IDENTITY,
    disclosure_id uuid        NOT NULL,
    clip_id       uuid,
    what          text        NOT NULL,
    accessed_at   timestamptz NOT NULL,
    start_byte    bigint,
    stop_byte     bigint,
    source        text,
    request_id    text,
    CONSTRAINT disclosure_accesses_pkey PRIMARY KEY (access_id),
    CONSTRAINT disclosure_accesses_disclosure_fkey FOREIGN KEY (disclosure_id)
        REFERENCES disclosures (disclosure_id),
    CONSTRAINT disclosure_accesses_what CHECK (what IN ('page', 'accept', 'pack', 'clip'))
);
CREATE INDEX disclosure_accesses_disclosure_idx ON disclosure_accesses (disclosure_id, access_id);

-- What was disclosed, to whom and by what right is never changed; it ends once.
CREATE FUNCTION refuse_disclosure_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    once CONSTANT text[] := ARRAY['revoked_at', 'revoked_by', 'revoked_authority', 'settled_at'];
BEGIN
    IF to_jsonb(NEW) - once <> to_jsonb(OLD) - once
       OR (OLD.revoked_at IS NOT NULL
           AND (NEW.revoked_at, NEW.revoked_by, NEW.revoked_authority)
               IS DISTINCT FROM (OLD.revoked_at, OLD.revoked_by, OLD.revoked_authority))
       OR (OLD.settled_at IS NOT NULL AND NEW IS DISTINCT FROM OLD) THEN
        RAISE EXCEPTION 'a disclosure is not changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER disclosures_ended_once BEFORE UPDATE ON disclosures
    FOR EACH ROW EXECUTE FUNCTION refuse_disclosure_change();
CREATE TRIGGER disclosures_not_deleted BEFORE DELETE ON disclosures
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER disclosure_clips_append_only BEFORE UPDATE OR DELETE ON disclosure_clips
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER disclosure_acceptances_append_only BEFORE UPDATE OR DELETE ON disclosure_acceptances
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER disclosure_accesses_append_only BEFORE UPDATE OR DELETE ON disclosure_accesses
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON disclosures, disclosure_clips, disclosure_acceptances, disclosure_accesses
    TO ingest_service;
GRANT UPDATE (revoked_at, revoked_by, revoked_authority, settled_at) ON disclosures
    TO ingest_service;

-- migrate:down
