-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Postgres reads the text of a trigger's WHEN anew for each statement, so it is short here: the seal
-- and the announcement, which a dock waits for, are told by it. The function judges the rest.
CREATE OR REPLACE FUNCTION index_clip() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    new_status  smallint;
    old_status  smallint;
    now_settled boolean := NEW.state NOT IN ('receiving', 'finishing', 'sealed');
    was_settled boolean := false;
    is_moved    boolean;
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

DROP TRIGGER clips_indexed_first ON clips;
DROP TRIGGER clips_indexed ON clips;
CREATE TRIGGER clips_indexed_first AFTER INSERT ON clips
    FOR EACH ROW WHEN (NEW.state <> 'receiving') EXECUTE FUNCTION index_clip();
CREATE TRIGGER clips_indexed AFTER UPDATE OF
        state, officer_id, incident_id, crime_ref, exhibit_ref, category, evidential_state, tags,
        is_held, erase_due_at, started_at_corrected ON clips
    FOR EACH ROW WHEN (NEW.state <> 'sealed' OR OLD.state = 'quarantined')
    EXECUTE FUNCTION index_clip();

-- migrate:down
