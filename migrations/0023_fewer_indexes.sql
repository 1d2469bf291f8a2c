-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Lists of clips are found in clip_search since 0015; these were written three times for each clip
-- that comes in, and nobody reads them.
DROP INDEX clips_station_idx;
DROP INDEX clips_officer_idx;
DROP INDEX clips_incident_idx;
DROP INDEX clips_crime_ref_idx;
DROP INDEX clips_upload_idx;

-- migrate:down
CREATE INDEX clips_upload_idx ON clips (upload_id);
CREATE INDEX clips_crime_ref_idx ON clips (crime_ref, clip_id) WHERE crime_ref IS NOT NULL;
CREATE INDEX clips_incident_idx ON clips (incident_id, clip_id) WHERE incident_id IS NOT NULL;
CREATE INDEX clips_officer_idx ON clips (officer_id, clip_id) WHERE officer_id IS NOT NULL;
CREATE INDEX clips_station_idx ON clips (station_id, clip_id);
