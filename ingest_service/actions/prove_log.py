"""Prove: that an event is in the log, and that the log only grew."""

from dataclasses import dataclass
from functools import partial
from uuid import UUID

from ingest_service.domain.checkpoint import format_proof, parse_checkpoint
from ingest_service.domain.custody import CustodyEvent
from ingest_service.domain.merkle import prove_consistency, prove_inclusion
from ingest_service.errors import InvalidLogRange, LogPartNotFound
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection, Pool, reading


@dataclass(frozen=True, slots=True)
class ProvenEvent:
    """An event with its place in the log and the tlog-proof@v1 text that shows it."""

    event: CustodyEvent
    log_index: int
    proof: str


async def prove_event(log_index: int, *, pool: Pool) -> ProvenEvent:
    """Return the event at an index with its proof under the newest published checkpoint.

    Raises:
        LogPartNotFound: no such index, or no published checkpoint covers it yet.
    """
    async with reading(pool) as connection:
        proof = await _prove(connection, log_index)
        events = await log.list_leaves(connection, log_index, log_index + 1)
    return ProvenEvent(events[0], log_index, proof)


async def find_proof(connection: Connection, event_id: UUID) -> str | None:
    """Return the proof of an event; None while no published checkpoint covers it."""
    log_index = await log.find_leaf_index(connection, event_id)
    if log_index is None:
        return None
    try:
        return await _prove(connection, log_index)
    except LogPartNotFound:
        return None


async def _prove(connection: Connection, log_index: int) -> str:
    newest = await log.find_newest_checkpoint(connection, only_published=True)
    if newest is None or not 0 <= log_index < newest.tree_size:
        reason = f"no published checkpoint covers index {log_index}"
        raise LogPartNotFound(reason)
    path = await prove_inclusion(log_index, newest.tree_size, partial(log.read_tiles, connection))
    return format_proof(log_index, path, newest.note)


async def prove_growth(old_size: int, new_size: int, *, pool: Pool) -> list[bytes]:
    """Return the consistency proof between two sizes (RFC 6962, section 2.1.2).

    Raises:
        InvalidLogRange: old_size > new_size, or the log is not that long.
    """
    if not 0 <= old_size <= new_size:
        reason = "from must not be larger than to"
        raise InvalidLogRange(reason)
    async with reading(pool) as connection:
        size = await log.get_size(connection)
        if new_size > size:
            reason = f"the log has {size} leaves"
            raise InvalidLogRange(reason)
        return await prove_consistency(old_size, new_size, partial(log.read_tiles, connection))


async def get_checkpoint(*, pool: Pool) -> str:
    """Return the newest published checkpoint, a signed note.

    Raises:
        LogPartNotFound: nothing was published yet.
    """
    async with reading(pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
    if newest is None:
        reason = "no checkpoint was published yet"
        raise LogPartNotFound(reason)
    return parse_checkpoint(newest.note).text
