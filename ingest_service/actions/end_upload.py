"""End an open upload without a clip: abandoned (expired), or taken back (terminated)."""

from typing import Final, Literal
from uuid import UUID

from ingest_service.actions.take_upload import Holders, settle_upload
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.upload import (
    Upload,
    UploadRules,
    clip_prefix,
    partial_prefix,
    tail_prefix,
)
from ingest_service.errors import TerminationRefused, UploadBusy, UploadGone, UploadNotFound
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.log import find_halt
from ingest_service.vault import Vault

_CHAIN_TRIES: Final = 8
EXPIRY: Final = Actor("policy", "upload-expiry")


class _Moved(Exception):
    """The clip's chain has grown since it was read; the transaction is rolled back."""


async def terminate_upload(
    upload_id: UUID,
    station_id: str,
    *,
    pool: Pool,
    vault: Vault,
    holders: Holders,
    rules: UploadRules,
    now: Clock,
) -> None:
    """End an upload because its owner says so; a running request on it is interrupted.

    Raises:
        UploadNotFound, UploadGone: it is not there (any more).
        TerminationRefused: it is complete: evidence.
        UploadBusy: it changed meanwhile; ask again.
    """
    upload = await settle_upload(
        upload_id,
        station_id,
        pool=pool,
        holders=holders,
        wait_s=rules.take_over_wait_s,
        now=now,
    )
    if upload.kind == "partial":
        await _end_partial(upload, pool)
        await sweep_upload(upload_id, pool=pool, vault=vault, is_last=False)
        return
    if upload.state in ("finishing", "finished"):
        raise TerminationRefused(upload_id, upload.state)
    if upload.state != "open":
        raise UploadGone(upload_id, upload.state)
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, upload.own_clip_id)
    if clip is not None and clip.station_id != station_id:
        # The camera moved here: what another dock has sent is not this one's to take back.
        raise TerminationRefused(upload_id, "begun by another station")
    if upload.expires_at <= now():
        raise UploadGone(upload_id, "expired")
    station = Actor("station", station_id)
    happening = Happening("upload.terminated", station, {"upload_id": str(upload_id)})
    if not await _end(upload, "terminated", happening, pool=pool, now=now):
        raise UploadBusy(upload_id, "it changed meanwhile")
    await sweep_upload(upload_id, pool=pool, vault=vault, is_last=False)


async def expire_upload(upload_id: UUID, *, pool: Pool, vault: Vault, now: Clock) -> bool:
    """End an upload that nobody continued in time; False when somebody did after all."""
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    if upload is None:
        return False
    if upload.kind == "partial":
        async with writing(pool) as connection:
            has_ended = await uploads.end_partial(connection, upload_id, "expired")
        if has_ended:
            await sweep_upload(upload_id, pool=pool, vault=vault, is_last=False)
        return has_ended
    if upload.state != "open":
        return False
    happening = Happening(
        "upload.expired",
        EXPIRY,
        {"upload_id": str(upload_id), "offset_bytes": upload.offset_bytes},
    )
    if not await _end(upload, "expired", happening, pool=pool, now=now):
        return False
    await sweep_upload(upload_id, pool=pool, vault=vault, is_last=False)
    return True


async def _end_partial(upload: Upload, pool: Pool) -> None:
    """Partials are no evidence: complete ones are taken back too, unless a final draws from them.

    Raises:
        UploadGone, UploadBusy: nothing was changed.
    """
    if upload.state not in ("open", "finished"):
        raise UploadGone(upload.upload_id, upload.state)
    async with writing(pool) as connection:
        if not await uploads.end_partial(connection, upload.upload_id, "terminated"):
            raise UploadBusy(upload.upload_id, "a clip is being joined from it")


async def _end(
    upload: Upload,
    state: Literal["expired", "terminated"],
    happening: Happening,
    *,
    pool: Pool,
    now: Clock,
) -> bool:
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            clip = await clips.find_clip(connection, upload.own_clip_id)
            latest = await uploads.find_upload(connection, upload.upload_id)
        if clip is None or latest is None or latest.state != "open":
            return False
        events = chain_events(clip.head, [happening], now=now(), device_serial=clip.device_serial)
        try:
            async with writing(pool) as connection:
                if not await clips.end_upload(connection, clip, upload.upload_id, state, events):
                    raise _Moved  # noqa: TRY301  leaving by an exception is what rolls back
        except _Moved:
            continue
        return True
    return False


async def sweep_upload(upload_id: UUID, *, pool: Pool, vault: Vault, is_last: bool = True) -> int:
    """Remove what an ended upload left in the vault, sparing its clip's object.

    Of an upload whose stored bytes were lost nothing is removed: that is for a person to look at.
    Nothing is removed either while the log is halted: a ledger that was restored from a backup
    does not know of clips that were sealed since.

    is_last  false right at an upload's end: whoever was still writing may leave something behind,
             so the sweeping job comes by once more

    Returns how many objects and multipart uploads were removed.

    Raises:
        VaultUnavailable: what is left stays on the list of the sweeping job.
    """
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, upload_id)
        if upload is None:
            raise UploadNotFound(str(upload_id))
        if upload.state == "failed" or await find_halt(connection) is not None:
            return 0
        clip = None
        if upload.clip_id is not None:
            clip = await clips.find_clip(connection, upload.clip_id)
    removed = await vault.sweep(tail_prefix(upload_id), keep_key=None)
    if upload.kind == "partial":
        removed += await vault.sweep(partial_prefix(upload_id), keep_key=None)
    is_present = clip is not None and clip.upload_id == upload_id
    if clip is not None and (is_present or clip.object_key is None):
        prefix = f"{clip_prefix(clip.clip_id)}{upload_id}"
        is_kept = clip.object_key is not None
        removed += await vault.sweep(
            prefix,
            keep_key=clip.object_key,
            # Versions of a joined object may share its bytes in the store; nobody makes two.
            keep_version=None if upload.multipart_id else clip.object_version,
            keep_multipart_id=upload.multipart_id if is_kept else None,
        )
    if is_last:
        async with reading(pool) as connection:
            await uploads.settle_sweep(connection, upload_id)
    return removed
