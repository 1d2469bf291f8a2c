"""Remove what overtaken or dead writers left in the vault."""

import structlog

from ingest_service.actions.end_upload import sweep_upload
from ingest_service.actions.publish_checkpoint import is_deletion_safe
from ingest_service.jobs.name_upload import name_upload
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import claim_sweeps
from ingest_service.resources import Resources

log = structlog.get_logger()
_BATCH = 20


async def sweep_leftovers(opened: Resources) -> int:
    """Sweep a batch of ended uploads; returns how many were swept."""
    if not await is_deletion_safe(pool=opened.pool, vault=opened.vault, signer=opened.signer):
        log.critical(
            "nothing_deleted",
            reason="the ledger is not the one that was published, or some of that is lost",
        )
        return 0
    async with reading(opened.pool) as connection:
        claimed = await claim_sweeps(connection, limit=_BATCH)
    for upload_id in claimed:
        removed = await sweep_upload(upload_id, pool=opened.pool, vault=opened.vault)
        if removed:
            names = await name_upload(upload_id, pool=opened.pool)
            log.info("leftovers_swept", removed=removed, **names)
    return len(claimed)
