-- migrate:up
SET LOCAL lock_timeout = '5s';

-- What lists of clips are found by, beside the clips: narrow, and written when a clip is settled (read
-- back, quarantined or expired). Whatever comes in pays nothing for it: those few clips are found
-- by their uploads, or as sealed.

-- State, evidential state and hold in one number: a list that asks for some of them asks for a
-- few numbers. `domain/clip_status.py` counts the same way.
CREATE FUNCTION clip_status(state text, evidential_state text, is_held boolean)
    RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ((array_position(ARRAY['receiving', 'finishing', 'sealed', 'secured', 'quarantined',
                                  'expired', 'erase_pending', 'erased'], state) - 1) * 8
          + (array_position(ARRAY['unclassified', 'non_evidential', 'evidential',
                                  'policing_purpose'], evidential_state) - 1) * 2
          + CASE WHEN is_held THEN 1 ELSE 0 END)::smallint
$$;

CREATE TABLE clip_search (
    clip_id       uuid        NOT NULL,
    announced_at  timestamptz NOT NULL,
    recorded_at   timestamptz, -- corrected where the offset is known
    erase_due_at  timestamptz,
    size_bytes    bigint,
    status        smallint    NOT NULL,
    is_settled    boolean     NOT NULL, -- false: it had expired, and comes in again
    borough       text        NOT NULL,
    station_id    text        NOT NULL,
    category      text        NOT NULL, -- '' where nobody has said one
    cell_id       integer, -- of a settled clip; see clip_cells
    device_serial text        NOT NULL,
    officer_id    text,
    incident_id   text,
    crime_ref     text,
    exhibit_ref   text,
    tags          text[],
    CONSTRAINT clip_search_pkey PRIMARY KEY (clip_id)
) WITH (fillfactor = 90);

-- Which combinations occur: a list is read from the streams of those it asks for. A number stands
-- for each in the indexes: finding the start of a stream costs a tenth of what it does by text.
CREATE TABLE clip_cells (
    cell_id  integer GENERATED ALWAYS AS IDENTITY,
    borough  text     NOT NULL,
    category text     NOT NULL,
    status   smallint NOT NULL,
    CONSTRAINT clip_cells_pkey PRIMARY KEY (borough, category, status),
    CONSTRAINT clip_cells_id_key UNIQUE (cell_id)
);
CREATE TABLE clip_tags (
    tag     text NOT NULL,
    clip_id uuid NOT NULL,
    CONSTRAINT clip_tags_pkey PRIMARY KEY (tag, clip_id)
);
-- Settled clips by day of announcement. Changes are appended and folded in by a job: no two clips
-- wait for each other's count.
CREATE TABLE clip_counts (
    day         date     NOT NULL,
    borough     text     NOT NULL,
    category    text     NOT NULL,
    status      smallint NOT NULL,
    clip_count  bigint   NOT NULL,
    total_bytes bigint   NOT NULL,
    CONSTRAINT clip_counts_pkey PRIMARY KEY (day, borough, category, status)
);
CREATE TABLE clip_count_changes (
    change_id   bigint GENERATED ALWAYS AS IDENTITY,
    day         date     NOT NULL,
    borough     text     NOT NULL,
    category    text     NOT NULL,
    status      smallint NOT NULL,
    clip_count  integer  NOT NULL,
    total_bytes bigint   NOT NULL,
    CONSTRAINT clip_count_changes_pkey PRIMARY KEY (change_id)
);

-- Two may be the first of a cell at once: the second waits for the first, and takes its number.
CREATE FUNCTION find_cell(asked_borough text, asked_category text, asked_status smallint)
    RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    found integer;
BEGIN
    LOOP
        SELECT cell_id INTO found
          FROM clip_cells
         WHERE borough = asked_borough AND category = asked_category AND status = asked_status;
        IF found IS NOT NULL THEN
            RETURN found;
        END IF;
        INSERT INTO clip_cells (borough, category, status)
        VALUES (asked_borough, asked_category, asked_status) ON CONFLICT DO NOTHING;
    END LOOP;
END
$$;

CREATE FUNCTION index_clip() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_status  smallint := clip_status(NEW.state, NEW.evidential_state, NEW.is_held);
    now_settled boolean  := new_status >= 24;
    old_status  smallint;
    was_settled boolean  := false;
    is_moved    boolean;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        old_status := clip_status(OLD.state, OLD.evidential_state, OLD.is_held);
        was_settled := old_status >= 24;
        IF was_settled THEN
            DELETE FROM clip_tags WHERE clip_id = OLD.clip_id AND tag = ANY (OLD.tags);
        END IF;
    END IF;
    IF now_settled THEN
        INSERT INTO clip_search AS kept (
            clip_id, announced_at, recorded_at, erase_due_at, size_bytes, status, is_settled,
            borough, station_id, category, cell_id, device_serial, officer_id, incident_id,
            crime_ref, exhibit_ref, tags)
        VALUES (NEW.clip_id, NEW.announced_at, COALESCE(NEW.started_at_corrected, NEW.started_at),
                NEW.erase_due_at, NEW.size_bytes, new_status, true, NEW.borough, NEW.station_id,
                COALESCE(NEW.category, ''),
                find_cell(NEW.borough, COALESCE(NEW.category, ''), new_status), NEW.device_serial,
                NEW.officer_id, NEW.incident_id, NEW.crime_ref, NEW.exhibit_ref, NEW.tags)
        ON CONFLICT ON CONSTRAINT clip_search_pkey DO UPDATE
           SET recorded_at = EXCLUDED.recorded_at, erase_due_at = EXCLUDED.erase_due_at,
               size_bytes = EXCLUDED.size_bytes, status = EXCLUDED.status, is_settled = true,
               category = EXCLUDED.category, cell_id = EXCLUDED.cell_id,
               officer_id = EXCLUDED.officer_id, incident_id = EXCLUDED.incident_id,
               crime_ref = EXCLUDED.crime_ref, exhibit_ref = EXCLUDED.exhibit_ref,
               tags = EXCLUDED.tags;
        INSERT INTO clip_tags (tag, clip_id) SELECT unnest(NEW.tags), NEW.clip_id
            ON CONFLICT DO NOTHING;
    ELSE
        UPDATE clip_search SET is_settled = false WHERE clip_id = NEW.clip_id;
    END IF;
    is_moved := was_settled <> now_settled OR old_status <> new_status
        OR COALESCE(OLD.category, '') <> COALESCE(NEW.category, '')
        OR COALESCE(OLD.size_bytes, 0) <> COALESCE(NEW.size_bytes, 0);
    IF is_moved AND was_settled THEN
        INSERT INTO clip_count_changes (day, borough, category, status, clip_count, total_bytes)
        VALUES ((OLD.announced_at AT TIME ZONE 'UTC')::date, OLD.borough,
                COALESCE(OLD.category, ''), old_status, -1, -COALESCE(OLD.size_bytes, 0));
    END IF;
    IF is_moved AND now_settled THEN
        INSERT INTO clip_count_changes (day, borough, category, status, clip_count, total_bytes)
        VALUES ((NEW.announced_at AT TIME ZONE 'UTC')::date, NEW.borough,
                COALESCE(NEW.category, ''), new_status, 1, COALESCE(NEW.size_bytes, 0));
    END IF;
    RETURN NULL;
END
$$;

-- By triggers, whoever changes a clip: a clip that lists do not show is as good as lost. None of
-- the steps up to the seal, which a dock waits for, fires.
CREATE TRIGGER clips_indexed_first AFTER INSERT ON clips
    FOR EACH ROW WHEN (NEW.state NOT IN ('receiving', 'finishing', 'sealed'))
    EXECUTE FUNCTION index_clip();
CREATE TRIGGER clips_indexed AFTER UPDATE OF
        state, officer_id, incident_id, crime_ref, exhibit_ref, category, evidential_state, tags,
        is_held, erase_due_at, started_at_corrected ON clips
    FOR EACH ROW WHEN (
        (NEW.state NOT IN ('receiving', 'finishing', 'sealed')
         OR OLD.state NOT IN ('receiving', 'finishing', 'sealed'))
        AND (OLD.state, OLD.evidential_state, OLD.is_held, OLD.category, OLD.officer_id,
             OLD.incident_id, OLD.crime_ref, OLD.exhibit_ref, OLD.erase_due_at,
             OLD.started_at_corrected, OLD.tags)
            IS DISTINCT FROM
            (NEW.state, NEW.evidential_state, NEW.is_held, NEW.category, NEW.officer_id,
             NEW.incident_id, NEW.crime_ref, NEW.exhibit_ref, NEW.erase_due_at,
             NEW.started_at_corrected, NEW.tags))
    EXECUTE FUNCTION index_clip();

-- The clips that come in: hundreds, 22,000 at the very most. Each has an open or finishing upload,
-- or is sealed and waits to be read back.
CREATE VIEW coming_clips AS
SELECT clip.*
  FROM (
    SELECT uploads.clip_id FROM uploads WHERE uploads.state = 'open' AND uploads.clip_id IS NOT NULL
     UNION
    SELECT uploads.clip_id FROM uploads
     WHERE uploads.state = 'finishing' AND uploads.clip_id IS NOT NULL
     UNION
    SELECT clips.clip_id FROM clips WHERE clips.state = 'sealed') AS coming
 CROSS JOIN LATERAL (
    SELECT clips.clip_id, clips.announced_at,
           COALESCE(clips.started_at_corrected, clips.started_at) AS recorded_at,
           clips.erase_due_at, clips.size_bytes, clips.state,
           clip_status(clips.state, clips.evidential_state, clips.is_held) AS status,
           clips.borough, clips.station_id, COALESCE(clips.category, '') AS category,
           clips.device_serial, clips.officer_id, clips.incident_id, clips.crime_ref,
           clips.exhibit_ref, clips.tags
      FROM clips
     WHERE clips.clip_id = coming.clip_id
     LIMIT 1) AS clip
 WHERE clip.state IN ('receiving', 'finishing', 'sealed');

INSERT INTO clip_cells (borough, category, status)
SELECT DISTINCT borough, COALESCE(category, ''), clip_status(state, evidential_state, is_held)
  FROM clips
 WHERE clip_status(state, evidential_state, is_held) >= 24;
INSERT INTO clip_search (
    clip_id, announced_at, recorded_at, erase_due_at, size_bytes, status, is_settled, borough,
    station_id, category, cell_id, device_serial, officer_id, incident_id, crime_ref, exhibit_ref,
    tags)
SELECT clip_id, announced_at, COALESCE(started_at_corrected, started_at), erase_due_at, size_bytes,
       clip_status(state, evidential_state, is_held), true, clips.borough, station_id,
       COALESCE(clips.category, ''), cell_id, device_serial, officer_id, incident_id, crime_ref,
       exhibit_ref, tags
  FROM clips
  JOIN clip_cells
    ON clip_cells.borough = clips.borough AND clip_cells.category = COALESCE(clips.category, '')
   AND clip_cells.status = clip_status(state, evidential_state, is_held);
INSERT INTO clip_tags (tag, clip_id)
SELECT DISTINCT unnest(tags), clip_id FROM clip_search WHERE tags IS NOT NULL;
INSERT INTO clip_counts (day, borough, category, status, clip_count, total_bytes)
SELECT (announced_at AT TIME ZONE 'UTC')::date, borough, category, status, count(*),
       COALESCE(sum(size_bytes), 0)
  FROM clip_search
 WHERE is_settled
 GROUP BY 1, 2, 3, 4;

-- Three ways to a stream, in three orders each, and what has a few clips.
CREATE INDEX clip_search_settled_idx ON clip_search (clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_idx ON clip_search (status, clip_id) WHERE is_settled;
CREATE INDEX clip_search_cell_idx
    ON clip_search (cell_id, clip_id) WHERE is_settled;
CREATE INDEX clip_search_station_idx
    ON clip_search (station_id, cell_id, clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_recorded_idx
    ON clip_search (status, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_cell_recorded_idx
    ON clip_search (cell_id, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_station_recorded_idx
    ON clip_search (station_id, cell_id, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_due_idx
    ON clip_search (status, erase_due_at, clip_id) WHERE is_settled AND erase_due_at IS NOT NULL;
CREATE INDEX clip_search_cell_due_idx
    ON clip_search (cell_id, erase_due_at, clip_id)
    WHERE is_settled AND erase_due_at IS NOT NULL;
CREATE INDEX clip_search_station_due_idx
    ON clip_search (station_id, cell_id, erase_due_at, clip_id)
    WHERE is_settled AND erase_due_at IS NOT NULL;
CREATE INDEX clip_search_device_idx ON clip_search (device_serial, clip_id) WHERE is_settled;
CREATE INDEX clip_search_officer_idx
    ON clip_search (officer_id, clip_id) WHERE is_settled AND officer_id IS NOT NULL;
CREATE INDEX clip_search_incident_idx
    ON clip_search (incident_id, clip_id) WHERE is_settled AND incident_id IS NOT NULL;
CREATE INDEX clip_search_crime_idx
    ON clip_search (crime_ref, clip_id) WHERE is_settled AND crime_ref IS NOT NULL;
CREATE INDEX clip_search_exhibit_idx
    ON clip_search (exhibit_ref, clip_id) WHERE is_settled AND exhibit_ref IS NOT NULL;

-- Lists do not read these any more; each clip was entered into them three times on its way.
DROP INDEX clips_borough_idx;
DROP INDEX clips_site_idx;
DROP INDEX clips_category_idx;

GRANT SELECT ON coming_clips TO ingest_service;
GRANT SELECT, INSERT, UPDATE ON clip_search, clip_counts TO ingest_service;
GRANT SELECT, INSERT ON clip_cells TO ingest_service;
GRANT SELECT, INSERT, DELETE ON clip_tags TO ingest_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON clip_count_changes TO ingest_service;

-- migrate:down
