"""What cameras recorded against what came in, one row for each camera."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.ledger.connection import Connection

UPSERT_CONTACT: Final = """
    INSERT INTO device_contacts (
        device_serial, manifest_id, station_id, reported_at, first_recording_seq,
        last_recording_seq, storage_used_pct, recording_ids, segment_nos, recording_seqs,
        recording_bytes)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT ON CONSTRAINT device_contacts_pkey DO UPDATE
       SET manifest_id = EXCLUDED.manifest_id, station_id = EXCLUDED.station_id,
           reported_at = EXCLUDED.reported_at,
           first_recording_seq = EXCLUDED.first_recording_seq,
           last_recording_seq = EXCLUDED.last_recording_seq,
           storage_used_pct = EXCLUDED.storage_used_pct,
           recording_ids = EXCLUDED.recording_ids, segment_nos = EXCLUDED.segment_nos,
           recording_seqs = EXCLUDED.recording_seqs, recording_bytes = EXCLUDED.recording_bytes
     WHERE device_contacts.manifest_id < EXCLUDED.manifest_id
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A recording on a camera; size and number as far as it says."""

    recording_id: str
    segment_no: int
    recording_seq: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Contact:
    """What a camera last said it holds."""

    device_serial: str
    manifest_id: UUID
    station_id: str
    reported_at: datetime
    first_recording_seq: int | None
    last_recording_seq: int | None
    storage_used_pct: float | None
    held: Sequence[Held]


async def upsert_contact(connection: Connection, contact: Contact) -> None:
    """Keep the newest manifest of a camera in a form that can be counted."""
    await connection.execute(
        UPSERT_CONTACT,
        contact.device_serial,
        contact.manifest_id,
        contact.station_id,
        contact.reported_at,
        contact.first_recording_seq,
        contact.last_recording_seq,
        contact.storage_used_pct,
        [held.recording_id for held in contact.held],
        [held.segment_no for held in contact.held],
        [held.recording_seq for held in contact.held],
        [held.size_bytes for held in contact.held],
    )


# Of several workers one goes on; the others have nothing to do meanwhile.
LOCK_CURSOR: Final = "SELECT next_index FROM completeness_cursor FOR UPDATE SKIP LOCKED"


async def lock_cursor(connection: Connection) -> int | None:
    """Lock the place in the log until the transaction ends; None: another worker has it."""
    index: int | None = await connection.fetchval(LOCK_CURSOR)
    return index


MOVE_CURSOR: Final = "UPDATE completeness_cursor SET next_index = $1"


async def move_cursor(connection: Connection, next_index: int) -> None:
    """Note how far the log was read."""
    await connection.execute(MOVE_CURSOR, next_index)


LIST_TOUCHED: Final = """
    SELECT DISTINCT event.device_serial
      FROM log_leaves AS placed
      JOIN custody_events AS event USING (event_id)
     WHERE placed.leaf_index >= $1
       AND placed.leaf_index < $2
       AND event.device_serial IS NOT NULL
       AND event.type = ANY ($3)
"""


async def list_touched(
    connection: Connection, start: int, stop: int, types: Sequence[str]
) -> list[str]:
    """Return the cameras that events of these types name, in a range of the log."""
    rows = await connection.fetch(LIST_TOUCHED, start, stop, types)
    return sorted(row["device_serial"] for row in rows)


# A recording is received when its bytes arrived, pending while it comes in or is on the camera, and
# secured when it was read back. Of an expired upload nothing is here: the camera's word counts.
COMPUTE: Final = """
    WITH wanted AS (
        SELECT device_serial FROM unnest($1::text[]) AS asked (device_serial)
    ), clip AS (
        SELECT clips.device_serial, clips.clip_id, clips.recording_id, clips.segment_no,
               clips.device_recording_seq AS seq, clips.state, clips.station_id,
               COALESCE(clips.size_bytes, 0) AS size_bytes, clips.announced_at, clips.sealed_at
          FROM wanted
          JOIN clips USING (device_serial)
         WHERE clips.duplicate_of IS NULL
           AND clips.state <> 'expired'
    ), held AS (
        SELECT contact.device_serial, contact.reported_at, each.recording_id, each.segment_no,
               each.seq, COALESCE(each.size_bytes, 0) AS size_bytes
          FROM wanted
          JOIN device_contacts AS contact USING (device_serial),
               unnest(contact.recording_ids, contact.segment_nos, contact.recording_seqs,
                      contact.recording_bytes) AS each (recording_id, segment_no, seq, size_bytes)
    ), waiting AS (
        SELECT held.device_serial, count(*) AS held_count, sum(held.size_bytes) AS held_bytes,
               min(held.reported_at) AS held_since
          FROM held
         WHERE NOT EXISTS (
               SELECT FROM clip
                WHERE clip.device_serial = held.device_serial
                  AND clip.recording_id = held.recording_id
                  AND clip.segment_no = held.segment_no)
      GROUP BY held.device_serial
    ), counted AS (
        SELECT device_serial,
               count(*) FILTER (WHERE state NOT IN ('receiving', 'finishing')) AS received_count,
               count(*) FILTER (WHERE state IN ('receiving', 'finishing')) AS coming_count,
               COALESCE(sum(size_bytes) FILTER (WHERE state IN ('receiving', 'finishing')), 0)
                   AS coming_bytes,
               count(*) FILTER (
                   WHERE state IN ('receiving', 'finishing', 'sealed', 'quarantined'))
                   AS unsecured_count,
               COALESCE(sum(size_bytes) FILTER (
                   WHERE state IN ('receiving', 'finishing', 'sealed', 'quarantined')), 0)
                   AS unsecured_bytes,
               min(announced_at) FILTER (
                   WHERE state IN ('receiving', 'finishing', 'sealed', 'quarantined'))
                   AS clip_since,
               max(sealed_at) AS last_received_at,
               (array_agg(station_id ORDER BY clip_id DESC))[1] AS station_id
          FROM clip
      GROUP BY device_serial
    ), numbered AS (
        SELECT device_serial, min(seq) AS first_seq, max(seq) AS last_seq,
               range_agg(int8range(seq, seq + 1)) AS known
          FROM (SELECT device_serial, seq FROM clip WHERE seq IS NOT NULL
                 UNION
                SELECT device_serial, seq FROM held WHERE seq IS NOT NULL) AS seen
      GROUP BY device_serial
    ), spanned AS (
        SELECT wanted.device_serial,
               LEAST(numbered.first_seq, contact.first_recording_seq, contact.last_recording_seq)
                   AS first_seq,
               GREATEST(numbered.last_seq, contact.first_recording_seq, contact.last_recording_seq)
                   AS last_seq,
               COALESCE(numbered.known, '{}') AS known,
               COALESCE(contact.station_id, counted.station_id) AS station_id,
               COALESCE(counted.received_count, 0) AS received_count,
               COALESCE(counted.coming_count, 0) + COALESCE(waiting.held_count, 0)
                   AS pending_count,
               COALESCE(counted.coming_bytes, 0) + COALESCE(waiting.held_bytes, 0)
                   AS pending_bytes,
               COALESCE(counted.unsecured_count, 0) + COALESCE(waiting.held_count, 0)
                   AS unsecured_count,
               COALESCE(counted.unsecured_bytes, 0) + COALESCE(waiting.held_bytes, 0)
                   AS unsecured_bytes,
               counted.clip_since, waiting.held_since, counted.last_received_at
          FROM wanted
     LEFT JOIN device_contacts AS contact USING (device_serial)
     LEFT JOIN counted USING (device_serial)
     LEFT JOIN waiting USING (device_serial)
     LEFT JOIN numbered USING (device_serial)
    ), missed AS (
        SELECT device_serial,
               CASE WHEN first_seq IS NULL THEN '{}'::int8multirange
                    ELSE int8multirange(int8range(first_seq, last_seq + 1)) - known
                END AS gaps
          FROM spanned
    )
    INSERT INTO device_completeness (
        device_serial, station_id, site_id, borough, first_seq, last_seq, received_count,
        pending_count, pending_bytes, unaccounted_count, gaps, unsecured_count, unsecured_bytes,
        clip_since, held_since, last_received_at)
    SELECT device_serial, stations.station_id, stations.site_id, stations.borough, first_seq,
           last_seq, received_count, pending_count, pending_bytes,
           (SELECT COALESCE(sum(upper(gap) - lower(gap)), 0) FROM unnest(gaps) AS gap),
           gaps, unsecured_count, unsecured_bytes, clip_since, held_since, last_received_at
      FROM spanned
      JOIN missed USING (device_serial)
      JOIN stations USING (station_id)
    ON CONFLICT ON CONSTRAINT device_completeness_pkey DO UPDATE
       SET station_id = EXCLUDED.station_id, site_id = EXCLUDED.site_id,
           borough = EXCLUDED.borough, first_seq = EXCLUDED.first_seq,
           last_seq = EXCLUDED.last_seq, received_count = EXCLUDED.received_count,
           pending_count = EXCLUDED.pending_count, pending_bytes = EXCLUDED.pending_bytes,
           unaccounted_count = EXCLUDED.unaccounted_count, gaps = EXCLUDED.gaps,
           unsecured_count = EXCLUDED.unsecured_count, unsecured_bytes = EXCLUDED.unsecured_bytes,
           clip_since = EXCLUDED.clip_since,
           -- A camera that says the same every day has held it since the first.
           held_since = CASE WHEN EXCLUDED.held_since IS NOT NULL
                             THEN COALESCE(device_completeness.held_since, EXCLUDED.held_since)
                         END,
           last_received_at = EXCLUDED.last_received_at, computed_at = now()
"""


async def compute(connection: Connection, device_serials: Sequence[str]) -> None:
    """Count again what is known of these cameras."""
    await connection.execute(COMPUTE, device_serials)


# Clips come in out of order, but a manifest is complete when it is made: what it does not list and
# nobody announced is missing. Numbers above its last one are of later.
TELL_GAPS: Final = """
    WITH fresh AS (
        SELECT device_serial, station_id,
               (gaps * int8multirange(int8range(NULL, contact.last_seq, '[]'))) - told_gaps AS gaps
          FROM (SELECT device_completeness.device_serial, device_completeness.station_id,
                       device_completeness.gaps, device_completeness.told_gaps,
                       device_contacts.last_recording_seq AS last_seq
                  FROM device_completeness
                  JOIN device_contacts USING (device_serial)
                 WHERE device_completeness.device_serial = ANY ($1)
                   AND device_contacts.last_recording_seq IS NOT NULL) AS contact
    )
    UPDATE device_completeness AS device
       SET told_gaps = device.told_gaps + fresh.gaps
      FROM fresh
     WHERE device.device_serial = fresh.device_serial
       AND NOT isempty(fresh.gaps)
 RETURNING device.device_serial, device.station_id, fresh.gaps
"""


@dataclass(frozen=True, slots=True)
class FreshGaps:
    """Numbers of a camera that are missed for the first time; ranges with both ends in them."""

    device_serial: str
    station_id: str
    ranges: list[tuple[int, int]]


async def tell_gaps(connection: Connection, device_serials: Sequence[str]) -> list[FreshGaps]:
    """Return the gaps of these cameras that were not told yet, and note that they are."""
    rows = await connection.fetch(TELL_GAPS, device_serials)
    return [
        FreshGaps(row["device_serial"], row["station_id"], _read_ranges(row["gaps"]))
        for row in rows
    ]


def _read_ranges(gaps: Any) -> list[tuple[int, int]]:  # noqa: ANN401 - asyncpg's ranges
    return [(each.lower, each.upper - 1) for each in gaps]


@dataclass(frozen=True, slots=True)
class Completeness:
    """What a camera recorded against what came in."""

    device_serial: str
    station_id: str
    site_id: str
    borough: str
    first_seq: int | None
    last_seq: int | None
    received_count: int
    pending_count: int
    pending_bytes: int
    unaccounted_count: int
    unsecured_count: int
    unsecured_bytes: int
    unsecured_since: datetime | None
    last_received_at: datetime | None
    computed_at: datetime
    manifest_reported_at: datetime | None
    storage_used_pct: float | None
    gap_count: int
    gaps: list[tuple[int, int]]


LIST_COMPLETENESS: Final = """
    SELECT device.device_serial, device.station_id, device.site_id, device.borough,
           device.first_seq, device.last_seq, device.received_count, device.pending_count,
           device.pending_bytes, device.unaccounted_count, device.unsecured_count,
           device.unsecured_bytes, LEAST(device.clip_since, device.held_since) AS unsecured_since,
           device.last_received_at, device.computed_at,
           contact.reported_at AS manifest_reported_at, contact.storage_used_pct,
           (SELECT count(*) FROM unnest(device.gaps)) AS gap_count,
           ARRAY(SELECT gap FROM unnest(device.gaps) AS gap LIMIT $7) AS gaps
      FROM device_completeness AS device
 LEFT JOIN device_contacts AS contact USING (device_serial)
     WHERE device.device_serial > $1
       AND ($2::text IS NULL OR device.device_serial = $2)
       AND ($3::text IS NULL OR device.station_id = $3)
       AND ($4::text IS NULL OR device.borough = $4)
       AND ($5::text[] IS NULL OR device.borough = ANY ($5))
       AND (NOT $8::boolean OR device.unaccounted_count > 0 OR device.pending_count > 0)
  ORDER BY device.device_serial
     LIMIT $6
"""


@dataclass(frozen=True, slots=True)
class CompletenessFilter:
    """Which cameras; None = any. limits: only these boroughs exist for the asker."""

    device: str | None = None
    station: str | None = None
    borough: str | None = None
    limits: list[str] | None = None
    only_incomplete: bool = False


async def list_completeness(
    connection: Connection, asked: CompletenessFilter, *, after: str, limit: int, gaps_max: int
) -> list[Completeness]:
    """Return cameras in the order of their serials; of each its first gaps."""
    rows = await connection.fetch(
        LIST_COMPLETENESS,
        after,
        asked.device,
        asked.station,
        asked.borough,
        asked.limits,
        limit,
        gaps_max,
        asked.only_incomplete,
    )
    return [Completeness(**{**row, "gaps": _read_ranges(row["gaps"])}) for row in rows]


SUM_COMPLETENESS: Final = """
    SELECT count(*) AS device_count, COALESCE(sum(received_count), 0)::bigint AS received_count,
           COALESCE(sum(pending_count), 0)::bigint AS pending_count,
           COALESCE(sum(pending_bytes), 0)::bigint AS pending_bytes,
           COALESCE(sum(unaccounted_count), 0)::bigint AS unaccounted_count
      FROM device_completeness
     WHERE ($1::text IS NULL OR device_serial = $1)
       AND ($2::text IS NULL OR station_id = $2)
       AND ($3::text IS NULL OR borough = $3)
       AND ($4::text[] IS NULL OR borough = ANY ($4))
"""


@dataclass(frozen=True, slots=True)
class Totals:
    """Cameras together."""

    device_count: int
    received_count: int
    pending_count: int
    pending_bytes: int
    unaccounted_count: int


async def sum_completeness(connection: Connection, asked: CompletenessFilter) -> Totals:
    """Return the sums over the cameras that are asked for."""
    row = await connection.fetchrow(
        SUM_COMPLETENESS, asked.device, asked.station, asked.borough, asked.limits
    )
    return Totals(**row) if row is not None else Totals(0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class StationAtRisk:
    """A station whose cameras hold what is not safe here.

    last_progress_at  when last bytes came from it; None: never
    """

    station_id: str
    site_id: str
    borough: str
    device_count: int
    unsecured_count: int
    unsecured_bytes: int
    pending_count: int
    unsecured_since: datetime | None
    last_progress_at: datetime | None


# An upload expires so long after its last progress: that is where its last progress stands.
LIST_AT_RISK: Final = """
    WITH risky AS (
        SELECT station_id, min(site_id) AS site_id, min(borough) AS borough,
               count(*) AS device_count, sum(unsecured_count)::bigint AS unsecured_count,
               sum(unsecured_bytes)::bigint AS unsecured_bytes,
               sum(pending_count)::bigint AS pending_count,
               min(LEAST(clip_since, held_since)) AS unsecured_since
          FROM device_completeness
         WHERE unsecured_count > 0
           AND ($1::text IS NULL OR station_id = $1)
           AND ($2::text IS NULL OR borough = $2)
           AND ($3::text[] IS NULL OR borough = ANY ($3))
      GROUP BY station_id
    ), moving AS (
        SELECT station_id, max(expires_at) - make_interval(secs => $4) AS moved_at
          FROM uploads
         WHERE state = 'open'
           AND offset_bytes > 0
      GROUP BY station_id
    )
    SELECT station_id, site_id, borough, device_count, unsecured_count, unsecured_bytes,
           pending_count, unsecured_since,
           GREATEST(moving.moved_at,
                    (SELECT max(last_received_at) FROM device_completeness AS device
                      WHERE device.station_id = risky.station_id)) AS last_progress_at
      FROM risky
 LEFT JOIN moving USING (station_id)
  ORDER BY unsecured_bytes DESC, station_id
"""


async def list_at_risk(
    connection: Connection,
    *,
    station: str | None = None,
    borough: str | None = None,
    limits: list[str] | None = None,
    expires_after_s: float,
) -> list[StationAtRisk]:
    """Return the stations whose cameras hold what is not safe, most bytes first."""
    rows = await connection.fetch(LIST_AT_RISK, station, borough, limits, expires_after_s)
    return [StationAtRisk(**row) for row in rows]
