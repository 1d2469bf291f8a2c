"""Erasures in Postgres: notice, intent, execution; forecasts, and what halts them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.retention import LivingClip
from ingest_service.ledger.connection import Connection

INSERT_NOTICE: Final = """
    INSERT INTO erasures (clip_id, phase, due_at, scheduled_at, erase_after, try_after)
    SELECT clip_id, 'notice', due_at, $3, $4, $4
      FROM unnest($1::uuid[], $2::timestamptz[]) AS given (clip_id, due_at)
"""


async def insert_notices(
    connection: Connection,
    clips: Sequence[LivingClip],
    scheduled_at: datetime,
    erase_after: datetime,
) -> None:
    """Record that locked clips will be erased."""
    await connection.execute(
        INSERT_NOTICE,
        [clip.clip_id for clip in clips],
        [clip.due_at for clip in clips],
        scheduled_at,
        erase_after,
    )


CANCEL_NOTICES: Final = """
    DELETE FROM erasures
     WHERE clip_id = ANY ($1::uuid[])
       AND phase = 'notice'
"""


async def cancel_notices(connection: Connection, clip_ids: Sequence[UUID]) -> None:
    """Forget that locked clips were to be erased."""
    await connection.execute(CANCEL_NOTICES, clip_ids)


LIST_READY: Final = """
    SELECT clip_id
      FROM erasures
     WHERE phase = $2
       AND try_after <= $1
  ORDER BY try_after
     LIMIT $3
"""


async def list_ready(
    connection: Connection, now: datetime, phase: str, *, limit: int
) -> list[UUID]:
    """Return clips in this phase that are to be gone on with."""
    rows = await connection.fetch(LIST_READY, now, phase, limit)
    return [row["clip_id"] for row in rows]


HAS_READY: Final = """
    SELECT EXISTS (SELECT FROM erasures WHERE phase <> 'executed' AND try_after <= $1)
"""


async def has_ready(connection: Connection, now: datetime) -> bool:
    """Tell whether any clip is to be gone on with."""
    return bool(await connection.fetchval(HAS_READY, now))


SET_INTENDED: Final = """
    UPDATE erasures
       SET phase = 'intended', intended_at = $2, try_after = $2
     WHERE clip_id = ANY ($1::uuid[])
"""


async def set_intended(
    connection: Connection, clip_ids: Sequence[UUID], intended_at: datetime
) -> None:
    """Record that locked clips are about to be deleted: from here nothing holds them any more."""
    await connection.execute(SET_INTENDED, clip_ids, intended_at)


# The number of the attempt fences off a worker whose claim has lapsed.
CLAIM_INTENDED: Final = """
    UPDATE erasures
       SET attempt = attempt + 1, try_after = $2
     WHERE clip_id = $1
       AND phase = 'intended'
       AND try_after <= $3
 RETURNING attempt
"""


async def claim_intended(
    connection: Connection, clip_id: UUID, *, until: datetime, now: datetime
) -> int | None:
    """Claim a deletion; return the attempt's number, None: somebody else has it."""
    attempt: int | None = await connection.fetchval(CLAIM_INTENDED, clip_id, until, now)
    return attempt


SET_EXECUTED: Final = """
    UPDATE erasures SET phase = 'executed', executed_at = $2, blocked_reason = NULL
     WHERE clip_id = $1
"""


async def set_executed(connection: Connection, clip_id: UUID, executed_at: datetime) -> None:
    """Record that a locked clip's bytes are gone."""
    await connection.execute(SET_EXECUTED, clip_id, executed_at)


# Nothing was deleted: the intent is taken back, so that the clip can be held and restored again.
SET_BLOCKED: Final = """
    UPDATE erasures
       SET phase = 'notice', intended_at = NULL, try_after = $2, blocked_reason = $3
     WHERE clip_id = $1
"""


async def set_blocked(
    connection: Connection, clip_id: UUID, try_after: datetime, reason: str
) -> None:
    """Record that the store has refused to delete a locked clip."""
    await connection.execute(SET_BLOCKED, clip_id, try_after, reason)


# --- the forecast ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """What will be due on one day (UTC) of one category in one borough."""

    due_on: date
    category: str | None
    borough: str
    clip_count: int
    total_bytes: int


# What was due before today counts for today: it would be erased today.
FORECAST: Final = """
    SELECT GREATEST(due_at, $1)::date AS due_on, category, borough, count(*) AS clip_count,
           sum(retention.size_bytes)::bigint AS total_bytes
      FROM retention
      JOIN clips USING (clip_id)
     WHERE due_at < $2
       AND ($3::text[] IS NULL OR borough = ANY ($3))
  GROUP BY 1, 2, 3
  ORDER BY 1, 2 NULLS FIRST, 3
"""


async def forecast(
    connection: Connection, now: datetime, until: datetime, boroughs: Sequence[str] | None
) -> list[Expected]:
    """Return what will be scheduled for erasure before `until`, if nothing changes."""
    return [Expected(**row) for row in await connection.fetch(FORECAST, now, until, boroughs)]


@dataclass(frozen=True, slots=True)
class DayCount:
    """Clips of one day (UTC)."""

    due_on: date
    clip_count: int
    total_bytes: int = 0


COUNT_DUE_BY_DAY: Final = """
    SELECT due_at::date AS due_on, count(*) AS clip_count, sum(size_bytes)::bigint AS total_bytes
      FROM retention
     WHERE due_at >= $1
       AND due_at < $2
  GROUP BY 1
  ORDER BY 1
"""


async def count_due_by_day(
    connection: Connection, start: datetime, stop: datetime
) -> list[DayCount]:
    """Return how many clips are due on each day from start up to stop (exclusive)."""
    return [DayCount(**row) for row in await connection.fetch(COUNT_DUE_BY_DAY, start, stop)]


COUNT_SCHEDULED_BY_DAY: Final = """
    SELECT due_at::date AS due_on, count(*) AS clip_count
      FROM erasures
     WHERE due_at >= $1
       AND due_at < $2
  GROUP BY 1
"""


async def count_scheduled_by_day(
    connection: Connection, start: datetime, stop: datetime
) -> dict[date, int]:
    """Return how many clips that were due on each day have been scheduled."""
    rows = await connection.fetch(COUNT_SCHEDULED_BY_DAY, start, stop)
    return {row["due_on"]: row["clip_count"] for row in rows}


COUNT_TODAY: Final = """
    SELECT (SELECT count(*) FROM erasures WHERE scheduled_at >= $1) AS scheduled,
           (SELECT count(*) FROM erasures WHERE intended_at >= $1) AS intended
"""


async def count_today(connection: Connection, midnight: datetime) -> tuple[int, int]:
    """Return how many were scheduled, and how many were meant to be deleted, since midnight."""
    row = await connection.fetchrow(COUNT_TODAY, midnight)
    return (0, 0) if row is None else (row["scheduled"], row["intended"])


COUNT_READY: Final = "SELECT count(*) FROM erasures WHERE phase = 'notice' AND try_after <= $1"


async def count_ready(connection: Connection, now: datetime) -> int:
    """Return how many clips are to be deleted now: their notice is over."""
    count: int = await connection.fetchval(COUNT_READY, now)
    return count


INSERT_FORECASTS: Final = """
    INSERT INTO erase_forecasts (due_on, made_at, clip_count, total_bytes)
    SELECT due_on, $4, clip_count, total_bytes
      FROM unnest($1::date[], $2::bigint[], $3::bigint[])
        AS given (due_on, clip_count, total_bytes)
"""


async def insert_forecasts(
    connection: Connection, days: Sequence[DayCount], made_at: datetime
) -> None:
    """Record what is expected; never changed afterwards."""
    await connection.execute(
        INSERT_FORECASTS,
        [day.due_on for day in days],
        [day.clip_count for day in days],
        [day.total_bytes for day in days],
        made_at,
    )


FIND_LAST_FORECAST: Final = "SELECT max(made_at) FROM erase_forecasts"


async def find_last_forecast(connection: Connection) -> datetime | None:
    """Return when the newest forecast was made."""
    made_at: datetime | None = await connection.fetchval(FIND_LAST_FORECAST)
    return made_at


# Of a day, what was expected the day before at the latest.
LIST_FORECAST: Final = """
    SELECT DISTINCT ON (due_on) due_on, clip_count
      FROM erase_forecasts
     WHERE due_on = ANY ($1::date[])
       AND made_at < due_on::timestamp AT TIME ZONE 'UTC'
  ORDER BY due_on, made_at DESC
"""


async def list_forecast(connection: Connection, days: Sequence[date]) -> dict[date, int]:
    """Return what was expected of each day before it began."""
    rows = await connection.fetch(LIST_FORECAST, days)
    return {row["due_on"]: row["clip_count"] for row in rows}


# --- halts -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Halt:
    """Erasing stands still until two people have looked.

    excess  what was too much: name of the limit -> count that a release allows
    """

    halt_id: UUID
    halted_at: datetime
    reason: str
    excess: Mapping[str, int]
    first_released_by: str | None = None
    first_released_at: datetime | None = None
    released_by: str | None = None
    released_at: datetime | None = None


INSERT_HALT: Final = """
    INSERT INTO erase_halts (halt_id, halted_at, reason, excess)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING
 RETURNING halt_id
"""


async def insert_halt(connection: Connection, halt: Halt) -> bool:
    """Halt the erasing; False: it is halted already."""
    row = await connection.fetchrow(
        INSERT_HALT, halt.halt_id, halt.halted_at, halt.reason, dict(halt.excess)
    )
    return row is not None


LIST_HALTS: Final = """
    SELECT halt_id, halted_at, reason, excess, first_released_by, first_released_at, released_by,
           released_at
      FROM erase_halts
     WHERE released_at IS NULL
        OR halted_at >= $1
  ORDER BY halted_at DESC
"""


async def list_halts(connection: Connection, since: datetime) -> list[Halt]:
    """Return the halt that stands, and earlier ones since then; newest first."""
    return [Halt(**row) for row in await connection.fetch(LIST_HALTS, since)]


FIND_OPEN_HALT: Final = "SELECT reason FROM erase_halts WHERE released_at IS NULL"


async def find_open_halt(connection: Connection) -> str | None:
    """Return why nothing is erased; None where nothing stands in the way."""
    reason: str | None = await connection.fetchval(FIND_OPEN_HALT)
    return reason


LOCK_HALT: Final = """
    SELECT halt_id, halted_at, reason, excess, first_released_by, first_released_at, released_by,
           released_at
      FROM erase_halts
     WHERE halt_id = $1
       FOR UPDATE
"""


async def lock_halt(connection: Connection, halt_id: UUID) -> Halt | None:
    """Return a halt and keep others from releasing it meanwhile; run inside `writing`."""
    row = await connection.fetchrow(LOCK_HALT, halt_id)
    return None if row is None else Halt(**row)


RELEASE_FIRST: Final = """
    UPDATE erase_halts SET first_released_by = $2, first_released_at = $3 WHERE halt_id = $1
"""
RELEASE_SECOND: Final = """
    UPDATE erase_halts SET released_by = $2, released_at = $3 WHERE halt_id = $1
"""


async def release_halt(
    connection: Connection, halt: Halt, released_by: str, released_at: datetime
) -> None:
    """Record one person's word; with the second one the halt ends."""
    statement = RELEASE_FIRST if halt.first_released_by is None else RELEASE_SECOND
    await connection.execute(statement, halt.halt_id, released_by, released_at)
