"""Join partials whose process died, or whose vault did not answer."""

import structlog

from ingest_service.actions.join_partials import join_partials
from ingest_service.errors import StoredBytesLost
from ingest_service.jobs.name_upload import name_upload
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import list_due_joins
from ingest_service.resources import Resources
from ingest_service.tracing import spans

log = structlog.get_logger()
_BATCH = 5


async def join_due_partials(opened: Resources) -> int:
    """Drive a batch of joins; returns how many came to their end."""
    async with reading(opened.pool) as connection:
        due = await list_due_joins(connection, limit=_BATCH)
    joined = 0
    for upload_id in due:
        try:
            with spans.step("join_partials", upload_id=upload_id):
                done = await join_partials(
                    upload_id,
                    pool=opened.pool,
                    vault=opened.vault,
                    holders=opened.holders,
                    budget=opened.budget,
                    rules=opened.rules,
                    now=opened.now,
                )
        except StoredBytesLost as lost:
            log.error(  # noqa: TRY400  the reason says all; the clip is quarantined with it
                "stored_bytes_lost",
                reason=lost.reason,
                **await name_upload(upload_id, pool=opened.pool),
            )
            continue
        if done:
            joined += 1
            log.info("partials_joined", **await name_upload(upload_id, pool=opened.pool))
    return joined
