-- migrate:up
SET LOCAL lock_timeout = '5s';

-- Who is told of events, each with its own place in the log.
CREATE TABLE webhooks (
    webhook_id           uuid        NOT NULL,
    url                  text        NOT NULL,
    description          text        NOT NULL DEFAULT '',
    owner_kind           text        NOT NULL,
    owner_id             text        NOT NULL,
    -- NULL: any. `limits` are the boroughs that its owner may see.
    types                text[],
    boroughs             text[],
    limits               text[],
    secret               bytea       NOT NULL,
    old_secret           bytea,
    old_secret_until     timestamptz,
    state                text        NOT NULL DEFAULT 'active',
    state_reason         text,
    created_at           timestamptz NOT NULL,
    -- The first log index that was not dealt with.
    next_index           bigint      NOT NULL,
    attempts             integer     NOT NULL DEFAULT 0,
    next_attempt_at      timestamptz NOT NULL DEFAULT now(),
    last_delivered_at    timestamptz,
    last_failure         text,
    -- One worker at a time; the number fences off one that was away for too long.
    leased_until         timestamptz,
    lease_number         bigint      NOT NULL DEFAULT 0,
    CONSTRAINT webhooks_pkey PRIMARY KEY (webhook_id),
    CONSTRAINT webhooks_state CHECK (state IN ('active', 'paused', 'disabled', 'deleted')),
    CONSTRAINT webhooks_next_index CHECK (next_index >= 0),
    CONSTRAINT webhooks_secret CHECK ((state = 'deleted') = (octet_length(secret) = 0))
);
CREATE INDEX webhooks_due_idx ON webhooks (next_attempt_at) WHERE state = 'active';

-- Events that a webhook did not take in as many attempts as it has: its dead letters.
CREATE TABLE webhook_deliveries (
    webhook_id   uuid        NOT NULL,
    log_index    bigint      NOT NULL,
    event_id     uuid        NOT NULL,
    state        text        NOT NULL DEFAULT 'dead',
    attempts     integer     NOT NULL,
    last_failure text        NOT NULL,
    dead_at      timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (webhook_id, log_index),
    CONSTRAINT webhook_deliveries_webhook_fkey
        FOREIGN KEY (webhook_id) REFERENCES webhooks (webhook_id),
    CONSTRAINT webhook_deliveries_state CHECK (state IN ('dead', 'requested', 'delivered'))
);
CREATE INDEX webhook_deliveries_requested_idx ON webhook_deliveries (webhook_id, log_index)
    WHERE state = 'requested';

GRANT SELECT, INSERT, UPDATE ON webhooks, webhook_deliveries TO ingest_service;

-- migrate:down
