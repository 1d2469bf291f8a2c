"""Append a request's body to an upload, at its offset (tus and IETF)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final, Literal, Protocol
from uuid import UUID

from ingest_service.actions.open_multipart import open_multipart
from ingest_service.actions.take_upload import (
    Holders,
    Interruptible,
    leave_upload,
    take_upload,
)
from ingest_service.domain.admission import Place
from ingest_service.domain.bytestream import (
    BytesBody,
    Disconnected,
    Hash,
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
    UploadState,
    number_part,
    object_key_for,
    partial_key_for,
    tail_key_for,
)
from ingest_service.errors import (
    BodyStalled,
    ChecksumMismatch,
    ChunkMisshapen,
    ClipTooLarge,
    InconsistentLength,
    InvalidHeader,
    LengthExceeded,
    OffsetMismatch,
    ShuttingDown,
    StoredBytesLost,
    SurfaceMismatch,
    TakenOver,
    VaultUnavailable,
)
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.vault import Body, Vault

# A body of unknown length is gathered in pieces of this size where there is no room for a part.
GATHER_BYTES: Final = 1024 * 1024
# Tiny requests make tiny tails; this many are merged into one, so that a part joins few objects.
TAILS_MAX: Final = 64


# When an upload is complete. tus: as soon as offset and length are equal. IETF: the client says
# so with a request, and that one's last byte is the upload's.
Completion = Literal["when_full", "with_this", "not_yet"]


class BodyCheck(Protocol):
    """Checksums that the whole body of a request is declared to have."""

    @property
    def hashes(self) -> Sequence[Hash]:
        """What each byte of the body is to be fed to."""
        ...

    def verify(self) -> None:
        """Compare, when the body (and its trailer) is read.

        Raises:
            ChecksumMismatch, InvalidHeader: the body is not to be counted.
        """
        ...


class Inflow(Source, Interruptible, Protocol):
    """A request body that is read here and can be interrupted by a newcomer."""


@dataclass(slots=True)
class _Append:
    """One request at work: the upload as this request has moved it.

    check          checksums of this body; nothing is counted before they are verified
    uncounted      what is stored and will be counted, all at once, then
    is_leased      nobody else writes until this request gives the lease back
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
    completion: Completion = "when_full"
    check: BodyCheck | None = None
    progress: Callable[[int], None] | None = None
    uncounted: "list[_Step]" = field(default_factory=list)
    joined_tails: list[Tail] = field(default_factory=list)
    is_leased: bool = True
    has_leftovers: bool = False
    is_fenced: bool = False

    @property
    def hashes(self) -> Sequence[Hash]:
        """What each new byte is fed to."""
        return (self.running,) if self.check is None else (self.running, *self.check.hashes)

    @property
    def may_finish(self) -> bool:
        """Whether offset == length ends the upload."""
        return self.completion != "not_yet"


@dataclass(frozen=True, slots=True)
class _Step:
    """Bytes that the vault holds, on their way into the ledger."""

    upload: Upload
    new_offset_bytes: int
    sha256_state: bytes
    expires_at: datetime
    part: Part | None
    tail: Tail | None
    replaces_tails: bool
    has_leftovers: bool

    async def record(
        self, connection: Connection, *, release: bool, may_finish: bool
    ) -> str | None:
        """Count the bytes; None when fenced off."""
        return await uploads.advance_offset(
            connection,
            self.upload,
            offset_bytes=self.upload.offset_bytes,
            new_offset_bytes=self.new_offset_bytes,
            sha256_state=self.sha256_state,
            expires_at=self.expires_at,
            release=release,
            part=self.part,
            tail=self.tail,
            replaces_tails=self.replaces_tails,
            has_leftovers=self.has_leftovers,
            may_finish=may_finish,
        )


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
    upload_length: int | None = None,
    completion: Completion = "when_full",
    check: BodyCheck | None = None,
    joins: bool = False,
    progress: Callable[[int], None] | None = None,
    place: Place | None = None,
) -> Upload:
    """Store a body and return the upload as it stands afterwards.

    Every full part is durable and counted as soon as it is stored; what does not fill a part
    becomes a tail. The upload's state is 'finishing' when its last byte is in.

    With a check nothing is counted before the whole body is verified; then all at once.

    length_bytes   of the body; None when it is not known beforehand
    upload_length  as this request declares it; None when it does not
    progress       is told every offset that is durable on the way
    joins          the body is partials that are joined into a final
    place          of the body among the others; it is told whose camera's it is

    Raises:
        UploadNotFound, UploadGone, UploadClosed, UploadBusy, OffsetMismatch, SurfaceMismatch,
        LengthExceeded, ClipTooLarge, InconsistentLength, AppendToFinal: nothing was read.
        Overloaded: the camera has as many bodies on their way as it may; nothing was read.
        ChecksumMismatch, InvalidHeader: the body was read and none of it counted.
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
        joins=joins,
    )
    append = _Append(
        upload,
        resume_sha256(upload.sha256_state),
        [],
        pool,
        vault,
        rules,
        now,
        completion=completion,
        check=check,
        progress=progress,
    )
    try:
        if place is not None:
            place.name_device(upload.device_serial, upload_id)
        await _start(append, offset_bytes, length_bytes, upload_length)
        await _drain(append, body, length_bytes, budget)
        if check is not None:
            check.verify()
        if append.upload.state == "open":
            await _complete(append)
        await _count_all(append)
    except (VaultUnavailable, ChecksumMismatch, InvalidHeader):
        append.has_leftovers = True
        raise
    except StoredBytesLost as lost:
        # A newer writer joins tails and deletes them; the end of an upload deletes all it left.
        if await _is_overtaken(append.upload, pool):
            raise TakenOver(upload_id) from lost
        raise
    finally:
        leave_upload(upload_id, body, holders=holders)
        if append.uncounted:
            append.has_leftovers = True
        if append.is_leased or append.has_leftovers:
            await _release(append)
    return append.upload


async def _start(
    append: _Append, offset_bytes: int, length_bytes: int | None, upload_length: int | None
) -> None:
    """Refuse what does not go on where the upload ends; learn what it ends with."""
    upload = append.upload
    _check_start(upload, offset_bytes, length_bytes, upload_length, append.rules)
    if upload_length is not None and upload.length_bytes is None:
        await _set_length(append, upload_length)
    if upload.offset_bytes % upload.part_bytes:
        async with reading(append.pool) as connection:
            append.tails = await uploads.list_tails(connection, upload.upload_id)


async def _is_overtaken(upload: Upload, pool: Pool) -> bool:
    async with reading(pool) as connection:
        present = await uploads.find_upload(connection, upload.upload_id)
    return present is None or present.epoch != upload.epoch


def _check_start(
    upload: Upload,
    offset_bytes: int,
    length_bytes: int | None,
    upload_length: int | None,
    rules: UploadRules,
) -> None:
    if upload.surface == "native":
        raise SurfaceMismatch(upload.upload_id, upload.surface)
    if offset_bytes != upload.offset_bytes:
        raise OffsetMismatch(upload.offset_bytes, offset_bytes)
    known = upload.length_bytes
    if upload_length is not None:
        if upload_length < upload.offset_bytes or known not in (None, upload_length):
            raise InconsistentLength(upload.offset_bytes if known is None else known, upload_length)
        known = upload_length
    length_max = upload.length_max(rules.clip_bytes_max)
    if upload.length_bytes is None and known is not None and known > length_max:
        raise ClipTooLarge(known, length_max)
    end = offset_bytes + (length_bytes or 0)
    if known is None:
        if end > length_max:
            raise ClipTooLarge(end, length_max)
    elif end > known:
        raise LengthExceeded(known)


async def _set_length(append: _Append, length_bytes: int) -> None:
    upload = append.upload
    async with reading(append.pool) as connection:
        is_set = await uploads.set_length(connection, upload.upload_id, upload.epoch, length_bytes)
    if not is_set:
        append.is_fenced = True
        raise TakenOver(upload.upload_id)
    append.upload = replace(upload, length_bytes=length_bytes)


async def _complete(append: _Append) -> None:
    """End an upload whose bytes are all there, where nothing did so yet: the tail becomes a part.

    So it is when the length was told with an empty body, or the body's own end tells it.
    """
    if append.completion == "not_yet":
        return
    if append.upload.length_bytes is None and append.completion == "with_this":
        await _set_length(append, append.upload.offset_bytes)
    upload = append.upload
    if upload.length_bytes != upload.offset_bytes:
        if append.completion == "with_this":
            raise InconsistentLength(upload.length_bytes or 0, upload.offset_bytes)
        return
    if not append.tails:
        await _count(append, 0, release=True)
        return
    start = append.tails[0].offset_bytes
    length_bytes = sum(tail.length_bytes for tail in append.tails)
    joined = PieceBody(
        _Blocks([]), 0, keep=True, prefix=partial(_read_tails, append), prefix_bytes=length_bytes
    )
    part = await _put_part(append, joined, start // upload.part_bytes)
    await _count(append, 0, part=part, release=True)
    await _delete_tails(append)


async def _drain(
    append: _Append, body: Inflow, length_bytes: int | None, budget: ReplayBudget
) -> None:
    """Store piece after piece."""
    remaining = length_bytes
    while remaining is None or remaining > 0:
        upload = append.upload
        part_index = upload.offset_bytes // upload.part_bytes
        part_end = part_index * upload.part_bytes + upload.part_length(part_index)
        to_part_end = part_end - upload.offset_bytes
        if remaining is None:
            room = upload.length_max(append.rules.clip_bytes_max) - upload.offset_bytes
            if upload.length_bytes is None and room <= 0:
                await _refuse_beyond(append, body)
                return
            wanted = to_part_end if upload.length_bytes is not None else min(to_part_end, room)
            stored_bytes = await _store_gathered(append, body, wanted, to_part_end, budget)
            if stored_bytes == 0:
                return
        else:
            stored_bytes = min(to_part_end, remaining)
            remaining -= stored_bytes
            await _store_piece(
                append, body, stored_bytes, to_part_end, budget, release=remaining == 0
            )
            if remaining == 0:
                return
        if append.upload.offset_bytes == append.upload.length_bytes:
            await _refuse_more(append.upload, body)
            return


async def _refuse_beyond(append: _Append, body: Inflow) -> None:
    """A body of unknown length in an upload of unknown length must end at the limit."""
    if await body.read(1):
        length_max = append.upload.length_max(append.rules.clip_bytes_max)
        raise ClipTooLarge(length_max + 1, length_max)


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
    keep = budget.take(length_bytes, append.upload.station_id, append.upload.device_serial)
    joins = fills_part and bool(append.tails)
    piece = PieceBody(
        body,
        length_bytes,
        hashes=append.hashes,
        keep=keep,
        prefix=partial(_read_tails, append) if joins else None,
        prefix_bytes=sum(tail.length_bytes for tail in append.tails) if joins else 0,
    )
    try:
        await _store(append, piece, length_bytes, fills_part=fills_part, release=release)
    except (Disconnected, BodyStalled, TakenOver, ShuttingDown, ChunkMisshapen) as cut:
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
            budget.give_back(length_bytes, append.upload.station_id, append.upload.device_serial)


async def _store_gathered(
    append: _Append, body: Inflow, bytes_max: int, to_part_end: int, budget: ReplayBudget
) -> int:
    """Gather a piece of a body of unknown length in memory, then store and count it."""
    keep = budget.take(to_part_end, append.upload.station_id, append.upload.device_serial)
    wanted = bytes_max if keep else min(GATHER_BYTES, bytes_max)
    blocks: list[bytes] = []
    gathered = 0
    cut: Exception | None = None
    try:
        while gathered < wanted:
            try:
                block = await body.read(wanted - gathered)
            except (Disconnected, BodyStalled, TakenOver, ShuttingDown) as error:
                cut = error
                break
            except asyncio.CancelledError:
                cut = ShuttingDown()
                break
            if not block:
                break
            for each in append.hashes:
                each.update(block)
            blocks.append(block)
            gathered += len(block)
        if gathered and (cut is None or append.check is None):
            await _store(
                append,
                _joined(append, blocks, to_part_end),
                gathered,
                fills_part=gathered == to_part_end,
                release=False,
            )
    finally:
        if keep:
            budget.give_back(to_part_end, append.upload.station_id, append.upload.device_serial)
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
        part = await _put_part(append, body, append.upload.offset_bytes // append.upload.part_bytes)
        await _count(append, new_bytes, part=part, release=release)
        await _delete_tails(append)
    else:
        tail = await _put_tail(append, body, append.upload.offset_bytes, new_bytes)
        await _count(append, new_bytes, tail=tail, release=release and not _is_crowded(append))
        append.tails.append(tail)
        if len(append.tails) >= TAILS_MAX and append.check is None:
            await _merge_tails(append, release=release)


async def _put_part(append: _Append, body: Body, part_index: int) -> Part:
    upload = append.upload
    length_bytes = upload.part_length(part_index)
    if upload.kind == "partial":
        key = partial_key_for(upload.upload_id, upload.epoch, part_index)
        stored = await append.vault.put_object(key, body)
        append.has_leftovers = append.has_leftovers or stored.was_retried
        return Part(part_index, 0, length_bytes, None, stored.etag, key, stored.version)
    if upload.fits_one_part:
        key = object_key_for(upload.own_clip_id, upload.upload_id, "append", upload.epoch)
        stored = await append.vault.put_object(key, body)
        append.has_leftovers = append.has_leftovers or stored.was_retried
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
    append.has_leftovers = append.has_leftovers or stored.was_retried
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
    step = _Step(
        upload,
        new_offset,
        sha256_state,
        expires_at,
        part,
        tail,
        replaces_tails,
        # A crash before the joined tails are deleted leaves them to the sweep.
        has_leftovers=bool(append.tails) and (part is not None or replaces_tails),
    )
    is_full = new_offset == upload.length_bytes
    if append.check is None:
        async with reading(append.pool) as connection:
            state = await step.record(
                connection, release=release or is_full, may_finish=append.may_finish
            )
        if state is None:
            # What was stored lies under a key or number that nobody completes with.
            append.is_fenced = True
            raise TakenOver(upload.upload_id)
        append.is_leased = not (release or is_full)
        if append.progress is not None:
            append.progress(new_offset)
    else:
        append.uncounted.append(step)
    # A crash here loses only the answer: the dock asks for the offset and skips ahead.
    append.upload = replace(
        upload,
        offset_bytes=new_offset,
        hashed_bytes=new_offset,
        sha256_state=sha256_state,
        state=_state_at(upload, new_offset, may_finish=append.may_finish),
        surface="tus",
        expires_at=expires_at,
    )


def _state_at(upload: Upload, offset_bytes: int, *, may_finish: bool) -> UploadState:
    """Return the state that reaching an offset means; the ledger's statement says the same."""
    if offset_bytes != upload.length_bytes or not may_finish:
        return "open"
    return "finished" if upload.kind == "partial" else "finishing"


async def _count_all(append: _Append) -> None:
    """Count a verified body: all that was stored of it in one transaction, or nothing."""
    steps = append.uncounted
    if not steps:
        return
    async with writing(append.pool) as connection:
        for step in steps:
            is_last = step is steps[-1]
            state = await step.record(
                connection, release=is_last, may_finish=is_last and append.may_finish
            )
            if state is None:
                append.is_fenced = True
                raise TakenOver(append.upload.upload_id)
    append.uncounted = []
    append.is_leased = False
    await _delete_joined(append)


async def _keep_prefix(append: _Append, piece: PieceBody, start: int, to_part_end: int) -> None:
    """After a cut: store what had arrived of this piece, if it is still in memory.

    A cancelled request may have received all of it: what fills the part is stored as the part,
    and what was counted already (only tails were still to be cleared away) is not counted again.

    start  offset of the piece's first byte
    """
    if append.is_fenced or not piece.received_bytes or piece.kept is None:
        return
    if append.check is not None:
        # What came of a body that cannot be verified does not count.
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
    append.joined_tails += append.tails
    append.tails = []
    if not append.uncounted:
        await _delete_joined(append)


async def _delete_joined(append: _Append) -> None:
    tails, append.joined_tails = append.joined_tails, []
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
