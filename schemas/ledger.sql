-- The ledger after all migrations. Made by `make schema`; a test compares it.
CREATE TYPE public.custody_link AS (
	event_id uuid,
	clip_id uuid,
	clip_seq integer,
	type text,
	recorded_at timestamp with time zone,
	actor_kind text,
	actor_id text,
	device_serial text,
	leaf bytea,
	leaf_hash bytea
);

CREATE FUNCTION public.clip_status(state text, evidential_state text, is_held boolean) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT ((array_position(ARRAY['receiving', 'finishing', 'sealed', 'secured', 'quarantined',
                                  'expired', 'erase_pending', 'erased'], state) - 1) * 8
          + (array_position(ARRAY['unclassified', 'non_evidential', 'evidential',
                                  'policing_purpose'], evidential_state) - 1) * 2
          + CASE WHEN is_held THEN 1 ELSE 0 END)::smallint
$$;

CREATE FUNCTION public.enqueue_event() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO log_queue (event_id, leaf_hash) VALUES (NEW.event_id, NEW.leaf_hash);
    RETURN NULL;
END
$$;

CREATE FUNCTION public.find_cell(asked_borough text, asked_category text, asked_status smallint) RETURNS integer
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.index_clip() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.index_media() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.name_labels(tags text[], media_flags text[]) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    AS $$
BEGIN
    IF COALESCE(cardinality(tags), 0) + COALESCE(cardinality(media_flags), 0) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN ARRAY(SELECT 'tag:' || tag FROM unnest(tags) AS tag
                  UNION SELECT 'media:' || flag FROM unnest(media_flags) AS flag);
END
$$;

CREATE FUNCTION public.refuse_access_request_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'custody events are append-only: % refused', TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE FUNCTION public.refuse_disclosure_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.refuse_hold_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.released_at IS NOT NULL THEN
        RAISE EXCEPTION 'a released hold is not changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION public.refuse_shrinking() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF substring(NEW.hashes FROM 1 FOR octet_length(OLD.hashes)) <> OLD.hashes THEN
        RAISE EXCEPTION 'a tile of the log only grows'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TABLE public.access_request_clips (
    request_id uuid NOT NULL,
    clip_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    linked_by text NOT NULL,
    linked_at timestamp with time zone NOT NULL
);

CREATE TABLE public.access_requests (
    request_id uuid NOT NULL,
    reference text NOT NULL,
    subject text NOT NULL,
    salt bytea NOT NULL,
    received_at timestamp with time zone NOT NULL,
    due_on date NOT NULL,
    made_by text NOT NULL,
    made_at timestamp with time zone NOT NULL,
    extension_months integer DEFAULT 0 NOT NULL,
    extension_reason text,
    extended_by text,
    extended_at timestamp with time zone,
    outcome text,
    disclosure_id uuid,
    fulfilled_by text,
    fulfilled_at timestamp with time zone,
    CONSTRAINT access_requests_extended_whole CHECK ((((extension_months = 0) = (extended_at IS NULL)) AND ((extended_at IS NULL) = (extended_by IS NULL)) AND ((extended_at IS NULL) = (extension_reason IS NULL)))),
    CONSTRAINT access_requests_extension CHECK (((extension_months >= 0) AND (extension_months <= 2))),
    CONSTRAINT access_requests_fulfilled_whole CHECK ((((fulfilled_at IS NULL) = (fulfilled_by IS NULL)) AND ((fulfilled_at IS NULL) = (outcome IS NULL)) AND ((disclosure_id IS NOT NULL) = (NOT (outcome IS DISTINCT FROM 'disclosed'::text))))),
    CONSTRAINT access_requests_outcome CHECK ((outcome = ANY (ARRAY['disclosed'::text, 'nothing_held'::text, 'refused'::text])))
);

CREATE TABLE public.assertion_batches (
    asserted_by_id text NOT NULL,
    batch_key text NOT NULL,
    body_sha256 bytea NOT NULL,
    received_at timestamp with time zone NOT NULL,
    CONSTRAINT assertion_batches_digest CHECK ((octet_length(body_sha256) = 32))
);

CREATE TABLE public.assertions (
    assertion_id uuid NOT NULL,
    clip_id uuid NOT NULL,
    clip_seq integer NOT NULL,
    field text NOT NULL,
    value jsonb,
    before jsonb,
    salt bytea NOT NULL,
    source text NOT NULL,
    asserted_by_kind text NOT NULL,
    asserted_by_id text NOT NULL,
    asserted_at timestamp with time zone NOT NULL,
    corrects uuid,
    request_id text,
    batch_key text,
    batch_item integer,
    CONSTRAINT assertions_batch CHECK (((batch_key IS NULL) = (batch_item IS NULL))),
    CONSTRAINT assertions_by CHECK ((asserted_by_kind = ANY (ARRAY['person'::text, 'service'::text, 'policy'::text]))),
    CONSTRAINT assertions_field CHECK ((field = ANY (ARRAY['officer_id'::text, 'category'::text, 'evidential_state'::text, 'incident_id'::text, 'crime_ref'::text, 'exhibit_ref'::text, 'title'::text, 'tags'::text, 'clock_offset_ms'::text]))),
    CONSTRAINT assertions_salt CHECK ((octet_length(salt) = 16))
);

CREATE TABLE public.backlog_samples (
    sampled_at timestamp with time zone NOT NULL,
    active_count bigint NOT NULL,
    unsecured_bytes bigint NOT NULL,
    stalled_count bigint NOT NULL,
    finishing_count bigint NOT NULL,
    read_back_count bigint NOT NULL,
    sequencing_count bigint NOT NULL,
    manifest_count bigint NOT NULL,
    log_lag_s double precision NOT NULL
);

CREATE TABLE public.clip_cells (
    cell_id integer NOT NULL,
    borough text NOT NULL,
    category text NOT NULL,
    status smallint NOT NULL
);

ALTER TABLE public.clip_cells ALTER COLUMN cell_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.clip_cells_cell_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.clip_count_changes (
    change_id bigint NOT NULL,
    day date NOT NULL,
    borough text NOT NULL,
    category text NOT NULL,
    status smallint NOT NULL,
    clip_count integer NOT NULL,
    total_bytes bigint NOT NULL
);

ALTER TABLE public.clip_count_changes ALTER COLUMN change_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.clip_count_changes_change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.clip_counts (
    day date NOT NULL,
    borough text NOT NULL,
    category text NOT NULL,
    status smallint NOT NULL,
    clip_count bigint NOT NULL,
    total_bytes bigint NOT NULL
);

CREATE TABLE public.clip_labels (
    label text NOT NULL,
    clip_id uuid NOT NULL,
    status smallint NOT NULL,
    cell_id integer NOT NULL,
    borough text NOT NULL,
    category text NOT NULL,
    station_id text NOT NULL,
    recorded_at timestamp with time zone,
    recorded_raw_at timestamp with time zone,
    erase_due_at timestamp with time zone
);

CREATE TABLE public.clip_search (
    clip_id uuid NOT NULL,
    announced_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone,
    recorded_raw_at timestamp with time zone,
    erase_due_at timestamp with time zone,
    size_bytes bigint,
    status smallint NOT NULL,
    is_settled boolean NOT NULL,
    borough text NOT NULL,
    station_id text NOT NULL,
    category text NOT NULL,
    cell_id integer,
    device_serial text NOT NULL,
    officer_id text,
    incident_id text,
    crime_ref text,
    exhibit_ref text,
    tags text[],
    media_flags text[]
)
WITH (fillfactor='90');

CREATE TABLE public.clips (
    clip_id uuid NOT NULL,
    state text DEFAULT 'receiving'::text NOT NULL,
    upload_id uuid NOT NULL,
    device_serial text NOT NULL,
    recording_id text NOT NULL,
    segment_no integer NOT NULL,
    device_recording_seq bigint,
    announcement jsonb NOT NULL,
    size_bytes bigint,
    sha256_device bytea,
    station_id text NOT NULL,
    site_id text NOT NULL,
    borough text NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    clock_offset_ms bigint,
    clock_uncertainty_ms bigint,
    duplicate_of uuid,
    flags text[] DEFAULT '{}'::text[] NOT NULL,
    clock_state text NOT NULL,
    started_at_corrected timestamp with time zone,
    announced_at timestamp with time zone NOT NULL,
    sealed_at timestamp with time zone,
    secured_at timestamp with time zone,
    released_at timestamp with time zone,
    officer_id text,
    incident_id text,
    crime_ref text,
    category text,
    evidential_state text DEFAULT 'unclassified'::text NOT NULL,
    title text,
    sha256 bytea,
    sha256_readback bytea,
    read_back_attempts integer DEFAULT 0 NOT NULL,
    read_back_after timestamp with time zone,
    quarantine_reason text,
    bucket text,
    object_key text,
    object_version text,
    manifest jsonb,
    is_held boolean DEFAULT false NOT NULL,
    erase_due_at timestamp with time zone,
    event_count integer DEFAULT 0 NOT NULL,
    last_leaf_hash bytea,
    read_back_lost_count integer DEFAULT 0 NOT NULL,
    manifest_sha256 bytea,
    last_fixity_at timestamp with time zone,
    last_fixity_result text,
    fixity_claimed_until timestamp with time zone,
    exhibit_ref text,
    tags text[],
    CONSTRAINT clips_clock_state CHECK ((clock_state = ANY (ARRAY['synced'::text, 'free_running'::text, 'not_set'::text, 'implausible'::text]))),
    CONSTRAINT clips_digests CHECK (((octet_length(sha256) = 32) AND (octet_length(sha256_device) = 32) AND (octet_length(sha256_readback) = 32))),
    CONSTRAINT clips_evidential_state CHECK ((evidential_state = ANY (ARRAY['unclassified'::text, 'non_evidential'::text, 'evidential'::text, 'policing_purpose'::text]))),
    CONSTRAINT clips_fixity_result CHECK ((last_fixity_result = ANY (ARRAY['match'::text, 'mismatch'::text, 'not_verifiable'::text]))),
    CONSTRAINT clips_manifest_sha256 CHECK ((octet_length(manifest_sha256) = 32)),
    CONSTRAINT clips_sealed_has_object CHECK (((state <> 'sealed'::text) OR ((object_key IS NOT NULL) AND (size_bytes IS NOT NULL)))),
    CONSTRAINT clips_secured_was_read_back CHECK (((state <> ALL (ARRAY['secured'::text, 'erase_pending'::text])) OR ((sha256 IS NOT NULL) AND (sha256_readback IS NOT NULL) AND (sha256 = sha256_readback) AND (object_key IS NOT NULL) AND (secured_at IS NOT NULL)))),
    CONSTRAINT clips_size CHECK ((size_bytes >= 0)),
    CONSTRAINT clips_state CHECK ((state = ANY (ARRAY['receiving'::text, 'finishing'::text, 'sealed'::text, 'secured'::text, 'quarantined'::text, 'expired'::text, 'erase_pending'::text, 'erased'::text])))
)
WITH (fillfactor='80');

CREATE TABLE public.uploads (
    upload_id uuid NOT NULL,
    clip_id uuid,
    station_id text NOT NULL,
    surface text DEFAULT 'undecided'::text NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    length_bytes bigint,
    part_bytes bigint NOT NULL,
    offset_bytes bigint DEFAULT 0 NOT NULL,
    hashed_bytes bigint DEFAULT 0 NOT NULL,
    sha256_state bytea,
    epoch integer DEFAULT 0 NOT NULL,
    leased_by text,
    multipart_key text,
    multipart_id text,
    tus_metadata text,
    failure text,
    sweep_after timestamp with time zone,
    opened_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    finish_after timestamp with time zone,
    finish_attempts integer DEFAULT 0 NOT NULL,
    kind text DEFAULT 'whole'::text NOT NULL,
    concat text,
    partial_ids uuid[],
    is_ietf boolean DEFAULT false NOT NULL,
    CONSTRAINT uploads_clip_by_kind CHECK (((clip_id IS NULL) = (kind = 'partial'::text))),
    CONSTRAINT uploads_hashed CHECK (((hashed_bytes >= 0) AND (hashed_bytes <= length_bytes))),
    CONSTRAINT uploads_kind CHECK ((kind = ANY (ARRAY['whole'::text, 'partial'::text, 'final'::text]))),
    CONSTRAINT uploads_offset CHECK (((offset_bytes >= 0) AND (offset_bytes <= length_bytes))),
    CONSTRAINT uploads_part CHECK ((part_bytes > 0)),
    CONSTRAINT uploads_partials_by_kind CHECK (((partial_ids IS NOT NULL) = (kind = 'final'::text))),
    CONSTRAINT uploads_state CHECK ((state = ANY (ARRAY['open'::text, 'finishing'::text, 'finished'::text, 'expired'::text, 'terminated'::text, 'failed'::text]))),
    CONSTRAINT uploads_surface CHECK ((surface = ANY (ARRAY['undecided'::text, 'native'::text, 'tus'::text])))
)
WITH (fillfactor='70');

CREATE VIEW public.coming_clips AS
 SELECT clip.clip_id,
    clip.announced_at,
    clip.recorded_at,
    clip.erase_due_at,
    clip.size_bytes,
    clip.state,
    clip.status,
    clip.borough,
    clip.station_id,
    clip.category,
    clip.device_serial,
    clip.officer_id,
    clip.incident_id,
    clip.crime_ref,
    clip.exhibit_ref,
    clip.tags,
    clip.recorded_raw_at,
    clip.media_flags
   FROM (( SELECT uploads.clip_id
           FROM public.uploads
          WHERE ((uploads.state = 'open'::text) AND (uploads.clip_id IS NOT NULL))
        UNION
         SELECT uploads.clip_id
           FROM public.uploads
          WHERE ((uploads.state = 'finishing'::text) AND (uploads.clip_id IS NOT NULL))
        UNION
         SELECT clips.clip_id
           FROM public.clips
          WHERE (clips.state = 'sealed'::text)) coming
     CROSS JOIN LATERAL ( SELECT clips.clip_id,
            clips.announced_at,
            COALESCE(clips.started_at_corrected, clips.started_at) AS recorded_at,
            clips.erase_due_at,
            clips.size_bytes,
            clips.state,
            public.clip_status(clips.state, clips.evidential_state, clips.is_held) AS status,
            clips.borough,
            clips.station_id,
            COALESCE(clips.category, ''::text) AS category,
            clips.device_serial,
            clips.officer_id,
            clips.incident_id,
            clips.crime_ref,
            clips.exhibit_ref,
            clips.tags,
            clips.started_at AS recorded_raw_at,
            NULL::text[] AS media_flags
           FROM public.clips
          WHERE (clips.clip_id = coming.clip_id)
         LIMIT 1) clip)
  WHERE (clip.state = ANY (ARRAY['receiving'::text, 'finishing'::text, 'sealed'::text]));

CREATE TABLE public.completeness_cursor (
    is_only boolean DEFAULT true NOT NULL,
    next_index bigint NOT NULL,
    CONSTRAINT completeness_cursor_one_row CHECK (is_only)
);

CREATE TABLE public.custody_events (
    event_id uuid NOT NULL,
    clip_id uuid,
    clip_seq integer,
    type text NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    actor_kind text NOT NULL,
    actor_id text NOT NULL,
    device_serial text,
    leaf bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    CONSTRAINT custody_events_actor CHECK ((actor_kind = ANY (ARRAY['person'::text, 'device'::text, 'station'::text, 'service'::text, 'policy'::text]))),
    CONSTRAINT custody_events_leaf_hash CHECK ((leaf_hash = sha256(('\x00'::bytea || leaf)))),
    CONSTRAINT custody_events_seq CHECK ((((clip_id IS NULL) = (clip_seq IS NULL)) AND (clip_seq >= 0)))
);

CREATE TABLE public.derivatives (
    derivative_id uuid NOT NULL,
    master_clip_id uuid NOT NULL,
    master_sha256 bytea NOT NULL,
    derivative_clip_id uuid,
    sha256 bytea NOT NULL,
    size_bytes bigint NOT NULL,
    kind text NOT NULL,
    tool text NOT NULL,
    parameters jsonb NOT NULL,
    made_by text NOT NULL,
    registered_by text NOT NULL,
    registered_at timestamp with time zone NOT NULL,
    CONSTRAINT derivatives_differ CHECK (((sha256 <> master_sha256) AND (derivative_clip_id IS DISTINCT FROM master_clip_id))),
    CONSTRAINT derivatives_digests CHECK (((octet_length(master_sha256) = 32) AND (octet_length(sha256) = 32))),
    CONSTRAINT derivatives_size CHECK ((size_bytes >= 0))
);

CREATE TABLE public.device_completeness (
    device_serial text NOT NULL,
    station_id text NOT NULL,
    site_id text NOT NULL,
    borough text NOT NULL,
    first_seq bigint,
    last_seq bigint,
    received_count bigint NOT NULL,
    pending_count bigint NOT NULL,
    pending_bytes bigint NOT NULL,
    unaccounted_count bigint NOT NULL,
    gaps int8multirange NOT NULL,
    told_gaps int8multirange DEFAULT '{}'::int8multirange NOT NULL,
    unsecured_count bigint NOT NULL,
    unsecured_bytes bigint NOT NULL,
    clip_since timestamp with time zone,
    held_since timestamp with time zone,
    last_received_at timestamp with time zone,
    computed_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.device_contacts (
    device_serial text NOT NULL,
    manifest_id uuid NOT NULL,
    station_id text NOT NULL,
    reported_at timestamp with time zone NOT NULL,
    first_recording_seq bigint,
    last_recording_seq bigint,
    storage_used_pct double precision,
    recording_ids text[] NOT NULL,
    segment_nos integer[] NOT NULL,
    recording_seqs bigint[] NOT NULL,
    recording_bytes bigint[] NOT NULL
);

CREATE TABLE public.device_manifests (
    manifest_id uuid NOT NULL,
    device_serial text NOT NULL,
    station_id text NOT NULL,
    reported_at timestamp with time zone NOT NULL,
    manifest jsonb NOT NULL
);

CREATE TABLE public.directory_entries (
    kind text NOT NULL,
    entry_id text NOT NULL,
    display_name text,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT directory_entries_kind CHECK ((kind = ANY (ARRAY['device'::text, 'officer'::text, 'category'::text])))
);

CREATE TABLE public.disclosure_acceptances (
    disclosure_id uuid NOT NULL,
    accepted_at timestamp with time zone NOT NULL,
    name text NOT NULL,
    source text
);

CREATE TABLE public.disclosure_accesses (
    access_id bigint NOT NULL,
    disclosure_id uuid NOT NULL,
    clip_id uuid,
    what text NOT NULL,
    accessed_at timestamp with time zone NOT NULL,
    start_byte bigint,
    stop_byte bigint,
    source text,
    request_id text,
    CONSTRAINT disclosure_accesses_what CHECK ((what = ANY (ARRAY['page'::text, 'accept'::text, 'pack'::text, 'clip'::text])))
);

ALTER TABLE public.disclosure_accesses ALTER COLUMN access_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.disclosure_accesses_access_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.disclosure_clips (
    disclosure_id uuid NOT NULL,
    clip_id uuid NOT NULL,
    hold_id uuid NOT NULL
);

CREATE TABLE public.disclosures (
    disclosure_id uuid NOT NULL,
    token_sha256 bytea NOT NULL,
    recipient_kind text NOT NULL,
    organisation text,
    person text,
    reference text NOT NULL,
    salt bytea NOT NULL,
    purpose text NOT NULL,
    legal_basis text NOT NULL,
    allows text[] NOT NULL,
    terms text NOT NULL,
    boroughs text[] NOT NULL,
    clip_count integer NOT NULL,
    made_by text NOT NULL,
    made_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone,
    revoked_by text,
    revoked_authority text,
    settled_at timestamp with time zone,
    CONSTRAINT disclosures_allows CHECK (((allows <@ ARRAY['pack'::text, 'clips'::text]) AND (cardinality(allows) > 0))),
    CONSTRAINT disclosures_clips CHECK ((clip_count > 0)),
    CONSTRAINT disclosures_expires_later CHECK ((expires_at > made_at)),
    CONSTRAINT disclosures_kind CHECK ((recipient_kind = ANY (ARRAY['cps'::text, 'defence'::text, 'data_subject'::text, 'other'::text]))),
    CONSTRAINT disclosures_revoked_whole CHECK ((((revoked_at IS NULL) = (revoked_by IS NULL)) AND ((revoked_at IS NULL) = (revoked_authority IS NULL)))),
    CONSTRAINT disclosures_salt CHECK ((octet_length(salt) >= 16)),
    CONSTRAINT disclosures_to_somebody CHECK (((organisation IS NOT NULL) OR (person IS NOT NULL))),
    CONSTRAINT disclosures_token CHECK ((octet_length(token_sha256) = 32))
);

CREATE TABLE public.erase_forecasts (
    due_on date NOT NULL,
    made_at timestamp with time zone NOT NULL,
    clip_count bigint NOT NULL,
    total_bytes bigint NOT NULL
);

CREATE TABLE public.erase_halts (
    halt_id uuid NOT NULL,
    halted_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    excess jsonb NOT NULL,
    first_released_by text,
    first_released_at timestamp with time zone,
    released_by text,
    released_at timestamp with time zone,
    CONSTRAINT erase_halts_two_people CHECK (((released_by IS NULL) OR ((first_released_by IS NOT NULL) AND (first_released_by <> released_by))))
);

CREATE TABLE public.erasures (
    clip_id uuid NOT NULL,
    phase text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    scheduled_at timestamp with time zone NOT NULL,
    erase_after timestamp with time zone NOT NULL,
    try_after timestamp with time zone NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    intended_at timestamp with time zone,
    executed_at timestamp with time zone,
    blocked_reason text,
    CONSTRAINT erasures_phase CHECK ((phase = ANY (ARRAY['notice'::text, 'intended'::text, 'executed'::text])))
);

CREATE TABLE public.hold_previews (
    token text NOT NULL,
    asked jsonb NOT NULL,
    made_by text NOT NULL,
    made_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    clip_count bigint NOT NULL,
    total_bytes bigint NOT NULL,
    group_id uuid NOT NULL,
    begun_at timestamp with time zone,
    done_after uuid,
    is_done boolean DEFAULT false NOT NULL
);

CREATE TABLE public.holds (
    hold_id uuid NOT NULL,
    clip_id uuid NOT NULL,
    kind text NOT NULL,
    authority text NOT NULL,
    reason text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamp with time zone NOT NULL,
    review_at timestamp with time zone,
    group_id uuid,
    released_at timestamp with time zone,
    released_by text,
    released_authority text,
    CONSTRAINT holds_kind CHECK ((kind = ANY (ARRAY['evidence'::text, 'case'::text, 'subject_access_request'::text, 'complaint'::text, 'legal'::text]))),
    CONSTRAINT holds_released_whole CHECK ((((released_at IS NULL) = (released_by IS NULL)) AND ((released_at IS NULL) = (released_authority IS NULL))))
);

CREATE TABLE public.legal_hold_syncs (
    clip_id uuid NOT NULL,
    due_at timestamp with time zone NOT NULL,
    mark uuid NOT NULL
);

CREATE TABLE public.log_checkpoints (
    tree_size bigint NOT NULL,
    note text NOT NULL,
    signed_at timestamp with time zone NOT NULL,
    published_at timestamp with time zone
);

CREATE TABLE public.log_cosignatures (
    tree_size bigint NOT NULL,
    witness text NOT NULL,
    line text NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.log_leaves (
    leaf_index bigint NOT NULL,
    event_id uuid NOT NULL
);

CREATE TABLE public.log_queue (
    queue_id bigint NOT NULL,
    event_id uuid NOT NULL,
    leaf_hash bytea NOT NULL,
    CONSTRAINT log_queue_leaf_hash CHECK ((octet_length(leaf_hash) = 32))
);

ALTER TABLE public.log_queue ALTER COLUMN queue_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.log_queue_queue_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.log_state (
    is_only boolean DEFAULT true NOT NULL,
    tree_size bigint DEFAULT 0 NOT NULL,
    halted_reason text,
    CONSTRAINT log_state_one_row CHECK (is_only),
    CONSTRAINT log_state_size CHECK ((tree_size >= 0))
);

CREATE TABLE public.log_tiles (
    level integer NOT NULL,
    tile_index bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT log_tiles_width CHECK ((((octet_length(hashes) % 32) = 0) AND ((octet_length(hashes) >= 32) AND (octet_length(hashes) <= 8192))))
);

CREATE TABLE public.log_timestamps (
    tree_size bigint NOT NULL,
    token bytea NOT NULL,
    gen_time timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL
);

CREATE TABLE public.media_cursor (
    is_only boolean DEFAULT true NOT NULL,
    next_index bigint NOT NULL,
    CONSTRAINT media_cursor_one_row CHECK (is_only)
);

CREATE TABLE public.media_facts (
    clip_id uuid NOT NULL,
    probe_no integer NOT NULL,
    probed_at timestamp with time zone NOT NULL,
    prober text NOT NULL,
    container text,
    codec text,
    width integer,
    height integer,
    fps double precision,
    duration_ms bigint,
    audio_present boolean,
    creation_time timestamp with time zone,
    flags text[] NOT NULL,
    bytes_read bigint NOT NULL
);

CREATE TABLE public.media_probes (
    clip_id uuid NOT NULL,
    due_at timestamp with time zone NOT NULL,
    attempt integer DEFAULT 0 NOT NULL
);

CREATE TABLE public.parts (
    upload_id uuid NOT NULL,
    part_index integer NOT NULL,
    attempt integer NOT NULL,
    length_bytes bigint NOT NULL,
    sha256 bytea,
    part_number integer,
    etag text,
    object_key text,
    object_version text,
    CONSTRAINT parts_length CHECK ((length_bytes >= 0)),
    CONSTRAINT parts_sha256 CHECK ((octet_length(sha256) = 32))
);

CREATE TABLE public.retention (
    clip_id uuid NOT NULL,
    policy text,
    basis text NOT NULL,
    basis_at timestamp with time zone NOT NULL,
    reason text NOT NULL,
    erase_due_at timestamp with time zone,
    due_at timestamp with time zone,
    is_unclassified boolean NOT NULL,
    size_bytes bigint NOT NULL,
    computed_at timestamp with time zone NOT NULL,
    warned_at timestamp with time zone,
    restored_at timestamp with time zone
);

CREATE TABLE public.retention_approvals (
    policy_id text NOT NULL,
    version integer NOT NULL,
    made_by text NOT NULL,
    approved_by text NOT NULL,
    approved_at timestamp with time zone NOT NULL,
    CONSTRAINT retention_approvals_another CHECK ((approved_by <> made_by))
);

CREATE TABLE public.retention_policies (
    policy_id text NOT NULL,
    version integer NOT NULL,
    rules jsonb NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    reason text NOT NULL,
    made_by text NOT NULL,
    made_at timestamp with time zone NOT NULL,
    CONSTRAINT retention_policies_version CHECK ((version >= 1))
);

CREATE TABLE public.retention_progress (
    is_only boolean DEFAULT true NOT NULL,
    log_index bigint DEFAULT 0 NOT NULL,
    swept_policies text,
    sweep_after uuid,
    CONSTRAINT retention_progress_one_row CHECK (is_only)
);

CREATE TABLE public.schema_migrations (
    version character varying NOT NULL
);

CREATE TABLE public.security_events (
    security_event_id bigint NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    principal_kind text,
    principal_id text,
    method text NOT NULL,
    route text NOT NULL,
    problem text NOT NULL,
    denial_count bigint NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    last_request_id text,
    last_source text,
    CONSTRAINT security_events_count CHECK ((denial_count > 0))
);

ALTER TABLE public.security_events ALTER COLUMN security_event_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.security_events_security_event_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.station_keys (
    key_id text NOT NULL,
    station_id text NOT NULL,
    public_jwk jsonb NOT NULL,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    revoked_at timestamp with time zone
);

CREATE TABLE public.station_traffic (
    minute timestamp with time zone NOT NULL,
    station_id text NOT NULL,
    request_count bigint NOT NULL,
    failed_count bigint NOT NULL,
    received_bytes bigint NOT NULL,
    receiving_s double precision NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.stations (
    station_id text NOT NULL,
    site_id text NOT NULL,
    borough text NOT NULL,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT stations_id_shape CHECK (((length(station_id) >= 1) AND (length(station_id) <= 100)))
);

CREATE TABLE public.tails (
    upload_id uuid NOT NULL,
    offset_bytes bigint NOT NULL,
    length_bytes bigint NOT NULL,
    object_key text NOT NULL,
    object_version text,
    CONSTRAINT tails_length CHECK ((length_bytes > 0))
);

CREATE TABLE public.traffic_samples (
    sampled_at timestamp with time zone NOT NULL,
    received_bytes bigint NOT NULL,
    received_count bigint NOT NULL,
    secured_bytes bigint NOT NULL,
    secured_count bigint NOT NULL,
    quarantined_count bigint NOT NULL,
    shed_count bigint NOT NULL,
    failed_count bigint NOT NULL
)
WITH (fillfactor='50');

CREATE TABLE public.webhook_deliveries (
    webhook_id uuid NOT NULL,
    log_index bigint NOT NULL,
    event_id uuid NOT NULL,
    state text DEFAULT 'dead'::text NOT NULL,
    attempts integer NOT NULL,
    last_failure text NOT NULL,
    dead_at timestamp with time zone DEFAULT now() NOT NULL,
    delivered_at timestamp with time zone,
    CONSTRAINT webhook_deliveries_state CHECK ((state = ANY (ARRAY['dead'::text, 'requested'::text, 'delivered'::text])))
);

CREATE TABLE public.webhooks (
    webhook_id uuid NOT NULL,
    url text NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    owner_kind text NOT NULL,
    owner_id text NOT NULL,
    types text[],
    boroughs text[],
    limits text[],
    secret bytea NOT NULL,
    old_secret bytea,
    old_secret_until timestamp with time zone,
    state text DEFAULT 'active'::text NOT NULL,
    state_reason text,
    created_at timestamp with time zone NOT NULL,
    next_index bigint NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    next_attempt_at timestamp with time zone DEFAULT now() NOT NULL,
    last_delivered_at timestamp with time zone,
    last_failure text,
    leased_until timestamp with time zone,
    lease_number bigint DEFAULT 0 NOT NULL,
    CONSTRAINT webhooks_next_index CHECK ((next_index >= 0)),
    CONSTRAINT webhooks_secret CHECK (((state = 'deleted'::text) = (octet_length(secret) = 0))),
    CONSTRAINT webhooks_state CHECK ((state = ANY (ARRAY['active'::text, 'paused'::text, 'disabled'::text, 'deleted'::text])))
);

CREATE TABLE public.worker_beats (
    worker_id text NOT NULL,
    beat_at timestamp with time zone NOT NULL
);

ALTER TABLE ONLY public.access_request_clips
    ADD CONSTRAINT access_request_clips_pkey PRIMARY KEY (request_id, clip_id);

ALTER TABLE ONLY public.access_requests
    ADD CONSTRAINT access_requests_pkey PRIMARY KEY (request_id);

ALTER TABLE ONLY public.access_requests
    ADD CONSTRAINT access_requests_reference_key UNIQUE (reference);

ALTER TABLE ONLY public.assertion_batches
    ADD CONSTRAINT assertion_batches_pkey PRIMARY KEY (asserted_by_id, batch_key);

ALTER TABLE ONLY public.assertions
    ADD CONSTRAINT assertions_order UNIQUE (clip_id, clip_seq);

ALTER TABLE ONLY public.assertions
    ADD CONSTRAINT assertions_pkey PRIMARY KEY (assertion_id);

ALTER TABLE ONLY public.backlog_samples
    ADD CONSTRAINT backlog_samples_pkey PRIMARY KEY (sampled_at);

ALTER TABLE ONLY public.clip_cells
    ADD CONSTRAINT clip_cells_id_key UNIQUE (cell_id);

ALTER TABLE ONLY public.clip_cells
    ADD CONSTRAINT clip_cells_pkey PRIMARY KEY (borough, category, status);

ALTER TABLE ONLY public.clip_count_changes
    ADD CONSTRAINT clip_count_changes_pkey PRIMARY KEY (change_id);

ALTER TABLE ONLY public.clip_counts
    ADD CONSTRAINT clip_counts_pkey PRIMARY KEY (day, borough, category, status);

ALTER TABLE ONLY public.clip_labels
    ADD CONSTRAINT clip_labels_pkey PRIMARY KEY (label, clip_id);

ALTER TABLE ONLY public.clip_search
    ADD CONSTRAINT clip_search_pkey PRIMARY KEY (clip_id);

ALTER TABLE ONLY public.clips
    ADD CONSTRAINT clips_pkey PRIMARY KEY (clip_id);

ALTER TABLE ONLY public.completeness_cursor
    ADD CONSTRAINT completeness_cursor_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.custody_events
    ADD CONSTRAINT custody_events_gapless UNIQUE (clip_id, clip_seq);

ALTER TABLE ONLY public.custody_events
    ADD CONSTRAINT custody_events_pkey PRIMARY KEY (event_id);

ALTER TABLE ONLY public.derivatives
    ADD CONSTRAINT derivatives_master_key UNIQUE (master_clip_id, sha256);

ALTER TABLE ONLY public.derivatives
    ADD CONSTRAINT derivatives_pkey PRIMARY KEY (derivative_id);

ALTER TABLE ONLY public.device_completeness
    ADD CONSTRAINT device_completeness_pkey PRIMARY KEY (device_serial);

ALTER TABLE ONLY public.device_contacts
    ADD CONSTRAINT device_contacts_pkey PRIMARY KEY (device_serial);

ALTER TABLE ONLY public.device_manifests
    ADD CONSTRAINT device_manifests_pkey PRIMARY KEY (manifest_id);

ALTER TABLE ONLY public.directory_entries
    ADD CONSTRAINT directory_entries_pkey PRIMARY KEY (kind, entry_id);

ALTER TABLE ONLY public.disclosure_acceptances
    ADD CONSTRAINT disclosure_acceptances_pkey PRIMARY KEY (disclosure_id, accepted_at);

ALTER TABLE ONLY public.disclosure_accesses
    ADD CONSTRAINT disclosure_accesses_pkey PRIMARY KEY (access_id);

ALTER TABLE ONLY public.disclosure_clips
    ADD CONSTRAINT disclosure_clips_pkey PRIMARY KEY (disclosure_id, clip_id);

ALTER TABLE ONLY public.disclosures
    ADD CONSTRAINT disclosures_pkey PRIMARY KEY (disclosure_id);

ALTER TABLE ONLY public.disclosures
    ADD CONSTRAINT disclosures_token_key UNIQUE (token_sha256);

ALTER TABLE ONLY public.erase_forecasts
    ADD CONSTRAINT erase_forecasts_pkey PRIMARY KEY (due_on, made_at);

ALTER TABLE ONLY public.erase_halts
    ADD CONSTRAINT erase_halts_pkey PRIMARY KEY (halt_id);

ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (clip_id);

ALTER TABLE ONLY public.hold_previews
    ADD CONSTRAINT hold_previews_pkey PRIMARY KEY (token);

ALTER TABLE ONLY public.holds
    ADD CONSTRAINT holds_group_key UNIQUE (group_id, clip_id);

ALTER TABLE ONLY public.holds
    ADD CONSTRAINT holds_pkey PRIMARY KEY (hold_id);

ALTER TABLE ONLY public.legal_hold_syncs
    ADD CONSTRAINT legal_hold_syncs_pkey PRIMARY KEY (clip_id);

ALTER TABLE ONLY public.log_checkpoints
    ADD CONSTRAINT log_checkpoints_pkey PRIMARY KEY (tree_size);

ALTER TABLE ONLY public.log_cosignatures
    ADD CONSTRAINT log_cosignatures_pkey PRIMARY KEY (tree_size, witness);

ALTER TABLE ONLY public.log_leaves
    ADD CONSTRAINT log_leaves_event_key UNIQUE (event_id);

ALTER TABLE ONLY public.log_leaves
    ADD CONSTRAINT log_leaves_pkey PRIMARY KEY (leaf_index);

ALTER TABLE ONLY public.log_queue
    ADD CONSTRAINT log_queue_pkey PRIMARY KEY (queue_id);

ALTER TABLE ONLY public.log_state
    ADD CONSTRAINT log_state_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.log_tiles
    ADD CONSTRAINT log_tiles_pkey PRIMARY KEY (level, tile_index);

ALTER TABLE ONLY public.log_timestamps
    ADD CONSTRAINT log_timestamps_pkey PRIMARY KEY (tree_size);

ALTER TABLE ONLY public.media_cursor
    ADD CONSTRAINT media_cursor_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.media_facts
    ADD CONSTRAINT media_facts_pkey PRIMARY KEY (clip_id, probe_no);

ALTER TABLE ONLY public.media_probes
    ADD CONSTRAINT media_probes_pkey PRIMARY KEY (clip_id);

ALTER TABLE ONLY public.parts
    ADD CONSTRAINT parts_pkey PRIMARY KEY (upload_id, part_index);

ALTER TABLE ONLY public.retention_approvals
    ADD CONSTRAINT retention_approvals_pkey PRIMARY KEY (policy_id, version);

ALTER TABLE ONLY public.retention
    ADD CONSTRAINT retention_pkey PRIMARY KEY (clip_id);

ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT retention_policies_author_key UNIQUE (policy_id, version, made_by);

ALTER TABLE ONLY public.retention_policies
    ADD CONSTRAINT retention_policies_pkey PRIMARY KEY (policy_id, version);

ALTER TABLE ONLY public.retention_progress
    ADD CONSTRAINT retention_progress_pkey PRIMARY KEY (is_only);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.security_events
    ADD CONSTRAINT security_events_pkey PRIMARY KEY (security_event_id);

ALTER TABLE ONLY public.station_keys
    ADD CONSTRAINT station_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.station_traffic
    ADD CONSTRAINT station_traffic_pkey PRIMARY KEY (minute, station_id);

ALTER TABLE ONLY public.stations
    ADD CONSTRAINT stations_pkey PRIMARY KEY (station_id);

ALTER TABLE ONLY public.tails
    ADD CONSTRAINT tails_pkey PRIMARY KEY (upload_id, offset_bytes);

ALTER TABLE ONLY public.traffic_samples
    ADD CONSTRAINT traffic_samples_pkey PRIMARY KEY (sampled_at);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (upload_id);

ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (webhook_id, log_index);

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (webhook_id);

ALTER TABLE ONLY public.worker_beats
    ADD CONSTRAINT worker_beats_pkey PRIMARY KEY (worker_id);

CREATE INDEX access_request_clips_clip_idx ON public.access_request_clips USING btree (clip_id);

CREATE INDEX access_requests_open_idx ON public.access_requests USING btree (due_on, request_id) WHERE (fulfilled_at IS NULL);

CREATE UNIQUE INDEX assertions_batch_key ON public.assertions USING btree (asserted_by_id, batch_key, batch_item, clip_id, field) WHERE (batch_key IS NOT NULL);

CREATE INDEX clip_labels_borough_idx ON public.clip_labels USING btree (label, borough, status, clip_id);

CREATE INDEX clip_labels_borough_recorded_idx ON public.clip_labels USING btree (label, borough, status, recorded_at, clip_id);

CREATE INDEX clip_labels_category_idx ON public.clip_labels USING btree (label, category, status, clip_id);

CREATE INDEX clip_labels_category_recorded_idx ON public.clip_labels USING btree (label, category, status, recorded_at, clip_id);

CREATE INDEX clip_labels_cell_idx ON public.clip_labels USING btree (label, cell_id, clip_id);

CREATE INDEX clip_labels_cell_recorded_idx ON public.clip_labels USING btree (label, cell_id, recorded_at, clip_id);

CREATE INDEX clip_labels_station_idx ON public.clip_labels USING btree (label, station_id, status, clip_id);

CREATE INDEX clip_labels_station_recorded_idx ON public.clip_labels USING btree (label, station_id, status, recorded_at, clip_id);

CREATE INDEX clip_labels_status_due_idx ON public.clip_labels USING btree (label, status, erase_due_at, clip_id) WHERE (erase_due_at IS NOT NULL);

CREATE INDEX clip_labels_status_idx ON public.clip_labels USING btree (label, status, clip_id);

CREATE INDEX clip_labels_status_raw_idx ON public.clip_labels USING btree (label, status, recorded_raw_at, clip_id);

CREATE INDEX clip_labels_status_recorded_idx ON public.clip_labels USING btree (label, status, recorded_at, clip_id);

CREATE INDEX clip_search_borough_status_idx ON public.clip_search USING btree (borough, status, clip_id) WHERE is_settled;

CREATE INDEX clip_search_borough_status_recorded_idx ON public.clip_search USING btree (borough, status, recorded_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_category_status_idx ON public.clip_search USING btree (category, status, clip_id) WHERE is_settled;

CREATE INDEX clip_search_category_status_recorded_idx ON public.clip_search USING btree (category, status, recorded_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_cell_due_idx ON public.clip_search USING btree (cell_id, erase_due_at, clip_id) WHERE (is_settled AND (erase_due_at IS NOT NULL));

CREATE INDEX clip_search_cell_idx ON public.clip_search USING btree (cell_id, clip_id) WHERE is_settled;

CREATE INDEX clip_search_cell_raw_idx ON public.clip_search USING btree (cell_id, recorded_raw_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_cell_recorded_idx ON public.clip_search USING btree (cell_id, recorded_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_crime_idx ON public.clip_search USING btree (crime_ref, clip_id) WHERE (is_settled AND (crime_ref IS NOT NULL));

CREATE INDEX clip_search_device_idx ON public.clip_search USING btree (device_serial, clip_id) WHERE is_settled;

CREATE INDEX clip_search_exhibit_idx ON public.clip_search USING btree (exhibit_ref, clip_id) WHERE (is_settled AND (exhibit_ref IS NOT NULL));

CREATE INDEX clip_search_incident_idx ON public.clip_search USING btree (incident_id, clip_id) WHERE (is_settled AND (incident_id IS NOT NULL));

CREATE INDEX clip_search_officer_idx ON public.clip_search USING btree (officer_id, clip_id) WHERE (is_settled AND (officer_id IS NOT NULL));

CREATE INDEX clip_search_settled_idx ON public.clip_search USING btree (clip_id) WHERE is_settled;

CREATE INDEX clip_search_station_due_idx ON public.clip_search USING btree (station_id, cell_id, erase_due_at, clip_id) WHERE (is_settled AND (erase_due_at IS NOT NULL));

CREATE INDEX clip_search_station_idx ON public.clip_search USING btree (station_id, cell_id, clip_id) WHERE is_settled;

CREATE INDEX clip_search_station_raw_idx ON public.clip_search USING btree (station_id, cell_id, recorded_raw_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_station_recorded_idx ON public.clip_search USING btree (station_id, cell_id, recorded_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_station_status_idx ON public.clip_search USING btree (station_id, status, clip_id) WHERE is_settled;

CREATE INDEX clip_search_station_status_recorded_idx ON public.clip_search USING btree (station_id, status, recorded_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_status_due_idx ON public.clip_search USING btree (status, erase_due_at, clip_id) WHERE (is_settled AND (erase_due_at IS NOT NULL));

CREATE INDEX clip_search_status_idx ON public.clip_search USING btree (status, clip_id) WHERE is_settled;

CREATE INDEX clip_search_status_raw_idx ON public.clip_search USING btree (status, recorded_raw_at, clip_id) WHERE is_settled;

CREATE INDEX clip_search_status_recorded_idx ON public.clip_search USING btree (status, recorded_at, clip_id) WHERE is_settled;

CREATE INDEX clips_device_idx ON public.clips USING btree (device_serial, clip_id);

CREATE INDEX clips_fixity_due_idx ON public.clips USING btree (COALESCE(last_fixity_at, secured_at)) WHERE (state = ANY (ARRAY['secured'::text, 'erase_pending'::text]));

CREATE UNIQUE INDEX clips_identity_key ON public.clips USING btree (device_serial, recording_id, segment_no) WHERE (duplicate_of IS NULL);

CREATE INDEX clips_manifest_due_idx ON public.clips USING btree (clip_id) WHERE ((manifest_sha256 IS NULL) AND (state = ANY (ARRAY['secured'::text, 'quarantined'::text, 'erase_pending'::text])));

CREATE INDEX clips_read_back_idx ON public.clips USING btree (sealed_at) WHERE (state = 'sealed'::text);

CREATE INDEX custody_events_actor_idx ON public.custody_events USING btree (actor_id, event_id);

CREATE INDEX custody_events_device_idx ON public.custody_events USING btree (device_serial, event_id) WHERE (device_serial IS NOT NULL);

CREATE INDEX derivatives_clip_idx ON public.derivatives USING btree (derivative_clip_id) WHERE (derivative_clip_id IS NOT NULL);

CREATE INDEX device_completeness_at_risk_idx ON public.device_completeness USING btree (station_id) WHERE (unsecured_count > 0);

CREATE INDEX device_completeness_borough_idx ON public.device_completeness USING btree (borough, device_serial);

CREATE INDEX device_completeness_station_idx ON public.device_completeness USING btree (station_id, device_serial);

CREATE INDEX device_manifests_device_idx ON public.device_manifests USING btree (device_serial, manifest_id);

CREATE INDEX disclosure_accesses_disclosure_idx ON public.disclosure_accesses USING btree (disclosure_id, access_id);

CREATE INDEX disclosure_clips_clip_idx ON public.disclosure_clips USING btree (clip_id);

CREATE INDEX disclosures_unsettled_idx ON public.disclosures USING btree (expires_at) WHERE (settled_at IS NULL);

CREATE UNIQUE INDEX erase_halts_one_open ON public.erase_halts USING btree ((true)) WHERE (released_at IS NULL);

CREATE INDEX erasures_day_idx ON public.erasures USING btree (due_at);

CREATE INDEX erasures_due_idx ON public.erasures USING btree (try_after) WHERE (phase <> 'executed'::text);

CREATE INDEX erasures_intended_idx ON public.erasures USING btree (intended_at) WHERE (intended_at IS NOT NULL);

CREATE INDEX erasures_scheduled_idx ON public.erasures USING btree (scheduled_at);

CREATE INDEX holds_clip_idx ON public.holds USING btree (clip_id);

CREATE INDEX legal_hold_syncs_due_idx ON public.legal_hold_syncs USING btree (due_at);

CREATE INDEX log_checkpoints_unpublished_idx ON public.log_checkpoints USING btree (tree_size) WHERE (published_at IS NULL);

CREATE INDEX media_probes_due_idx ON public.media_probes USING btree (due_at);

CREATE INDEX retention_due_idx ON public.retention USING btree (due_at) WHERE (due_at IS NOT NULL);

CREATE INDEX retention_warning_idx ON public.retention USING btree (due_at) WHERE ((due_at IS NOT NULL) AND is_unclassified AND (warned_at IS NULL));

CREATE INDEX security_events_principal_idx ON public.security_events USING btree (principal_id, security_event_id);

CREATE INDEX station_keys_station_idx ON public.station_keys USING btree (station_id);

CREATE INDEX uploads_clip_idx ON public.uploads USING btree (clip_id);

CREATE INDEX uploads_expiry_idx ON public.uploads USING btree (expires_at) WHERE (state = 'open'::text);

CREATE INDEX uploads_finishing_idx ON public.uploads USING btree (finish_after) WHERE (state = 'finishing'::text);

CREATE INDEX uploads_joining_idx ON public.uploads USING btree (finish_after) WHERE ((kind = 'final'::text) AND (state = 'open'::text));

CREATE INDEX uploads_partial_expiry_idx ON public.uploads USING btree (expires_at) WHERE ((kind = 'partial'::text) AND (state = 'finished'::text));

CREATE INDEX uploads_partial_ids_idx ON public.uploads USING hash (partial_ids) WHERE (kind = 'final'::text);

CREATE INDEX uploads_sweep_idx ON public.uploads USING btree (sweep_after) WHERE (sweep_after IS NOT NULL);

CREATE INDEX webhook_deliveries_requested_idx ON public.webhook_deliveries USING btree (webhook_id, log_index) WHERE (state = 'requested'::text);

CREATE INDEX webhooks_due_idx ON public.webhooks USING btree (next_attempt_at) WHERE (state = 'active'::text);

CREATE TRIGGER access_request_clips_append_only BEFORE DELETE OR UPDATE ON public.access_request_clips FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER access_requests_changed_once BEFORE UPDATE ON public.access_requests FOR EACH ROW EXECUTE FUNCTION public.refuse_access_request_change();

CREATE TRIGGER access_requests_not_deleted BEFORE DELETE ON public.access_requests FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER assertion_batches_append_only BEFORE DELETE OR UPDATE ON public.assertion_batches FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER assertion_batches_no_truncate BEFORE TRUNCATE ON public.assertion_batches FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER assertions_append_only BEFORE DELETE OR UPDATE ON public.assertions FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER assertions_no_truncate BEFORE TRUNCATE ON public.assertions FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER clips_indexed AFTER UPDATE OF state, officer_id, incident_id, crime_ref, exhibit_ref, category, evidential_state, tags, is_held, erase_due_at, started_at_corrected ON public.clips FOR EACH ROW WHEN (((new.state <> 'sealed'::text) OR (old.state = 'quarantined'::text))) EXECUTE FUNCTION public.index_clip();

CREATE TRIGGER clips_indexed_first AFTER INSERT ON public.clips FOR EACH ROW WHEN ((new.state <> 'receiving'::text)) EXECUTE FUNCTION public.index_clip();

CREATE TRIGGER custody_events_append_only BEFORE DELETE OR UPDATE ON public.custody_events FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER custody_events_enqueue AFTER INSERT ON public.custody_events FOR EACH ROW EXECUTE FUNCTION public.enqueue_event();

CREATE TRIGGER custody_events_no_truncate BEFORE TRUNCATE ON public.custody_events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER derivatives_append_only BEFORE DELETE OR UPDATE ON public.derivatives FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER derivatives_no_truncate BEFORE TRUNCATE ON public.derivatives FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER disclosure_acceptances_append_only BEFORE DELETE OR UPDATE ON public.disclosure_acceptances FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER disclosure_accesses_append_only BEFORE DELETE OR UPDATE ON public.disclosure_accesses FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER disclosure_clips_append_only BEFORE DELETE OR UPDATE ON public.disclosure_clips FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER disclosures_ended_once BEFORE UPDATE ON public.disclosures FOR EACH ROW EXECUTE FUNCTION public.refuse_disclosure_change();

CREATE TRIGGER disclosures_not_deleted BEFORE DELETE ON public.disclosures FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER erase_forecasts_append_only BEFORE DELETE OR UPDATE ON public.erase_forecasts FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER holds_not_deleted BEFORE DELETE ON public.holds FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER holds_released_once BEFORE UPDATE ON public.holds FOR EACH ROW EXECUTE FUNCTION public.refuse_hold_change();

CREATE TRIGGER log_cosignatures_append_only BEFORE DELETE OR UPDATE ON public.log_cosignatures FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_cosignatures_no_truncate BEFORE TRUNCATE ON public.log_cosignatures FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_leaves_append_only BEFORE DELETE OR UPDATE ON public.log_leaves FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_leaves_no_truncate BEFORE TRUNCATE ON public.log_leaves FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_tiles_no_truncate BEFORE TRUNCATE ON public.log_tiles FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_tiles_not_deleted BEFORE DELETE ON public.log_tiles FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_tiles_only_grow BEFORE UPDATE ON public.log_tiles FOR EACH ROW EXECUTE FUNCTION public.refuse_shrinking();

CREATE TRIGGER log_timestamps_append_only BEFORE DELETE OR UPDATE ON public.log_timestamps FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER log_timestamps_no_truncate BEFORE TRUNCATE ON public.log_timestamps FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER media_facts_append_only BEFORE DELETE OR UPDATE ON public.media_facts FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER media_facts_indexed AFTER INSERT ON public.media_facts FOR EACH ROW EXECUTE FUNCTION public.index_media();

CREATE TRIGGER retention_approvals_append_only BEFORE DELETE OR UPDATE ON public.retention_approvals FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER retention_policies_append_only BEFORE DELETE OR UPDATE ON public.retention_policies FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER security_events_append_only BEFORE DELETE OR UPDATE ON public.security_events FOR EACH ROW EXECUTE FUNCTION public.refuse_change();

CREATE TRIGGER security_events_no_truncate BEFORE TRUNCATE ON public.security_events FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();

ALTER TABLE ONLY public.access_request_clips
    ADD CONSTRAINT access_request_clips_hold_fkey FOREIGN KEY (hold_id) REFERENCES public.holds(hold_id);

ALTER TABLE ONLY public.access_request_clips
    ADD CONSTRAINT access_request_clips_request_fkey FOREIGN KEY (request_id) REFERENCES public.access_requests(request_id);

ALTER TABLE ONLY public.access_requests
    ADD CONSTRAINT access_requests_disclosure_fkey FOREIGN KEY (disclosure_id) REFERENCES public.disclosures(disclosure_id);

ALTER TABLE ONLY public.assertions
    ADD CONSTRAINT assertions_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.clips
    ADD CONSTRAINT clips_duplicate_fkey FOREIGN KEY (duplicate_of) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.clips
    ADD CONSTRAINT clips_station_fkey FOREIGN KEY (station_id) REFERENCES public.stations(station_id);

ALTER TABLE ONLY public.custody_events
    ADD CONSTRAINT custody_events_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.device_contacts
    ADD CONSTRAINT device_contacts_station_fkey FOREIGN KEY (station_id) REFERENCES public.stations(station_id);

ALTER TABLE ONLY public.device_manifests
    ADD CONSTRAINT device_manifests_station_fkey FOREIGN KEY (station_id) REFERENCES public.stations(station_id);

ALTER TABLE ONLY public.disclosure_acceptances
    ADD CONSTRAINT disclosure_acceptances_disclosure_fkey FOREIGN KEY (disclosure_id) REFERENCES public.disclosures(disclosure_id);

ALTER TABLE ONLY public.disclosure_accesses
    ADD CONSTRAINT disclosure_accesses_disclosure_fkey FOREIGN KEY (disclosure_id) REFERENCES public.disclosures(disclosure_id);

ALTER TABLE ONLY public.disclosure_clips
    ADD CONSTRAINT disclosure_clips_disclosure_fkey FOREIGN KEY (disclosure_id) REFERENCES public.disclosures(disclosure_id);

ALTER TABLE ONLY public.disclosure_clips
    ADD CONSTRAINT disclosure_clips_hold_fkey FOREIGN KEY (hold_id) REFERENCES public.holds(hold_id);

ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.holds
    ADD CONSTRAINT holds_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.log_cosignatures
    ADD CONSTRAINT log_cosignatures_checkpoint_fkey FOREIGN KEY (tree_size) REFERENCES public.log_checkpoints(tree_size);

ALTER TABLE ONLY public.log_leaves
    ADD CONSTRAINT log_leaves_event_fkey FOREIGN KEY (event_id) REFERENCES public.custody_events(event_id);

ALTER TABLE ONLY public.log_timestamps
    ADD CONSTRAINT log_timestamps_checkpoint_fkey FOREIGN KEY (tree_size) REFERENCES public.log_checkpoints(tree_size);

ALTER TABLE ONLY public.media_facts
    ADD CONSTRAINT media_facts_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.parts
    ADD CONSTRAINT parts_upload_fkey FOREIGN KEY (upload_id) REFERENCES public.uploads(upload_id);

ALTER TABLE ONLY public.retention_approvals
    ADD CONSTRAINT retention_approvals_policy_fkey FOREIGN KEY (policy_id, version, made_by) REFERENCES public.retention_policies(policy_id, version, made_by);

ALTER TABLE ONLY public.retention
    ADD CONSTRAINT retention_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.station_keys
    ADD CONSTRAINT station_keys_station_fkey FOREIGN KEY (station_id) REFERENCES public.stations(station_id);

ALTER TABLE ONLY public.tails
    ADD CONSTRAINT tails_upload_fkey FOREIGN KEY (upload_id) REFERENCES public.uploads(upload_id);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_clip_fkey FOREIGN KEY (clip_id) REFERENCES public.clips(clip_id);

ALTER TABLE ONLY public.uploads
    ADD CONSTRAINT uploads_station_fkey FOREIGN KEY (station_id) REFERENCES public.stations(station_id);

ALTER TABLE ONLY public.webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_webhook_fkey FOREIGN KEY (webhook_id) REFERENCES public.webhooks(webhook_id);

GRANT USAGE ON SCHEMA public TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.access_request_clips TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(due_on) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(extension_months) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(extension_reason) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(extended_by) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(extended_at) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(outcome) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(disclosure_id) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(fulfilled_by) ON TABLE public.access_requests TO ingest_service;

GRANT UPDATE(fulfilled_at) ON TABLE public.access_requests TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.assertion_batches TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.assertions TO ingest_service;

GRANT SELECT,INSERT,DELETE ON TABLE public.backlog_samples TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.clip_cells TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.clip_count_changes TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.clip_counts TO ingest_service;

GRANT SELECT,INSERT,DELETE ON TABLE public.clip_labels TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.clip_search TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.clips TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.uploads TO ingest_service;

GRANT SELECT ON TABLE public.coming_clips TO ingest_service;

GRANT SELECT,UPDATE ON TABLE public.completeness_cursor TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.custody_events TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.derivatives TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.device_completeness TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.device_contacts TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.device_manifests TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.directory_entries TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.disclosure_acceptances TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.disclosure_accesses TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.disclosure_clips TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.disclosures TO ingest_service;

GRANT UPDATE(revoked_at) ON TABLE public.disclosures TO ingest_service;

GRANT UPDATE(revoked_by) ON TABLE public.disclosures TO ingest_service;

GRANT UPDATE(revoked_authority) ON TABLE public.disclosures TO ingest_service;

GRANT UPDATE(settled_at) ON TABLE public.disclosures TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.erase_forecasts TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.erase_halts TO ingest_service;

GRANT UPDATE(first_released_by) ON TABLE public.erase_halts TO ingest_service;

GRANT UPDATE(first_released_at) ON TABLE public.erase_halts TO ingest_service;

GRANT UPDATE(released_by) ON TABLE public.erase_halts TO ingest_service;

GRANT UPDATE(released_at) ON TABLE public.erase_halts TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.erasures TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.hold_previews TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.holds TO ingest_service;

GRANT UPDATE(released_at) ON TABLE public.holds TO ingest_service;

GRANT UPDATE(released_by) ON TABLE public.holds TO ingest_service;

GRANT UPDATE(released_authority) ON TABLE public.holds TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.legal_hold_syncs TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.log_checkpoints TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.log_cosignatures TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.log_leaves TO ingest_service;

GRANT SELECT,INSERT,DELETE ON TABLE public.log_queue TO ingest_service;

GRANT SELECT,UPDATE ON TABLE public.log_state TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.log_tiles TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.log_timestamps TO ingest_service;

GRANT SELECT,UPDATE ON TABLE public.media_cursor TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.media_facts TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.media_probes TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.parts TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.retention TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.retention_approvals TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.retention_policies TO ingest_service;

GRANT SELECT,UPDATE ON TABLE public.retention_progress TO ingest_service;

GRANT SELECT ON TABLE public.schema_migrations TO ingest_service;

GRANT SELECT,INSERT ON TABLE public.security_events TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.station_keys TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.station_traffic TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.stations TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.tails TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.traffic_samples TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.webhook_deliveries TO ingest_service;

GRANT SELECT,INSERT,UPDATE ON TABLE public.webhooks TO ingest_service;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.worker_beats TO ingest_service;
