"""Native chunks: any order, in parallel, as often as the dock likes; each is counted once."""

import asyncio
import hashlib

import pytest

from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.errors import (
    ChunkConflict,
    ChunkCorrupted,
    ChunkIndexOutOfRange,
    ChunkMisshapen,
    ClipNotFound,
    OffsetMismatch,
    SurfaceMismatch,
    TakenOver,
    UploadBusy,
    UploadGone,
    VaultUnavailable,
)
from tests.actions.engine import (
    OTHER_DOCK,
    Feed,
    Process,
    cut_chunks,
    describe_recording,
    get_upload,
    hold_at,
    make_footage,
    make_overdue,
    read_object,
    read_stored,
    wait_for_a_lock,
)
from tests.fakes import MemoryVault


@pytest.fixture
def chunks(footage):
    return cut_chunks(footage)


async def assert_sealed(service, ledger, vault, clip, footage):
    sealed = await service.seal(clip.clip_id)
    assert (sealed.state, sealed.quarantine_reason) == ("sealed", None)
    assert read_object(vault, sealed) == footage


# --- any order ----------------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 1, 3]])
async def test_chunks_in_any_order_become_the_clip(
    service, ledger, vault, clip, footage, chunks, order
):
    for index in order:
        await service.store(clip.clip_id, index, chunks[index])

    await assert_sealed(service, ledger, vault, clip, footage)


async def test_all_chunks_at_once_become_the_clip(service, ledger, vault, clip, footage, chunks):
    vault.meet_at("put_part", asyncio.Barrier(len(chunks)), moment="asked")

    stored = await asyncio.gather(
        *(service.store(clip.clip_id, index, chunk) for index, chunk in enumerate(chunks))
    )

    vault.stop_meeting()
    assert max(each.received_bytes for each in stored) == len(footage)
    await assert_sealed(service, ledger, vault, clip, footage)


async def test_chunks_in_line_leave_the_whole_hash_at_the_seal(service, clip, footage, chunks):
    for index, chunk in enumerate(chunks):
        await service.store(clip.clip_id, index, chunk)

    sealed = await service.seal(clip.clip_id)

    assert sealed.sha256 == hashlib.sha256(footage).digest()


async def test_the_running_hash_never_covers_a_gap(service, ledger, clip, footage, chunks):
    for index in (0, 2, 1, 3):
        await service.store(clip.clip_id, index, chunks[index])
        upload = await get_upload(ledger, clip.upload_id)
        digest = resume_sha256(upload.sha256_state).digest()
        assert digest == hashlib.sha256(footage[: upload.hashed_bytes]).digest()


async def test_a_clip_of_one_chunk_is_one_object(service, ledger, vault):
    data = make_footage(20)
    clip = (await service.announce(describe_recording(data))).clip

    await service.store(clip.clip_id, 0, data)

    assert vault.calls["open_multipart"] == 0
    await assert_sealed(service, ledger, vault, clip, data)


async def test_a_store_that_checks_no_digest_still_gets_right_bytes(ledger, clip, chunks):
    """The service then checks every chunk itself, also those in line."""
    vault = MemoryVault(part_bytes_min=1, checks_sha256=False)
    service = Process("process-1", ledger, vault)
    await service.store(clip.clip_id, 0, chunks[0])

    with pytest.raises(ChunkCorrupted):
        await service.store(clip.clip_id, 1, chunks[2], sha256=hashlib.sha256(chunks[1]).digest())

    assert set(await read_stored(ledger, vault, clip.upload_id)) == {0}


# --- repeats ------------------------------------------------------------------------------


async def test_an_identical_repeat_is_counted_once(service, clip, chunks):
    await service.store(clip.clip_id, 0, chunks[0])
    feed = Feed(chunks[0])

    again = await service.store(clip.clip_id, 0, chunks[0], feed=feed)

    assert (again.is_new, again.received_bytes, feed.read_bytes) == (False, 32, 0)


async def test_other_bytes_under_a_stored_index_are_refused_unread(
    service, ledger, vault, clip, chunks
):
    await service.store(clip.clip_id, 0, chunks[0])
    feed = Feed(chunks[1])

    with pytest.raises(ChunkConflict):
        await service.store(clip.clip_id, 0, chunks[1], feed=feed)

    assert feed.read_bytes == 0
    assert await read_stored(ledger, vault, clip.upload_id) == {0: chunks[0]}


async def test_a_repeat_after_the_seal_is_known_by_its_digest(service, clip, chunks):
    for index, chunk in enumerate(chunks):
        await service.store(clip.clip_id, index, chunk)
    await service.seal(clip.clip_id)

    assert not (await service.store(clip.clip_id, 1, chunks[1])).is_new
    with pytest.raises(ChunkConflict):
        await service.store(clip.clip_id, 1, chunks[2])


# --- refusals -----------------------------------------------------------------------------


@pytest.mark.parametrize("index", [-1, 4, 2**31, 2**63, 10**30])
async def test_an_index_outside_the_plan_is_refused(service, clip, chunks, index):
    with pytest.raises(ChunkIndexOutOfRange):
        await service.store(clip.clip_id, index, chunks[0])


@pytest.mark.parametrize(("index", "length"), [(0, 31), (0, 33), (3, 15), (3, 17), (3, 32)])
async def test_a_chunk_of_another_length_is_refused_unread(
    service, ledger, clip, footage, index, length
):
    feed = Feed(footage)

    with pytest.raises(ChunkMisshapen):
        await service.store(clip.clip_id, index, footage[:length], feed=feed)

    assert feed.read_bytes == 0
    assert (await get_upload(ledger, clip.upload_id)).offset_bytes == 0


@pytest.mark.parametrize("order", [[0], [1], [0, 1]])
async def test_bytes_that_differ_from_their_digest_are_not_stored(
    service, ledger, vault, clip, chunks, order
):
    """In line and out of line, the last sent chunk is corrupted."""
    for index in order[:-1]:
        await service.store(clip.clip_id, index, chunks[index])
    index = order[-1]

    with pytest.raises(ChunkCorrupted):
        await service.store(
            clip.clip_id, index, b"x" * 32, sha256=hashlib.sha256(chunks[index]).digest()
        )

    assert (await get_upload(ledger, clip.upload_id)).offset_bytes == 32 * (len(order) - 1)
    await service.store(clip.clip_id, index, chunks[index])
    assert (await read_stored(ledger, vault, clip.upload_id))[32 * index] == chunks[index]


@pytest.mark.parametrize("arrived", [0, 1, 31])
@pytest.mark.parametrize("ending", ["cut", "end"])
async def test_a_chunk_cut_short_is_not_counted(service, ledger, clip, chunks, arrived, ending):
    with pytest.raises(Disconnected):
        await service.store(
            clip.clip_id, 0, chunks[0], feed=Feed(chunks[0][:arrived], ending=ending)
        )

    assert (await get_upload(ledger, clip.upload_id)).offset_bytes == 0
    assert service.budget.used_bytes == 0
    assert (await service.store(clip.clip_id, 0, chunks[0])).is_new


async def test_another_stations_clip_does_not_exist(service, clip, chunks):
    with pytest.raises(ClipNotFound):
        await service.store(clip.clip_id, 0, chunks[0], station=OTHER_DOCK)


async def test_an_upload_begun_by_tus_takes_no_chunks(service, upload, footage, chunks):
    await service.append_all(upload.upload_id, 0, footage[:5])

    with pytest.raises(SurfaceMismatch):
        await service.store(upload.clip_id, 1, chunks[1])


async def test_an_expired_upload_takes_no_chunks(service, ledger, clip, chunks):
    await service.store(clip.clip_id, 0, chunks[0])
    await make_overdue(ledger, clip.upload_id)

    with pytest.raises(UploadGone):
        await service.store(clip.clip_id, 1, chunks[1])


async def test_an_upload_being_finished_takes_no_new_chunks(service, ledger, vault):
    data = make_footage(20)
    clip = (await service.announce(describe_recording(data))).clip
    await service.store(clip.clip_id, 0, data)
    async with ledger.acquire() as connection:
        await connection.execute(
            "UPDATE uploads SET state = 'finishing' WHERE upload_id = $1", clip.upload_id
        )

    assert not (await service.store(clip.clip_id, 0, data)).is_new
    async with ledger.acquire() as connection:
        await connection.execute("DELETE FROM parts WHERE upload_id = $1", clip.upload_id)
    with pytest.raises(UploadBusy):
        await service.store(clip.clip_id, 0, data)


# --- a failing vault ----------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("call", ["open_multipart", "put_part"])
async def test_the_dock_resends_after_the_vault_failed(
    service, ledger, vault, clip, footage, chunks, call, failure
):
    vault.fail_next(call, failure)

    with pytest.raises(VaultUnavailable):
        await service.store(clip.clip_id, 0, chunks[0])

    assert (await get_upload(ledger, clip.upload_id)).offset_bytes == 0
    for index, chunk in enumerate(chunks):
        assert (await service.store(clip.clip_id, index, chunk)).is_new
    await assert_sealed(service, ledger, vault, clip, footage)


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_the_dock_resends_a_one_part_clip_after_the_vault_failed(
    service, ledger, vault, failure
):
    data = make_footage(20)
    clip = (await service.announce(describe_recording(data))).clip
    vault.fail_next("put_object", failure)

    with pytest.raises(VaultUnavailable):
        await service.store(clip.clip_id, 0, data)

    assert (await service.store(clip.clip_id, 0, data)).is_new
    await assert_sealed(service, ledger, vault, clip, data)


# --- races --------------------------------------------------------------------------------


async def test_two_senders_of_one_chunk_are_counted_once(
    service, ledger, vault, clip, footage, chunks
):
    barrier = asyncio.Barrier(2)
    vault.meet_at("put_part", barrier)

    stored = await asyncio.gather(
        service.store(clip.clip_id, 0, chunks[0]), service.store(clip.clip_id, 0, chunks[0])
    )

    vault.stop_meeting()
    assert sorted(each.is_new for each in stored) == [False, True]
    assert (await get_upload(ledger, clip.upload_id)).offset_bytes == 32
    for index in (1, 2, 3):
        await service.store(clip.clip_id, index, chunks[index])
    await assert_sealed(service, ledger, vault, clip, footage)


async def test_of_two_senders_of_different_bytes_one_wins_whole(
    service, ledger, vault, clip, chunks
):
    contents = [chunks[0], chunks[1]]
    barrier = asyncio.Barrier(2)
    vault.meet_at("put_part", barrier)

    results = await asyncio.gather(
        *(service.store(clip.clip_id, 0, content) for content in contents),
        return_exceptions=True,
    )

    [winner] = [number for number, result in enumerate(results) if not is_error(result)]
    assert isinstance(results[1 - winner], ChunkConflict)
    assert await read_stored(ledger, vault, clip.upload_id) == {0: contents[winner]}
    upload = await get_upload(ledger, clip.upload_id)
    assert upload.offset_bytes == 32
    if upload.hashed_bytes:
        digest = resume_sha256(upload.sha256_state).digest()
        assert digest == hashlib.sha256(contents[winner]).digest()


def is_error(result):
    return isinstance(result, BaseException)


async def test_a_late_part_of_a_beaten_sender_replaces_nothing(
    service, ledger, vault, clip, footage, chunks
):
    """The slow sender's part lands when the other was counted, with other bytes."""
    slow, halt = await hold_at(
        vault, "put_part", service.store(clip.clip_id, 0, chunks[1]), moment="asked"
    )
    await service.store(clip.clip_id, 0, chunks[0])

    halt.let_go()

    with pytest.raises(ChunkConflict):
        await slow
    for index in (1, 2, 3):
        await service.store(clip.clip_id, index, chunks[index])
    await assert_sealed(service, ledger, vault, clip, footage)


async def test_a_late_chunk_of_an_expired_upload_is_not_called_stored(
    service, ledger, vault, clip, chunks
):
    sending, halt = await hold_at(vault, "put_part", service.store(clip.clip_id, 0, chunks[0]))
    await make_overdue(ledger, clip.upload_id)
    await service.expire(clip.upload_id)

    halt.let_go()

    with pytest.raises(UploadGone):
        await sending


async def test_a_late_part_of_an_expired_upload_is_no_lost_evidence(
    service, ledger, vault, clip, chunks
):
    sending, halt = await hold_at(
        vault, "put_part", service.store(clip.clip_id, 0, chunks[0]), moment="asked"
    )
    await make_overdue(ledger, clip.upload_id)
    await service.expire(clip.upload_id)

    halt.let_go()

    with pytest.raises(UploadGone):
        await sending


async def test_a_chunk_recorded_while_its_upload_ends_is_not_counted(
    service, ledger, vault, clip, chunks
):
    """The statement has seen the upload open, and waits for the lock of whoever ends it."""
    sending, halt = await hold_at(vault, "put_part", service.store(clip.clip_id, 0, chunks[0]))
    async with ledger.acquire() as ending, ending.transaction():
        await ending.execute(
            "UPDATE uploads SET state = 'expired', epoch = epoch + 1 WHERE upload_id = $1",
            clip.upload_id,
        )
        halt.let_go()
        await wait_for_a_lock(ledger)

    with pytest.raises(UploadGone):
        await sending
    assert (await get_upload(ledger, clip.upload_id)).offset_bytes == 0


@pytest.mark.parametrize("first", ["native", "tus"])
async def test_native_against_tus_on_a_fresh_upload_one_surface_wins(
    service, ledger, vault, clip, footage, chunks, first
):
    """They meet in the vault, then go on at once; the clip is finished by the one who won."""
    barrier = asyncio.Barrier(2)
    vault.meet_at("open_multipart", barrier)
    requests = [
        service.store(clip.clip_id, 1, chunks[1]),
        service.append_all(clip.upload_id, 0, footage[:40]),
    ]
    if first == "tus":
        requests.reverse()

    results = await asyncio.gather(*requests, return_exceptions=True)

    vault.stop_meeting()
    if first == "tus":
        results.reverse()
    upload = await get_upload(ledger, clip.upload_id)
    if upload.surface == "native":
        assert not is_error(results[0])
        assert isinstance(results[1], SurfaceMismatch)
        for index, chunk in enumerate(chunks):
            await service.store(clip.clip_id, index, chunk)
    else:
        assert isinstance(results[0], SurfaceMismatch)
        assert not is_error(results[1])
        await service.append_all(clip.upload_id, 40, footage[40:])
    await assert_sealed(service, ledger, vault, clip, footage)


async def test_a_tail_that_comes_before_a_chunk_is_recorded_wins_the_surface(
    service, ledger, vault, footage
):
    """One part: no multipart upload settles the surface, the ledger does."""
    data = make_footage(20)
    clip = (await service.announce(describe_recording(data))).clip
    native, halt = await hold_at(vault, "put_object", service.store(clip.clip_id, 0, data))
    await service.append_all(clip.upload_id, 0, data[:5])

    halt.let_go()

    with pytest.raises(SurfaceMismatch):
        await native
    await service.append_all(clip.upload_id, 5, data[5:])
    await assert_sealed(service, ledger, vault, clip, data)


async def test_a_chunk_recorded_before_a_tail_wins_the_surface(service, ledger, vault):
    data = make_footage(20)
    clip = (await service.announce(describe_recording(data))).clip
    tus, halt = await hold_at(vault, "put_object", service.append_all(clip.upload_id, 0, data[:5]))
    await service.store(clip.clip_id, 0, data)

    halt.let_go()

    with pytest.raises((TakenOver, SurfaceMismatch, OffsetMismatch)):
        await tus
    await assert_sealed(service, ledger, vault, clip, data)
