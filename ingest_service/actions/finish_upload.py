"""Finish a complete upload: join its parts, compare with what is stored, seal the clip.

A state, not a moment: the claim lapses, so that any process drives it on after a crash, and every
step may be done twice.
"""

import asyncio
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from ingest_service import telemetry
from ingest_service.domain.bytestream import BytesBody
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.seal import describe_seal, make_seal
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.domain.upload import (
    Part,
    Upload,
    object_key_for,
)
from ingest_service.errors import ClipNotFound, LedgerUnavailable, StoredBytesLost, Unavailable
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import StoredObject, StoredPart, Vault

# A driver that died is replaced after this long, and the time for the clip's size at 100 MB/s.
# Completing a large object may take longer: a second driver meanwhile does no harm.
CLAIM_S: Final = 10.0
RETRY_S: Final = 2.0
_CHAIN_TRIES: Final = 8
_CROWDED: Final = "the clip's chain of custody is being written"


async def finish_upload(upload_id: UUID, *, pool: Pool, vault: Vault, now: Clock) -> bool:
    """Drive an upload from 'finishing' to its sealed (or quarantined) clip.

    Returns False when there is nothing to do: another process is at it, or it is done.

    Raises:
        VaultUnavailable, LedgerUnavailable: the upload stays 'finishing'; a job drives it on.
    """
    async with reading(pool) as connection:
        upload = await uploads.claim_finish(connection, upload_id, claim_s=CLAIM_S)
    if upload is None:
        return False
    await _finish_claimed(upload, pool, vault, now)
    return True


async def finish_within(
    claimed: Upload, *, pool: Pool, vault: Vault, now: Clock, wait_s: float
) -> Clip | None:
    """Finish an upload that the caller has closed; return its clip.

    None when it takes longer than wait_s seconds (it goes on) or cannot be done now (a job
    drives it on).
    """
    driving = asyncio.ensure_future(_finish_claimed(claimed, pool, vault, now))
    driving.add_done_callback(_forget_failure)
    try:
        async with asyncio.timeout(wait_s):
            return await asyncio.shield(driving)
    except (TimeoutError, Unavailable):
        return None


async def wait_until_finished(
    upload_id: UUID, *, pool: Pool, vault: Vault, now: Clock, wait_s: float
) -> Upload:
    """Drive the finishing, or wait for who does, at most wait_s seconds; return the upload.

    The work goes on when the wait is over (or the asker is gone).
    """
    try:
        async with asyncio.timeout(wait_s):
            driving = asyncio.ensure_future(
                finish_upload(upload_id, pool=pool, vault=vault, now=now)
            )
            driving.add_done_callback(_forget_failure)
            pause_s = 0.02
            if not await asyncio.shield(driving):
                while (await _get(upload_id, pool)).state == "finishing":
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, 0.5)
    except (TimeoutError, Unavailable):
        # The job drives it on; the asker is told that it is not finished yet.
        pass
    return await _get(upload_id, pool)


def _forget_failure(driving: "asyncio.Future[Any]") -> None:
    if not driving.cancelled():
        driving.exception()


async def _get(upload_id: UUID, pool: Pool) -> Upload:
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    if upload is None:
        raise ClipNotFound(str(upload_id))
    return upload


async def _postpone(upload_id: UUID, pool: Pool) -> None:
    try:
        async with reading(pool) as connection:
            await uploads.postpone_finish(connection, upload_id, delay_s=RETRY_S)
    except Unavailable:
        # The claim lapses by itself.
        return


async def _finish_claimed(upload: Upload, pool: Pool, vault: Vault, now: Clock) -> Clip | None:
    try:
        return await _finish(upload, pool, vault, now)
    except Unavailable:
        await _postpone(upload.upload_id, pool)
        raise


async def _finish(upload: Upload, pool: Pool, vault: Vault, now: Clock) -> Clip | None:
    async with reading(pool) as connection:
        parts = await uploads.list_parts(connection, upload.upload_id)
    try:
        key, stored = await _complete(upload, parts, vault)
    except StoredBytesLost as lost:
        if await fail_stored(upload, str(lost), pool=pool, now=now):
            raise
        # Our claim lapsed and another driver has sealed the clip: its part rows went with that.
        return None
    return await _seal(upload, parts, key, stored, pool, vault, now)


async def _complete(upload: Upload, parts: list[Part], vault: Vault) -> tuple[str, StoredObject]:
    """Return key and facts of the clip's stored object, joining its parts where there are many."""
    _check_parts(upload, parts)
    if upload.length_bytes == 0:
        key = object_key_for(upload.own_clip_id, upload.upload_id, "empty")
        empty = await vault.put_object(key, BytesBody([]))
        return key, StoredObject(empty.etag, empty.version, 0)
    if upload.fits_one_part:
        part = parts[0]
        # One PutObject: its acknowledged length is the stored length, and the read-back follows.
        return part.object_key or "", StoredObject(part.etag, part.object_version)
    key = upload.multipart_key or ""
    joined = await vault.complete_multipart(
        key,
        upload.multipart_id or "",
        [StoredPart(part.part_number, part.etag, part.sha256) for part in parts],
    )
    # A crash here leaves the object joined: the next driver recognises it.
    facts = await vault.get_facts(key, joined.version)
    if facts is None:
        reason = f"object {key} is missing after it was joined"
        raise StoredBytesLost(reason)
    return key, StoredObject(joined.etag, joined.version, facts.size_bytes)


def _check_parts(upload: Upload, parts: list[Part]) -> None:
    """The plan, not a listing, says what must be there."""
    expected = [(index, upload.part_length(index)) for index in range(upload.part_count)]
    if [(part.part_index, part.length_bytes) for part in parts] != expected:
        reason = f"parts of upload {upload.upload_id} do not cover the clip"
        raise StoredBytesLost(reason)


async def _seal(
    upload: Upload,
    parts: list[Part],
    key: str,
    stored: StoredObject,
    pool: Pool,
    vault: Vault,
    now: Clock,
) -> Clip | None:
    """Seal the clip, or quarantine it; None when somebody else has done so."""
    sha256 = None
    if upload.hashed_bytes == upload.length_bytes:
        sha256 = resume_sha256(upload.sha256_state).digest()
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            clip = await clips.find_clip(connection, upload.own_clip_id)
            if clip is None or clip.state not in ("receiving", "finishing"):
                return None
            seal = make_seal(
                upload,
                parts,
                bucket=vault.bucket,
                object_key=key,
                object_version=stored.version,
                etag=stored.etag,
                stored_bytes=stored.size_bytes,
                sha256=sha256,
                sha256_device=clip.sha256_device,
                surface=upload.surface,
                now=now(),
            )
            events = chain_events(
                clip.head,
                describe_seal(
                    upload, seal, sha256_device=clip.sha256_device, surface=upload.surface
                ),
                now=seal.sealed_at,
                device_serial=clip.device_serial,
            )
            if await clips.seal_clip(connection, clip, upload.upload_id, seal, events):
                telemetry.CLIPS_RECEIVED.inc()
                return replace(
                    clip,
                    state=seal.state,
                    sealed_at=seal.sealed_at,
                    size_bytes=seal.size_bytes,
                    sha256=seal.sha256,
                    bucket=seal.bucket,
                    object_key=seal.object_key,
                    object_version=seal.object_version,
                    manifest=seal.manifest,
                    quarantine_reason=seal.quarantine_reason,
                    event_count=clip.event_count + len(events),
                    last_leaf_hash=events[-1].leaf_hash,
                )
    raise LedgerUnavailable(_CROWDED)


async def fail_stored(upload: Upload, reason: str, *, pool: Pool, now: Clock) -> bool:
    """Acknowledged bytes are gone: the clip is quarantined and the camera keeps its copy.

    Returns False when the clip is settled already, one way or the other: nothing was changed.
    """
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            clip = await clips.find_clip(connection, upload.own_clip_id)
            if clip is None or clip.state not in ("receiving", "finishing"):
                return False
            events = chain_events(
                clip.head,
                [
                    Happening(
                        "clip.quarantined",
                        Actor("station", upload.station_id),
                        {"upload_id": str(upload.upload_id)},
                        outcome="failed",
                        reason=reason,
                        integrity="not_verifiable",
                    )
                ],
                now=now(),
                device_serial=clip.device_serial,
            )
            if await clips.fail_upload(connection, clip, upload.upload_id, reason, events):
                return True
    raise LedgerUnavailable(_CROWDED)
