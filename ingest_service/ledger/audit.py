"""Everything in the ledger, read in big batches for whoever checks it."""

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import CustodyEvent
from ingest_service.domain.merkle import TileId
from ingest_service.ledger.connection import Connection


@dataclass(frozen=True, slots=True)
class LeafBatch:
    """Leaves next to each other in the log; indices has them, since some may be missing."""

    indices: list[int]
    leaves: list[bytes]
    leaf_hashes: list[bytes]


# One row of three arrays: a row per leaf costs the client twice as much. Sorted by the client,
# where they come nearly sorted: Postgres would carry every leaf through a sort on disk.
GET_LEAVES: Final = """
    SELECT array_agg(leaf_index) AS indices,
           array_agg(leaf) AS leaves,
           array_agg(leaf_hash) AS leaf_hashes
      FROM log_leaves
      JOIN custody_events USING (event_id)
     WHERE leaf_index >= $1
       AND leaf_index < $2
"""


async def get_leaves(connection: Connection, start: int, stop: int) -> LeafBatch:
    """Return the leaves from start up to stop (exclusive) that are there."""
    row = await connection.fetchrow(GET_LEAVES, start, stop)
    if row is None or row["indices"] is None:
        return LeafBatch([], [], [])
    indices: list[int] = row["indices"]
    order = sorted(range(len(indices)), key=indices.__getitem__)
    if order == list(range(len(indices))):
        return LeafBatch(indices, row["leaves"], row["leaf_hashes"])
    leaves, leaf_hashes = row["leaves"], row["leaf_hashes"]
    return LeafBatch(
        [indices[at] for at in order],
        [leaves[at] for at in order],
        [leaf_hashes[at] for at in order],
    )


GET_LEAF_HASHES: Final = """
    SELECT array_agg(leaf_hash ORDER BY leaf_index)
      FROM log_leaves
      JOIN custody_events USING (event_id)
     WHERE leaf_index >= $1
       AND leaf_index < $2
"""


async def get_leaf_hashes(connection: Connection, start: int, stop: int) -> list[bytes]:
    """Return the hashes of the leaves from start up to stop (exclusive) that are there."""
    return list(await connection.fetchval(GET_LEAF_HASHES, start, stop) or [])


LIST_PUBLISHED_SIZES: Final = """
    SELECT array_agg(tree_size ORDER BY tree_size)
      FROM log_checkpoints
     WHERE published_at IS NOT NULL
"""


async def list_published_sizes(connection: Connection) -> list[int]:
    """Return the sizes of all checkpoints that the ledger calls published, ascending."""
    return list(await connection.fetchval(LIST_PUBLISHED_SIZES) or [])


LIST_TILES: Final = """
    SELECT level, tile_index, hashes
      FROM log_tiles
     WHERE level = $1
       AND tile_index >= $2
       AND tile_index < $3
"""


async def list_tiles(
    connection: Connection, level: int, start: int, stop: int
) -> dict[TileId, bytes]:
    """Return the tiles of a level with index from start up to stop (exclusive)."""
    rows = await connection.fetch(LIST_TILES, level, start, stop)
    return {TileId(row["level"], row["tile_index"]): row["hashes"] for row in rows}


LIST_KEY_ROTATIONS: Final = "SELECT leaf FROM custody_events WHERE type = 'key.rotated'"


async def list_key_rotations(connection: Connection) -> list[bytes]:
    """Return the leaves that say which keys the log had."""
    return [row["leaf"] for row in await connection.fetch(LIST_KEY_ROTATIONS)]


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One event of a clip beside what the clip's row says; event is None of a clip without."""

    clip_id: UUID
    clip: dict[str, Any]
    event: CustodyEvent | None


# One statement, so one moment: no event comes between a clip's row and its chain.
LIST_CHAINS: Final = """
    WITH batch AS (
        SELECT clip_id, state, size_bytes, sha256, sha256_readback, sha256_device, bucket,
               object_key, object_version, secured_at, released_at, manifest_sha256, event_count,
               last_leaf_hash, last_fixity_at, last_fixity_result, is_held, erase_due_at
          FROM clips
         WHERE clip_id > $1
      ORDER BY clip_id
         LIMIT $2
    )
    SELECT batch.clip_id, state, size_bytes, sha256, sha256_readback, sha256_device, bucket,
           object_key, object_version, secured_at, released_at, manifest_sha256, event_count,
           last_leaf_hash, last_fixity_at, last_fixity_result, is_held, erase_due_at, event_id,
           clip_seq, type, recorded_at, actor_kind, actor_id, device_serial, leaf, leaf_hash
      FROM batch
 LEFT JOIN custody_events AS event ON event.clip_id = batch.clip_id
  ORDER BY batch.clip_id, clip_seq
"""
_CLIP_MEMBERS: Final = (
    "state",
    "size_bytes",
    "sha256",
    "sha256_readback",
    "sha256_device",
    "bucket",
    "object_key",
    "object_version",
    "secured_at",
    "released_at",
    "manifest_sha256",
    "event_count",
    "last_leaf_hash",
    "last_fixity_at",
    "last_fixity_result",
    "is_held",
    "erase_due_at",
)


async def list_chains(connection: Connection, after: UUID, *, limit: int) -> list[ChainRow]:
    """Return the chains of the next clips after an id: rows in order of clip and clip_seq."""
    rows = await connection.fetch(LIST_CHAINS, after, limit)
    return [
        ChainRow(
            row["clip_id"],
            {name: row[name] for name in _CLIP_MEMBERS},
            None if row["event_id"] is None else _read_event(row),
        )
        for row in rows
    ]


def _read_event(row: Any) -> CustodyEvent:  # noqa: ANN401 - asyncpg's record
    return CustodyEvent(
        row["event_id"],
        row["clip_id"],
        row["clip_seq"],
        row["type"],
        row["recorded_at"],
        row["actor_kind"],
        row["actor_id"],
        row["device_serial"],
        row["leaf"],
        row["leaf_hash"],
    )


LIST_CLIPLESS_EVENTS: Final = """
    SELECT event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
           leaf, leaf_hash
      FROM custody_events
     WHERE clip_id IS NULL
       AND event_id > $1
  ORDER BY event_id
     LIMIT $2
"""


async def list_clipless_events(
    connection: Connection, after: UUID, *, limit: int
) -> list[CustodyEvent]:
    """Return the next events that belong to no clip."""
    return [
        CustodyEvent(**row) for row in await connection.fetch(LIST_CLIPLESS_EVENTS, after, limit)
    ]


LIST_UNPLACED: Final = """
    SELECT event_id
      FROM custody_events AS event
     WHERE NOT EXISTS (SELECT FROM log_leaves WHERE log_leaves.event_id = event.event_id)
       AND NOT EXISTS (SELECT FROM log_queue WHERE log_queue.event_id = event.event_id)
     LIMIT $1
"""


async def list_unplaced(connection: Connection, *, limit: int) -> list[UUID]:
    """Return events that neither have a place in the log nor wait for one."""
    return [row["event_id"] for row in await connection.fetch(LIST_UNPLACED, limit)]


LIST_CLIPS_AFTER: Final = """
    SELECT clip_id, state, upload_id, device_serial, recording_id, segment_no,
           device_recording_seq, announcement, size_bytes, sha256_device, station_id, site_id,
           borough, started_at, ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of,
           flags, clock_state, started_at_corrected, announced_at, sealed_at, secured_at,
           released_at, officer_id, incident_id, crime_ref, category, evidential_state, title,
           sha256, sha256_readback, quarantine_reason, bucket, object_key, object_version,
           manifest, is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
           last_fixity_at, last_fixity_result
      FROM clips
     WHERE clip_id > $1
  ORDER BY clip_id
     LIMIT $2
"""


async def list_clips_after(connection: Connection, after: UUID, *, limit: int) -> list[Clip]:
    """Return the next clips after an id."""
    return [Clip(**row) for row in await connection.fetch(LIST_CLIPS_AFTER, after, limit)]


COUNT_CLIPS: Final = "SELECT count(*) FROM clips"


async def count_clips(connection: Connection) -> int:
    """Return how many clips there are."""
    count: int = await connection.fetchval(COUNT_CLIPS)
    return count
