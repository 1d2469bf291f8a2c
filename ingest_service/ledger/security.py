"""The security log in Postgres: inserted, never changed, apart from the custody log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ingest_service.ledger.connection import Connection


@dataclass(frozen=True, slots=True)
class Denials:
    """Refusals of one kind, counted; principal None: a stranger."""

    recorded_at: datetime
    principal_kind: str | None
    principal_id: str | None
    method: str
    route: str
    problem: str
    denial_count: int
    first_at: datetime
    last_at: datetime
    last_request_id: str | None
    last_source: str | None


INSERT_DENIALS: Final = """
    INSERT INTO security_events (
        recorded_at, principal_kind, principal_id, method, route, problem, denial_count, first_at,
        last_at, last_request_id, last_source)
    SELECT $1, * FROM unnest(
        $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
        $8::timestamptz[], $9::timestamptz[], $10::text[], $11::text[])
"""


async def insert_denials(
    connection: Connection, recorded_at: datetime, denials: Sequence[Denials]
) -> None:
    """Record refusals, in one statement."""
    await connection.execute(
        INSERT_DENIALS,
        recorded_at,
        [each.principal_kind for each in denials],
        [each.principal_id for each in denials],
        [each.method for each in denials],
        [each.route for each in denials],
        [each.problem for each in denials],
        [each.denial_count for each in denials],
        [each.first_at for each in denials],
        [each.last_at for each in denials],
        [each.last_request_id for each in denials],
        [each.last_source for each in denials],
    )


@dataclass(frozen=True, slots=True)
class SecurityEvent(Denials):
    """A row of the security log."""

    security_event_id: int


LIST_SECURITY_EVENTS: Final = """
    SELECT security_event_id, recorded_at, principal_kind, principal_id, method, route, problem,
           denial_count, first_at, last_at, last_request_id, last_source
      FROM security_events
     WHERE security_event_id > $1
       AND ($2::text IS NULL OR principal_id = $2)
       AND ($3::timestamptz IS NULL OR recorded_at >= $3)
       AND ($4::timestamptz IS NULL OR recorded_at < $4)
  ORDER BY security_event_id
     LIMIT $5
"""


async def list_security_events(
    connection: Connection,
    *,
    after: int,
    principal_id: str | None,
    start: datetime | None,
    stop: datetime | None,
    limit: int,
) -> list[SecurityEvent]:
    """Return rows of the security log in order."""
    rows = await connection.fetch(LIST_SECURITY_EVENTS, after, principal_id, start, stop, limit)
    return [SecurityEvent(**row) for row in rows]
