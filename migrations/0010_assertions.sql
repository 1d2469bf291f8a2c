-- migrate:up
SET LOCAL lock_timeout = '5s';

-- The first values of these come with the announcement; NULL: nobody has said anything.
ALTER TABLE clips ADD COLUMN exhibit_ref text;
ALTER TABLE clips ADD COLUMN tags text[];

-- Who said what of a clip, and when. `clips` has what is believed now; what the dock announced is
-- the first assertion of each field and stands in the first `before` (or in `clips`, unchanged).
CREATE TABLE assertions (
    assertion_id     uuid        NOT NULL,
    clip_id          uuid        NOT NULL,
    clip_seq         integer     NOT NULL, -- of its custody event: the order of assertions
    field            text        NOT NULL,
    value            jsonb, -- NULL: what was said before is withdrawn
    before           jsonb,
    salt             bytea       NOT NULL, -- with it the hashes in the custody event can be checked
    source           text        NOT NULL,
    asserted_by_kind text        NOT NULL,
    asserted_by_id   text        NOT NULL,
    asserted_at      timestamptz NOT NULL,
    corrects         uuid,
    request_id       text,
    batch_key        text, -- the client's, with which a batch may be sent again
    batch_item       integer,
    CONSTRAINT assertions_pkey PRIMARY KEY (assertion_id),
    CONSTRAINT assertions_order UNIQUE (clip_id, clip_seq),
    CONSTRAINT assertions_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips,
    CONSTRAINT assertions_field CHECK (field IN (
        'officer_id', 'category', 'evidential_state', 'incident_id', 'crime_ref', 'exhibit_ref',
        'title', 'tags', 'clock_offset_ms')),
    CONSTRAINT assertions_by CHECK (asserted_by_kind IN ('person', 'service', 'policy')),
    CONSTRAINT assertions_batch CHECK ((batch_key IS NULL) = (batch_item IS NULL)),
    CONSTRAINT assertions_salt CHECK (octet_length(salt) = 16)
);
-- Whatever is sent twice is asserted once.
CREATE UNIQUE INDEX assertions_batch_key
    ON assertions (asserted_by_id, batch_key, batch_item, clip_id, field)
    WHERE batch_key IS NOT NULL;

-- A key stands for one content.
CREATE TABLE assertion_batches (
    asserted_by_id text        NOT NULL,
    batch_key      text        NOT NULL,
    body_sha256    bytea       NOT NULL,
    received_at    timestamptz NOT NULL,
    CONSTRAINT assertion_batches_pkey PRIMARY KEY (asserted_by_id, batch_key),
    CONSTRAINT assertion_batches_digest CHECK (octet_length(body_sha256) = 32)
);

CREATE TRIGGER assertions_append_only
    BEFORE UPDATE OR DELETE ON assertions
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER assertions_no_truncate
    BEFORE TRUNCATE ON assertions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER assertion_batches_append_only
    BEFORE UPDATE OR DELETE ON assertion_batches
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER assertion_batches_no_truncate
    BEFORE TRUNCATE ON assertion_batches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON assertions, assertion_batches TO ingest_service;

-- migrate:down
