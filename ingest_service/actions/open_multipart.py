"""Open the multipart upload that a clip's parts go to, once."""

from dataclasses import replace
from typing import Literal

from ingest_service.domain.upload import Upload, object_key_for
from ingest_service.errors import SurfaceMismatch, UploadClosed, UploadGone, UploadNotFound
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault


async def open_multipart(
    upload: Upload, surface: Literal["native", "tus"], *, pool: Pool, vault: Vault
) -> Upload:
    """Return the upload with its multipart key and id.

    Two requests may come first together: the ledger keeps one id, the loser aborts its own. The
    id also settles the upload's surface: native parts come with their digests, which S3 wants to
    know when it opens, and tus parts without.

    Raises:
        SurfaceMismatch, UploadGone, UploadClosed: the upload went on or ended by another request.
        VaultUnavailable, LedgerUnavailable: at worst an empty multipart upload is left, which
            the sweep at the upload's end removes.
    """
    if upload.multipart_id is not None:
        return upload
    key = object_key_for(upload.own_clip_id, upload.upload_id)
    opened = await vault.open_multipart(key, with_sha256=surface == "native")
    # A crash here leaves an empty multipart upload that the ledger does not know: whoever sends
    # these bytes again says that something may be left.
    async with reading(pool) as connection:
        used = await uploads.set_multipart(
            connection,
            upload.upload_id,
            key,
            opened.multipart_id,
            surface,
            has_leftovers=opened.was_retried,
        )
        present = await uploads.find_upload(connection, upload.upload_id) if used is None else None
    if used != opened.multipart_id:
        await vault.abort_multipart(key, opened.multipart_id)
    if used is None:
        _refuse(upload, present)
    return replace(upload, multipart_key=key, multipart_id=used)


def _refuse(upload: Upload, present: Upload | None) -> None:
    if present is None:
        raise UploadNotFound(str(upload.upload_id))
    if present.state == "open":
        raise SurfaceMismatch(present.upload_id, present.surface)
    if present.state in ("finishing", "finished"):
        raise UploadClosed(present.upload_id, present.state)
    raise UploadGone(present.upload_id, present.state)
