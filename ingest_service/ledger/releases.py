"""What a release receipt is made of, in Postgres: one narrow read, one write at its first issue."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.custody import ChainHead, CustodyEvent
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links
from schemas.announcement import ClipState


@dataclass(frozen=True, slots=True)
class Release:
    """How far a clip is on its way to its receipt.

    secured_leaf  of its `clip.secured` event; None before it was read back
    leaf_index    its place in the log; None until the sequencer gave it one
    """

    clip_id: UUID
    state: ClipState
    station_id: str
    device_serial: str
    sealed_at: datetime | None
    secured_at: datetime | None
    released_at: datetime | None
    event_count: int
    last_leaf_hash: bytes | None
    secured_leaf: bytes | None
    leaf_index: int | None

    @property
    def head(self) -> ChainHead:
        """Where the clip's chain ends."""
        return ChainHead(self.clip_id, self.event_count, self.last_leaf_hash)


# Docks ask this again and again until the answer is yes: no wide column is read. These clips were
# read back once: their receipt stands, whatever became of them since.
FIND_RELEASE: Final = """
    SELECT clips.clip_id, clips.state, uploads.station_id, clips.device_serial, clips.sealed_at,
           clips.secured_at, clips.released_at, clips.event_count, clips.last_leaf_hash,
           secured.leaf AS secured_leaf, placed.leaf_index
      FROM clips
      JOIN uploads ON uploads.upload_id = clips.upload_id
 LEFT JOIN LATERAL (
           SELECT event_id, leaf
             FROM custody_events
            WHERE custody_events.clip_id = clips.clip_id
              AND custody_events.type = 'clip.secured'
              AND clips.state IN ('secured', 'erase_pending', 'erased')
         ORDER BY clip_seq DESC
            LIMIT 1) AS secured ON true
 LEFT JOIN log_leaves AS placed ON placed.event_id = secured.event_id
     WHERE clips.clip_id = $1
"""


async def find_release(connection: Connection, clip_id: UUID) -> Release | None:
    """Return how far a clip is; None when there is no such clip, or nobody uploaded it."""
    row = await connection.fetchrow(FIND_RELEASE, clip_id)
    return None if row is None else Release(**row)


RELEASE_CLIP: Final = """
    WITH head AS (
        UPDATE clips
           SET released_at = $3,
               event_count = event_count + cardinality($4::custody_link[]),
               last_leaf_hash = (($4::custody_link[])[cardinality($4::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
           AND state IN ('secured', 'erase_pending', 'erased')
           AND released_at IS NULL
     RETURNING clip_id
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($4::custody_link[]) AS link
 RETURNING event_id
"""


async def release_clip(
    connection: Connection, head: ChainHead, released_at: datetime, events: Sequence[CustodyEvent]
) -> bool:
    """Record that the release receipt was handed out; False: it was, or the clip changed."""
    rows = await connection.fetch(
        RELEASE_CLIP, head.clip_id, head.event_count, released_at, make_links(events)
    )
    return bool(rows)
