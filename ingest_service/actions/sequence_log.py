"""Sequence: give waiting events their place in the log, and sign what the log is then."""

from dataclasses import dataclass, field
from typing import Final

from ingest_service.domain.checkpoint import Checkpoint, format_signature
from ingest_service.domain.clock import Clock
from ingest_service.domain.merkle import Edge, open_tiles
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.signer import Signer

BATCH_MAX: Final = 4096


@dataclass(slots=True)
class Sequencer:
    """The right edge of the log, kept between batches; the ledger decides whether it is right."""

    edge: Edge | None = field(default=None)


async def sequence_log(
    sequencer: Sequencer, *, pool: Pool, signer: Signer, now: Clock, limit: int = BATCH_MAX
) -> int:
    """Append one batch of waiting events in one transaction; return how many there were.

    Safe with any number of sequencers at once: the row lock makes them take turns, and each
    starts from the size that it finds. Nothing leaves the process before the commit: a
    checkpoint whose transaction failed was never seen by anyone.

    Raises:
        LedgerUnavailable: the batch may or may not be in the log; ask the ledger again.
    """
    edge: Edge | None = None
    try:
        async with writing(pool) as connection:
            size = await log.lock_size(connection)
            queued = await log.take_queued(connection, limit=limit)
            if not queued:
                return 0
            edge = await _get_edge(sequencer, size, connection)
            for leaf in queued:
                edge.append(leaf.leaf_hash)
            tiles = edge.take_changed()
            note = sign_checkpoint(Checkpoint(signer.name, edge.size, edge.root()), signer)
            await log.append_batch(
                connection, size, [leaf.event_id for leaf in queued], tiles, note, now()
            )
    except BaseException:
        # The edge ran ahead of what may not be committed: read it anew next time.
        sequencer.edge = None
        raise
    sequencer.edge = edge
    return len(queued)


async def _get_edge(sequencer: Sequencer, size: int, connection: Connection) -> Edge:
    if sequencer.edge is not None and sequencer.edge.size == size:
        return sequencer.edge
    tiles = await log.read_tiles(connection, open_tiles(size))
    return Edge(size, {tile.level: hashes for tile, hashes in tiles.items()})


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer) -> str:
    """Return the signed note of a checkpoint (C2SP signed-note).

    While keys are changed there are two lines: who has pinned either key goes on.
    """
    body = checkpoint.body()
    signers = [signer] if signer.second is None else [signer, signer.second]
    lines = [format_signature(each.name, each.key_id, each.sign(body.encode())) for each in signers]
    return f"{body}\n{''.join(lines)}"
