-- migrate:up
SET LOCAL lock_timeout = '5s';

-- More streams for lists: of a category, a borough or a station by status, which are tens where
-- their cells are hundreds; in the order of the camera's own clock; of what bears a tag or a media
-- flag. The tables are made anew: ten million clips with their indexes take some minutes, and are
-- written once that way, not twice. Until it commits no clip is settled, and none is lost by that.
DROP TABLE clip_search;
CREATE TABLE clip_search (
    clip_id         uuid        NOT NULL,
    announced_at    timestamptz NOT NULL,
    recorded_at     timestamptz, -- corrected where the offset is known
    recorded_raw_at timestamptz, -- by the camera's clock
    erase_due_at    timestamptz,
    size_bytes      bigint,
    status          smallint    NOT NULL,
    is_settled      boolean     NOT NULL, -- false: it had expired, and comes in again
    borough         text        NOT NULL,
    station_id      text        NOT NULL,
    category        text        NOT NULL, -- '' where nobody has said one
    cell_id         integer, -- of a settled clip; see clip_cells
    device_serial   text        NOT NULL,
    officer_id      text,
    incident_id     text,
    crime_ref       text,
    exhibit_ref     text,
    tags            text[],
    media_flags     text[], -- of the latest probe; NULL: none, or not probed yet
    CONSTRAINT clip_search_pkey PRIMARY KEY (clip_id)
) WITH (fillfactor = 90);

-- A tag, or what a probe has found odd: few clips bear one, and each has the streams again.
DROP TABLE clip_tags;
CREATE TABLE clip_labels (
    label           text     NOT NULL,
    clip_id         uuid     NOT NULL,
    status          smallint NOT NULL,
    cell_id         integer  NOT NULL,
    borough         text     NOT NULL,
    category        text     NOT NULL,
    station_id      text     NOT NULL,
    recorded_at     timestamptz,
    recorded_raw_at timestamptz,
    erase_due_at    timestamptz,
    CONSTRAINT clip_labels_pkey PRIMARY KEY (label, clip_id)
);

-- The prefix keeps a tag from being taken for a flag. NULL: neither.
CREATE FUNCTION name_labels(tags text[], media_flags text[])
    RETURNS text[] LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF COALESCE(cardinality(tags), 0) + COALESCE(cardinality(media_flags), 0) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN ARRAY(SELECT 'tag:' || tag FROM unnest(tags) AS tag
                  UNION SELECT 'media:' || flag FROM unnest(media_flags) AS flag);
END
$$;

CREATE OR REPLACE FUNCTION index_clip() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_status  smallint;
    old_status  smallint;
    now_settled boolean := NEW.state NOT IN ('receiving', 'finishing', 'sealed');
    was_settled boolean := false;
    is_moved    boolean;
    flags       text[];
    labels      text[];
    new_cell    integer;
    recorded    timestamptz;
BEGIN
    IF NOT now_settled
       AND (TG_OP = 'INSERT' OR OLD.state IN ('receiving', 'finishing', 'sealed')) THEN
        RETURN NULL;
    END IF;
    new_status := clip_status(NEW.state, NEW.evidential_state, NEW.is_held);
    IF TG_OP = 'UPDATE' THEN
        IF (OLD.state, OLD.evidential_state, OLD.is_held, OLD.category, OLD.officer_id,
            OLD.incident_id, OLD.crime_ref, OLD.exhibit_ref, OLD.erase_due_at,
            OLD.started_at_corrected, OLD.tags)
           IS NOT DISTINCT FROM
           (NEW.state, NEW.evidential_state, NEW.is_held, NEW.category, NEW.officer_id,
            NEW.incident_id, NEW.crime_ref, NEW.exhibit_ref, NEW.erase_due_at,
            NEW.started_at_corrected, NEW.tags) THEN
            RETURN NULL;
        END IF;
        old_status := clip_status(OLD.state, OLD.evidential_state, OLD.is_held);
        was_settled := old_status >= 24;
        IF was_settled THEN
            SELECT media_flags INTO flags FROM clip_search WHERE clip_id = OLD.clip_id;
            labels := name_labels(OLD.tags, flags);
            IF labels IS NOT NULL THEN
                DELETE FROM clip_labels WHERE clip_id = OLD.clip_id AND label = ANY (labels);
            END IF;
        END IF;
    END IF;
    IF now_settled THEN
        IF NOT was_settled THEN
            -- A clip that is restored or rebuilt; of most there is nothing yet.
            SELECT NULLIF(media_facts.flags, '{}') INTO flags
              FROM media_facts WHERE clip_id = NEW.clip_id ORDER BY probe_no DESC LIMIT 1;
        END IF;
        new_cell := find_cell(NEW.borough, COALESCE(NEW.category, ''), new_status);
        recorded := COALESCE(NEW.started_at_corrected, NEW.started_at);
        INSERT INTO clip_search AS kept (
            clip_id, announced_at, recorded_at, recorded_raw_at, erase_due_at, size_bytes, status,
            is_settled, borough, station_id, category, cell_id, device_serial, officer_id,
            incident_id, crime_ref, exhibit_ref, tags, media_flags)
        VALUES (NEW.clip_id, NEW.announced_at, recorded, NEW.started_at, NEW.erase_due_at,
                NEW.size_bytes, new_status, true, NEW.borough, NEW.station_id,
                COALESCE(NEW.category, ''), new_cell, NEW.device_serial, NEW.officer_id,
                NEW.incident_id, NEW.crime_ref, NEW.exhibit_ref, NEW.tags, flags)
        ON CONFLICT ON CONSTRAINT clip_search_pkey DO UPDATE
           SET recorded_at = EXCLUDED.recorded_at, recorded_raw_at = EXCLUDED.recorded_raw_at,
               erase_due_at = EXCLUDED.erase_due_at, size_bytes = EXCLUDED.size_bytes,
               status = EXCLUDED.status, is_settled = true, category = EXCLUDED.category,
               cell_id = EXCLUDED.cell_id, officer_id = EXCLUDED.officer_id,
               incident_id = EXCLUDED.incident_id, crime_ref = EXCLUDED.crime_ref,
               exhibit_ref = EXCLUDED.exhibit_ref, tags = EXCLUDED.tags,
               media_flags = EXCLUDED.media_flags;
        labels := name_labels(NEW.tags, flags);
        IF labels IS NOT NULL THEN
            INSERT INTO clip_labels (
                label, clip_id, status, cell_id, borough, category, station_id, recorded_at,
                recorded_raw_at, erase_due_at)
            SELECT label, NEW.clip_id, new_status, new_cell, NEW.borough,
                   COALESCE(NEW.category, ''), NEW.station_id, recorded, NEW.started_at,
                   NEW.erase_due_at
              FROM unnest(labels) AS label
                ON CONFLICT DO NOTHING;
        END IF;
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

-- A probe comes after a clip was settled, with the clip's row locked.
CREATE FUNCTION index_media() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    shown     clip_search;
    new_flags text[] := NULLIF(NEW.flags, '{}');
BEGIN
    SELECT * INTO shown FROM clip_search WHERE clip_id = NEW.clip_id AND is_settled FOR UPDATE;
    IF NOT FOUND OR shown.media_flags IS NOT DISTINCT FROM new_flags THEN
        RETURN NULL;
    END IF;
    UPDATE clip_search SET media_flags = new_flags WHERE clip_id = NEW.clip_id;
    DELETE FROM clip_labels
     WHERE clip_id = NEW.clip_id AND label = ANY (name_labels(NULL, shown.media_flags));
    INSERT INTO clip_labels (
        label, clip_id, status, cell_id, borough, category, station_id, recorded_at,
        recorded_raw_at, erase_due_at)
    SELECT label, shown.clip_id, shown.status, shown.cell_id, shown.borough, shown.category,
           shown.station_id, shown.recorded_at, shown.recorded_raw_at, shown.erase_due_at
      FROM unnest(name_labels(NULL, new_flags)) AS label;
    RETURN NULL;
END
$$;
CREATE TRIGGER media_facts_indexed AFTER INSERT ON media_facts
    FOR EACH ROW EXECUTE FUNCTION index_media();

CREATE OR REPLACE VIEW coming_clips AS
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
           clips.exhibit_ref, clips.tags, clips.started_at AS recorded_raw_at,
           NULL::text[] AS media_flags
      FROM clips
     WHERE clips.clip_id = coming.clip_id
     LIMIT 1) AS clip
 WHERE clip.state IN ('receiving', 'finishing', 'sealed');

INSERT INTO clip_search (
    clip_id, announced_at, recorded_at, recorded_raw_at, erase_due_at, size_bytes, status,
    is_settled, borough, station_id, category, cell_id, device_serial, officer_id, incident_id,
    crime_ref, exhibit_ref, tags, media_flags)
SELECT clips.clip_id, announced_at, COALESCE(started_at_corrected, started_at), started_at,
       erase_due_at, size_bytes, clip_status(state, evidential_state, is_held), true,
       clips.borough, station_id, COALESCE(clips.category, ''), cell_id, device_serial,
       officer_id, incident_id, crime_ref, exhibit_ref, tags, NULLIF(probed.flags, '{}')
  FROM clips
  JOIN clip_cells
    ON clip_cells.borough = clips.borough AND clip_cells.category = COALESCE(clips.category, '')
   AND clip_cells.status = clip_status(state, evidential_state, is_held)
  LEFT JOIN (SELECT DISTINCT ON (clip_id) clip_id, flags FROM media_facts
              ORDER BY clip_id, probe_no DESC) AS probed
    ON probed.clip_id = clips.clip_id
 WHERE clips.state NOT IN ('receiving', 'finishing', 'sealed');
INSERT INTO clip_labels (
    label, clip_id, status, cell_id, borough, category, station_id, recorded_at, recorded_raw_at,
    erase_due_at)
SELECT unnest(name_labels(tags, media_flags)), clip_id, status, cell_id, borough, category,
       station_id, recorded_at, recorded_raw_at, erase_due_at
  FROM clip_search
 WHERE tags IS NOT NULL OR media_flags IS NOT NULL;

-- The streams, each in up to four orders, and what has a few clips.
CREATE INDEX clip_search_settled_idx ON clip_search (clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_idx
    ON clip_search (status, clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_recorded_idx
    ON clip_search (status, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_raw_idx
    ON clip_search (status, recorded_raw_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_status_due_idx
    ON clip_search (status, erase_due_at, clip_id)
    WHERE is_settled AND erase_due_at IS NOT NULL;
CREATE INDEX clip_search_category_status_idx
    ON clip_search (category, status, clip_id) WHERE is_settled;
CREATE INDEX clip_search_category_status_recorded_idx
    ON clip_search (category, status, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_borough_status_idx
    ON clip_search (borough, status, clip_id) WHERE is_settled;
CREATE INDEX clip_search_borough_status_recorded_idx
    ON clip_search (borough, status, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_cell_idx
    ON clip_search (cell_id, clip_id) WHERE is_settled;
CREATE INDEX clip_search_cell_recorded_idx
    ON clip_search (cell_id, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_cell_raw_idx
    ON clip_search (cell_id, recorded_raw_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_cell_due_idx
    ON clip_search (cell_id, erase_due_at, clip_id)
    WHERE is_settled AND erase_due_at IS NOT NULL;
CREATE INDEX clip_search_station_status_idx
    ON clip_search (station_id, status, clip_id) WHERE is_settled;
CREATE INDEX clip_search_station_status_recorded_idx
    ON clip_search (station_id, status, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_station_idx
    ON clip_search (station_id, cell_id, clip_id) WHERE is_settled;
CREATE INDEX clip_search_station_recorded_idx
    ON clip_search (station_id, cell_id, recorded_at, clip_id) WHERE is_settled;
CREATE INDEX clip_search_station_raw_idx
    ON clip_search (station_id, cell_id, recorded_raw_at, clip_id) WHERE is_settled;
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
CREATE INDEX clip_labels_status_idx ON clip_labels (label, status, clip_id);
CREATE INDEX clip_labels_status_recorded_idx
    ON clip_labels (label, status, recorded_at, clip_id);
CREATE INDEX clip_labels_category_idx ON clip_labels (label, category, status, clip_id);
CREATE INDEX clip_labels_category_recorded_idx
    ON clip_labels (label, category, status, recorded_at, clip_id);
CREATE INDEX clip_labels_borough_idx ON clip_labels (label, borough, status, clip_id);
CREATE INDEX clip_labels_borough_recorded_idx
    ON clip_labels (label, borough, status, recorded_at, clip_id);
CREATE INDEX clip_labels_cell_idx ON clip_labels (label, cell_id, clip_id);
CREATE INDEX clip_labels_cell_recorded_idx
    ON clip_labels (label, cell_id, recorded_at, clip_id);
CREATE INDEX clip_labels_station_idx ON clip_labels (label, station_id, status, clip_id);
CREATE INDEX clip_labels_station_recorded_idx
    ON clip_labels (label, station_id, status, recorded_at, clip_id);
CREATE INDEX clip_labels_status_raw_idx
    ON clip_labels (label, status, recorded_raw_at, clip_id);
CREATE INDEX clip_labels_status_due_idx
    ON clip_labels (label, status, erase_due_at, clip_id) WHERE erase_due_at IS NOT NULL;

GRANT SELECT, INSERT, UPDATE ON clip_search TO ingest_service;
GRANT SELECT, INSERT, DELETE ON clip_labels TO ingest_service;

-- migrate:down
