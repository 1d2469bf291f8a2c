"""The ids under which the log tells of an upload, so that its story is found by either."""

from uuid import UUID

from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.uploads import find_upload


async def name_upload(upload_id: UUID, *, pool: Pool) -> dict[str, str]:
    """Return the fields that name an upload and, unless it is a partial, its clip.

    Raises:
        LedgerUnavailable: nothing was changed.
    """
    async with reading(pool) as connection:
        upload = await find_upload(connection, upload_id)
    names = {"upload_id": str(upload_id)}
    if upload is not None and upload.clip_id is not None:
        names["clip_id"] = str(upload.clip_id)
    return names
