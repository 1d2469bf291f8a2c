"""Lists of clips: every filter an index range scan, newest announcement first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.ledger.connection import Connection


@dataclass(frozen=True, slots=True)
class ClipFilter:
    """Which clips are asked for; None = any. Times are aware; `before` is exclusive.

    boroughs  None = every borough; else only these exist for the asker
    """

    device: str | None = None
    officer: str | None = None
    station: str | None = None
    site: str | None = None
    borough: str | None = None
    category: str | None = None
    evidential_state: str | None = None
    state: str | None = None
    crime_ref: str | None = None
    incident: str | None = None
    recorded_after: datetime | None = None
    recorded_before: datetime | None = None
    received_after: datetime | None = None
    received_before: datetime | None = None
    held: bool | None = None
    erase_due_before: datetime | None = None
    boroughs: list[str] | None = None


# Clip ids are UUIDv7: their order is the order of announcement, so the id is the cursor.
LIST_CLIPS: Final = """
    SELECT clip_id, state, upload_id, device_serial, recording_id, segment_no,
           device_recording_seq, announcement, size_bytes, sha256_device, station_id, site_id,
           borough, started_at, ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of,
           flags, clock_state, started_at_corrected, announced_at, sealed_at, secured_at,
           released_at, officer_id, incident_id, crime_ref, category, evidential_state, title,
           sha256, sha256_readback, quarantine_reason, bucket, object_key, object_version,
           manifest, is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
           last_fixity_at, last_fixity_result, exhibit_ref, tags
      FROM clips
     WHERE ($1::uuid IS NULL OR clip_id < $1)
       AND ($3::text IS NULL OR device_serial = $3)
       AND ($4::text IS NULL OR officer_id = $4)
       AND ($5::text IS NULL OR station_id = $5)
       AND ($6::text IS NULL OR site_id = $6)
       AND ($7::text IS NULL OR borough = $7)
       AND ($8::text IS NULL OR category = $8)
       AND ($9::text IS NULL OR evidential_state = $9)
       AND ($10::text IS NULL OR state = $10)
       AND ($11::text IS NULL OR crime_ref = $11)
       AND ($12::text IS NULL OR incident_id = $12)
       AND ($13::timestamptz IS NULL OR COALESCE(started_at_corrected, started_at) >= $13)
       AND ($14::timestamptz IS NULL OR COALESCE(started_at_corrected, started_at) < $14)
       AND ($15::timestamptz IS NULL OR announced_at >= $15)
       AND ($16::timestamptz IS NULL OR announced_at < $16)
       AND ($17::boolean IS NULL OR is_held = $17)
       AND ($18::timestamptz IS NULL OR erase_due_at < $18)
       AND ($19::text[] IS NULL OR borough = ANY ($19))
  ORDER BY clip_id DESC
     LIMIT $2
"""


async def list_clips(
    connection: Connection, asked: ClipFilter, *, before: UUID | None, limit: int
) -> list[Clip]:
    """Return at most `limit` clips that were announced before the clip `before`."""
    rows = await connection.fetch(
        LIST_CLIPS,
        before,
        limit,
        asked.device,
        asked.officer,
        asked.station,
        asked.site,
        asked.borough,
        asked.category,
        asked.evidential_state,
        asked.state,
        asked.crime_ref,
        asked.incident,
        asked.recorded_after,
        asked.recorded_before,
        asked.received_after,
        asked.received_before,
        asked.held,
        asked.erase_due_before,
        asked.boroughs,
    )
    return [Clip(**row) for row in rows]
