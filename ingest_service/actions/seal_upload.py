"""Seal: the dock says that the clip is complete (native)."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.actions.finish_upload import CLAIM_S, finish_within, wait_until_finished
from ingest_service.actions.seal_whole import seal_whole
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.seal import SealedFacts
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.domain.upload import Part, Sealable, Upload, UploadRules, missing_ranges
from ingest_service.errors import (
    ANOTHER_STATION,
    ChunksMissing,
    ClipNotFound,
    SurfaceMismatch,
    UploadGone,
)
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

MISSING_RANGES_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Missing:
    """What is still to be sent: ranges of chunk indices, both ends included."""

    clip: Clip
    upload: Upload
    ranges: list[tuple[int, int]]
    count: int
    is_truncated: bool


async def seal_upload(
    clip_id: UUID, station_id: str, *, pool: Pool, vault: Vault, rules: UploadRules, now: Clock
) -> SealedFacts:
    """Close a clip's upload and finish it; returns what is known, maybe still 'finishing'.

    Repeatable: a sealed clip is returned as it is.

    Raises:
        ClipNotFound, UploadGone, SurfaceMismatch: nothing was changed.
        ChunksMissing: nothing was changed; the missing ranges are named.
        VaultUnavailable, LedgerUnavailable: ask again.
    """
    async with reading(pool) as connection:
        whole = await uploads.find_whole(connection, clip_id, station_id)
    if whole is not None:
        facts = await _seal_whole(*whole, pool=pool, vault=vault, now=now)
        if facts is not None:
            return facts
    async with reading(pool) as connection:
        closed = await uploads.close_upload(
            connection, clip_id, station_id, "native", claim_s=CLAIM_S
        )
    if closed is not None:
        sealed = await finish_within(
            closed, pool=pool, vault=vault, now=now, wait_s=rules.finish_wait_s
        )
        if sealed is not None:
            return SealedFacts.of(sealed)
    else:
        await _settle_unclosed(clip_id, station_id, pool, vault, rules, now)
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, clip_id)
    if clip is None:
        raise ClipNotFound(str(clip_id))
    return SealedFacts.of(clip)


async def _seal_whole(
    sealable: Sealable, part: Part, *, pool: Pool, vault: Vault, now: Clock
) -> SealedFacts | None:
    return await seal_whole(
        sealable,
        part,
        resume_sha256(sealable.upload.sha256_state).digest(),
        surface="native",
        has_leftovers=False,
        pool=pool,
        bucket=vault.bucket,
        now=now,
    )


async def list_missing(clip_id: UUID, station_id: str, *, pool: Pool) -> Missing:
    """Return which chunks of a clip are still to be sent.

    Raises:
        ClipNotFound: no such clip of this station.
    """
    async with reading(pool) as connection:
        upload = await uploads.find_clip_upload(connection, clip_id)
        clip = await clips.find_clip(connection, clip_id)
        if upload is None or clip is None:
            raise ClipNotFound(str(clip_id))
        if upload.station_id != station_id:
            raise ClipNotFound(str(clip_id)).hiding(ANOTHER_STATION)
        stored = await uploads.list_stored_indices(connection, upload.upload_id)
    if upload.state in ("finishing", "finished"):
        return Missing(clip, upload, [], 0, is_truncated=False)
    ranges, count, is_truncated = missing_ranges(stored, upload.part_count, MISSING_RANGES_MAX)
    return Missing(clip, upload, ranges, count, is_truncated=is_truncated)


async def _settle_unclosed(
    clip_id: UUID, station_id: str, pool: Pool, vault: Vault, rules: UploadRules, now: Clock
) -> None:
    """A seal that closed nothing: refused and why, or somebody else's, then wait for it."""
    missing = await list_missing(clip_id, station_id, pool=pool)
    upload = missing.upload
    if upload.state == "open":
        if upload.surface == "tus":
            raise SurfaceMismatch(upload.upload_id, upload.surface)
        raise ChunksMissing(missing.count, [list(each) for each in missing.ranges])
    if upload.state in ("expired", "terminated"):
        raise UploadGone(upload.upload_id, upload.state)
    if upload.state == "finishing":
        await wait_until_finished(
            upload.upload_id, pool=pool, vault=vault, now=now, wait_s=rules.finish_wait_s
        )
