"""Recall: what was said of a clip, and what was believed of it at a time."""

from datetime import datetime

from ingest_service.domain.assertion import Assertion, believe_at, list_all
from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import format_time
from ingest_service.errors import NotYetKnown
from ingest_service.ledger import assertions
from ingest_service.ledger.connection import Pool, reading


async def list_history(clip: Clip, *, pool: Pool) -> list[Assertion]:
    """Return all that was said of a clip, oldest first, the announcement included."""
    async with reading(pool) as connection:
        later = await assertions.list_assertions(connection, clip.clip_id)
    return list_all(clip, later)


async def recall_clip(clip: Clip, moment: datetime, *, pool: Pool) -> Clip:
    """Return the clip with its asserted fields as they were believed at a moment.

    Raises:
        NotYetKnown: the clip was announced later.
    """
    if moment < clip.announced_at:
        raise NotYetKnown(clip.clip_id, format_time(clip.announced_at))
    async with reading(pool) as connection:
        later = await assertions.list_assertions(connection, clip.clip_id)
    return believe_at(clip, later, moment)
