"""Publish: what the log is, outside the database, where its administrator cannot take it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

from ingest_service.actions.store_published import (
    Kept,
    alarm_mended,
    is_checkpoint,
    read_published,
    store_published,
)
from ingest_service.domain.checkpoint import (
    SignedCheckpoint,
    parse_checkpoint,
    verify_any,
)
from ingest_service.domain.log_paths import (
    CHECKPOINTS_PREFIX,
    LEAVES_PREFIX,
    bundle_entries,
    checkpoint_key,
    leaves_from,
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
from ingest_service.domain.retention import LockTerm
from ingest_service.errors import LogForked
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.signer import Signer, list_verifier_keys
from ingest_service.vault import Vault

BATCH_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Published:
    """What the bucket knows of the log.

    newest   the newest checkpoint that can be read, its signature checked
    damaged  keys of newer ones that are no checkpoints (any more): empty, torn, gone
    """

    newest: SignedCheckpoint | None
    damaged: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever published here."""
        return self.newest is None and not self.damaged


async def check_published(*, pool: Pool, vault: Vault, signer: Signer) -> bool:
    """Compare the ledger's log with what was ever published; return whether all of it is there.

    Run on taking the lead: a ledger restored from a backup must refuse to go on, or it would
    sign a second history over the same indices. So must one whose bucket holds nothing any more:
    that is another bucket, or there is nothing left by which a restored ledger could be told.
    What is merely lost, torn or empty proves no other history: `mend_published` restores it.

    Raises:
        LogForked: the ledger's log is shorter than, or differs from, what was published.
        VaultUnavailable, LedgerUnavailable: not known; nothing may be sequenced yet.
    """
    # The ledger first: what it calls published by now must be there afterwards.
    async with reading(pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
    published = await find_published(vault=vault, signer=signer)
    found_size = 0 if published.newest is None else published.newest.checkpoint.size
    size = 0 if newest is None else newest.tree_size
    if published.is_empty and size:
        reason = f"{size} leaves were published, the bucket knows of none"
        raise LogForked(reason)
    await _check_damaged(published, pool)
    if published.newest is not None:
        await _check_consistent(published.newest, pool)
    await _check_leaves(pool, vault)
    return found_size >= size and not published.damaged


async def _check_damaged(published: Published, pool: Pool) -> None:
    """Check that the ledger has what cannot be read in the bucket any more."""
    for key in published.damaged:
        size = parse_checkpoint_key(key)
        async with reading(pool) as connection:
            ours = None if size is None else await log.find_checkpoint(connection, size)
        if ours is None:
            reason = f"{key} cannot be read, and this ledger has no such checkpoint"
            raise LogForked(reason)


async def _check_leaves(pool: Pool, vault: Vault) -> None:
    """Check that no leaves were published beyond the ledger's.

    They are there before their checkpoint, and outlive one that is lost or was removed so that
    an older ledger would not be told by it.
    """
    async with reading(pool) as connection:
        size = await log.get_size(connection)
    key = await vault.find_first_key(LEAVES_PREFIX, after=leaves_from(size))
    if key is None:
        return
    # Another process of this ledger may have gone on meanwhile: what it published it has placed.
    async with reading(pool) as connection:
        size = await log.get_size(connection)
    if key > leaves_from(size):
        reason = f"{key} was published, the ledger holds {size} leaves"
        raise LogForked(reason)


async def _check_consistent(signed: SignedCheckpoint, pool: Pool) -> None:
    checkpoint = signed.checkpoint
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
    """Tell whether the ledger knows everything that was ever published, and the bucket has it.

    One that was restored from a backup takes clips that were secured since for abandoned ones;
    and where the bucket has lost some of the log, it may have lost what is about to be relied on.

    Raises:
        VaultUnavailable, LedgerUnavailable: not known; nothing may be deleted yet.
    """
    try:
        return await check_published(pool=pool, vault=vault, signer=signer)
    except LogForked:
        return False


async def _root_at(connection: Connection, size: int) -> bytes:
    try:
        return await compute_root(size, partial(log.read_tiles, connection))
    except ProofInvalid:
        return b""


async def find_published(*, vault: Vault, signer: Signer) -> Published:
    """Return what was published last.

    Raises:
        LogForked: the newest checkpoint there is not signed by this log's key.
    """
    key = await vault.find_first_key(CHECKPOINTS_PREFIX)
    damaged: list[str] = []
    while key is not None:
        content = await read_published(key, vault)
        if content is not None and is_checkpoint(content):
            return Published(_verify_own(key, content, signer), tuple(damaged))
        damaged.append(key)
        key = await vault.find_first_key(CHECKPOINTS_PREFIX, after=key)
    return Published(None, tuple(damaged))


def _verify_own(key: str, content: bytes, signer: Signer) -> SignedCheckpoint:
    try:
        signed = parse_checkpoint(content.decode("utf-8", "replace"))
        verify_any(signed, [parse_verifier_key(key) for key in list_verifier_keys(signer)])
    except NoteInvalid as error:
        reason = f"the published checkpoint {key} is not of this log: {error}"
        raise LogForked(reason) from error
    return signed


async def mend_published(*, pool: Pool, vault: Vault, term: LockTerm | None = None) -> int:
    """Publish again what the bucket has lost of the newest checkpoints; return how many parts.

    A store acknowledges before its disks have it: one that lost power comes back without its last
    seconds, or with names that hold nothing. Looked at are the last few checkpoints, and all that
    are newer than the newest one the bucket lists; `ingest audit` looks at everything.

    It is for a ledger that `check_published` has let pass, and opens nothing to a forked one: what
    a ledger can publish again, it could publish; what is under a name is never exchanged for
    other content (`store_published`).

    Raises:
        LogForked: another content was published under the same name.
        VaultUnavailable, LedgerUnavailable: the rest waits; doing it again does no harm.
    """
    key = await vault.find_first_key(CHECKPOINTS_PREFIX)
    listed = 0 if key is None else parse_checkpoint_key(key) or 0
    async with reading(pool) as connection:
        sizes = await log.list_newest_published(connection, listed, at_least=BATCH_MAX)
    mended = 0
    for start, stop in pairwise(sizes):
        async with reading(pool) as connection:
            ours = await log.find_checkpoint(connection, stop)
        if ours is None:
            continue
        # What is there was locked before it was marked as published: it is left as it is, for a
        # lock that is harder than today's setting can be exchanged for no other.
        published = await _publish_all(start, ours, pool, vault, term=term, locks_same=False)
        for part, kept in published:
            mended += kept != "same"
            if kept == "new":
                alarm_mended(part, "gone")
    return mended


async def publish_checkpoints(*, pool: Pool, vault: Vault, term: LockTerm | None = None) -> int:
    """Publish what waits: leaves and full tiles first, then the checkpoint that covers them.

    Returns how many checkpoints were published now.

    term  for which the store is to refuse to delete it, set before it counts as published

    Raises:
        LogForked: another content was published under the same size; nothing more goes out.
        VaultUnavailable, LedgerUnavailable: the rest waits; doing it again does no harm.
    """
    async with reading(pool) as connection:
        waiting = await log.list_unpublished(connection, limit=BATCH_MAX)
        newest = await log.find_newest_checkpoint(connection, only_published=True)
    start = 0 if newest is None else newest.tree_size
    # Another process may have published some of them since the list was read. The list came first:
    # so whatever lies between `start` and the rest is in it, and names of leaves follow gaplessly.
    waiting = [checkpoint for checkpoint in waiting if checkpoint.tree_size > start]
    if waiting:
        await _check_newest(start, waiting, pool, vault)
    for checkpoint in waiting:
        await _publish_all(start, checkpoint, pool, vault, term=term, locks_same=True)
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
        await store_published(key, ours.note.encode(), vault)
        return
    reason = f"{key} was published, and this ledger has no such checkpoint"
    raise LogForked(reason)


async def _publish_all(
    start: int,
    checkpoint: log.StoredCheckpoint,
    pool: Pool,
    vault: Vault,
    *,
    term: LockTerm | None,
    locks_same: bool,
) -> list[tuple[str, Kept]]:
    """Publish a checkpoint after all that it covers; return the names and what became of them."""
    stop = checkpoint.tree_size
    async with reading(pool) as connection:
        events = await log.list_leaves(connection, start, stop)
        tiles = await _read_full_tiles(connection, start, stop)
    parts = {leaves_key(start, stop): bundle_entries([event.leaf for event in events])}
    parts |= {f"log/{tile_path(tile)}": hashes for tile, hashes in tiles.items()}
    # The last one: what it covers is there when it is.
    parts[checkpoint_key(stop)] = checkpoint.note.encode()
    return [
        (key, await store_published(key, data, vault, term=term, locks_same=locks_same))
        for key, data in parts.items()
    ]


async def _read_full_tiles(connection: Connection, start: int, stop: int) -> dict[TileId, bytes]:
    full: list[TileId] = []
    level, before, after = 0, start, stop
    while after >= TILE_WIDTH:
        full += [TileId(level, i) for i in range(before // TILE_WIDTH, after // TILE_WIDTH)]
        level, before, after = level + 1, before >> TILE_HEIGHT, after >> TILE_HEIGHT
    return await log.read_tiles(connection, full) if full else {}
