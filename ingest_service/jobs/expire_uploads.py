"""Clear away uploads that their docks abandoned; the camera still has its copy."""

import structlog

from ingest_service import telemetry
from ingest_service.actions.end_upload import expire_upload
from ingest_service.actions.publish_checkpoint import is_deletion_safe
from ingest_service.jobs.name_upload import name_upload
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import list_expired
from ingest_service.resources import Resources
from ingest_service.tracing import spans

log = structlog.get_logger()
_BATCH = 20


async def expire_uploads(opened: Resources) -> int:
    """Expire a batch of uploads; returns how many were cleared."""
    if not await is_deletion_safe(pool=opened.pool, vault=opened.vault, signer=opened.signer):
        log.critical(
            "nothing_deleted",
            reason="the ledger is not the one that was published, or some of that is lost",
        )
        return 0
    async with reading(opened.pool) as connection:
        due = await list_expired(connection, limit=_BATCH)
    cleared = 0
    for upload_id in due:
        with spans.step("expire_upload", upload_id=upload_id):
            is_expired = await expire_upload(
                upload_id, pool=opened.pool, vault=opened.vault, now=opened.now
            )
        if is_expired:
            cleared += 1
            telemetry.UPLOADS_EXPIRED.inc()
            log.info("upload_expired", **await name_upload(upload_id, pool=opened.pool))
    return cleared
