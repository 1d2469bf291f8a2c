"""Chase, announce and erase: each step in a batch, all of it behind whatever comes in."""

import structlog

from ingest_service import telemetry
from ingest_service.actions.chase_unclassified import chase_unclassified
from ingest_service.actions.erase_clips import execute_erasures, intend_erasures
from ingest_service.actions.forecast_erasure import make_forecast
from ingest_service.actions.halt_erasure import check_breaker
from ingest_service.actions.publish_checkpoint import is_deletion_safe
from ingest_service.actions.schedule_erasure import schedule_due
from ingest_service.actions.sync_legal_holds import sync_legal_holds
from ingest_service.jobs.compute_retention import yields
from ingest_service.ledger.connection import reading
from ingest_service.ledger.erasures import has_ready
from ingest_service.resources import Resources

log = structlog.get_logger()


async def enforce_retention(opened: Resources) -> int:
    """Do a batch of each; returns how many clips were chased, announced or erased."""
    pool, rules, now = opened.pool, opened.retention, opened.now
    if await make_forecast(pool=pool, now=now):
        log.info("erase_forecast_made")
    chased = await chase_unclassified(pool=pool, rules=rules, now=now)
    telemetry.EXPIRY_WARNED.inc(chased)
    halt = await check_breaker(pool=pool, rules=rules, now=now)
    telemetry.ERASING_HALTED.set(halt is not None)
    if halt is not None:
        log.critical("erasing_halted", halt_id=str(halt.halt_id), reason=halt.reason)
        return 0
    scheduled = await schedule_due(pool=pool, rules=rules, now=now)
    telemetry.ERASURES_SCHEDULED.inc(scheduled)
    erased = await erase_ready(opened)
    worked = chased + scheduled + erased
    return 0 if await yields(opened) else worked


async def erase_ready(opened: Resources) -> int:
    """Delete a batch of clips whose notice is over; returns how many were gone on with."""
    pool, vault, rules, now = opened.pool, opened.vault, opened.retention, opened.now
    async with reading(pool) as connection:
        if not await has_ready(connection, now()):
            return 0
    if not await is_deletion_safe(pool=pool, vault=vault, signer=opened.signer):
        log.critical(
            "nothing_deleted",
            reason="the ledger is not the one that was published, or some of that is lost",
        )
        return 0
    intended = await intend_erasures(pool=pool, rules=rules, now=now)
    erased = await execute_erasures(pool=pool, vault=vault, rules=rules, now=now)
    telemetry.ERASURES_EXECUTED.inc(erased.executed)
    telemetry.ERASURES_BLOCKED.inc(erased.blocked)
    if erased.executed:
        log.info("clips_erased", clips=erased.executed)
    if erased.blocked:
        log.error("erasure_blocked", clips=erased.blocked)
    return intended + erased.executed + erased.blocked


async def sync_holds(opened: Resources) -> int:
    """Make the store's legal holds what the ledger says; returns how many were looked at."""
    return await sync_legal_holds(pool=opened.pool, vault=opened.vault, now=opened.now)
