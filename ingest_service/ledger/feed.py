"""Events in log order: every statement a bounded range of the log, or of one clip or device."""

from typing import Final

from ingest_service.domain.feed import FeedEvent, FeedFilter
from ingest_service.ledger.connection import Connection

# Told with the size of the log that is now published.
PUBLISHED_CHANNEL: Final = "log_published"

GET_PUBLISHED_SIZE: Final = """
    SELECT tree_size
      FROM log_checkpoints
     WHERE published_at IS NOT NULL
  ORDER BY tree_size DESC
     LIMIT 1
"""


async def get_published_size(connection: Connection) -> int:
    """Return how many leaves the newest published checkpoint covers."""
    size: int | None = await connection.fetchval(GET_PUBLISHED_SIZE)
    return size or 0


SCAN_FEED: Final = """
    SELECT placed.leaf_index AS log_index, event.event_id, event.clip_id, event.clip_seq,
           event.type, event.recorded_at, event.device_serial,
           COALESCE(clip.borough, station.borough, device.borough) AS borough,
           event.leaf, event.leaf_hash
      FROM log_leaves AS placed
      JOIN custody_events AS event USING (event_id)
 LEFT JOIN clips AS clip ON clip.clip_id = event.clip_id
 LEFT JOIN stations AS station
        ON event.clip_id IS NULL AND event.actor_kind = 'station'
       AND station.station_id = event.actor_id
 LEFT JOIN device_completeness AS device
        ON event.clip_id IS NULL AND device.device_serial = event.device_serial
     WHERE placed.leaf_index > $1
       AND placed.leaf_index < $2
       AND ($4::text[] IS NULL OR event.type = ANY ($4))
       AND ($5::text[] IS NULL
            OR COALESCE(clip.borough, station.borough, device.borough) = ANY ($5))
       AND ($6::text[] IS NULL
            OR COALESCE(clip.borough, station.borough, device.borough) = ANY ($6))
       AND event.type <> ALL ($7::text[])
  ORDER BY placed.leaf_index
     LIMIT $3
"""
SCAN_CLIP_FEED: Final = """
    SELECT placed.leaf_index AS log_index, event.event_id, event.clip_id, event.clip_seq,
           event.type, event.recorded_at, event.device_serial, clip.borough, event.leaf,
           event.leaf_hash
      FROM custody_events AS event
      JOIN log_leaves AS placed USING (event_id)
      JOIN clips AS clip ON clip.clip_id = event.clip_id
     WHERE event.clip_id = $8
       AND placed.leaf_index > $1
       AND placed.leaf_index < $2
       AND ($4::text[] IS NULL OR event.type = ANY ($4))
       AND ($5::text[] IS NULL OR clip.borough = ANY ($5))
       AND ($6::text[] IS NULL OR clip.borough = ANY ($6))
       AND event.type <> ALL ($7::text[])
       AND ($9::text IS NULL OR event.device_serial = $9)
  ORDER BY placed.leaf_index
     LIMIT $3
"""
SCAN_DEVICE_FEED: Final = """
    SELECT placed.leaf_index AS log_index, event.event_id, event.clip_id, event.clip_seq,
           event.type, event.recorded_at, event.device_serial,
           COALESCE(clip.borough, station.borough, device.borough) AS borough,
           event.leaf, event.leaf_hash
      FROM custody_events AS event
      JOIN log_leaves AS placed USING (event_id)
 LEFT JOIN clips AS clip ON clip.clip_id = event.clip_id
 LEFT JOIN stations AS station
        ON event.clip_id IS NULL AND event.actor_kind = 'station'
       AND station.station_id = event.actor_id
 LEFT JOIN device_completeness AS device
        ON event.clip_id IS NULL AND device.device_serial = event.device_serial
     WHERE event.device_serial = $8
       AND placed.leaf_index > $1
       AND placed.leaf_index < $2
       AND ($4::text[] IS NULL OR event.type = ANY ($4))
       AND ($5::text[] IS NULL
            OR COALESCE(clip.borough, station.borough, device.borough) = ANY ($5))
       AND ($6::text[] IS NULL
            OR COALESCE(clip.borough, station.borough, device.borough) = ANY ($6))
       AND event.type <> ALL ($7::text[])
  ORDER BY placed.leaf_index
     LIMIT $3
"""


async def scan_feed(
    connection: Connection, asked: FeedFilter, *, after: int, stop: int, limit: int
) -> list[FeedEvent]:
    """Return the first events with after < log_index < stop that the filter admits, in order.

    Of one clip or device the range may be the whole log; else its length is the cost.
    """
    common = (
        after,
        stop,
        limit,
        _as_list(asked.types),
        _as_list(asked.boroughs),
        _as_list(asked.limits),
        sorted(asked.hidden),
    )
    if asked.clip_id is not None:
        rows = await connection.fetch(SCAN_CLIP_FEED, *common, asked.clip_id, asked.device)
    elif asked.device is not None:
        rows = await connection.fetch(SCAN_DEVICE_FEED, *common, asked.device)
    else:
        rows = await connection.fetch(SCAN_FEED, *common)
    return [FeedEvent(**row) for row in rows]


def _as_list(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)
