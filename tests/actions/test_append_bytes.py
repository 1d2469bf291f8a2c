"""Appending at an offset: what is counted is stored, what is stored is counted once."""

import asyncio
import hashlib
from dataclasses import replace

import pytest

from ingest_service.actions import append_bytes as appending
from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.errors import (
    BodyStalled,
    LengthExceeded,
    OffsetMismatch,
    ShuttingDown,
    SurfaceMismatch,
    TakenOver,
    UploadBusy,
    UploadClosed,
    UploadGone,
    UploadNotFound,
    VaultUnavailable,
)
from tests.actions.engine import (
    OTHER_DOCK,
    PART_BYTES,
    RULES,
    Feed,
    cut_chunks,
    get_clip,
    get_upload,
    hold_at,
    make_footage,
    make_overdue,
    read_object,
    read_stored,
)


async def assert_prefix(ledger, vault, upload_id, footage):
    """The ledger counts a gapless prefix, the vault holds it, and the running hash is over it."""
    upload = await get_upload(ledger, upload_id)
    pieces = await read_stored(ledger, vault, upload_id)
    stored = b"".join(pieces[offset] for offset in sorted(pieces))
    assert stored == footage[: upload.offset_bytes]
    assert upload.hashed_bytes == upload.offset_bytes
    digest = resume_sha256(upload.sha256_state).digest()
    assert digest == hashlib.sha256(footage[: upload.offset_bytes]).digest()


async def finish(service, ledger, vault, upload):
    """Finish a complete upload; returns the bytes of the sealed object."""
    assert await service.finish(upload.upload_id)
    clip = await get_clip(ledger, upload.clip_id)
    assert clip.state == "sealed", clip.quarantine_reason
    assert clip.sha256 == hashlib.sha256(read_object(vault, clip)).digest()
    return read_object(vault, clip)


# --- what is kept -------------------------------------------------------------------------


async def test_one_body_of_the_whole_clip_becomes_its_object(
    service, ledger, vault, upload, footage
):
    after = await service.append_all(upload.upload_id, 0, footage)

    assert (after.state, after.offset_bytes) == ("finishing", len(footage))
    assert await finish(service, ledger, vault, upload) == footage


@pytest.mark.parametrize("piece_bytes", [1, 5, 31, 32, 33, 64, 100])
@pytest.mark.parametrize("is_known", [True, False])
async def test_bodies_of_any_size_become_the_same_object(
    service, ledger, vault, upload, footage, piece_bytes, is_known
):
    for start in range(0, len(footage), piece_bytes):
        piece = footage[start : start + piece_bytes]
        await service.append(upload.upload_id, start, Feed(piece), len(piece) if is_known else None)

    assert await finish(service, ledger, vault, upload) == footage


async def test_every_body_is_durable_when_it_is_answered(service, ledger, vault, upload, footage):
    for start in range(0, len(footage) - 13, 13):
        await service.append_all(upload.upload_id, start, footage[start : start + 13])
        await assert_prefix(ledger, vault, upload.upload_id, footage)


async def test_many_tiny_bodies_leave_few_tails(ledger, vault, service):
    data = make_footage(500)
    service.rules = replace(RULES, part_bytes=400)
    upload = (await service.open(len(data))).upload

    for start in range(appending.TAILS_MAX + 3):
        await service.append_all(upload.upload_id, start, data[start : start + 1])

    assert len(await read_stored(ledger, vault, upload.upload_id)) < appending.TAILS_MAX
    await assert_prefix(ledger, vault, upload.upload_id, data)
    rest = data[appending.TAILS_MAX + 3 :]
    await service.append_all(upload.upload_id, appending.TAILS_MAX + 3, rest)
    assert await finish(service, ledger, vault, upload) == data


async def test_a_clip_of_one_part_is_one_object_without_multipart(service, ledger, vault):
    data = make_footage(PART_BYTES)
    upload = (await service.open(len(data))).upload

    await service.append_all(upload.upload_id, 0, data)

    assert vault.calls["open_multipart"] == 0
    assert await finish(service, ledger, vault, upload) == data


async def test_joined_tails_are_not_left_in_the_vault(service, ledger, vault, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:5])
    await service.append_all(upload.upload_id, 5, footage[5:])

    assert vault.keys() == []
    assert await finish(service, ledger, vault, upload) == footage


async def test_another_process_goes_on_where_one_stopped(
    service, other_service, ledger, vault, upload, footage
):
    await service.append_all(upload.upload_id, 0, footage[:40])

    await other_service.append_all(upload.upload_id, 40, footage[40:])

    assert await finish(service, ledger, vault, upload) == footage


# --- cuts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("arrived", [1, 31, 32, 33, 70])
async def test_a_cut_keeps_what_had_arrived(
    service, ledger, vault, upload, footage, arrived, is_known
):
    feed = Feed(footage[:arrived], ending="cut")

    with pytest.raises(Disconnected):
        await service.append(upload.upload_id, 0, feed, len(footage) if is_known else None)

    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == arrived
    await assert_prefix(ledger, vault, upload.upload_id, footage)
    await service.append_all(upload.upload_id, arrived, footage[arrived:])
    assert await finish(service, ledger, vault, upload) == footage


async def test_without_memory_a_cut_keeps_whole_parts(service, ledger, vault, upload, footage):
    service.budget.bytes_max = 0

    with pytest.raises(Disconnected):
        await service.append(upload.upload_id, 0, Feed(footage[:70], ending="cut"), len(footage))

    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 64
    await assert_prefix(ledger, vault, upload.upload_id, footage)


async def test_a_body_that_ends_early_is_a_cut(service, ledger, upload, footage):
    with pytest.raises(Disconnected):
        await service.append(upload.upload_id, 0, Feed(footage[:20]), 40)

    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 20


async def test_a_stalled_body_keeps_what_had_arrived(service, ledger, vault, upload, footage):
    feed = Feed(footage[:20], ending="open")
    feed.cut(BodyStalled(1.0))

    with pytest.raises(BodyStalled):
        await service.append(upload.upload_id, 0, feed, len(footage))

    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 20
    await assert_prefix(ledger, vault, upload.upload_id, footage)


async def test_memory_is_given_back_after_every_ending(service, upload, footage):
    with pytest.raises(Disconnected):
        await service.append(upload.upload_id, 0, Feed(footage[:20], ending="cut"), len(footage))
    with pytest.raises(Disconnected):
        await service.append(upload.upload_id, 20, Feed(footage[20:25], ending="cut"), None)
    await service.append_all(upload.upload_id, 25, footage[25:])

    assert service.budget.used_bytes == 0


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 39, 41, 112, 10**12])
async def test_a_wrong_offset_reads_nothing_and_names_the_right_one(
    service, ledger, upload, footage, offset
):
    await service.append_all(upload.upload_id, 0, footage[:40])
    feed = Feed(footage)

    with pytest.raises(OffsetMismatch) as refused:
        await service.append(upload.upload_id, offset, feed, 10)

    assert refused.value.expected_offset == 40
    assert feed.read_bytes == 0
    assert (await get_upload(ledger, upload.upload_id)).leased_by is None


async def test_a_body_announced_beyond_the_length_is_not_read(service, ledger, upload, footage):
    feed = Feed(footage + b"x")

    with pytest.raises(LengthExceeded):
        await service.append(upload.upload_id, 0, feed, len(footage) + 1)

    assert feed.read_bytes == 0
    assert (await get_upload(ledger, upload.upload_id)).leased_by is None


async def test_bytes_beyond_the_length_are_never_stored(service, ledger, vault, upload, footage):
    with pytest.raises(LengthExceeded):
        await service.append(upload.upload_id, 0, Feed(footage + b"more"), None)

    assert await finish(service, ledger, vault, upload) == footage


async def test_an_unknown_upload_is_refused(service, clip, footage):
    with pytest.raises(UploadNotFound):
        await service.append_all(clip.clip_id, 0, footage)


async def test_another_stations_upload_does_not_exist(service, upload, footage):
    with pytest.raises(UploadNotFound):
        await service.append(upload.upload_id, 0, Feed(footage), 112, station=OTHER_DOCK)


async def test_an_upload_begun_natively_is_not_appended_to(service, ledger, clip, footage):
    await service.store(clip.clip_id, 1, cut_chunks(footage)[1])

    with pytest.raises(SurfaceMismatch):
        await service.append_all(clip.upload_id, 32, footage[32:])
    assert (await get_upload(ledger, clip.upload_id)).leased_by is None


async def test_an_upload_being_finished_takes_no_byte(service, upload, footage):
    await service.append_all(upload.upload_id, 0, footage)

    with pytest.raises(UploadBusy):
        await service.append_all(upload.upload_id, 112, b"")


async def test_a_finished_upload_takes_no_byte(service, upload, footage):
    await service.append_all(upload.upload_id, 0, footage)
    await service.finish(upload.upload_id)

    with pytest.raises(UploadClosed):
        await service.append_all(upload.upload_id, 112, b"x")


async def test_an_expired_upload_takes_no_byte(service, ledger, upload, footage):
    await make_overdue(ledger, upload.upload_id)

    with pytest.raises(UploadGone):
        await service.append_all(upload.upload_id, 0, footage)


# --- a failing vault ----------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("call", ["put_object", "put_part", "open_multipart", "read"])
async def test_the_dock_resumes_after_the_vault_failed(
    service, ledger, vault, upload, footage, call, failure, is_known
):
    # Something of every kind is to be done: a tail is there, a part is filled, a tail is left.
    await service.append_all(upload.upload_id, 0, footage[:10])
    vault.fail_next(call, failure)

    with pytest.raises(VaultUnavailable):
        await service.append(upload.upload_id, 10, Feed(footage[10:80]), 70 if is_known else None)

    await assert_prefix(ledger, vault, upload.upload_id, footage)
    offset = (await service.head(upload.upload_id)).offset_bytes
    assert offset >= 10
    await service.append_all(upload.upload_id, offset, footage[offset:])
    assert await finish(service, ledger, vault, upload) == footage


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_tail_that_cannot_be_deleted_does_no_harm(
    service, ledger, vault, upload, footage, failure
):
    await service.append_all(upload.upload_id, 0, footage[:10])
    vault.fail_next("delete", failure)

    await service.append_all(upload.upload_id, 10, footage[10:])

    assert await finish(service, ledger, vault, upload) == footage


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_failing_merge_of_tails_loses_nothing(service, ledger, vault, footage, failure):
    data = make_footage(500)
    service.rules = replace(RULES, part_bytes=400)
    upload = (await service.open(len(data))).upload
    for start in range(appending.TAILS_MAX - 1):
        await service.append_all(upload.upload_id, start, data[start : start + 1])
    vault.fail_next("read", failure)

    start = appending.TAILS_MAX - 1
    with pytest.raises(VaultUnavailable):
        await service.append_all(upload.upload_id, start, data[start : start + 1])

    await assert_prefix(ledger, vault, upload.upload_id, data)
    offset = (await get_upload(ledger, upload.upload_id)).offset_bytes
    await service.append_all(upload.upload_id, offset, data[offset:])
    assert await finish(service, ledger, vault, upload) == data


# --- shutting down ------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_cancelled_request_keeps_what_had_arrived(
    service, ledger, vault, upload, footage, is_known
):
    feed = Feed(footage[:50], ending="open")
    request = asyncio.create_task(
        service.append(upload.upload_id, 0, feed, len(footage) if is_known else None)
    )
    await feed.starving.wait()

    request.cancel()

    with pytest.raises(ShuttingDown):
        await request
    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 50
    await assert_prefix(ledger, vault, upload.upload_id, footage)


@pytest.mark.parametrize("begun", [0, 10])
@pytest.mark.parametrize("sent", [32, 112])
async def test_a_request_cancelled_after_its_last_byte_leaves_a_whole_part(
    service, ledger, vault, upload, footage, begun, sent
):
    """The vault had the part and its answer was awaited: what fills a part is no tail."""
    if begun:
        await service.append_all(upload.upload_id, 0, footage[:begun])
    request, _ = await hold_at(
        vault, "put_part", service.append_all(upload.upload_id, begun, footage[begun:sent])
    )

    request.cancel()

    with pytest.raises(ShuttingDown):
        await request
    await assert_prefix(ledger, vault, upload.upload_id, footage)
    offset = (await get_upload(ledger, upload.upload_id)).offset_bytes
    assert offset == PART_BYTES
    await service.append_all(upload.upload_id, offset, footage[offset:])
    assert await finish(service, ledger, vault, upload) == footage


async def test_a_request_cancelled_while_tails_are_cleared_away_counts_once(
    service, ledger, vault, upload, footage
):
    await service.append_all(upload.upload_id, 0, footage[:10])
    request, _ = await hold_at(
        vault, "delete", service.append_all(upload.upload_id, 10, footage[10:32])
    )

    request.cancel()

    with pytest.raises(ShuttingDown):
        await request
    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 32
    await assert_prefix(ledger, vault, upload.upload_id, footage)


async def test_a_cancelled_request_of_an_overtaken_writer_counts_nothing(
    service, other_service, ledger, vault, upload, footage
):
    feed = Feed(footage[:50], ending="open", is_deaf=True)
    zombie = asyncio.create_task(service.append(upload.upload_id, 0, feed, len(footage)))
    await feed.starving.wait()
    await other_service.head(upload.upload_id, wait_s=0)

    zombie.cancel()

    with pytest.raises(TakenOver):
        await zombie
    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 32
