"""Read sealed clips back; several at once, oldest first."""

from datetime import datetime
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.compute_retention import Dating
from ingest_service.actions.read_back_clip import read_back_claimed
from ingest_service.domain.clip import Clip
from ingest_service.ledger.clips import claim_read_backs
from ingest_service.ledger.connection import reading
from ingest_service.resources import Resources
from ingest_service.tracing import spans

log = structlog.get_logger()
# Besides the time for its size, a claim lasts this long; then another worker may take the clip.
_CLAIM_S = 20.0
_TO_SECURE: Final = telemetry.tally(telemetry.TIME_TO_SECURE)
_AT_RISK: Final = telemetry.tally(telemetry.TIME_AT_RISK)


async def read_back_next(opened: Resources) -> int:
    """Read the oldest sealed clip back; returns how many were due."""
    policies = await opened.policies.list_in_force(opened.pool, opened.now())
    dating = Dating(policies, opened.retention)
    async with reading(opened.pool) as connection:
        claimed = await claim_read_backs(
            connection,
            limit=1,
            claim_s=_CLAIM_S,
            yield_s=opened.jobs.read_back_yield_s,
            expires_after_s=opened.rules.expires_after.total_seconds(),
        )
    for clip in claimed:
        clip_id = clip.clip_id
        spans.describe(clip_id=clip_id, upload_id=clip.upload_id)
        state = await read_back_claimed(
            clip,
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            lock=opened.jobs.object_lock,
            dating=dating,
        )
        if state is not None:
            telemetry.READ_BACK_BYTES.inc(clip.size_bytes or 0)
        if state == "secured":
            telemetry.CLIPS_SECURED.inc()
            _note_times(clip, opened.now())
            telemetry.SECURED_BYTES.inc(clip.size_bytes or 0)
            log.info("clip_secured", clip_id=str(clip_id))
        elif state == "quarantined":
            telemetry.CLIPS_QUARANTINED.inc()
            log.error("clip_quarantined", clip_id=str(clip_id))
    return len(claimed)


def _note_times(clip: Clip, secured_at: datetime) -> None:
    sealed_at = clip.sealed_at or secured_at
    # Times of two machines: a clock that runs behind makes none of them negative.
    _TO_SECURE.note(max(0.0, (secured_at - sealed_at).total_seconds()))
    _AT_RISK.note(max(0.0, (secured_at - clip.announced_at).total_seconds()))
