"""Drive on uploads whose finishing was left by whoever began it."""

import structlog

from ingest_service import telemetry
from ingest_service.actions.finish_upload import finish_upload
from ingest_service.errors import StoredBytesLost
from ingest_service.jobs.name_upload import name_upload
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import list_due_finishes
from ingest_service.resources import Resources
from ingest_service.tracing import spans

log = structlog.get_logger()
_BATCH = 20


async def finish_uploads(opened: Resources) -> int:
    """Finish a batch of uploads; returns how many were due."""
    async with reading(opened.pool) as connection:
        due = await list_due_finishes(connection, limit=_BATCH)
    for upload_id in due:
        try:
            with spans.step("finish_upload", upload_id=upload_id):
                done = await finish_upload(
                    upload_id, pool=opened.pool, vault=opened.vault, now=opened.now
                )
        except StoredBytesLost as lost:
            telemetry.UPLOADS_FAILED.inc()
            log.error(  # noqa: TRY400  the reason says all; the clip is quarantined with it
                "stored_bytes_lost",
                reason=lost.reason,
                **await name_upload(upload_id, pool=opened.pool),
            )
            continue
        if done:
            log.info("upload_finished", **await name_upload(upload_id, pool=opened.pool))
    return len(due)
