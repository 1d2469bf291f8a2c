"""Which clips have their manifest object."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import CustodyEvent
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links

LIST_WITHOUT_MANIFEST: Final = """
    SELECT clip_id
      FROM clips
     WHERE manifest_sha256 IS NULL
       AND state IN ('secured', 'quarantined', 'erase_pending')
  ORDER BY clip_id
     LIMIT $1
"""


async def list_without_manifest(connection: Connection, *, limit: int) -> list[UUID]:
    """Return settled clips that have no manifest object yet, oldest first."""
    return [row["clip_id"] for row in await connection.fetch(LIST_WITHOUT_MANIFEST, limit)]


SET_MANIFEST: Final = """
    WITH head AS (
        UPDATE clips
           SET manifest_sha256 = $3,
               event_count = event_count + cardinality($4::custody_link[]),
               last_leaf_hash = (($4::custody_link[])[cardinality($4::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
           AND manifest_sha256 IS NULL
     RETURNING clip_id
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($4::custody_link[]) AS link
 RETURNING event_id
"""


async def set_manifest(
    connection: Connection, clip: Clip, sha256: bytes, events: Sequence[CustodyEvent]
) -> bool:
    """Record a clip's manifest; False: it has one, or its chain has grown since it was read."""
    rows = await connection.fetch(
        SET_MANIFEST, clip.clip_id, clip.event_count, sha256, make_links(events)
    )
    return bool(rows)
