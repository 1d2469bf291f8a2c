"""Look into secured clips, one after the other, behind whatever comes in."""

from datetime import timedelta
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.probe_clip import claim_next, probe_clip
from ingest_service.actions.queue_probes import EVENTS_MAX, queue_probes
from ingest_service.jobs.compute_retention import yields
from ingest_service.ledger.connection import reading
from ingest_service.ledger.media import is_securing
from ingest_service.resources import Resources
from ingest_service.tracing import spans

log = structlog.get_logger()
_WAIT_WHILE_RECEIVING: Final = timedelta(hours=1)


async def probe_next_media(opened: Resources) -> int:
    """Probe the clip that has waited longest; return 0 when there is none, or no hurry.

    While footage comes in, only those that have waited for an hour are probed, and not at once
    one after the other.
    """
    limits = opened.jobs.probe
    if limits is None:
        return 0
    read = await queue_probes(pool=opened.pool, now=opened.now)
    is_busy = await _yields(opened)
    waited = _WAIT_WHILE_RECEIVING if is_busy else timedelta()
    claim = await claim_next(pool=opened.pool, now=opened.now, limits=limits, waited=waited)
    if claim is None:
        # The log always grows a little; only a long way to go is work that is left.
        return 1 if read == EVENTS_MAX and not is_busy else 0
    spans.describe(clip_id=claim.clip_id)
    facts = await probe_clip(
        claim, pool=opened.pool, vault=opened.vault, now=opened.now, limits=limits
    )
    if facts is not None:
        telemetry.MEDIA_PROBES.labels("flagged" if facts.flags else "clean").inc()
        telemetry.MEDIA_PROBE_BYTES.inc(facts.bytes_read)
        log.info(
            "media_probed",
            clip_id=str(claim.clip_id),
            container=facts.container,
            codec=facts.codec,
            media_flags=facts.flags,
            bytes_read=facts.bytes_read,
        )
    return 0 if is_busy else 1


async def _yields(opened: Resources) -> bool:
    """Tell whether footage comes in: large clips move, or small ones were secured just now."""
    wait_s = opened.jobs.read_back_yield_s
    if wait_s == 0:
        return False
    async with reading(opened.pool) as connection:
        if await is_securing(connection, opened.now() - timedelta(seconds=wait_s)):
            return True
    return await yields(opened)
