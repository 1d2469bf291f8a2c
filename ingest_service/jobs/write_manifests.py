"""Give settled clips the manifest object that they lack."""

import structlog

from ingest_service.actions.store_manifest import add_manifest
from ingest_service.ledger.connection import reading
from ingest_service.ledger.manifests import list_without_manifest
from ingest_service.resources import Resources

log = structlog.get_logger()
_BATCH = 50


async def write_manifests(opened: Resources) -> int:
    """Write a batch of manifests: of clips quarantined at the seal, or older than manifests.

    The read-back writes that of every other clip itself.
    """
    async with reading(opened.pool) as connection:
        due = await list_without_manifest(connection, limit=_BATCH)
    written = 0
    for clip_id in due:
        written += await add_manifest(
            clip_id,
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            lock=opened.jobs.object_lock,
        )
    if written:
        log.info("manifests_written", count=written)
    return written
