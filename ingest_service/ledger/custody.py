"""Custody events in Postgres: inserted, never changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.custody import CustodyEvent
from ingest_service.ledger.connection import Connection

Link = tuple[
    UUID, UUID | None, int | None, str, datetime, str, str, str | None, bytes, bytes
]  # fmt: skip


def make_links(events: Sequence[CustodyEvent]) -> list[Link]:
    """Return the events as an array of the ledger's type `custody_link`.

    Every statement that changes a clip ends with their insert, so that the change and its events
    are one statement; its `head` matches only if the clip's chain is still as it was read.
    """
    return [
        (
            event.event_id,
            event.clip_id,
            event.clip_seq,
            event.type,
            event.recorded_at,
            event.actor_kind,
            event.actor_id,
            event.device_serial,
            event.leaf,
            event.leaf_hash,
        )
        for event in events
    ]


APPEND_EVENTS: Final = """
    WITH head AS (
        UPDATE clips
           SET event_count = event_count + cardinality($3::custody_link[]),
               last_leaf_hash =
                   (($3::custody_link[])[cardinality($3::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
     RETURNING clip_id
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($3::custody_link[]) AS link
 RETURNING event_id
"""


async def append_events(
    connection: Connection, clip_id: UUID, event_count: int, events: Sequence[CustodyEvent]
) -> bool:
    """Append events to a clip's chain; False when the chain has grown since it was read."""
    rows = await connection.fetch(APPEND_EVENTS, clip_id, event_count, make_links(events))
    return bool(rows)


INSERT_DEVICE_EVENTS: Final = """
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM unnest($1::custody_link[]) AS link
"""


async def insert_device_events(connection: Connection, events: Sequence[CustodyEvent]) -> None:
    """Insert events that belong to no clip."""
    await connection.execute(INSERT_DEVICE_EVENTS, make_links(events))


LIST_CLIP_EVENTS: Final = """
    SELECT event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
           leaf, leaf_hash
      FROM custody_events
     WHERE clip_id = $1
       AND clip_seq > $2
  ORDER BY clip_seq
     LIMIT $3
"""


async def list_clip_events(
    connection: Connection, clip_id: UUID, *, after: int, limit: int
) -> list[CustodyEvent]:
    """Return a clip's events with clip_seq above `after`, in order."""
    rows = await connection.fetch(LIST_CLIP_EVENTS, clip_id, after, limit)
    return [CustodyEvent(**row) for row in rows]
