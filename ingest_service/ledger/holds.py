"""Holds in Postgres: placed once, released once; and what of them the store has to follow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.clip_status import list_statuses, number_status
from ingest_service.domain.holds import Hold
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.queries import ClipFilter
from ingest_service.ledger.search import find_stations

INSERT_HOLD: Final = """
    INSERT INTO holds (
        hold_id, clip_id, kind, authority, reason, placed_by, placed_at, review_at, group_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


async def insert_holds(connection: Connection, holds: Sequence[Hold]) -> None:
    """Record holds on locked clips."""
    await connection.executemany(
        INSERT_HOLD,
        [
            (
                hold.hold_id,
                hold.clip_id,
                hold.kind,
                hold.authority,
                hold.reason,
                hold.placed_by,
                hold.placed_at,
                hold.review_at,
                hold.group_id,
            )
            for hold in holds
        ],
    )


FIND_HOLD: Final = """
    SELECT hold_id, clip_id, kind, authority, reason, placed_by, placed_at, review_at, group_id,
           released_at, released_by, released_authority
      FROM holds
     WHERE hold_id = $1
"""


async def find_hold(connection: Connection, hold_id: UUID) -> Hold | None:
    """Return one hold."""
    row = await connection.fetchrow(FIND_HOLD, hold_id)
    return None if row is None else Hold(**row)


LIST_HOLDS: Final = """
    SELECT hold_id, clip_id, kind, authority, reason, placed_by, placed_at, review_at, group_id,
           released_at, released_by, released_authority
      FROM holds
     WHERE clip_id = $1
  ORDER BY placed_at, hold_id
"""


async def list_holds(connection: Connection, clip_id: UUID) -> list[Hold]:
    """Return a clip's holds, released ones too; oldest first."""
    return [Hold(**row) for row in await connection.fetch(LIST_HOLDS, clip_id)]


LIST_HELD: Final = """
    SELECT DISTINCT clip_id
      FROM holds
     WHERE clip_id = ANY ($1::uuid[])
       AND released_at IS NULL
"""


async def list_held(connection: Connection, clip_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these clips have a hold that stands."""
    return {row["clip_id"] for row in await connection.fetch(LIST_HELD, clip_ids)}


RELEASE_HOLD: Final = """
    UPDATE holds
       SET released_at = $2, released_by = $3, released_authority = $4
     WHERE hold_id = $1
       AND released_at IS NULL
"""


async def release_hold(
    connection: Connection,
    hold_id: UUID,
    *,
    released_at: datetime,
    released_by: str,
    authority: str,
) -> None:
    """Record that a hold of a locked clip has ended."""
    await connection.execute(RELEASE_HOLD, hold_id, released_at, released_by, authority)


# --- the store -------------------------------------------------------------------------------

MARK_SYNC: Final = """
    INSERT INTO legal_hold_syncs (clip_id, due_at, mark)
    SELECT clip_id, $2, gen_random_uuid()
      FROM unnest($1::uuid[]) AS clip_id
    ON CONFLICT (clip_id) DO UPDATE SET due_at = EXCLUDED.due_at, mark = EXCLUDED.mark
"""


async def mark_sync(connection: Connection, clip_ids: Sequence[UUID], due_at: datetime) -> None:
    """Have the legal holds of these clips made what the ledger says, from then on."""
    await connection.execute(MARK_SYNC, clip_ids, due_at)


@dataclass(frozen=True, slots=True)
class Sync:
    """A clip whose legal hold is to be looked at.

    mark     tells whether somebody came meanwhile
    is_kept  held, or kept without a date
    """

    clip_id: UUID
    mark: UUID
    state: str
    object_key: str | None
    object_version: str | None
    is_kept: bool


LIST_SYNCS: Final = """
    SELECT clip_id, mark, state, object_key, object_version,
           is_held OR (retention.clip_id IS NOT NULL AND retention.erase_due_at IS NULL) AS is_kept
      FROM legal_hold_syncs
      JOIN clips USING (clip_id)
 LEFT JOIN retention USING (clip_id)
     WHERE legal_hold_syncs.due_at <= $1
  ORDER BY legal_hold_syncs.due_at
     LIMIT $2
"""


async def list_syncs(connection: Connection, now: datetime, *, limit: int) -> list[Sync]:
    """Return the clips whose legal hold is to be looked at now."""
    return [Sync(**row) for row in await connection.fetch(LIST_SYNCS, now, limit)]


# Who placed or released a hold while the store was asked has set another mark: it is done again.
END_SYNC: Final = """
    DELETE FROM legal_hold_syncs
     WHERE clip_id = $1
       AND mark = $2
       AND $3 = (SELECT is_held
                        OR (retention.clip_id IS NOT NULL AND retention.erase_due_at IS NULL)
                   FROM clips
              LEFT JOIN retention USING (clip_id)
                  WHERE clip_id = $1)
"""


async def end_sync(connection: Connection, sync: Sync) -> None:
    """Forget a clip whose legal hold is what the ledger says."""
    await connection.execute(END_SYNC, sync.clip_id, sync.mark, sync.is_kept)


# --- bulk ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Preview:
    """What a dry run has counted, and how far the hold that followed it is.

    asked       filter and order, as JSON; the second call must bring the same
    group_id    of the holds
    begun_at    when the first batch was placed; None: not yet
    done_after  the clip that was last
    """

    token: str = field(repr=False)
    asked: Mapping[str, Any]
    made_by: str
    made_at: datetime
    expires_at: datetime
    clip_count: int
    total_bytes: int
    group_id: UUID
    begun_at: datetime | None = None
    done_after: UUID | None = None
    is_done: bool = False


INSERT_PREVIEW: Final = """
    INSERT INTO hold_previews (
        token, asked, made_by, made_at, expires_at, clip_count, total_bytes, group_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def insert_preview(connection: Connection, preview: Preview) -> None:
    """Record what a dry run has counted."""
    await connection.execute(
        INSERT_PREVIEW,
        preview.token,
        preview.asked,
        preview.made_by,
        preview.made_at,
        preview.expires_at,
        preview.clip_count,
        preview.total_bytes,
        preview.group_id,
    )


FIND_PREVIEW: Final = """
    SELECT token, asked, made_by, made_at, expires_at, clip_count, total_bytes, group_id, begun_at,
           done_after, is_done
      FROM hold_previews
     WHERE token = $1
"""


async def find_preview(connection: Connection, token: str) -> Preview | None:
    """Return what a dry run has counted."""
    row = await connection.fetchrow(FIND_PREVIEW, token)
    return None if row is None else Preview(**row)


# Of two calls with one token, one finds the cursor moved and rolls back.
MOVE_PREVIEW: Final = """
    UPDATE hold_previews
       SET begun_at = COALESCE(begun_at, $3), done_after = $4, is_done = $5
     WHERE token = $1
       AND done_after IS NOT DISTINCT FROM $2
       AND NOT is_done
 RETURNING token
"""


async def move_preview(
    connection: Connection,
    preview: Preview,
    now: datetime,
    done_after: UUID | None,
    *,
    is_done: bool,
) -> bool:
    """Record how far a bulk hold is; False: somebody else has carried it on."""
    row = await connection.fetchrow(
        MOVE_PREVIEW, preview.token, preview.done_after, now, done_after, is_done
    )
    return row is not None


# Every member of ClipFilter; a test compares the two. Read where lists of clips are found, not
# in the clips themselves: $2 are numbers of settled clips, $3 of those that come in.
COUNT_MATCHING: Final = """
    SELECT count(*) AS clip_count, COALESCE(sum(size_bytes), 0)::bigint AS total_bytes
      FROM (
        SELECT size_bytes
          FROM clip_search
         WHERE is_settled
           AND status = ANY ($2::smallint[])
           AND announced_at <= $1
           AND ($4::text IS NULL OR device_serial = $4)
           AND ($5::text IS NULL OR officer_id = $5)
           AND ($6::text IS NULL OR station_id = $6)
           AND ($7::text[] IS NULL OR station_id = ANY ($7))
           AND ($8::text IS NULL OR borough = $8)
           AND ($9::text IS NULL OR category = $9)
           AND ($10::text IS NULL OR crime_ref = $10)
           AND ($11::text IS NULL OR incident_id = $11)
           AND ($12::timestamptz IS NULL OR recorded_at >= $12)
           AND ($13::timestamptz IS NULL OR recorded_at < $13)
           AND ($14::timestamptz IS NULL OR announced_at >= $14)
           AND ($15::timestamptz IS NULL OR announced_at < $15)
           AND ($16::timestamptz IS NULL OR erase_due_at < $16)
           AND ($17::text[] IS NULL OR borough = ANY ($17))
     UNION ALL
        SELECT size_bytes
          FROM coming_clips
         WHERE status = ANY ($3::smallint[])
           AND announced_at <= $1
           AND ($4::text IS NULL OR device_serial = $4)
           AND ($5::text IS NULL OR officer_id = $5)
           AND ($6::text IS NULL OR station_id = $6)
           AND ($7::text[] IS NULL OR station_id = ANY ($7))
           AND ($8::text IS NULL OR borough = $8)
           AND ($9::text IS NULL OR category = $9)
           AND ($10::text IS NULL OR crime_ref = $10)
           AND ($11::text IS NULL OR incident_id = $11)
           AND ($12::timestamptz IS NULL OR recorded_at >= $12)
           AND ($13::timestamptz IS NULL OR recorded_at < $13)
           AND ($14::timestamptz IS NULL OR announced_at >= $14)
           AND ($15::timestamptz IS NULL OR announced_at < $15)
           AND ($16::timestamptz IS NULL OR erase_due_at < $16)
           AND ($17::text[] IS NULL OR borough = ANY ($17))) AS matching
"""


async def count_matching(
    connection: Connection, asked: ClipFilter, announced_until: datetime
) -> tuple[int, int]:
    """Return how many clips that may be held match, and their bytes."""
    async with connection.transaction(readonly=True):
        await connection.execute(PLAN_BY_ARGUMENTS)
        row = await connection.fetchrow(
            COUNT_MATCHING, *await _bind(connection, asked, announced_until)
        )
    return (0, 0) if row is None else (row["clip_count"], row["total_bytes"])


# The newest first: of ten million clips one of the first does not match, unless all do.
FIND_OTHER: Final = """
    SELECT clip_id
      FROM (
       (SELECT clip_id
          FROM coming_clips
         WHERE announced_at <= $1
           AND ($17::text[] IS NULL OR borough = ANY ($17))
           AND NOT COALESCE(status = ANY ($3::smallint[])
               AND ($4::text IS NULL OR device_serial = $4)
               AND ($5::text IS NULL OR officer_id = $5)
               AND ($6::text IS NULL OR station_id = $6)
               AND ($7::text[] IS NULL OR station_id = ANY ($7))
               AND ($8::text IS NULL OR borough = $8)
               AND ($9::text IS NULL OR category = $9)
               AND ($10::text IS NULL OR crime_ref = $10)
               AND ($11::text IS NULL OR incident_id = $11)
               AND ($12::timestamptz IS NULL OR recorded_at >= $12)
               AND ($13::timestamptz IS NULL OR recorded_at < $13)
               AND ($14::timestamptz IS NULL OR announced_at >= $14)
               AND ($15::timestamptz IS NULL OR announced_at < $15)
               AND ($16::timestamptz IS NULL OR erase_due_at < $16), false)
         LIMIT 1)
     UNION ALL
       (SELECT clip_id
          FROM clip_search
         WHERE is_settled
           AND announced_at <= $1
           AND status < $18::smallint
           AND ($17::text[] IS NULL OR borough = ANY ($17))
           AND NOT COALESCE(status = ANY ($2::smallint[])
               AND ($4::text IS NULL OR device_serial = $4)
               AND ($5::text IS NULL OR officer_id = $5)
               AND ($6::text IS NULL OR station_id = $6)
               AND ($7::text[] IS NULL OR station_id = ANY ($7))
               AND ($8::text IS NULL OR borough = $8)
               AND ($9::text IS NULL OR category = $9)
               AND ($10::text IS NULL OR crime_ref = $10)
               AND ($11::text IS NULL OR incident_id = $11)
               AND ($12::timestamptz IS NULL OR recorded_at >= $12)
               AND ($13::timestamptz IS NULL OR recorded_at < $13)
               AND ($14::timestamptz IS NULL OR announced_at >= $14)
               AND ($15::timestamptz IS NULL OR announced_at < $15)
               AND ($16::timestamptz IS NULL OR erase_due_at < $16), false)
      ORDER BY clip_id DESC
         LIMIT 1)) AS other
     LIMIT 1
"""


async def is_everything(
    connection: Connection, asked: ClipFilter, announced_until: datetime
) -> bool:
    """Tell whether there is no clip, of those that the asker may see, that does not match."""
    async with connection.transaction(readonly=True):
        await connection.execute(PLAN_BY_ARGUMENTS)
        other = await connection.fetchval(
            FIND_OTHER, *await _bind(connection, asked, announced_until), _ERASED
        )
    return other is None


LIST_MATCHING: Final = """
    SELECT clip_id
      FROM (
        SELECT clip_id
          FROM clip_search
         WHERE is_settled
           AND status = ANY ($2::smallint[])
           AND ($18::uuid IS NULL OR clip_id > $18)
           AND announced_at <= $1
           AND ($4::text IS NULL OR device_serial = $4)
           AND ($5::text IS NULL OR officer_id = $5)
           AND ($6::text IS NULL OR station_id = $6)
           AND ($7::text[] IS NULL OR station_id = ANY ($7))
           AND ($8::text IS NULL OR borough = $8)
           AND ($9::text IS NULL OR category = $9)
           AND ($10::text IS NULL OR crime_ref = $10)
           AND ($11::text IS NULL OR incident_id = $11)
           AND ($12::timestamptz IS NULL OR recorded_at >= $12)
           AND ($13::timestamptz IS NULL OR recorded_at < $13)
           AND ($14::timestamptz IS NULL OR announced_at >= $14)
           AND ($15::timestamptz IS NULL OR announced_at < $15)
           AND ($16::timestamptz IS NULL OR erase_due_at < $16)
           AND ($17::text[] IS NULL OR borough = ANY ($17))
     UNION ALL
        SELECT clip_id
          FROM coming_clips
         WHERE status = ANY ($3::smallint[])
           AND ($18::uuid IS NULL OR clip_id > $18)
           AND announced_at <= $1
           AND ($4::text IS NULL OR device_serial = $4)
           AND ($5::text IS NULL OR officer_id = $5)
           AND ($6::text IS NULL OR station_id = $6)
           AND ($7::text[] IS NULL OR station_id = ANY ($7))
           AND ($8::text IS NULL OR borough = $8)
           AND ($9::text IS NULL OR category = $9)
           AND ($10::text IS NULL OR crime_ref = $10)
           AND ($11::text IS NULL OR incident_id = $11)
           AND ($12::timestamptz IS NULL OR recorded_at >= $12)
           AND ($13::timestamptz IS NULL OR recorded_at < $13)
           AND ($14::timestamptz IS NULL OR announced_at >= $14)
           AND ($15::timestamptz IS NULL OR announced_at < $15)
           AND ($16::timestamptz IS NULL OR erase_due_at < $16)
           AND ($17::text[] IS NULL OR borough = ANY ($17))) AS matching
  ORDER BY clip_id
     LIMIT $19
"""


async def list_matching(
    connection: Connection,
    asked: ClipFilter,
    announced_until: datetime,
    *,
    after: UUID | None,
    limit: int,
) -> list[UUID]:
    """Return the next clips that match, in order of id."""
    async with connection.transaction(readonly=True):
        await connection.execute(PLAN_BY_ARGUMENTS)
        rows = await connection.fetch(
            LIST_MATCHING, *await _bind(connection, asked, announced_until), after, limit
        )
    return [row["clip_id"] for row in rows]


# In the order of the statements' arguments, after the numbers.
BOUND: Final = (
    *("device", "officer", "station", "site", "borough", "category", "crime_ref", "incident"),
    *("recorded_after", "recorded_before", "received_after", "received_before"),
    *("erase_due_before", "boroughs"),
)
# These are asked for by number.
NUMBERED: Final = ("state", "evidential_state", "held")
# A filter that is not used must not cost an index that another one has.
PLAN_BY_ARGUMENTS: Final = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"
_ERASED: Final = number_status("erased", "unclassified", is_held=False)


async def _bind(
    connection: Connection, asked: ClipFilter, announced_until: datetime
) -> list[object]:
    # Known before the plan is made: the stations of a site are few, and an index has them.
    stations = None if asked.site is None else await find_stations(connection, asked.site)
    settled, coming = (
        [
            number
            for number in list_statuses(
                state=asked.state,
                evidential_state=asked.evidential_state,
                is_held=asked.held,
                is_settled=is_settled,
            )
            if number < _ERASED
        ]
        for is_settled in (True, False)
    )
    values = [stations if name == "site" else getattr(asked, name) for name in BOUND]
    return [announced_until, settled, coming, *values]


COUNT_GROUP: Final = "SELECT count(*) FROM holds WHERE group_id = $1"


async def count_group(connection: Connection, group_id: UUID) -> int:
    """Return how many holds a bulk hold has placed."""
    count: int = await connection.fetchval(COUNT_GROUP, group_id)
    return count
