"""Once a day: a time authority's word on the newest checkpoint."""

from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.stamp_checkpoint import stamp_checkpoint
from ingest_service.notary.timestamps import AuthorityFailed
from ingest_service.resources import Resources

_LOG: Final = structlog.get_logger("ingest.timestamps")


async def stamp_when_due(opened: Resources) -> int:
    """Look whether a time stamp is due, and get it; there is never more than one to get."""
    if opened.time_authority is None:
        return 0
    try:
        stamped = await stamp_checkpoint(
            pool=opened.pool,
            vault=opened.vault,
            authority=opened.time_authority,
            now=opened.now,
            lock=opened.jobs.object_lock,
        )
    except AuthorityFailed as failed:
        telemetry.TIMESTAMPS.labels("failed").inc()
        _LOG.warning("timestamp_failed", reason=str(failed))
        return 0
    if stamped is not None:
        telemetry.TIMESTAMPS.labels("kept").inc()
        _LOG.info("timestamp_kept", tree_size=stamped.tree_size)
    return 0
