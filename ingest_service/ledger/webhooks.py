"""Webhooks and their dead letters in Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.webhook import Webhook
from ingest_service.ledger.connection import Connection

INSERT_WEBHOOK: Final = """
    INSERT INTO webhooks (
        webhook_id, url, description, owner_kind, owner_id, types, boroughs, limits, secret,
        created_at, next_index)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
     WHERE (SELECT count(*) FROM webhooks WHERE state <> 'deleted') < $12
 RETURNING webhook_id, url, description, owner_kind, owner_id, types, boroughs, limits, secret,
           old_secret, old_secret_until, state, state_reason, created_at, next_index, attempts,
           next_attempt_at, last_delivered_at, last_failure, lease_number
"""


async def insert_webhook(
    connection: Connection,
    webhook_id: UUID,
    *,
    url: str,
    description: str,
    owner_kind: str,
    owner_id: str,
    types: Sequence[str] | None,
    boroughs: Sequence[str] | None,
    limits: Sequence[str] | None,
    secret: bytes,
    created_at: datetime,
    next_index: int,
    webhooks_max: int,
) -> Webhook | None:
    """Record a webhook; None: there are as many as may be."""
    row = await connection.fetchrow(
        INSERT_WEBHOOK,
        webhook_id,
        url,
        description,
        owner_kind,
        owner_id,
        types,
        boroughs,
        limits,
        secret,
        created_at,
        next_index,
        webhooks_max,
    )
    return None if row is None else Webhook(**row)


LIST_WEBHOOKS: Final = """
    SELECT webhook_id, url, description, owner_kind, owner_id, types, boroughs, limits, secret,
           old_secret, old_secret_until, state, state_reason, created_at, next_index, attempts,
           next_attempt_at, last_delivered_at, last_failure, lease_number
      FROM webhooks
     WHERE state <> 'deleted'
       AND ($1::text IS NULL OR owner_id = $1)
       AND ($2::uuid IS NULL OR webhook_id = $2)
  ORDER BY webhook_id
"""


async def list_webhooks(
    connection: Connection, *, owner_id: str | None, webhook_id: UUID | None = None
) -> list[Webhook]:
    """Return the webhooks of an owner (None: of all), or the one of an id."""
    rows = await connection.fetch(LIST_WEBHOOKS, owner_id, webhook_id)
    return [Webhook(**row) for row in rows]


# What was changed may be what failed: it is tried at once. The lease's number goes up, so that
# what a worker has in hand by the old word moves nothing.
CHANGE_WEBHOOK: Final = """
    UPDATE webhooks
       SET url = $2, description = $3, types = $4, boroughs = $5, limits = $6, state = $7,
           state_reason = CASE WHEN $7 = 'disabled' THEN state_reason END,
           next_attempt_at = now(),
           lease_number = lease_number + 1, leased_until = NULL
     WHERE webhook_id = $1
       AND state <> 'deleted'
 RETURNING webhook_id, url, description, owner_kind, owner_id, types, boroughs, limits, secret,
           old_secret, old_secret_until, state, state_reason, created_at, next_index, attempts,
           next_attempt_at, last_delivered_at, last_failure, lease_number
"""


async def change_webhook(
    connection: Connection,
    webhook_id: UUID,
    *,
    url: str,
    description: str,
    types: Sequence[str] | None,
    boroughs: Sequence[str] | None,
    limits: Sequence[str] | None,
    state: str,
) -> Webhook | None:
    """Change a webhook; None: it was deleted meanwhile."""
    row = await connection.fetchrow(
        CHANGE_WEBHOOK, webhook_id, url, description, types, boroughs, limits, state
    )
    return None if row is None else Webhook(**row)


CHANGE_SIGNING: Final = """
    UPDATE webhooks
       SET old_secret = secret, old_secret_until = $3, secret = $2
     WHERE webhook_id = $1
       AND state <> 'deleted'
 RETURNING webhook_id
"""


async def rotate_secret(
    connection: Connection, webhook_id: UUID, secret: bytes, old_until: datetime
) -> bool:
    """Give a webhook another secret; the old one signs beside it until then."""
    row = await connection.fetchrow(CHANGE_SIGNING, webhook_id, secret, old_until)
    return row is not None


RESEAL_SECRETS: Final = """
    UPDATE webhooks
       SET secret = $4, old_secret = $5
     WHERE webhook_id = $1
       AND secret = $2
       AND old_secret IS NOT DISTINCT FROM $3
       AND state <> 'deleted'
 RETURNING webhook_id
"""


async def reseal_secrets(
    connection: Connection, webhook: Webhook, secret: bytes, old_secret: bytes | None
) -> bool:
    """Keep the same secrets in another form; False: they were changed since they were read."""
    row = await connection.fetchrow(
        RESEAL_SECRETS, webhook.webhook_id, webhook.secret, webhook.old_secret, secret, old_secret
    )
    return row is not None


DELETE_WEBHOOK: Final = """
    UPDATE webhooks
       SET state = 'deleted', secret = '', old_secret = NULL, lease_number = lease_number + 1
     WHERE webhook_id = $1
       AND state <> 'deleted'
"""


async def delete_webhook(connection: Connection, webhook_id: UUID) -> None:
    """Forget a webhook's secrets and send it nothing more; the row stays for the record."""
    await connection.execute(DELETE_WEBHOOK, webhook_id)


CLAIM_WEBHOOK: Final = """
    UPDATE webhooks
       SET leased_until = now() + make_interval(secs => $2), lease_number = lease_number + 1
     WHERE webhook_id = (
           SELECT due.webhook_id
             FROM webhooks AS due
            WHERE due.state = 'active'
              AND due.next_attempt_at <= now()
              AND (due.leased_until IS NULL OR due.leased_until <= now())
              AND (due.next_index < $1
                   OR EXISTS (SELECT FROM webhook_deliveries AS delivery
                               WHERE delivery.webhook_id = due.webhook_id
                                 AND delivery.state = 'requested'))
         ORDER BY due.next_attempt_at
              FOR UPDATE SKIP LOCKED
            LIMIT 1)
 RETURNING webhook_id, url, description, owner_kind, owner_id, types, boroughs, limits, secret,
           old_secret, old_secret_until, state, state_reason, created_at, next_index, attempts,
           next_attempt_at, last_delivered_at, last_failure, lease_number
"""


async def claim_webhook(connection: Connection, *, log_size: int, lease_s: float) -> Webhook | None:
    """Take the webhook that waits longest, for so many seconds; None: nobody waits."""
    row = await connection.fetchrow(CLAIM_WEBHOOK, log_size, lease_s)
    return None if row is None else Webhook(**row)


# The lease's number is the fence: who was away for too long, or deals with what was changed
# meanwhile, moves nothing.
RECORD_PROGRESS: Final = """
    WITH moved AS (
        UPDATE webhooks
           SET next_index = $3, attempts = $4,
               next_attempt_at = now() + make_interval(secs => $5),
               last_failure = $6,
               last_delivered_at = CASE WHEN $7 THEN now() ELSE last_delivered_at END,
               state = CASE WHEN $8::text IS NULL THEN state ELSE 'disabled' END,
               state_reason = COALESCE($8, state_reason),
               leased_until = NULL
         WHERE webhook_id = $1
           AND lease_number = $2
     RETURNING webhook_id
    ), buried AS (
        INSERT INTO webhook_deliveries (webhook_id, log_index, event_id, attempts, last_failure)
        SELECT webhook_id, $9::bigint, $10::uuid, $11::integer, $6
          FROM moved
         WHERE $9::bigint IS NOT NULL
        ON CONFLICT ON CONSTRAINT webhook_deliveries_pkey DO NOTHING
    )
    SELECT webhook_id FROM moved
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch came.

    failure          why it did not come further; None: it did
    disabled_reason  the receiver wants no more
    dead             (log index, event id, attempts) of an event that is given up
    """

    next_index: int
    attempts: int
    rest_s: float
    has_delivered: bool
    failure: str | None = None
    disabled_reason: str | None = None
    dead: tuple[int, UUID, int] | None = None


async def record_progress(connection: Connection, webhook: Webhook, progress: Progress) -> bool:
    """Move a webhook on and give its lease back; False: somebody else has it."""
    log_index, event_id, attempts = progress.dead or (None, None, None)
    row = await connection.fetchrow(
        RECORD_PROGRESS,
        webhook.webhook_id,
        webhook.lease_number,
        progress.next_index,
        progress.attempts,
        progress.rest_s,
        progress.failure,
        progress.has_delivered,
        progress.disabled_reason,
        log_index,
        event_id,
        attempts,
    )
    return row is not None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a webhook did not take."""

    webhook_id: UUID
    log_index: int
    event_id: UUID
    state: str
    attempts: int
    last_failure: str
    dead_at: datetime
    delivered_at: datetime | None


LIST_DELIVERIES: Final = """
    SELECT webhook_id, log_index, event_id, state, attempts, last_failure, dead_at, delivered_at
      FROM webhook_deliveries
     WHERE webhook_id = $1
       AND log_index > $2
       AND ($3::text IS NULL OR state = $3)
  ORDER BY log_index
     LIMIT $4
"""


async def list_deliveries(
    connection: Connection, webhook_id: UUID, *, after: int, state: str | None, limit: int
) -> list[DeadLetter]:
    """Return a webhook's dead letters in log order."""
    rows = await connection.fetch(LIST_DELIVERIES, webhook_id, after, state, limit)
    return [DeadLetter(**row) for row in rows]


REQUEST_DELIVERY: Final = """
    UPDATE webhook_deliveries
       SET state = 'requested'
     WHERE webhook_id = $1
       AND log_index = $2
 RETURNING webhook_id, log_index, event_id, state, attempts, last_failure, dead_at, delivered_at
"""


async def request_delivery(
    connection: Connection, webhook_id: UUID, log_index: int
) -> DeadLetter | None:
    """Ask for one more attempt; None: there is no such dead letter."""
    row = await connection.fetchrow(REQUEST_DELIVERY, webhook_id, log_index)
    return None if row is None else DeadLetter(**row)


SETTLE_DELIVERY: Final = """
    UPDATE webhook_deliveries
       SET state = CASE WHEN $3::text IS NULL THEN 'delivered' ELSE 'dead' END,
           attempts = attempts + 1,
           last_failure = COALESCE($3, last_failure),
           delivered_at = CASE WHEN $3::text IS NULL THEN now() ELSE delivered_at END
     WHERE webhook_id = $1
       AND log_index = $2
       AND state = 'requested'
"""


async def settle_delivery(
    connection: Connection, webhook_id: UUID, log_index: int, failure: str | None
) -> None:
    """Record what came of an attempt that was asked for."""
    await connection.execute(SETTLE_DELIVERY, webhook_id, log_index, failure)


MEASURE_WEBHOOKS: Final = """
    SELECT COALESCE(max($1 - next_index) FILTER (WHERE state IN ('active', 'disabled')), 0)
               AS lag_events,
           count(*) FILTER (WHERE state = 'active' AND attempts > 0) AS failing_count,
           count(*) FILTER (WHERE state = 'disabled') AS disabled_count
      FROM webhooks
     WHERE state <> 'deleted'
"""


async def measure_webhooks(connection: Connection, log_size: int) -> tuple[int, int, int]:
    """Return the longest lag in events, how many webhooks fail just now, how many are disabled."""
    row = await connection.fetchrow(MEASURE_WEBHOOKS, log_size)
    return (0, 0, 0) if row is None else (row[0], row[1], row[2])
