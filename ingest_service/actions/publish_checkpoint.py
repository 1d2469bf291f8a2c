"""Publish: what the log is, outside the database, where its administrator cannot take it back."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from ingest_service.domain.checkpoint import (
    SignedCheckpoint,
    parse_checkpoint,
    verify_any,
)
from ingest_service.domain.log_paths import (
    CHECKPOINTS_PREFIX,
    bundle_entries,
    checkpoint_key,
    leaves_key,
    parse_checkpoint_key,
    tile_path,
)
from ingest_service.domain.merkle import (
    TILE_HEIGHT,
    TILE_WIDTH,
    ProofInvalid,
    TileId,
    compute_root,
)
from ingest_service.domain.note import NoteInvalid, parse_verifier_key
from ingest_service.errors import LogForked, StoredBytesLost
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.signer import Signer, list_verifier_keys
from ingest_service.vault import Vault

BATCH_MAX: Final = 32


async def check_published(*, pool: Pool, vault: Vault, signer: Signer) -> None:
    """Compare the ledger's log with the newest checkpoint that was ever published.

    Run on taking the lead: a ledger restored from a backup must refuse to go on, or it would
    sign a second history over the same indices. So must one whose bucket lost what was published:
    there is nothing left then that a restored ledger could be told by.

    Raises:
        LogForked: the ledger's log is shorter than, or differs from, what was published, or what
            the ledger has published is gone.
        VaultUnavailable, LedgerUnavailable: not known; nothing may be sequenced yet.
    """
    # The ledger first: what it calls published by now must be there afterwards.
    async with reading(pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
    published = await find_published(vault=vault, signer=signer)
    found_size = 0 if published is None else published.checkpoint.size
    if newest is not None and newest.tree_size > found_size:
        reason = f"{newest.tree_size} leaves were published, the bucket knows of {found_size}"
        raise LogForked(reason)
    if published is None:
        return
    checkpoint = published.checkpoint
    async with reading(pool) as connection:
        size = await log.get_size(connection)
        if size < checkpoint.size:
            reason = f"the ledger holds {size} leaves, {checkpoint.size} were published"
            raise LogForked(reason)
        root = await _root_at(connection, checkpoint.size)
    if root != checkpoint.root:
        reason = f"the ledger's first {checkpoint.size} leaves are not the published ones"
        raise LogForked(reason)


async def is_deletion_safe(*, pool: Pool, vault: Vault, signer: Signer) -> bool:
    """Tell whether the ledger knows everything that was ever published.

    One that was restored from a backup takes clips that were secured since for abandoned ones.

    Raises:
        VaultUnavailable, LedgerUnavailable: not known; nothing may be deleted yet.
    """
    try:
        await check_published(pool=pool, vault=vault, signer=signer)
    except LogForked:
        return False
    return True


async def _root_at(connection: Connection, size: int) -> bytes:
    try:
        return await compute_root(size, partial(log.read_tiles, connection))
    except ProofInvalid:
        return b""


async def find_published(*, vault: Vault, signer: Signer) -> SignedCheckpoint | None:
    """Return the newest published checkpoint, its signature checked; None before the first.

    Raises:
        LogForked: what is published there is not signed by this log's key.
    """
    key = await vault.find_first_key(CHECKPOINTS_PREFIX)
    if key is None:
        return None
    text = b"".join([block async for block in vault.read(key, None)]).decode("utf-8", "replace")
    try:
        signed = parse_checkpoint(text)
        verify_any(signed, [parse_verifier_key(key) for key in list_verifier_keys(signer)])
    except NoteInvalid as error:
        reason = f"the published checkpoint {key} is not of this log: {error}"
        raise LogForked(reason) from error
    return signed


async def publish_checkpoints(*, pool: Pool, vault: Vault) -> int:
    """Publish what waits: leaves and full tiles first, then the checkpoint that covers them.

    Returns how many checkpoints were published now.

    Raises:
        LogForked: another content was published under the same size; nothing more goes out.
        VaultUnavailable, LedgerUnavailable: the rest waits; doing it again does no harm.
    """
    async with reading(pool) as connection:
        waiting = await log.list_unpublished(connection, limit=BATCH_MAX)
        newest = await log.find_newest_checkpoint(connection, only_published=True)
    start = 0 if newest is None else newest.tree_size
    if waiting:
        await _check_newest(start, waiting, pool, vault)
    for checkpoint in waiting:
        await _publish_leaves(start, checkpoint.tree_size, pool, vault)
        await _publish_tiles(start, checkpoint.tree_size, pool, vault)
        await _put_same(checkpoint_key(checkpoint.tree_size), checkpoint.note.encode(), vault)
        # A crash here publishes the same bytes once more.
        async with reading(pool) as connection:
            await log.mark_published(connection, checkpoint.tree_size, checkpoint.note)
        start = checkpoint.tree_size
    return len(waiting)


async def _check_newest(
    start: int, waiting: Sequence[log.StoredCheckpoint], pool: Pool, vault: Vault
) -> None:
    """Check that the newest published checkpoint is one of this ledger's.

    A fork with batches of other sizes would find every name free; and what it puts beside the
    published leaves, before it meets a name that is taken, would be in the way of a rebuild.

    Raises:
        LogForked: another ledger has published since.
    """
    key = await vault.find_first_key(CHECKPOINTS_PREFIX)
    size = None if key is None else parse_checkpoint_key(key)
    if key is None or size == start:
        return
    ours = next((each for each in waiting if each.tree_size == size), None)
    if ours is None and size is not None:
        # Another process of this ledger may have published since the sizes were read.
        async with reading(pool) as connection:
            ours = await log.find_checkpoint(connection, size)
    if ours is not None:
        # Killed before it could be marked as published: then it is there, and the very same.
        await _put_same(key, ours.note.encode(), vault)
        return
    reason = f"{key} was published, and this ledger has no such checkpoint"
    raise LogForked(reason)


async def _publish_leaves(start: int, stop: int, pool: Pool, vault: Vault) -> None:
    async with reading(pool) as connection:
        events = await log.list_leaves(connection, start, stop)
    await _put_same(leaves_key(start, stop), bundle_entries([e.leaf for e in events]), vault)


async def _publish_tiles(start: int, stop: int, pool: Pool, vault: Vault) -> None:
    full: list[TileId] = []
    level, before, after = 0, start, stop
    while after >= TILE_WIDTH:
        full += [TileId(level, i) for i in range(before // TILE_WIDTH, after // TILE_WIDTH)]
        level, before, after = level + 1, before >> TILE_HEIGHT, after >> TILE_HEIGHT
    if full:
        async with reading(pool) as connection:
            tiles = await log.read_tiles(connection, full)
        for tile in full:
            await _put_same(f"log/{tile_path(tile)}", tiles[tile], vault)


async def _put_same(key: str, data: bytes, vault: Vault) -> None:
    """Store under a free key; a taken one must hold the very same bytes.

    Raises:
        LogForked: it holds others.
    """
    if await vault.put_new(key, data):
        return
    try:
        found = b"".join([block async for block in vault.read(key, None)])
    except StoredBytesLost as error:
        reason = f"{key} was published and is gone"
        raise LogForked(reason) from error
    if found != data:
        reason = f"{key} was published with another content"
        raise LogForked(reason)
