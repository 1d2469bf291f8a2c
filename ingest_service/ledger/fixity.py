"""Which retained objects are to be read again, and what came of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import CustodyEvent
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links

# As a read-back is claimed: another worker sees the clip as taken until the claim lapses.
CLAIM_FIXITY: Final = """
    UPDATE clips
       SET fixity_claimed_until = now() + make_interval(secs => $2 + size_bytes / $3::float8)
     WHERE clip_id IN (
        SELECT clip_id
          FROM clips
         WHERE state IN ('secured', 'erase_pending')
           AND COALESCE(last_fixity_at, secured_at) <= now() - make_interval(secs => $1)
           AND (fixity_claimed_until IS NULL OR fixity_claimed_until <= now())
      ORDER BY COALESCE(last_fixity_at, secured_at)
         LIMIT 1
           FOR UPDATE SKIP LOCKED)
 RETURNING clip_id, state, upload_id, device_serial, recording_id, segment_no,
           device_recording_seq, announcement, size_bytes, sha256_device, station_id, site_id,
           borough, started_at, ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of,
           flags, clock_state, started_at_corrected, announced_at, sealed_at, secured_at,
           released_at, officer_id, incident_id, crime_ref, category, evidential_state, title,
           sha256, sha256_readback, quarantine_reason, bucket, object_key, object_version,
           manifest, is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
           last_fixity_at, last_fixity_result
"""


async def claim_fixity(
    connection: Connection, *, due_after_s: float, claim_s: float, bytes_per_s: float
) -> Clip | None:
    """Claim the retained clip that was read longest ago, if that is so many seconds.

    The claim lasts `claim_s` and the time that its size takes.
    """
    row = await connection.fetchrow(CLAIM_FIXITY, due_after_s, claim_s, bytes_per_s)
    return None if row is None else Clip(**row)


RECORD_FIXITY: Final = """
    WITH head AS (
        UPDATE clips
           SET last_fixity_at = $3,
               last_fixity_result = $4,
               fixity_claimed_until = NULL,
               event_count = event_count + cardinality($5::custody_link[]),
               last_leaf_hash = (($5::custody_link[])[cardinality($5::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
           AND state IN ('secured', 'erase_pending')
     RETURNING clip_id
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($5::custody_link[]) AS link
 RETURNING event_id
"""


async def record_fixity(
    connection: Connection,
    clip: Clip,
    checked_at: datetime,
    result: str,
    events: Sequence[CustodyEvent],
) -> bool:
    """Record that an object was read again; False: the clip changed since it was read."""
    rows = await connection.fetch(
        RECORD_FIXITY, clip.clip_id, clip.event_count, checked_at, result, make_links(events)
    )
    return bool(rows)


GET_OLDEST: Final = """
    SELECT EXTRACT(EPOCH FROM now() - COALESCE(last_fixity_at, secured_at))::float8
      FROM clips
     WHERE state IN ('secured', 'erase_pending')
  ORDER BY COALESCE(last_fixity_at, secured_at)
     LIMIT 1
"""


async def find_oldest_age(connection: Connection) -> float | None:
    """Return how many seconds ago the retained object was read that was read longest ago."""
    age_s: float | None = await connection.fetchval(GET_OLDEST)
    return age_s
