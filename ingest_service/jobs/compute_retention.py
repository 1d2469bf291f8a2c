"""Compute when clips are to be erased, in batches, behind whatever comes in."""

from ingest_service import telemetry
from ingest_service.actions.compute_retention import compute_next
from ingest_service.ledger.connection import reading
from ingest_service.ledger.retention import is_receiving
from ingest_service.resources import Resources


async def compute_retention(opened: Resources) -> int:
    """Compute a batch; returns how much was looked at, 0 while footage comes in."""
    looked_at = await compute_next(pool=opened.pool, rules=opened.retention, now=opened.now)
    telemetry.CLIPS_COMPUTED.inc(looked_at)
    return 0 if await yields(opened) else looked_at


async def yields(opened: Resources) -> bool:
    """Tell whether footage comes in, so that what is not urgent takes one step at a time."""
    if opened.jobs.read_back_yield_s == 0:
        return False
    async with reading(opened.pool) as connection:
        return await is_receiving(
            connection, expires_after_s=opened.rules.expires_after.total_seconds()
        )
