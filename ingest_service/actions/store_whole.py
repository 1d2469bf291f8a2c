"""Store a clip whose bytes came with what opened its upload (tus creation-with-upload)."""

import asyncio
from dataclasses import replace
from functools import partial
from typing import Final

from ingest_service.actions.announce_clip import Announced
from ingest_service.actions.append_bytes import append_bytes
from ingest_service.actions.seal_whole import seal_whole
from ingest_service.actions.take_upload import Holders
from ingest_service.domain.bytestream import Disconnected, PieceBody, ReplayBudget, Source
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.domain.upload import Part, Sealable, Upload, UploadRules, object_key_for
from ingest_service.errors import (
    BodyStalled,
    ChunkMisshapen,
    LedgerUnavailable,
    ShuttingDown,
    TakenOver,
)
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

_CHAIN_TRIES: Final = 8


async def store_whole(
    announced: Announced,
    body: Source,
    *,
    pool: Pool,
    vault: Vault,
    holders: Holders,
    budget: ReplayBudget,
    rules: UploadRules,
    now: Clock,
) -> Upload:
    """Store all of a new clip as one object, count and seal it; return the finished upload.

    announced  of one part, not empty, recorded by this very request: nobody holds a lease

    The upload stays open until then, at offset 0: a crash anywhere before the seal leaves an
    upload that goes on from there, and an object under a key that its sweep finds.

    Raises:
        Disconnected, BodyStalled, ShuttingDown: the received prefix is counted if it was still
            in memory; the upload stays open.
        TakenOver: another request goes on with the upload; what was stored here does not count.
        VaultUnavailable, LedgerUnavailable: ask for the offset, then send again.
    """
    upload = announced.upload
    key = object_key_for(upload.own_clip_id, upload.upload_id, "opening")
    length_bytes = upload.length_bytes or 0
    running = resume_sha256(None)
    device_serial = announced.clip.device_serial
    keep = budget.take(length_bytes, upload.station_id, device_serial)
    piece = PieceBody(body, length_bytes, hashes=[running], keep=keep)
    store_prefix = partial(_store_prefix, upload, piece, pool, vault, holders, budget, rules, now)
    try:
        stored = await vault.put_object(key, piece)
    except (Disconnected, BodyStalled, ShuttingDown):
        await store_prefix()
        raise
    except ChunkMisshapen as short:
        await store_prefix()
        raise Disconnected from short
    except asyncio.CancelledError:
        # The server gives up on this request: the prefix is as good as after a cut connection.
        await store_prefix()
        raise ShuttingDown from None
    finally:
        if keep:
            budget.give_back(length_bytes, upload.station_id, device_serial)
    part = Part(0, 0, length_bytes, None, stored.etag, key, stored.version)
    sha256 = running.digest()
    clip: Clip | None = announced.clip
    for _ in range(_CHAIN_TRIES):
        if clip is None:
            break
        sealed = await seal_whole(
            Sealable(upload, clip.head, clip.device_serial, clip.sha256_device),
            part,
            sha256,
            surface="tus",
            has_leftovers=stored.was_retried,
            was_sole_writer=True,
            pool=pool,
            bucket=vault.bucket,
            now=now,
        )
        if sealed is not None:
            return replace(upload, offset_bytes=length_bytes, state="finished", surface="tus")
        # Somebody has looked at the clip meanwhile, or goes on with its upload.
        async with reading(pool) as connection:
            present = await uploads.find_upload(connection, upload.upload_id)
            clip = await clips.find_clip(connection, upload.own_clip_id)
        if present != upload:
            raise TakenOver(upload.upload_id)
    reason = "the clip's chain of custody is being written"
    raise LedgerUnavailable(reason)


class _Kept:
    """A prefix in memory, as a body that nobody interrupts."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = iter(blocks)

    async def read(self, _bytes_max: int) -> bytes:
        return next(self._blocks, b"")

    def interrupt(self, reason: Exception) -> None:
        """Go on: what is in memory is read in a moment."""


async def _store_prefix(
    upload: Upload,
    piece: PieceBody,
    pool: Pool,
    vault: Vault,
    holders: Holders,
    budget: ReplayBudget,
    rules: UploadRules,
    now: Clock,
) -> None:
    """After a cut: append what had arrived, as any request would."""
    if not piece.kept or piece.received_bytes == upload.length_bytes:
        return
    await append_bytes(
        upload.upload_id,
        upload.station_id,
        0,
        piece.received_bytes,
        _Kept(piece.kept),
        pool=pool,
        vault=vault,
        holders=holders,
        budget=budget,
        rules=rules,
        now=now,
    )
