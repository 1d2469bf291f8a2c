"""Store one native chunk: any order, in parallel, as often as the dock likes."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from ingest_service.actions.open_multipart import open_multipart
from ingest_service.actions.seal_whole import seal_whole
from ingest_service.actions.take_upload import refuse_ended
from ingest_service.domain.admission import Place
from ingest_service.domain.bytestream import (
    Disconnected,
    Hash,
    PieceBody,
    ReplayBudget,
    Source,
)
from ingest_service.domain.clock import Clock
from ingest_service.domain.seal import SealedFacts
from ingest_service.domain.sha256 import RunningSha256, resume_sha256
from ingest_service.domain.upload import (
    PARTS_MAX,
    Part,
    Sealable,
    Upload,
    UploadRules,
    number_part,
    object_key_for,
)
from ingest_service.errors import (
    ANOTHER_STATION,
    ChunkConflict,
    ChunkIndexOutOfRange,
    ChunkMisshapen,
    ClipNotFound,
    StoredBytesLost,
    SurfaceMismatch,
)
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes of one chunk request, as the dock declared them.

    index         position on the grid, 0-based
    length_bytes  from Content-Length
    sha256        32 raw bytes, from Content-Digest (RFC 9530)
    """

    index: int
    length_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """What became of it: `is_new` is false for an identical repeat.

    is_complete  no chunk of the clip is missing now
    sealed       the seal that was made together with it
    """

    is_new: bool
    received_bytes: int
    is_complete: bool = False
    sealed: SealedFacts | None = None


async def store_chunk(
    clip_id: UUID,
    station_id: str,
    chunk: Chunk,
    body: Source,
    *,
    pool: Pool,
    vault: Vault,
    budget: ReplayBudget,
    rules: UploadRules,
    now: Clock,
    seals: bool = False,
    place: Place | None = None,
) -> StoredChunk:
    """Store one chunk as one S3 part and count it.

    The order is the guarantee: claim, vault, ledger, answer. The bytes are hashed once: by the
    whole-clip hash where the chunk is next in line (the store then checks the chunk's own
    digest), else by the chunk's digest alone (the whole hash then comes from the read-back).

    seals  the dock says that the clip is complete with this chunk: a clip of one part is sealed
           by the statement that counts it. Of others `is_complete` tells whether a seal is due.
    place  of the body among the others; it is told whose camera's it is

    Raises:
        Overloaded: the camera has as many bodies on their way as it may; nothing was read.
        ClipNotFound, UploadGone, SurfaceMismatch, ChunkIndexOutOfRange, ChunkMisshapen,
        ChunkConflict: nothing was read.
        ChunkCorrupted, Disconnected, BodyStalled, ShuttingDown: nothing was stored.
        VaultUnavailable, LedgerUnavailable: send the chunk again.
    """
    claimed = None
    if 0 <= chunk.index < PARTS_MAX:
        async with reading(pool) as connection:
            claimed = await uploads.claim_chunk(
                connection, clip_id, station_id, chunk.index, chunk.length_bytes, chunk.sha256
            )
    if claimed is None:
        return await _explain(clip_id, station_id, chunk, pool, now)
    found, attempt = claimed
    upload = found.upload
    if place is not None:
        place.name_device(found.device_serial, clip_id)
    # Here a refusal or a crash leaves a claim: the dock sends again and claims the next attempt.
    running = _follow(upload, chunk)
    try:
        part, was_retried = await _put(found, attempt, chunk, body, running, pool, vault, budget)
    except StoredBytesLost:
        # An upload that ended meanwhile took its multipart upload along.
        async with reading(pool) as connection:
            present = await uploads.find_upload(connection, upload.upload_id)
        if present is not None:
            refuse_ended(present, now)
        raise
    # A crash here leaves a part that nobody recorded, under this attempt's own number or key.
    if seals and running is not None and part.object_key is not None:
        sealed = await seal_whole(
            found,
            part,
            running.digest(),
            surface="native",
            has_leftovers=attempt > 1 or was_retried,
            pool=pool,
            bucket=vault.bucket,
            now=now,
        )
        if sealed is not None:
            return StoredChunk(
                is_new=True, received_bytes=part.length_bytes, is_complete=True, sealed=sealed
            )
    async with reading(pool) as connection:
        received_bytes = await uploads.record_chunk(
            connection,
            upload,
            part,
            sha256_state=None if running is None else running.export(),
            expires_at=now() + rules.expires_after,
            has_leftovers=attempt > 1 or was_retried,
        )
    if received_bytes is None:
        return await _explain(clip_id, station_id, chunk, pool, now)
    # A crash here loses only the answer: the dock sends again and is told 'stored already'.
    return StoredChunk(
        is_new=True,
        received_bytes=received_bytes,
        is_complete=received_bytes == upload.length_bytes,
    )


def _follow(upload: Upload, chunk: Chunk) -> RunningSha256 | None:
    """Return the whole-clip hash when this chunk is next in line, else None."""
    if upload.hashed_bytes != chunk.index * upload.part_bytes:
        return None
    return resume_sha256(upload.sha256_state)


def _choose_hashes(
    chunk: Chunk, running: RunningSha256 | None, *, vault_checks: bool
) -> tuple[list[Hash], Hash | None]:
    """Return which hashes run over the chunk, and which of them is its own digest.

    Each byte is hashed once, except where the store cannot check a digest for us.
    """
    if running is None:
        own = hashlib.sha256()
        return [own], own
    if chunk.index == 0:
        return [running], running
    if vault_checks:
        return [running], None
    own = hashlib.sha256()
    return [running, own], own


async def _put(
    found: Sealable,
    attempt: int,
    chunk: Chunk,
    source: Source,
    running: RunningSha256 | None,
    pool: Pool,
    vault: Vault,
    budget: ReplayBudget,
) -> tuple[Part, bool]:
    """Store the chunk; tell too whether an object was sent more than once."""
    upload = found.upload
    hashes, checked_by = _choose_hashes(chunk, running, vault_checks=vault.checks_sha256)
    keep = budget.take(chunk.length_bytes, upload.station_id, found.device_serial)
    body = PieceBody(
        source,
        chunk.length_bytes,
        hashes=hashes,
        sha256=chunk.sha256,
        checked_by=checked_by,
        keep=keep,
    )
    try:
        if upload.fits_one_part:
            key = object_key_for(upload.own_clip_id, upload.upload_id, "chunk", attempt)
            stored = await vault.put_object(key, body)
            part = Part(
                chunk.index, 0, chunk.length_bytes, chunk.sha256, stored.etag, key, stored.version
            )
            return part, stored.was_retried
        upload = await open_multipart(upload, "native", pool=pool, vault=vault)
        number = number_part(chunk.index, attempt)
        stored_part = await vault.put_part(
            upload.multipart_key or "", upload.multipart_id or "", number, body
        )
        return Part(chunk.index, number, chunk.length_bytes, chunk.sha256, stored_part.etag), False
    except ChunkMisshapen as short:
        raise Disconnected from short
    finally:
        if keep:
            budget.give_back(chunk.length_bytes, upload.station_id, found.device_serial)


async def _explain(
    clip_id: UUID, station_id: str, chunk: Chunk, pool: Pool, now: Clock
) -> StoredChunk:
    """Answer a chunk that was not claimed or not counted: stored already, or refused and why."""
    async with reading(pool) as connection:
        upload = await uploads.find_clip_upload(connection, clip_id)
        if upload is None:
            raise ClipNotFound(str(clip_id))
        if upload.station_id != station_id:
            raise ClipNotFound(str(clip_id)).hiding(ANOTHER_STATION)
        _refuse_misfit(upload, chunk)
        held = await uploads.find_stored_digest(connection, upload.upload_id, chunk.index)
    if upload.state not in ("finishing", "finished"):
        # Before the digest is looked at: the parts of an upload that ended are stored no more.
        _refuse_state(upload, now)
    if held == chunk.sha256:
        return StoredChunk(
            is_new=False,
            received_bytes=upload.offset_bytes,
            is_complete=upload.offset_bytes == upload.length_bytes,
        )
    if held is None:
        refuse_ended(upload, now)
    raise ChunkConflict(chunk.index)


def _refuse_misfit(upload: Upload, chunk: Chunk) -> None:
    if not 0 <= chunk.index < upload.part_count:
        raise ChunkIndexOutOfRange(chunk.index, upload.part_count - 1)
    expected = upload.part_length(chunk.index)
    if chunk.length_bytes != expected:
        raise ChunkMisshapen(expected, chunk.length_bytes)


def _refuse_state(upload: Upload, now: Clock) -> None:
    if upload.state == "open" and upload.surface == "tus":
        raise SurfaceMismatch(upload.upload_id, upload.surface)
    refuse_ended(upload, now)
