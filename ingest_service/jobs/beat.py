"""Tell /readyz that a worker is alive."""

from ingest_service.ledger.beats import beat, forget_beats
from ingest_service.ledger.connection import reading
from ingest_service.resources import Resources


async def beat_once(opened: Resources) -> int:
    """Leave a sign of life; there is never more of it to do at once."""
    async with reading(opened.pool) as connection:
        await beat(connection, opened.holders.name)
        await forget_beats(connection)
    return 0
