"""Queue probes: the log says which clips were secured."""

from typing import Final

from ingest_service.domain.clock import Clock
from ingest_service.ledger import media, retention
from ingest_service.ledger.connection import Pool, writing

_SECURING: Final = ("clip.secured", "clip.restored", "quarantine.resolved")
EVENTS_MAX: Final = 2000


async def queue_probes(*, pool: Pool, now: Clock) -> int:
    """Queue the clips that the next events of the log call secured; return how many were read.

    Raises:
        LedgerUnavailable: nothing was queued; the next pass begins where this one did.
    """
    async with writing(pool) as connection:
        log_index = await media.lock_cursor(connection)
        if log_index is None:
            return 0
        next_index, secured = await retention.list_touched(
            connection, log_index, _SECURING, limit=EVENTS_MAX
        )
        if next_index == log_index:
            return 0
        if secured:
            await media.queue_probes(connection, secured, now())
        await media.set_cursor(connection, next_index)
        return next_index - log_index
