"""What cameras say they hold."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.ledger.connection import Connection

INSERT_MANIFEST: Final = """
    INSERT INTO device_manifests (manifest_id, device_serial, station_id, reported_at, manifest)
    VALUES ($1, $2, $3, $4, $5)
"""


async def insert_manifest(
    connection: Connection,
    manifest_id: UUID,
    device_serial: str,
    station_id: str,
    reported_at: datetime,
    manifest: dict[str, Any],
) -> None:
    """Record a manifest as it was received."""
    await connection.execute(
        INSERT_MANIFEST, manifest_id, device_serial, station_id, reported_at, manifest
    )


FIND_ANNOUNCED: Final = """
    SELECT clips.recording_id, clips.segment_no
      FROM clips
      JOIN unnest($2::text[], $3::int[]) AS held (recording_id, segment_no)
        ON clips.recording_id = held.recording_id AND clips.segment_no = held.segment_no
     WHERE clips.device_serial = $1
"""


async def find_announced(
    connection: Connection, device_serial: str, recordings: Sequence[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Return which of a device's (recording_id, segment_no) were ever announced."""
    rows = await connection.fetch(
        FIND_ANNOUNCED,
        device_serial,
        [recording_id for recording_id, _ in recordings],
        [segment_no for _, segment_no in recordings],
    )
    return {(row["recording_id"], row["segment_no"]) for row in rows}
