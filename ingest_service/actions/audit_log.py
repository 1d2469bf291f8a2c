"""Audit of the log: every leaf hashed again, every tile and checkpoint compared."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from ingest_service.actions.audit_tools import AuditTools, read_object
from ingest_service.domain.audit import AuditState
from ingest_service.domain.checkpoint import parse_checkpoint, verify_any
from ingest_service.domain.custody import hash_leaf
from ingest_service.domain.log_paths import CHECKPOINTS_PREFIX, checkpoint_key, parse_checkpoint_key
from ingest_service.domain.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    Edge,
    TileId,
    split_hashes,
)
from ingest_service.domain.note import NoteInvalid
from ingest_service.errors import StoredBytesLost
from ingest_service.ledger import audit as rows
from ingest_service.ledger import log
from ingest_service.ledger.audit import LeafBatch
from ingest_service.ledger.connection import Pool, reading

BATCH_LEAVES: Final = 8192
# Batches that Postgres reads while this process hashes: both cores have work.
_AHEAD: Final = 2


async def audit_log(state: AuditState, tools: AuditTools) -> None:
    """Hash every leaf up to the audit's size; compare with tiles and published checkpoints.

    The bucket is asked for its checkpoints first: one that is larger than the ledger's log shows
    a ledger that was restored from an older dump.
    """
    start = int(state.cursor or 0)
    sizes = await _list_published(state, tools, is_start=start == 0)
    edge = Edge(start, dict(state.edge))
    if start == 0:
        await _check_sizes(state, tools, sizes)
    waiting = [size for size in sizes if start < size <= state.tree_size]
    async with aclosing(_read_ahead(tools.pool, start, state.tree_size)) as batches:
        async for stop, batch in batches:
            hashes = await _hash_leaves(state, tools, start, stop, batch)
            at = start
            while waiting and waiting[0] <= stop:
                size = waiting.pop(0)
                edge.extend(hashes[at - start : size - start])
                at = size
                await _check_checkpoint(state, tools, size, edge.root())
            edge.extend(hashes[at - start :])
            await _check_tiles(state, tools, edge.take_full())
            start = stop
            state.cursor, state.edge = str(start), edge.open_tiles()
            tools.tell("log", start, state.tree_size)
            tools.save(state)
    await _check_open_tiles(state, tools, edge)


async def _list_published(state: AuditState, tools: AuditTools, *, is_start: bool) -> list[int]:
    """Return the sizes of the checkpoints in the bucket, ascending."""
    sizes: list[int] = []
    async for key in tools.vault.list_keys(CHECKPOINTS_PREFIX):
        size = parse_checkpoint_key(key)
        if size is not None:
            sizes.append(size)
        elif is_start:
            state.add("published checkpoint", key, "this is not the key of a checkpoint")
    return sorted(sizes)


async def _check_sizes(state: AuditState, tools: AuditTools, sizes: list[int]) -> None:
    async with reading(tools.pool) as connection:
        expected = await rows.list_published_sizes(connection)
    for size in sorted(set(expected).difference(sizes)):
        if size <= state.tree_size:
            detail = "the ledger calls it published, the bucket does not have it"
            state.add("published checkpoint", checkpoint_key(size), detail)
    async with reading(tools.pool) as connection:
        # The log may have grown since the audit began, never shrunk.
        size_now = await log.get_size(connection)
    for size in sizes:
        if size > size_now:
            detail = f"{size} leaves were published, the ledger has {size_now}"
            state.add("published checkpoint", checkpoint_key(size), detail)


async def _read_ahead(
    pool: Pool, start: int, stop: int
) -> AsyncGenerator[tuple[int, LeafBatch], None]:
    """Yield batches in order, each with where it ends, reading the next ones meanwhile."""

    async def fetch(first: int, last: int) -> LeafBatch:
        async with reading(pool) as connection:
            return await rows.get_leaves(connection, first, last)

    tasks: deque[tuple[int, asyncio.Task[LeafBatch]]] = deque()
    try:
        for first in range(start, stop, BATCH_LEAVES):
            last = min(first + BATCH_LEAVES, stop)
            tasks.append((last, asyncio.create_task(fetch(first, last))))
            if len(tasks) > _AHEAD:
                end, task = tasks.popleft()
                yield end, await task
        while tasks:
            end, task = tasks.popleft()
            yield end, await task
    finally:
        for _, task in tasks:
            task.cancel()
        await asyncio.gather(*[task for _, task in tasks], return_exceptions=True)


async def _hash_leaves(
    state: AuditState, tools: AuditTools, start: int, stop: int, batch: LeafBatch
) -> list[bytes]:
    """Return the recomputed hash of each leaf; of one that is missing, what its tile says."""
    hashes = [hash_leaf(leaf) for leaf in batch.leaves]
    state.counts["leaves hashed"] += len(hashes)
    if hashes != batch.leaf_hashes:
        for index, found, stored in zip(batch.indices, hashes, batch.leaf_hashes, strict=True):
            if found != stored:
                state.add("leaf", str(index), "the stored hash is not the hash of the leaf")
    if len(hashes) == stop - start:
        return hashes
    return await _fill_gaps(
        state, tools, start, stop, dict(zip(batch.indices, hashes, strict=True))
    )


async def _fill_gaps(
    state: AuditState, tools: AuditTools, start: int, stop: int, present: dict[int, bytes]
) -> list[bytes]:
    first, last = start // TILE_WIDTH, (stop - 1) // TILE_WIDTH
    async with reading(tools.pool) as connection:
        tiles = await rows.list_tiles(connection, 0, first, last + 1)
    filled: list[bytes] = []
    for index in range(start, stop):
        found = present.get(index)
        if found is None:
            state.add("leaf", str(index), "there is no event with this index")
            tile = split_hashes(tiles.get(TileId(0, index // TILE_WIDTH), b""))
            at = index % TILE_WIDTH
            found = tile[at] if at < len(tile) else bytes(HASH_BYTES)
        filled.append(found)
    return filled


async def _check_checkpoint(state: AuditState, tools: AuditTools, size: int, root: bytes) -> None:
    key = checkpoint_key(size)
    state.counts["checkpoints compared"] += 1
    try:
        data = await read_object(tools.vault, key)
        signed = parse_checkpoint(data.decode("utf-8", "replace"))
        verify_any(signed, tools.keys)
    except StoredBytesLost:
        state.add("published checkpoint", key, "it is listed and cannot be read")
        return
    except NoteInvalid as error:
        state.add("published checkpoint", key, str(error))
        return
    if signed.checkpoint.size != size:
        state.add("published checkpoint", key, f"it is of {signed.checkpoint.size} leaves")
    elif signed.checkpoint.root != root:
        detail = f"the ledger's first {size} leaves do not have the root that was signed"
        state.add("published checkpoint", key, detail)


async def _check_tiles(state: AuditState, tools: AuditTools, tiles: dict[TileId, bytes]) -> None:
    if not tiles:
        return
    async with reading(tools.pool) as connection:
        stored = await log.read_tiles(connection, list(tiles))
    for tile, hashes in tiles.items():
        state.counts["tiles compared"] += 1
        if stored.get(tile) != hashes:
            _tell_tile(state, tile, hashes, stored.get(tile))


async def _check_open_tiles(state: AuditState, tools: AuditTools, edge: Edge) -> None:
    """Compare the right edge: the log may have grown, so the stored tile may be longer."""
    tiles = {
        TileId(level, (edge.size >> (8 * level)) // TILE_WIDTH): hashes
        for level, hashes in edge.open_tiles().items()
    }
    async with reading(tools.pool) as connection:
        stored = await log.read_tiles(connection, list(tiles))
    for tile, hashes in tiles.items():
        state.counts["tiles compared"] += 1
        if stored.get(tile, b"")[: len(hashes)] != hashes:
            _tell_tile(state, tile, hashes, stored.get(tile))


def _tell_tile(state: AuditState, tile: TileId, hashes: bytes, stored: bytes | None) -> None:
    subject = f"{tile.level}/{tile.index}"
    if stored is None:
        state.add("tile", subject, "it is missing")
        return
    differing = [
        str(tile.index * TILE_WIDTH + number)
        for number, (ours, theirs) in enumerate(
            zip(split_hashes(hashes), split_hashes(stored), strict=False)
        )
        if ours != theirs
    ]
    what = "leaf" if tile.level == 0 else "node"
    shown = ", ".join(differing[:8]) or "those that are cut off"
    state.add("tile", subject, f"it does not hold the hashes of the events: {what} {shown}")
