"""Collect: let second parties cosign the newest published checkpoint."""

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.lock_object import lock_object
from ingest_service.domain.checkpoint import SignedCheckpoint, parse_checkpoint
from ingest_service.domain.log_paths import cosigned_key
from ingest_service.domain.merkle import prove_consistency
from ingest_service.domain.retention import LockTerm
from ingest_service.ledger import log
from ingest_service.ledger.connection import Pool, reading
from ingest_service.notary.witnesses import (
    WitnessDisagrees,
    Witnesses,
    WitnessFailed,
    WitnessPost,
)
from ingest_service.vault import Vault

_LOG: Final = structlog.get_logger("ingest.witnesses")


async def collect_cosignatures(
    *, pool: Pool, vault: Vault, witnesses: Witnesses, term: LockTerm | None = None
) -> int:
    """Ask every witness that has not cosigned the newest published checkpoint; count the new ones.

    A witness that is away holds up nobody: it is asked again later, about the newest one then.
    Once enough have cosigned, their lines go to the bucket beside the checkpoint.

    term  for which the store is to refuse to delete them there

    Raises:
        LedgerUnavailable: what was not recorded is asked for again.
        VaultUnavailable: what was recorded is published by a later call.
    """
    if not witnesses.posts:
        return 0
    async with reading(pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
        if newest is None:
            return 0
        done = await log.list_cosignatures(connection, newest.tree_size, witnesses.names)
    signed = parse_checkpoint(newest.note)
    answers = await asyncio.gather(
        *(_ask(post, signed, pool, witnesses) for post in witnesses.list_due(done))
    )
    if any(answers):
        async with reading(pool) as connection:
            done = await log.list_cosignatures(connection, newest.tree_size, witnesses.names)
    await _publish_cosigned(signed, done.values(), vault, witnesses, term)
    return sum(answers)


async def _publish_cosigned(
    signed: SignedCheckpoint,
    lines: Collection[str],
    vault: Vault,
    witnesses: Witnesses,
    term: LockTerm | None,
) -> None:
    """Store the newest checkpoint with its cosignatures, once, when there are enough.

    Receipts do not wait for it: they carry the lines themselves. It is for a rebuild, and for
    whoever has the bucket alone. The first ones stand; a witness that comes later adds nothing.
    """
    size = signed.checkpoint.size
    if size <= witnesses.published_size or len(lines) < max(1, witnesses.policy.quorum):
        return
    key = cosigned_key(size)
    stored = await vault.put_new(key, (signed.text + "".join(lines)).encode())
    # Taken: another process was here, and may have died before the lock.
    await lock_object(key, None if stored is None else stored.version, term=term, vault=vault)
    witnesses.published_size = size


async def _ask(
    post: WitnessPost, signed: SignedCheckpoint, pool: Pool, witnesses: Witnesses
) -> bool:
    name, size = post.key.name, signed.checkpoint.size
    try:
        # Twice: the first answer may only tell how far the witness has seen.
        line = await _ask_once(post, signed, pool, witnesses)
        line = line or await _ask_once(post, signed, pool, witnesses)
    except WitnessDisagrees as disagreement:
        telemetry.WITNESS_ANSWERS.labels(name, "disagrees").inc()
        _LOG.critical("witness_disagrees", witness=name, tree_size=size, reason=str(disagreement))
        return False
    except WitnessFailed as failed:
        telemetry.WITNESS_ANSWERS.labels(name, "failed").inc()
        _LOG.warning("witness_failed", witness=name, tree_size=size, reason=str(failed))
        return False
    if line is None:
        return False
    async with reading(pool) as connection:
        await log.insert_cosignature(connection, size, name, line)
    telemetry.WITNESS_ANSWERS.labels(name, "cosigned").inc()
    return True


async def _ask_once(
    post: WitnessPost, signed: SignedCheckpoint, pool: Pool, witnesses: Witnesses
) -> str | None:
    size = signed.checkpoint.size
    if post.known_size > size:
        known_size, post.known_size = post.known_size, 0
        reason = f"it has cosigned {known_size} leaves, {size} are published here"
        raise witnesses.rest(post, reason, WitnessDisagrees)
    async with reading(pool) as connection:
        read_tiles = partial(log.read_tiles, connection)
        path = await prove_consistency(post.known_size, size, read_tiles)
    return await witnesses.ask(post, signed, path)
