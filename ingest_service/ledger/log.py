"""The custody log in Postgres: queue, leaves, tiles, checkpoints."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.custody import CustodyEvent
from ingest_service.domain.merkle import HASH_BYTES, TileId
from ingest_service.ledger.connection import Connection

# The channel on which a writer wakes the sequencer.
QUEUE_CHANNEL: Final = "log_queue"
_LEADER_LOCK: Final = 7_306_417_052_113_489_217


@dataclass(frozen=True, slots=True)
class QueuedLeaf:
    """An event that waits for its place."""

    queue_id: int
    event_id: UUID
    leaf_hash: bytes


TRY_LEAD: Final = "SELECT pg_try_advisory_lock($1)"


async def try_lead(connection: Connection) -> bool:
    """Try to become the one sequencer, as long as this connection lives.

    This only spares work: what keeps the log one is the row lock of `lock_size`.
    """
    return bool(await connection.fetchval(TRY_LEAD, _LEADER_LOCK))


# The network may lose a leader without a word to Postgres, whose session would keep the lock: for
# hours, until the system gives the connection up, nobody would lead and no receipt be given.
LIMIT_LEAD: Final = "SELECT set_config('idle_session_timeout', $1, false)"


async def limit_lead(connection: Connection, *, idle_s: float) -> None:
    """Have Postgres end this session, and the lead with it, when it asks nothing for so long.

    0: never, as is right for connections that wait in the pool.
    """
    await connection.execute(LIMIT_LEAD, f"{idle_s * 1000:.0f}ms")


STOP_LEADING: Final = "SELECT pg_advisory_unlock($1)"


async def stop_leading(connection: Connection) -> None:
    """Let another process lead; the connection goes back to the pool."""
    await limit_lead(connection, idle_s=0)
    await connection.execute(STOP_LEADING, _LEADER_LOCK)


SET_HALT: Final = "UPDATE log_state SET halted_reason = $1"


async def set_halt(connection: Connection, reason: str | None) -> None:
    """Record why nothing is sequenced, for /readyz; None = it is."""
    await connection.execute(SET_HALT, reason)


FIND_HALT: Final = "SELECT halted_reason FROM log_state"


async def find_halt(connection: Connection) -> str | None:
    """Return why nothing is sequenced; None when it is."""
    reason: str | None = await connection.fetchval(FIND_HALT)
    return reason


HAS_QUEUED: Final = "SELECT EXISTS (SELECT FROM log_queue)"


async def has_queued(connection: Connection) -> bool:
    """Tell whether events wait for their place."""
    return bool(await connection.fetchval(HAS_QUEUED))


LOCK_SIZE: Final = "SELECT tree_size FROM log_state FOR UPDATE"


async def lock_size(connection: Connection) -> int:
    """Lock the log until the transaction ends; return how many leaves it has."""
    size: int = await connection.fetchval(LOCK_SIZE)
    return size


GET_SIZE: Final = "SELECT tree_size FROM log_state"


async def get_size(connection: Connection) -> int:
    """Return how many leaves the log has."""
    size: int = await connection.fetchval(GET_SIZE)
    return size


# Never 'the last id seen': a lower id may commit later, and is simply taken then.
TAKE_QUEUED: Final = """
    WITH taken AS (
        DELETE FROM log_queue
         WHERE queue_id IN (SELECT queue_id FROM log_queue ORDER BY queue_id LIMIT $1)
     RETURNING queue_id, event_id, leaf_hash
    )
    SELECT queue_id, event_id, leaf_hash FROM taken ORDER BY queue_id
"""


async def take_queued(connection: Connection, *, limit: int) -> list[QueuedLeaf]:
    """Take the oldest waiting events off the queue."""
    return [QueuedLeaf(**row) for row in await connection.fetch(TAKE_QUEUED, limit)]


COUNT_QUEUED: Final = "SELECT count(*) FROM log_queue"


async def count_queued(connection: Connection) -> int:
    """Return how many events wait for their place: the log's lag."""
    count: int = await connection.fetchval(COUNT_QUEUED)
    return count


INSERT_LEAVES: Final = """
    INSERT INTO log_leaves (leaf_index, event_id)
    SELECT $1 + position - 1, event_id
      FROM unnest($2::uuid[]) WITH ORDINALITY AS leaf (event_id, position)
"""
UPSERT_TILES: Final = """
    INSERT INTO log_tiles (level, tile_index, hashes)
    SELECT level, tile_index, hashes
      FROM unnest($1::int[], $2::bigint[], $3::bytea[]) AS tile (level, tile_index, hashes)
    ON CONFLICT ON CONSTRAINT log_tiles_pkey DO UPDATE SET hashes = EXCLUDED.hashes
"""
SET_SIZE: Final = "UPDATE log_state SET tree_size = $1"
INSERT_CHECKPOINT: Final = """
    INSERT INTO log_checkpoints (tree_size, note, signed_at)
    VALUES ($1, $2, $3)
"""


async def append_batch(
    connection: Connection,
    old_size: int,
    event_ids: Sequence[UUID],
    tiles: dict[TileId, bytes],
    note: str,
    signed_at: datetime,
) -> None:
    """Append leaves with their tiles and the signed checkpoint; the log is locked by the caller."""
    new_size = old_size + len(event_ids)
    await connection.execute(INSERT_LEAVES, old_size, list(event_ids))
    await connection.execute(
        UPSERT_TILES,
        [tile.level for tile in tiles],
        [tile.index for tile in tiles],
        list(tiles.values()),
    )
    await connection.execute(SET_SIZE, new_size)
    await connection.execute(INSERT_CHECKPOINT, new_size, note, signed_at)


READ_TILES: Final = """
    SELECT level, tile_index, hashes
      FROM log_tiles
      JOIN unnest($1::int[], $2::bigint[]) AS wanted (level, tile_index)
           USING (level, tile_index)
"""


async def read_tiles(connection: Connection, wanted: Sequence[TileId]) -> dict[TileId, bytes]:
    """Return tiles as they stand; one that does not exist is absent from the answer."""
    rows = await connection.fetch(
        READ_TILES, [tile.level for tile in wanted], [tile.index for tile in wanted]
    )
    return {TileId(row["level"], row["tile_index"]): row["hashes"] for row in rows}


# The leaf has no level; both halves of it are found by their keys.
READ_LEAF_AND_TILES: Final = """
    SELECT NULL::int AS level, leaf_index AS tile_index, event.leaf AS content
      FROM log_leaves
      JOIN custody_events AS event USING (event_id)
     WHERE leaf_index = $1
     UNION ALL
    SELECT level, tile_index, hashes
      FROM log_tiles
      JOIN unnest($2::int[], $3::bigint[]) AS wanted (level, tile_index)
           USING (level, tile_index)
"""


async def read_leaf_and_tiles(
    connection: Connection, log_index: int, wanted: Sequence[TileId]
) -> tuple[bytes | None, dict[TileId, bytes]]:
    """Return the leaf at an index, None beyond the log's end, and tiles as `read_tiles` does."""
    rows = await connection.fetch(
        READ_LEAF_AND_TILES,
        log_index,
        [tile.level for tile in wanted],
        [tile.index for tile in wanted],
    )
    leaf: bytes | None = None
    tiles: dict[TileId, bytes] = {}
    for level, index, content in rows:
        if level is None:
            leaf = content
        else:
            tiles[TileId(level, index)] = content
    return leaf, tiles


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed checkpoint; published_at is None until it is outside the database too."""

    tree_size: int
    note: str
    signed_at: datetime
    published_at: datetime | None


FIND_NEWEST_CHECKPOINT: Final = """
    SELECT tree_size, note, signed_at, published_at
      FROM log_checkpoints
     WHERE published_at IS NOT NULL OR NOT $1::boolean
  ORDER BY tree_size DESC
     LIMIT 1
"""


async def find_newest_checkpoint(
    connection: Connection, *, only_published: bool
) -> StoredCheckpoint | None:
    """Return the newest (published) checkpoint; None before the first."""
    row = await connection.fetchrow(FIND_NEWEST_CHECKPOINT, only_published)
    return None if row is None else StoredCheckpoint(**row)


# Only checkpoints that cover the leaf are looked at: few, however long a witness was away.
FIND_COSIGNED_CHECKPOINT: Final = """
    SELECT tree_size, note, signed_at, published_at
      FROM log_checkpoints
     WHERE published_at IS NOT NULL
       AND tree_size = (
           SELECT tree_size
             FROM log_cosignatures
            WHERE tree_size > $1
              AND witness = ANY($2)
         GROUP BY tree_size
           HAVING count(*) >= $3
         ORDER BY tree_size DESC
            LIMIT 1)
"""


async def find_cosigned_checkpoint(
    connection: Connection, log_index: int, witnesses: Sequence[str], quorum: int
) -> StoredCheckpoint | None:
    """Return the newest published checkpoint over an index that enough witnesses cosigned."""
    row = await connection.fetchrow(FIND_COSIGNED_CHECKPOINT, log_index, witnesses, quorum)
    return None if row is None else StoredCheckpoint(**row)


LIST_COSIGNATURES: Final = """
    SELECT witness, line
      FROM log_cosignatures
     WHERE tree_size = $1
       AND witness = ANY($2)
  ORDER BY witness
"""


async def list_cosignatures(
    connection: Connection, tree_size: int, witnesses: Sequence[str]
) -> dict[str, str]:
    """Return the signature lines over a checkpoint, by witness."""
    rows = await connection.fetch(LIST_COSIGNATURES, tree_size, witnesses)
    return {row["witness"]: row["line"] for row in rows}


INSERT_COSIGNATURE: Final = """
    INSERT INTO log_cosignatures (tree_size, witness, line)
    VALUES ($1, $2, $3)
    ON CONFLICT ON CONSTRAINT log_cosignatures_pkey DO NOTHING
"""


async def insert_cosignature(
    connection: Connection, tree_size: int, witness: str, line: str
) -> None:
    """Record a cosignature; a second one of the same witness adds nothing."""
    await connection.execute(INSERT_COSIGNATURE, tree_size, witness, line)


FIND_CHECKPOINT: Final = """
    SELECT tree_size, note, signed_at, published_at
      FROM log_checkpoints
     WHERE tree_size = $1
"""


async def find_checkpoint(connection: Connection, tree_size: int) -> StoredCheckpoint | None:
    """Return the checkpoint of a size; most sizes have none."""
    row = await connection.fetchrow(FIND_CHECKPOINT, tree_size)
    return None if row is None else StoredCheckpoint(**row)


LIST_UNPUBLISHED: Final = """
    SELECT tree_size, note, signed_at, published_at
      FROM log_checkpoints
     WHERE published_at IS NULL
  ORDER BY tree_size
     LIMIT $1
"""


async def list_unpublished(connection: Connection, *, limit: int) -> list[StoredCheckpoint]:
    """Return checkpoints that are not outside the database yet, oldest first."""
    return [StoredCheckpoint(**row) for row in await connection.fetch(LIST_UNPUBLISHED, limit)]


LIST_NEWEST_PUBLISHED: Final = """
    WITH last AS (
        SELECT tree_size
          FROM log_checkpoints
         WHERE published_at IS NOT NULL
      ORDER BY tree_size DESC
         LIMIT $2
    )
    SELECT tree_size
      FROM log_checkpoints
     WHERE published_at IS NOT NULL
       AND tree_size >= least($1, (SELECT min(tree_size) FROM last))
  ORDER BY tree_size
"""
FIND_SIZE_BEFORE: Final = """
    SELECT tree_size
      FROM log_checkpoints
     WHERE tree_size < $1
  ORDER BY tree_size DESC
     LIMIT 1
"""


async def list_newest_published(connection: Connection, start: int, *, at_least: int) -> list[int]:
    """Return the sizes of published checkpoints from a size on, and of so many at least.

    In front of them stands where the leaves of the first begin.
    """
    rows = await connection.fetch(LIST_NEWEST_PUBLISHED, start, at_least)
    if not rows:
        return []
    sizes = [row["tree_size"] for row in rows]
    before: int | None = await connection.fetchval(FIND_SIZE_BEFORE, sizes[0])
    return [before or 0, *sizes]


# Whoever follows the feed hears of it when the statement has committed.
MARK_PUBLISHED: Final = """
    WITH marked AS (
        UPDATE log_checkpoints
           SET note = $2, published_at = now()
         WHERE tree_size = $1
           AND published_at IS NULL
     RETURNING tree_size
    )
    SELECT pg_notify('log_published', tree_size::text) FROM marked
"""


async def mark_published(connection: Connection, tree_size: int, note: str) -> None:
    """Record that a checkpoint is outside the database, with the cosignatures it went out with."""
    await connection.execute(MARK_PUBLISHED, tree_size, note)


@dataclass(frozen=True, slots=True)
class StoredTimestamp:
    """A time authority's answer over a checkpoint; note is the checkpoint as published."""

    tree_size: int
    note: str
    token: bytes
    gen_time: datetime
    recorded_at: datetime

    @property
    def token_sha256(self) -> bytes:
        """What the event of this time stamp holds."""
        return hashlib.sha256(self.token).digest()


FIND_NEWEST_TIMESTAMP: Final = """
    SELECT tree_size, checkpoint.note, stamp.token, stamp.gen_time, stamp.recorded_at
      FROM log_timestamps AS stamp
      JOIN log_checkpoints AS checkpoint USING (tree_size)
  ORDER BY tree_size DESC
     LIMIT 1
"""


async def find_newest_timestamp(connection: Connection) -> StoredTimestamp | None:
    """Return the newest time stamp; None before the first."""
    row = await connection.fetchrow(FIND_NEWEST_TIMESTAMP)
    return None if row is None else StoredTimestamp(**row)


FIND_COVERING_TIMESTAMP: Final = """
    SELECT tree_size, checkpoint.note, stamp.token, stamp.gen_time, stamp.recorded_at
      FROM log_timestamps AS stamp
      JOIN log_checkpoints AS checkpoint USING (tree_size)
     WHERE tree_size > $1
  ORDER BY tree_size
     LIMIT 1
"""


async def find_covering_timestamp(connection: Connection, log_index: int) -> StoredTimestamp | None:
    """Return the oldest time stamp over an index: the nearest to when it was logged."""
    row = await connection.fetchrow(FIND_COVERING_TIMESTAMP, log_index)
    return None if row is None else StoredTimestamp(**row)


INSERT_TIMESTAMP: Final = """
    INSERT INTO log_timestamps (tree_size, token, gen_time, recorded_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT ON CONSTRAINT log_timestamps_pkey DO NOTHING
 RETURNING tree_size
"""


async def insert_timestamp(connection: Connection, stamped: StoredTimestamp) -> bool:
    """Record a time stamp; False when the checkpoint has one already."""
    row = await connection.fetchrow(
        INSERT_TIMESTAMP, stamped.tree_size, stamped.token, stamped.gen_time, stamped.recorded_at
    )
    return row is not None


@dataclass(frozen=True, slots=True)
class PlacedLeaf:
    """A leaf and its place in the log; leaf_index is None while it waits for one."""

    leaf: bytes
    leaf_index: int | None


FIND_CLIP_LEAF: Final = """
    SELECT event.leaf, placed.leaf_index
      FROM custody_events AS event
 LEFT JOIN log_leaves AS placed USING (event_id)
     WHERE event.clip_id = $1
       AND event.type = $2
  ORDER BY event.clip_seq DESC
     LIMIT 1
"""


async def find_clip_leaf(
    connection: Connection, clip_id: UUID, event_type: str
) -> PlacedLeaf | None:
    """Return the newest leaf of a type in a clip's chain; None when there is none."""
    row = await connection.fetchrow(FIND_CLIP_LEAF, clip_id, event_type)
    return None if row is None else PlacedLeaf(**row)


LIST_LEAVES: Final = """
    SELECT event.event_id, event.clip_id, event.clip_seq, event.type, event.recorded_at,
           event.actor_kind, event.actor_id, event.device_serial, event.leaf, event.leaf_hash
      FROM log_leaves AS leaf
      JOIN custody_events AS event USING (event_id)
     WHERE leaf.leaf_index >= $1
       AND leaf.leaf_index < $2
  ORDER BY leaf.leaf_index
"""


async def list_leaves(connection: Connection, start: int, stop: int) -> list[CustodyEvent]:
    """Return the events with log index from start up to stop (exclusive), in log order."""
    return [CustodyEvent(**row) for row in await connection.fetch(LIST_LEAVES, start, stop)]


def tile_width(tile: bytes) -> int:
    """Return how many hashes a tile holds."""
    return len(tile) // HASH_BYTES
