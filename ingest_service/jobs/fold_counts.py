"""Fold the changes of counts into the counts, so that few are read beside them."""

from typing import Final

from ingest_service.ledger import counts
from ingest_service.ledger.connection import reading
from ingest_service.resources import Resources

_BATCH: Final = 5000


async def fold_counts(opened: Resources) -> int:
    """Fold a batch; returns how many changes there were."""
    async with reading(opened.pool) as connection:
        return await counts.fold_counts(connection, limit=_BATCH)
