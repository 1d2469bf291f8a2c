"""Open the multipart upload that a clip's parts go to, once."""

from dataclasses import replace

from ingest_service.domain.upload import Upload, object_key_for
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault


async def open_multipart(upload: Upload, *, pool: Pool, vault: Vault) -> Upload:
    """Return the upload with its multipart key and id.

    Two requests may come first together: the ledger keeps one id, the loser aborts its own.

    Raises:
        VaultUnavailable, LedgerUnavailable: at worst an empty multipart upload is left, which
            the sweep at the upload's end removes.
    """
    if upload.multipart_id is not None:
        return upload
    key = object_key_for(upload.clip_id, upload.upload_id)
    opened = await vault.open_multipart(key)
    # A crash here leaves an empty multipart upload that the ledger does not know.
    async with reading(pool) as connection:
        used = await uploads.set_multipart(connection, upload.upload_id, key, opened)
    if used != opened:
        await vault.abort_multipart(key, opened)
    return replace(upload, multipart_key=key, multipart_id=used)
