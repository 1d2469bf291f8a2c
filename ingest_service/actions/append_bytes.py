"""Append a request's body to an upload, at its offset (tus and IETF)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol
from uuid import UUID

from ingest_service.actions.open_multipart import open_multipart
from ingest_service.actions.take_upload import (
    Holders,
    Interruptible,
    leave_upload,
    take_upload,
)
from ingest_service.domain.bytestream import (
    BytesBody,
    Disconnected,
    PieceBody,
    ReplayBudget,
    Source,
)
from ingest_service.domain.clock import Clock
from ingest_service.domain.sha256 import RunningSha256, resume_sha256
from ingest_service.domain.upload import (
    Part,
    Tail,
    Upload,
    UploadRules,
    number_part,
    object_key_for,
    tail_key_for,
)
from ingest_service.errors import (
    BodyStalled,
    ChunkMisshapen,
    LengthExceeded,
    OffsetMismatch,
    ShuttingDown,
    StoredBytesLost,
    SurfaceMismatch,
    TakenOver,
    VaultUnavailable,
)
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Body, Vault

# A body of unknown length is gathered in pieces of this size where there is no room for a part.
GATHER_BYTES: Final = 1024 * 1024
# Tiny requests make tiny tails; this many are merged into one, so that a part joins few objects.
TAILS_MAX: Final = 64


class Inflow(Source, Interruptible, Protocol):
    """A request body that is read here and can be interrupted by a newcomer."""


@dataclass(slots=True)
class _Append:
    """One request at work: the upload as this request has moved it.

    has_leftovers  something that nobody completes with may lie in the vault
    is_fenced      a newer epoch exists: nothing that is stored now will ever count
    """

    upload: Upload
    running: RunningSha256
    tails: list[Tail]
    pool: Pool
    vault: Vault
    rules: UploadRules
    now: Clock
    has_leftovers: bool = False
    is_fenced: bool = False


async def append_bytes(
    upload_id: UUID,
    station_id: str,
    offset_bytes: int,
    length_bytes: int | None,
    body: Inflow,
    *,
    pool: Pool,
    vault: Vault,
    holders: Holders,
    budget: ReplayBudget,
    rules: UploadRules,
    now: Clock,
) -> Upload:
    """Store a body and return the upload as it stands afterwards.

    Every full part is durable and counted as soon as it is stored; what does not fill a part
    becomes a tail. The upload's state is 'finishing' when its last byte is in.

    length_bytes  of the body; None when it is not known beforehand

    Raises:
        UploadNotFound, UploadGone, UploadClosed, UploadBusy, OffsetMismatch, SurfaceMismatch,
        LengthExceeded: nothing was read.
        Disconnected, BodyStalled, TakenOver, ShuttingDown: full parts are counted; so is the
            received prefix of the last one if it was still in memory.
        VaultUnavailable, LedgerUnavailable: ask for the offset, then send again.
        StoredBytesLost: bytes that were counted are not in the vault any more.
    """
    upload = await take_upload(
        upload_id,
        station_id,
        body,
        pool=pool,
        holders=holders,
        wait_s=rules.take_over_wait_s,
        now=now,
    )
    append = _Append(upload, resume_sha256(upload.sha256_state), [], pool, vault, rules, now)
    is_leased = True
    try:
        _check_start(upload, offset_bytes, length_bytes)
        if upload.offset_bytes % upload.part_bytes:
            async with reading(pool) as connection:
                append.tails = await uploads.list_tails(connection, upload_id)
        is_leased = await _drain(append, body, length_bytes, budget)
    except VaultUnavailable:
        append.has_leftovers = True
        raise
    except StoredBytesLost as lost:
        # A newer writer joins tails and deletes them; the end of an upload deletes all it left.
        if await _is_overtaken(append.upload, pool):
            raise TakenOver(upload_id) from lost
        raise
    finally:
        leave_upload(upload_id, body, holders=holders)
        if is_leased or append.has_leftovers:
            await _release(append)
    return append.upload


async def _is_overtaken(upload: Upload, pool: Pool) -> bool:
    async with reading(pool) as connection:
        present = await uploads.find_upload(connection, upload.upload_id)
    return present is None or present.epoch != upload.epoch


def _check_start(upload: Upload, offset_bytes: int, length_bytes: int | None) -> None:
    if upload.surface == "native":
        raise SurfaceMismatch(upload.upload_id, upload.surface)
    if offset_bytes != upload.offset_bytes:
        raise OffsetMismatch(upload.offset_bytes, offset_bytes)
    if upload.length_bytes is None or length_bytes is None:
        return
    if offset_bytes + length_bytes > upload.length_bytes:
        raise LengthExceeded(upload.length_bytes)


async def _drain(
    append: _Append, body: Inflow, length_bytes: int | None, budget: ReplayBudget
) -> bool:
    """Store piece after piece; returns whether the lease is still held at the end."""
    remaining = length_bytes
    while remaining is None or remaining > 0:
        upload = append.upload
        part_index = upload.offset_bytes // upload.part_bytes
        part_end = part_index * upload.part_bytes + upload.part_length(part_index)
        to_part_end = part_end - upload.offset_bytes
        if remaining is None:
            stored_bytes = await _store_gathered(append, body, to_part_end, budget)
            if stored_bytes == 0:
                return True
        else:
            stored_bytes = min(to_part_end, remaining)
            remaining -= stored_bytes
            await _store_piece(
                append, body, stored_bytes, to_part_end, budget, release=remaining == 0
            )
            if remaining == 0:
                return False
        if append.upload.state == "finishing":
            await _refuse_more(append.upload, body)
            return False
    return True


async def _refuse_more(upload: Upload, body: Inflow) -> None:
    """A body of unknown length must end where the upload ends; nothing beyond it is stored."""
    if await body.read(1):
        raise LengthExceeded(upload.length_bytes or 0)


async def _store_piece(
    append: _Append,
    body: Inflow,
    length_bytes: int,
    to_part_end: int,
    budget: ReplayBudget,
    *,
    release: bool,
) -> None:
    """Stream one piece of known length to the vault as it arrives, then count it."""
    start = append.upload.offset_bytes
    fills_part = length_bytes == to_part_end
    keep = budget.take(length_bytes)
    joins = fills_part and bool(append.tails)
    piece = PieceBody(
        body,
        length_bytes,
        hashes=(append.running,),
        keep=keep,
        prefix=partial(_read_tails, append) if joins else None,
        prefix_bytes=sum(tail.length_bytes for tail in append.tails) if joins else 0,
    )
    try:
        await _store(append, piece, length_bytes, fills_part=fills_part, release=release)
    except (Disconnected, BodyStalled, TakenOver, ChunkMisshapen) as cut:
        await _keep_prefix(append, piece, start, to_part_end)
        if isinstance(cut, ChunkMisshapen):
            raise Disconnected from cut
        raise
    except asyncio.CancelledError:
        # The server gives up on this request: the prefix is as good as after a cut connection.
        await _keep_prefix(append, piece, start, to_part_end)
        raise ShuttingDown from None
    finally:
        if keep:
            budget.give_back(length_bytes)


async def _store_gathered(
    append: _Append, body: Inflow, to_part_end: int, budget: ReplayBudget
) -> int:
    """Gather a piece of a body of unknown length in memory, then store and count it."""
    keep = budget.take(to_part_end)
    wanted = to_part_end if keep else min(GATHER_BYTES, to_part_end)
    blocks: list[bytes] = []
    gathered = 0
    cut: Exception | None = None
    try:
        while gathered < wanted:
            try:
                block = await body.read(wanted - gathered)
            except (Disconnected, BodyStalled, TakenOver) as error:
                cut = error
                break
            except asyncio.CancelledError:
                cut = ShuttingDown()
                break
            if not block:
                break
            append.running.update(block)
            blocks.append(block)
            gathered += len(block)
        if gathered:
            await _store(
                append,
                _joined(append, blocks, to_part_end),
                gathered,
                fills_part=gathered == to_part_end,
                release=False,
            )
    finally:
        if keep:
            budget.give_back(to_part_end)
    if cut is not None:
        raise cut
    return gathered


def _joined(append: _Append, blocks: list[bytes], to_part_end: int) -> Body:
    """Return the gathered bytes, behind the tails when they fill the part."""
    gathered = sum(map(len, blocks))
    if gathered != to_part_end:
        return BytesBody(blocks)
    return PieceBody(
        _Blocks(blocks),
        gathered,
        keep=True,
        prefix=partial(_read_tails, append),
        prefix_bytes=sum(tail.length_bytes for tail in append.tails),
    )


class _Blocks:
    """Blocks in memory as a source."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks = iter(blocks)

    async def read(self, _bytes_max: int) -> bytes:
        return next(self._blocks, b"")


async def _store(
    append: _Append, body: Body, new_bytes: int, *, fills_part: bool, release: bool
) -> None:
    if fills_part:
        part = await _put_part(append, body)
        await _count(append, new_bytes, part=part, release=release)
        await _delete_tails(append)
    else:
        tail = await _put_tail(append, body, append.upload.offset_bytes, new_bytes)
        await _count(append, new_bytes, tail=tail, release=release and not _is_crowded(append))
        append.tails.append(tail)
        if len(append.tails) >= TAILS_MAX:
            await _merge_tails(append, release=release)


async def _put_part(append: _Append, body: Body) -> Part:
    upload = append.upload
    part_index = upload.offset_bytes // upload.part_bytes
    length_bytes = upload.part_length(part_index)
    if upload.fits_one_part:
        key = object_key_for(upload.clip_id, upload.upload_id, upload.epoch)
        stored = await append.vault.put_object(key, body)
        return Part(part_index, 0, length_bytes, None, stored.etag, key, stored.version)
    upload = append.upload = await open_multipart(
        upload, "tus", pool=append.pool, vault=append.vault
    )
    number = number_part(part_index, upload.epoch)
    # A crash here leaves a part nobody recorded, under a number of this epoch alone.
    stored_part = await append.vault.put_part(
        upload.multipart_key or "", upload.multipart_id or "", number, body
    )
    return Part(part_index, number, length_bytes, None, stored_part.etag)


async def _put_tail(append: _Append, body: Body, offset_bytes: int, length_bytes: int) -> Tail:
    upload = append.upload
    key = tail_key_for(upload.upload_id, upload.epoch, offset_bytes, length_bytes)
    stored = await append.vault.put_object(key, body)
    return Tail(offset_bytes, length_bytes, key, stored.version)


async def _count(
    append: _Append,
    new_bytes: int,
    *,
    part: Part | None = None,
    tail: Tail | None = None,
    release: bool,
    replaces_tails: bool = False,
) -> None:
    upload = append.upload
    new_offset = upload.offset_bytes + new_bytes
    sha256_state = append.running.export()
    expires_at = append.now() + append.rules.expires_after
    async with reading(append.pool) as connection:
        state = await uploads.advance_offset(
            connection,
            upload,
            offset_bytes=upload.offset_bytes,
            new_offset_bytes=new_offset,
            sha256_state=sha256_state,
            expires_at=expires_at,
            release=release or new_offset == upload.length_bytes,
            part=part,
            tail=tail,
            replaces_tails=replaces_tails,
        )
    if state is None:
        # What was stored lies under a key or number that nobody completes with.
        append.is_fenced = True
        raise TakenOver(upload.upload_id)
    # A crash here loses only the answer: the dock asks for the offset and skips ahead.
    append.upload = replace(
        upload,
        offset_bytes=new_offset,
        hashed_bytes=new_offset,
        sha256_state=sha256_state,
        state="finishing" if state == "finishing" else "open",
        surface="tus",
        expires_at=expires_at,
    )


async def _keep_prefix(append: _Append, piece: PieceBody, start: int, to_part_end: int) -> None:
    """After a cut: store what had arrived of this piece, if it is still in memory.

    A cancelled request may have received all of it: what fills the part is stored as the part,
    and what was counted already (only tails were still to be cleared away) is not counted again.

    start  offset of the piece's first byte
    """
    if append.is_fenced or not piece.received_bytes or piece.kept is None:
        return
    if append.upload.offset_bytes != start:
        return
    await _store(
        append,
        _joined(append, piece.kept, to_part_end),
        piece.received_bytes,
        fills_part=piece.received_bytes == to_part_end,
        release=True,
    )


async def _read_tails(append: _Append) -> AsyncIterator[bytes]:
    for tail in append.tails:
        async for block in append.vault.read(tail.object_key, tail.object_version):
            yield block


def _is_crowded(append: _Append) -> bool:
    return len(append.tails) + 1 >= TAILS_MAX


async def _merge_tails(append: _Append, *, release: bool) -> None:
    """Join many small tails into one object: the new one is durable before the old ones go."""
    old = append.tails
    start, length = old[0].offset_bytes, sum(tail.length_bytes for tail in old)
    blocks = [block async for block in _read_tails(append)]
    merged = await _put_tail(append, BytesBody(blocks), start, length)
    await _count(append, 0, tail=merged, release=release, replaces_tails=True)
    await _delete_tails(append)
    append.tails = [merged]


async def _delete_tails(append: _Append) -> None:
    """Delete joined tails; one that stays behind is swept when the upload ends."""
    tails, append.tails = append.tails, []
    try:
        for tail in tails:
            await append.vault.delete(tail.object_key, tail.object_version)
    except VaultUnavailable:
        append.has_leftovers = True


async def _release(append: _Append) -> None:
    upload = append.upload
    async with reading(append.pool) as connection:
        await uploads.release_upload(
            connection, upload.upload_id, upload.epoch, has_leftovers=append.has_leftovers
        )
