"""Keep a sample of what waits, for the charts of the last hour; one worker does it for all."""

from typing import Final

from ingest_service.actions.measure_operations import measure_backlog
from ingest_service.ledger.connection import reading
from ingest_service.ledger.operations import forget_samples, has_backlog, insert_backlog
from ingest_service.resources import Resources

EVERY_S: Final = 10.0
# Of several workers whoever comes first does it; the others come at other times.
_RECENT_S: Final = EVERY_S * 0.8


async def sample_backlog(opened: Resources) -> int:
    """Take a sample if nobody has lately; there is never more of it to do at once."""
    async with reading(opened.pool) as connection:
        if await has_backlog(connection, since_s=_RECENT_S):
            return 0
    backlog = await measure_backlog(
        pool=opened.pool,
        expires_after=opened.rules.expires_after,
        fixity_interval_s=opened.jobs.fixity_interval_s,
        now=opened.now,
    )
    async with reading(opened.pool) as connection:
        await insert_backlog(connection, backlog)
        await forget_samples(connection)
    return 0
