"""Collect: let second parties cosign the newest published checkpoint."""

import asyncio
from functools import partial
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.domain.checkpoint import SignedCheckpoint, parse_checkpoint
from ingest_service.domain.merkle import prove_consistency
from ingest_service.ledger import log
from ingest_service.ledger.connection import Pool, reading
from ingest_service.notary.witnesses import (
    WitnessDisagrees,
    Witnesses,
    WitnessFailed,
    WitnessPost,
)

_LOG: Final = structlog.get_logger("ingest.witnesses")


async def collect_cosignatures(*, pool: Pool, witnesses: Witnesses) -> int:
    """Ask every witness that has not cosigned the newest published checkpoint; count the new ones.

    A witness that is away holds up nobody: it is asked again later, about the newest one then.

    Raises:
        LedgerUnavailable: what was not recorded is asked for again.
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
    return sum(answers)


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
