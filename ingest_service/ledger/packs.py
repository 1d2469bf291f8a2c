"""A clip's events with their places in the log, for packs."""

from typing import Final
from uuid import UUID

from ingest_service.ledger.connection import Connection
from ingest_service.ledger.log import PlacedLeaf

LIST_PLACED_EVENTS: Final = """
    SELECT event.leaf, placed.leaf_index
      FROM custody_events AS event
 LEFT JOIN log_leaves AS placed USING (event_id)
     WHERE event.clip_id = $1
  ORDER BY event.clip_seq
"""


async def list_placed_events(connection: Connection, clip_id: UUID) -> list[PlacedLeaf]:
    """Return all of a clip's leaves in order, each with its place, if it has one yet."""
    return [PlacedLeaf(**row) for row in await connection.fetch(LIST_PLACED_EVENTS, clip_id)]
