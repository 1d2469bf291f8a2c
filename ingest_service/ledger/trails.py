"""Custody events as auditors ask for them: of a clip, a person, a device, a period."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.ledger.connection import Connection


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """An event and its place in the log; log_index is None while it waits for one."""

    event_id: UUID
    clip_id: UUID | None
    clip_seq: int | None
    type: str
    recorded_at: datetime
    leaf: bytes
    leaf_hash: bytes
    log_index: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """Event ids (UUIDv7: they sort by time), both ends outside."""

    after: UUID
    before: UUID


LIST_CLIP_TRAIL: Final = """
    SELECT event.event_id, event.clip_id, event.clip_seq, event.type, event.recorded_at,
           event.leaf, event.leaf_hash, placed.leaf_index AS log_index
      FROM custody_events AS event
 LEFT JOIN log_leaves AS placed USING (event_id)
     WHERE event.clip_id = $1
       AND event.clip_seq > $2
  ORDER BY event.clip_seq
     LIMIT $3
"""


async def list_clip_trail(
    connection: Connection, clip_id: UUID, *, after: int, limit: int
) -> list[TrailEvent]:
    """Return a clip's events in order."""
    rows = await connection.fetch(LIST_CLIP_TRAIL, clip_id, after, limit)
    return [TrailEvent(**row) for row in rows]


LIST_ACTOR_TRAIL: Final = """
    SELECT event.event_id, event.clip_id, event.clip_seq, event.type, event.recorded_at,
           event.leaf, event.leaf_hash, placed.leaf_index AS log_index
      FROM custody_events AS event
 LEFT JOIN log_leaves AS placed USING (event_id)
     WHERE event.actor_id = $1
       AND event.event_id > $2
       AND event.event_id < $3
  ORDER BY event.event_id
     LIMIT $4
"""


async def list_actor_trail(
    connection: Connection, actor_id: str, span: Span, *, limit: int
) -> list[TrailEvent]:
    """Return what somebody did, in the order of time."""
    rows = await connection.fetch(LIST_ACTOR_TRAIL, actor_id, span.after, span.before, limit)
    return [TrailEvent(**row) for row in rows]


LIST_DEVICE_TRAIL: Final = """
    SELECT event.event_id, event.clip_id, event.clip_seq, event.type, event.recorded_at,
           event.leaf, event.leaf_hash, placed.leaf_index AS log_index
      FROM custody_events AS event
 LEFT JOIN log_leaves AS placed USING (event_id)
     WHERE event.device_serial = $1
       AND event.event_id > $2
       AND event.event_id < $3
  ORDER BY event.event_id
     LIMIT $4
"""


async def list_device_trail(
    connection: Connection, device_serial: str, span: Span, *, limit: int
) -> list[TrailEvent]:
    """Return what happened to a camera and its clips, in the order of time."""
    rows = await connection.fetch(LIST_DEVICE_TRAIL, device_serial, span.after, span.before, limit)
    return [TrailEvent(**row) for row in rows]


LIST_PERIOD_TRAIL: Final = """
    SELECT event.event_id, event.clip_id, event.clip_seq, event.type, event.recorded_at,
           event.leaf, event.leaf_hash, placed.leaf_index AS log_index
      FROM custody_events AS event
 LEFT JOIN log_leaves AS placed USING (event_id)
     WHERE event.event_id > $1
       AND event.event_id < $2
       AND event.type = ANY ($3)
       AND ($4::text IS NULL OR event.actor_id = $4)
  ORDER BY event.event_id
     LIMIT $5
"""


async def list_period_trail(
    connection: Connection, span: Span, types: Sequence[str], actor_id: str | None, *, limit: int
) -> list[TrailEvent]:
    """Return events of these types; the whole span is looked at, so it is to be short."""
    rows = await connection.fetch(
        LIST_PERIOD_TRAIL, span.after, span.before, types, actor_id, limit
    )
    return [TrailEvent(**row) for row in rows]
