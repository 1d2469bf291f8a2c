"""See to the ends of disclosures, behind whatever comes in."""

import structlog

from ingest_service.actions.settle_disclosure import settle_due_disclosures
from ingest_service.jobs.compute_retention import yields
from ingest_service.resources import Resources

log = structlog.get_logger()


async def settle_disclosures(opened: Resources) -> int:
    """Settle a batch; returns how many there were, 0 while footage comes in."""
    settled = await settle_due_disclosures(
        pool=opened.pool,
        now=opened.now,
        disclosing=opened.disclosing,
        rules=opened.retention,
        locks_objects=opened.locks_objects,
    )
    if settled:
        log.info("disclosures_settled", disclosures=settled)
    return 0 if await yields(opened) else settled
