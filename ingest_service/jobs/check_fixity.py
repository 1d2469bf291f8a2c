"""Read retained objects again, so that each is checked within the days that are set."""

import asyncio
import time
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.check_fixity import check_fixity
from ingest_service.jobs.compute_retention import yields
from ingest_service.ledger.connection import reading
from ingest_service.ledger.fixity import claim_fixity, find_oldest_age
from ingest_service.resources import Resources
from ingest_service.tracing import spans

log = structlog.get_logger()
# A claim lasts so much longer than the reading within the budget should take.
_CLAIM_S: Final = 600.0
# Begun at half the time, so that what came in on one day need not be read on one day.
_BEGIN_AT: Final = 0.5
# While footage comes in it waits as read-backs do, but not until it is late: then the store has a
# quarter of the time left, however long docks go on.
_BEGIN_AT_WHILE_RECEIVING: Final = 0.75


class Pace:
    """Keeps a reader within so many bytes a second."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = time.monotonic()

    async def __call__(self, count: int) -> None:
        """Wait until the next block may be asked for."""
        now = time.monotonic()
        # Time that was not used is not saved up.
        self._free_at = max(self._free_at, now) + count / self._bytes_per_s
        await asyncio.sleep(self._free_at - now)


async def check_next_fixity(opened: Resources) -> int:
    """Read the object that was read longest ago, if it is due; return how many were.

    While footage comes in, what can still wait does.
    """
    rules = opened.jobs
    begin_at = _BEGIN_AT_WHILE_RECEIVING if await yields(opened) else _BEGIN_AT
    async with reading(opened.pool) as connection:
        telemetry.FIXITY_OLDEST_S.set(await find_oldest_age(connection) or 0.0)
        clip = await claim_fixity(
            connection,
            due_after_s=rules.fixity_interval_s * begin_at,
            claim_s=_CLAIM_S,
            bytes_per_s=rules.fixity_bytes_per_s,
        )
    if clip is None:
        return 0
    spans.describe(clip_id=clip.clip_id)
    result = await check_fixity(
        clip,
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        pace=Pace(rules.fixity_bytes_per_s),
    )
    if result is None:
        return 1
    telemetry.FIXITY_CHECKS.labels(result).inc()
    telemetry.FIXITY_BYTES.inc(clip.size_bytes or 0)
    if result == "match":
        log.info("fixity_checked", clip_id=str(clip.clip_id), result=result)
    else:
        # Pages a human: the bytes of evidence are not what they were, or are gone.
        log.error(
            "fixity_failed",
            clip_id=str(clip.clip_id),
            result=result,
            object_key=clip.object_key,
            object_version=clip.object_version,
        )
    return 1
