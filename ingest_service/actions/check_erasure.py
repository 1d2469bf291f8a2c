"""Tell bytes that are missing from bytes that were erased."""

from uuid import UUID

from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.lifecycle import list_living


async def is_being_erased(clip_id: UUID, *, pool: Pool) -> bool:
    """Tell whether a clip's bytes are gone by intent, or may be at any moment.

    Asked by whoever has just not found them: it is no loss then, and nobody is paged.
    """
    async with reading(pool) as connection:
        living = await list_living(connection, [clip_id])
    return any(clip.phase in ("intended", "executed") for clip in living)
