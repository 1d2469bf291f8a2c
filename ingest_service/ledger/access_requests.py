"""Subject access requests in Postgres: received, perhaps extended, fulfilled; each once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.access_request import AccessRequest, Outcome
from ingest_service.ledger.connection import Connection

INSERT_REQUEST: Final = """
    INSERT INTO access_requests (
        request_id, reference, subject, salt, received_at, due_on, made_by, made_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (reference) DO NOTHING
 RETURNING request_id
"""


async def insert_request(connection: Connection, made: AccessRequest) -> bool:
    """Record a request; False: there is one of this reference."""
    row = await connection.fetchrow(
        INSERT_REQUEST,
        made.request_id,
        made.reference,
        made.subject,
        made.salt,
        made.received_at,
        made.due_on,
        made.made_by,
        made.made_at,
    )
    return row is not None


FIND_REQUEST: Final = """
    SELECT request_id, reference, subject, salt, received_at, due_on, made_by, made_at,
           extension_months, extension_reason, extended_by, extended_at, outcome, disclosure_id,
           fulfilled_by, fulfilled_at
      FROM access_requests
     WHERE request_id = $1
"""


async def find_request(connection: Connection, request_id: UUID) -> AccessRequest | None:
    """Return one request."""
    row = await connection.fetchrow(FIND_REQUEST, request_id)
    return None if row is None else AccessRequest(**row)


LOCK_REQUEST: Final = """
    SELECT request_id
      FROM access_requests
     WHERE request_id = $1
       FOR NO KEY UPDATE
"""


async def lock_request(connection: Connection, request_id: UUID) -> AccessRequest | None:
    """Return a request that nobody else changes meanwhile; before any clip's lock."""
    await connection.execute(LOCK_REQUEST, request_id)
    return await find_request(connection, request_id)


LIST_REQUESTS: Final = """
    SELECT request_id, reference, subject, salt, received_at, due_on, made_by, made_at,
           extension_months, extension_reason, extended_by, extended_at, outcome, disclosure_id,
           fulfilled_by, fulfilled_at
      FROM access_requests
     WHERE ($1::boolean IS NULL OR (fulfilled_at IS NOT NULL) = $1)
       AND ($2::date IS NULL OR due_on >= $2)
       AND ($3::date IS NULL OR due_on < $3)
       AND ($4::text IS NULL OR made_by = $4)
       AND ($5::uuid IS NULL OR (due_on, request_id) > (
               SELECT due_on, request_id FROM access_requests WHERE request_id = $5))
  ORDER BY due_on, request_id
     LIMIT $6
"""


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests are asked for; None = any. due_before is exclusive."""

    is_fulfilled: bool | None = None
    due_from: date | None = None
    due_before: date | None = None
    made_by: str | None = None


async def list_requests(
    connection: Connection, asked: RequestFilter, *, after: UUID | None, limit: int
) -> list[AccessRequest]:
    """Return requests, those first that are due first; after: the last one of the page before."""
    rows = await connection.fetch(
        LIST_REQUESTS,
        asked.is_fulfilled,
        asked.due_from,
        asked.due_before,
        asked.made_by,
        after,
        limit,
    )
    return [AccessRequest(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class RequestedClip:
    """A clip of a request, and the hold that keeps it."""

    clip_id: UUID
    hold_id: UUID
    linked_by: str
    linked_at: datetime


LIST_REQUESTED: Final = """
    SELECT clip_id, hold_id, linked_by, linked_at
      FROM access_request_clips
     WHERE request_id = $1
  ORDER BY clip_id
"""


async def list_requested(connection: Connection, request_id: UUID) -> list[RequestedClip]:
    """Return the clips of a request, in order of id."""
    rows = await connection.fetch(LIST_REQUESTED, request_id)
    return [RequestedClip(**row) for row in rows]


INSERT_REQUESTED: Final = """
    INSERT INTO access_request_clips (request_id, clip_id, hold_id, linked_by, linked_at)
    SELECT $1, clip_id, hold_id, $4, $5
      FROM unnest($2::uuid[], $3::uuid[]) AS given (clip_id, hold_id)
"""


async def insert_requested(
    connection: Connection,
    request_id: UUID,
    holds: Mapping[UUID, UUID],
    *,
    linked_by: str,
    linked_at: datetime,
) -> None:
    """Link locked clips to a locked request; holds: clip -> the hold that keeps it."""
    clip_ids: Sequence[UUID] = list(holds)
    await connection.execute(
        INSERT_REQUESTED, request_id, clip_ids, list(holds.values()), linked_by, linked_at
    )


EXTEND_REQUEST: Final = """
    UPDATE access_requests
       SET due_on = $2, extension_months = $3, extension_reason = $4, extended_by = $5,
           extended_at = $6
     WHERE request_id = $1
"""


async def extend_request(
    connection: Connection,
    request_id: UUID,
    *,
    due_on: date,
    months: int,
    reason: str,
    by: str,
    at: datetime,
) -> None:
    """Record that a locked request was given more time."""
    await connection.execute(EXTEND_REQUEST, request_id, due_on, months, reason, by, at)


FULFIL_REQUEST: Final = """
    UPDATE access_requests
       SET outcome = $2, disclosure_id = $3, fulfilled_by = $4, fulfilled_at = $5
     WHERE request_id = $1
"""


async def fulfil_request(
    connection: Connection,
    request_id: UUID,
    *,
    outcome: Outcome,
    disclosure_id: UUID | None,
    by: str,
    at: datetime,
) -> None:
    """Record what a locked request was answered with."""
    await connection.execute(FULFIL_REQUEST, request_id, outcome, disclosure_id, by, at)
