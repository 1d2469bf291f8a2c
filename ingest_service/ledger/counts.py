"""Clips and bytes by day, borough, category and state: kept counted, never counted anew."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from ingest_service.ledger.connection import Connection

# By day of announcement (UTC). What has settled is counted in `clip_counts` and in the changes
# that are not folded in yet: one statement reads both, so nothing is missed or counted twice.
COUNT_CLIPS: Final = """
    SELECT CASE WHEN $1::boolean THEN day END AS day,
           CASE WHEN $2::boolean THEN borough END AS borough,
           CASE WHEN $3::boolean THEN category END AS category,
           CASE WHEN $4::boolean THEN status / 8 END AS state_number,
           CASE WHEN $5::boolean THEN status % 8 / 2 END AS evidential_number,
           sum(clip_count)::bigint AS clip_count, sum(total_bytes)::bigint AS total_bytes
      FROM (
        SELECT day, borough, category, status, clip_count, total_bytes
          FROM clip_counts
     UNION ALL
        SELECT day, borough, category, status, clip_count, total_bytes
          FROM clip_count_changes
     UNION ALL
        SELECT (announced_at AT TIME ZONE 'UTC')::date, borough, category, status, 1,
               COALESCE(size_bytes, 0)
          FROM coming_clips) AS counted
     WHERE ($6::date IS NULL OR day >= $6)
       AND ($7::date IS NULL OR day < $7)
       AND ($8::text[] IS NULL OR borough = ANY ($8))
       AND ($9::text IS NULL OR category = $9)
       AND ($10::integer IS NULL OR status / 8 = $10)
       AND ($11::integer IS NULL OR status % 8 / 2 = $11)
  GROUP BY 1, 2, 3, 4, 5
    HAVING sum(clip_count) <> 0
  ORDER BY 1, 2, 3, 4, 5
     LIMIT $12
"""


@dataclass(frozen=True, slots=True)
class Counted:
    """Clips and bytes of one group; what is not grouped by is None."""

    day: date | None
    borough: str | None
    category: str | None
    state_number: int | None
    evidential_number: int | None
    clip_count: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class CountFilter:
    """Which clips are counted; None = all. `before` is exclusive; numbers as `clip_status`."""

    day_from: date | None = None
    day_before: date | None = None
    boroughs: list[str] | None = None
    category: str | None = None
    state_number: int | None = None
    evidential_number: int | None = None


async def count_clips(
    connection: Connection, asked: CountFilter, *, by: frozenset[str], limit: int
) -> list[Counted]:
    """Return clips and bytes by the named groups, at most `limit` of them."""
    rows = await connection.fetch(
        COUNT_CLIPS,
        *(each in by for each in ("day", "borough", "category", "state", "evidential_state")),
        asked.day_from,
        asked.day_before,
        asked.boroughs,
        asked.category,
        asked.state_number,
        asked.evidential_number,
        limit,
    )
    return [Counted(**row) for row in rows]


# In the order of the key: two that fold at once wait for each other and never in a ring.
FOLD_COUNTS: Final = """
    WITH taken AS (
        DELETE FROM clip_count_changes
         WHERE change_id IN (
            SELECT change_id
              FROM clip_count_changes
          ORDER BY change_id
             LIMIT $1
               FOR UPDATE SKIP LOCKED)
     RETURNING day, borough, category, status, clip_count, total_bytes
    ), folded AS (
        INSERT INTO clip_counts AS kept (
            day, borough, category, status, clip_count, total_bytes)
        SELECT day, borough, category, status, sum(clip_count), sum(total_bytes)
          FROM taken
      GROUP BY day, borough, category, status
      ORDER BY day, borough, category, status
        ON CONFLICT ON CONSTRAINT clip_counts_pkey DO UPDATE
           SET clip_count = kept.clip_count + EXCLUDED.clip_count,
               total_bytes = kept.total_bytes + EXCLUDED.total_bytes
    )
    SELECT count(*) FROM taken
"""


async def fold_counts(connection: Connection, *, limit: int) -> int:
    """Fold changes into the counts; returns how many there were."""
    count: int | None = await connection.fetchval(FOLD_COUNTS, limit)
    return count or 0
