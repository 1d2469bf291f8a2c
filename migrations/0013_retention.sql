-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Nothing here is written while a clip comes in: rows appear after it was secured, or when somebody
-- holds it.

CREATE TABLE retention_policies (
    policy_id      text        NOT NULL,
    version        integer     NOT NULL,
    rules          jsonb       NOT NULL,
    effective_from timestamptz NOT NULL,
    reason         text        NOT NULL,
    made_by        text        NOT NULL,
    made_at        timestamptz NOT NULL,
    CONSTRAINT retention_policies_pkey PRIMARY KEY (policy_id, version),
    CONSTRAINT retention_policies_author_key UNIQUE (policy_id, version, made_by),
    CONSTRAINT retention_policies_version CHECK (version >= 1)
);
-- A version is in force once somebody else has approved it.
CREATE TABLE retention_approvals (
    policy_id   text        NOT NULL,
    version     integer     NOT NULL,
    made_by     text        NOT NULL,
    approved_by text        NOT NULL,
    approved_at timestamptz NOT NULL,
    CONSTRAINT retention_approvals_pkey PRIMARY KEY (policy_id, version),
    CONSTRAINT retention_approvals_policy_fkey FOREIGN KEY (policy_id, version, made_by)
        REFERENCES retention_policies (policy_id, version, made_by),
    CONSTRAINT retention_approvals_another CHECK (approved_by <> made_by)
);
INSERT INTO retention_policies (
    policy_id, version, rules, effective_from, reason, made_by, made_at)
VALUES ('default', 1,
        '[{"category": null, "evidential_state": null, "days": 31},
          {"category": null, "evidential_state": "evidential", "days": null},
          {"category": null, "evidential_state": "policing_purpose", "days": null}]',
        '2000-01-01 00:00:00+00', '31 days, and what is evidence or serves a policing purpose is kept',
        'ingest-service', now());
INSERT INTO retention_approvals (policy_id, version, made_by, approved_by, approved_at)
VALUES ('default', 1, 'ingest-service', 'ingest-migrate', now());

-- When a clip is to be erased, and why; recomputed before anything is done about it.
CREATE TABLE retention (
    clip_id         uuid        NOT NULL,
    policy          text,
    basis           text        NOT NULL,
    basis_at        timestamptz NOT NULL,
    reason          text        NOT NULL,
    erase_due_at    timestamptz,
    due_at          timestamptz,
    is_unclassified boolean     NOT NULL,
    size_bytes      bigint      NOT NULL,
    computed_at     timestamptz NOT NULL,
    warned_at       timestamptz,
    restored_at     timestamptz,
    CONSTRAINT retention_pkey PRIMARY KEY (clip_id),
    CONSTRAINT retention_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips (clip_id)
);
-- due_at is when something is to be done: none of what is held, kept, or scheduled already, so
-- that nobody walks over those again and again.
CREATE INDEX retention_due_idx ON retention (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX retention_warning_idx ON retention (due_at)
    WHERE due_at IS NOT NULL AND is_unclassified AND warned_at IS NULL;

-- How far the computing is: in the log, and through all clips after a policy has changed.
CREATE TABLE retention_progress (
    is_only        boolean NOT NULL DEFAULT true,
    log_index      bigint  NOT NULL DEFAULT 0,
    swept_policies text,
    sweep_after    uuid,
    CONSTRAINT retention_progress_pkey PRIMARY KEY (is_only),
    CONSTRAINT retention_progress_one_row CHECK (is_only)
);
INSERT INTO retention_progress DEFAULT VALUES;

CREATE TABLE holds (
    hold_id            uuid        NOT NULL,
    clip_id            uuid        NOT NULL,
    kind               text        NOT NULL,
    authority          text        NOT NULL,
    reason             text        NOT NULL,
    placed_by          text        NOT NULL,
    placed_at          timestamptz NOT NULL,
    review_at          timestamptz,
    group_id           uuid,
    released_at        timestamptz,
    released_by        text,
    released_authority text,
    CONSTRAINT holds_pkey PRIMARY KEY (hold_id),
    CONSTRAINT holds_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips (clip_id),
    CONSTRAINT holds_group_key UNIQUE (group_id, clip_id),
    CONSTRAINT holds_kind CHECK (
        kind IN ('evidence', 'case', 'subject_access_request', 'complaint', 'legal')),
    CONSTRAINT holds_released_whole CHECK (
        (released_at IS NULL) = (released_by IS NULL)
        AND (released_at IS NULL) = (released_authority IS NULL))
);
CREATE INDEX holds_clip_idx ON holds (clip_id);
CREATE FUNCTION refuse_hold_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.released_at IS NOT NULL THEN
        RAISE EXCEPTION 'a released hold is not changed' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER holds_released_once BEFORE UPDATE ON holds
    FOR EACH ROW EXECUTE FUNCTION refuse_hold_change();
CREATE TRIGGER holds_not_deleted BEFORE DELETE ON holds
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- What a dry run of a bulk hold has counted; the hold is placed on no other clips than those.
CREATE TABLE hold_previews (
    token       text        NOT NULL,
    asked       jsonb       NOT NULL,
    made_by     text        NOT NULL,
    made_at     timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    clip_count  bigint      NOT NULL,
    total_bytes bigint      NOT NULL,
    group_id    uuid        NOT NULL,
    begun_at    timestamptz,
    done_after  uuid,
    is_done     boolean     NOT NULL DEFAULT false,
    CONSTRAINT hold_previews_pkey PRIMARY KEY (token)
);

-- Clips whose legal hold in the store is to be made what the ledger says; see sync_legal_holds.
CREATE TABLE legal_hold_syncs (
    clip_id uuid        NOT NULL,
    due_at  timestamptz NOT NULL,
    mark    uuid        NOT NULL,
    CONSTRAINT legal_hold_syncs_pkey PRIMARY KEY (clip_id)
);
CREATE INDEX legal_hold_syncs_due_idx ON legal_hold_syncs (due_at);

CREATE TABLE erasures (
    clip_id        uuid        NOT NULL,
    phase          text        NOT NULL,
    due_at         timestamptz NOT NULL,
    scheduled_at   timestamptz NOT NULL,
    erase_after    timestamptz NOT NULL,
    try_after      timestamptz NOT NULL,
    attempt        integer     NOT NULL DEFAULT 0,
    intended_at    timestamptz,
    executed_at    timestamptz,
    blocked_reason text,
    CONSTRAINT erasures_pkey PRIMARY KEY (clip_id),
    CONSTRAINT erasures_clip_fkey FOREIGN KEY (clip_id) REFERENCES clips (clip_id),
    CONSTRAINT erasures_phase CHECK (phase IN ('notice', 'intended', 'executed'))
);
CREATE INDEX erasures_due_idx ON erasures (try_after) WHERE phase <> 'executed';
CREATE INDEX erasures_day_idx ON erasures (due_at);
CREATE INDEX erasures_scheduled_idx ON erasures (scheduled_at);
CREATE INDEX erasures_intended_idx ON erasures (intended_at) WHERE intended_at IS NOT NULL;

CREATE TABLE erase_forecasts (
    due_on      date        NOT NULL,
    made_at     timestamptz NOT NULL,
    clip_count  bigint      NOT NULL,
    total_bytes bigint      NOT NULL,
    CONSTRAINT erase_forecasts_pkey PRIMARY KEY (due_on, made_at)
);
CREATE TABLE erase_halts (
    halt_id             uuid        NOT NULL,
    halted_at           timestamptz NOT NULL,
    reason              text        NOT NULL,
    excess              jsonb       NOT NULL,
    first_released_by   text,
    first_released_at   timestamptz,
    released_by         text,
    released_at         timestamptz,
    CONSTRAINT erase_halts_pkey PRIMARY KEY (halt_id),
    CONSTRAINT erase_halts_two_people CHECK (
        released_by IS NULL
        OR (first_released_by IS NOT NULL AND first_released_by <> released_by))
);
CREATE UNIQUE INDEX erase_halts_one_open ON erase_halts ((true)) WHERE released_at IS NULL;

CREATE TRIGGER retention_policies_append_only BEFORE UPDATE OR DELETE ON retention_policies
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER retention_approvals_append_only BEFORE UPDATE OR DELETE ON retention_approvals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER erase_forecasts_append_only BEFORE UPDATE OR DELETE ON erase_forecasts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

GRANT SELECT, INSERT ON retention_policies, retention_approvals, erase_forecasts TO ingest_service;
GRANT SELECT, INSERT, UPDATE ON retention, hold_previews TO ingest_service;
GRANT SELECT, UPDATE ON retention_progress TO ingest_service;
GRANT SELECT, INSERT ON holds, erase_halts TO ingest_service;
GRANT UPDATE (released_at, released_by, released_authority) ON holds TO ingest_service;
GRANT UPDATE (first_released_by, first_released_at, released_by, released_at) ON erase_halts
    TO ingest_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON erasures, legal_hold_syncs TO ingest_service;

-- migrate:down
