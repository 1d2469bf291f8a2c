"""One identity is one clip, whatever its state; other content under it is refused."""

import asyncio
import base64
import hashlib
import json

import pytest

from ingest_service.domain.bytestream import Disconnected
from ingest_service.errors import (
    AnnouncementConflict,
    ClipNotFound,
    ClipTooLarge,
    InvalidHeader,
    UploadNotFound,
)
from tests.actions.engine import (
    OTHER_DOCK,
    Feed,
    cut_chunks,
    describe_recording,
    get_clip,
    get_upload,
    hold_at,
    list_event_types,
    make_overdue,
    read_object,
)


@pytest.fixture
def recording(footage):
    return describe_recording(footage)


async def send_all(service, clip, footage):
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)


async def test_a_new_clip_has_its_plan_and_its_first_event(service, ledger, recording):
    announced = await service.announce(recording)

    assert announced.is_new
    assert await get_upload(ledger, announced.upload.upload_id) == announced.upload
    assert await list_event_types(ledger, announced.clip.clip_id) == ["clip.announced"]


async def test_what_was_announced_is_kept_unchanged(service, ledger, recording):
    odd = recording | {"mood": {"colour": ["grün", 1.5, None]}, "officer_id": "nobody"}

    clip = (await service.announce(odd)).clip

    assert (await get_clip(ledger, clip.clip_id)).announcement == odd


async def test_the_same_again_is_the_same_clip_and_no_event(service, ledger, recording):
    first = await service.announce(recording)

    again = await service.announce(recording)

    assert (again.is_new, again.clip.clip_id) == (False, first.clip.clip_id)
    assert again.upload == first.upload
    assert await list_event_types(ledger, first.clip.clip_id) == ["clip.announced"]


async def test_one_identity_announced_twice_at_once_is_one_clip(
    service, other_service, ledger, recording
):
    answers = await asyncio.gather(
        *(process.announce(recording) for process in (service, other_service) * 3)
    )

    assert len({answer.clip.clip_id for answer in answers}) == 1
    assert len({answer.upload.upload_id for answer in answers}) == 1
    assert sorted(answer.is_new for answer in answers) == [False] * 5 + [True]
    assert await list_event_types(ledger, answers[0].clip.clip_id) == ["clip.announced"]


@pytest.mark.parametrize("state", ["receiving", "sealed", "secured"])
@pytest.mark.parametrize(
    ("changes", "differs"),
    [({"size_bytes": 113}, "size_bytes"), ({"sha256_device": "0" * 64}, "sha256_device")],
)
async def test_other_content_under_the_identity_is_refused_in_every_state(
    service, ledger, footage, state, changes, differs
):
    digest = hashlib.sha256(footage).hexdigest()
    recording = describe_recording(footage, sha256_device=digest)
    clip = (await service.announce(recording)).clip
    if state != "receiving":
        await send_all(service, clip, footage)
        await service.seal(clip.clip_id)
    if state == "secured":
        await service.read_back(clip.clip_id)
    before = await get_clip(ledger, clip.clip_id)

    with pytest.raises(AnnouncementConflict) as refused:
        await service.announce(recording, **changes)

    assert (refused.value.clip_id, refused.value.differs_in) == (clip.clip_id, differs)
    assert await get_clip(ledger, clip.clip_id) == before
    assert before.state == state


async def test_a_secured_clip_announced_again_is_not_opened_again(
    service, ledger, footage, recording
):
    clip = (await service.announce(recording)).clip
    await send_all(service, clip, footage)
    await service.seal(clip.clip_id)
    await service.read_back(clip.clip_id)

    again = await service.announce(recording, OTHER_DOCK)

    assert (again.clip.state, again.is_new) == ("secured", False)
    assert (await get_upload(ledger, clip.upload_id)).station_id == "dock-1"


async def test_a_clip_larger_than_the_limit_is_not_recorded(service, ledger, recording):
    with pytest.raises(ClipTooLarge):
        await service.announce(recording, size_bytes=service.rules.clip_bytes_max + 1)

    async with ledger.acquire() as connection:
        assert not await connection.fetch(
            "SELECT 1 FROM clips WHERE recording_id = $1", recording["recording_id"]
        )


async def test_a_digest_that_comes_later_is_taken_and_compared(service, ledger, footage, recording):
    clip = (await service.announce(recording)).clip
    await service.announce(recording, sha256_device="0" * 64)

    await send_all(service, clip, footage)

    assert (await service.seal(clip.clip_id)).state == "quarantined"


async def test_a_digest_cannot_be_changed_by_announcing_without_one(
    service, ledger, footage, recording
):
    digest = hashlib.sha256(footage).hexdigest()
    clip = (await service.announce(recording, sha256_device=digest)).clip

    await service.announce(recording)

    assert (await get_clip(ledger, clip.clip_id)).sha256_device.hex() == digest


# --- too late, and not too late ------------------------------------------------------------


async def test_an_overdue_upload_that_nobody_ended_goes_on_where_it_was(
    service, ledger, vault, footage, recording
):
    chunks = cut_chunks(footage)
    announced = await service.announce(recording)
    await service.store(announced.clip.clip_id, 0, chunks[0])
    await make_overdue(ledger, announced.upload.upload_id)

    again = await service.announce(recording)

    assert again.upload.upload_id == announced.upload.upload_id
    assert again.upload.expires_at > service.now()
    assert not await service.expire(announced.upload.upload_id)
    for index in (1, 2, 3):
        await service.store(announced.clip.clip_id, index, chunks[index])
    assert read_object(vault, await service.seal(announced.clip.clip_id)) == footage


# --- another dock -------------------------------------------------------------------------


async def test_a_camera_that_moved_goes_on_at_the_other_dock(
    service, ledger, vault, footage, recording
):
    chunks = cut_chunks(footage)
    clip = (await service.announce(recording)).clip
    await service.store(clip.clip_id, 0, chunks[0])

    moved = await service.announce(recording, OTHER_DOCK)

    assert moved.upload.offset_bytes == 32
    assert await list_event_types(ledger, clip.clip_id) == ["clip.announced", "upload.resumed"]
    with pytest.raises(ClipNotFound):
        await service.store(clip.clip_id, 1, chunks[1])
    for index in (1, 2, 3):
        await service.store(clip.clip_id, index, chunks[index], station=OTHER_DOCK)
    sealed = await service.seal(clip.clip_id, OTHER_DOCK)
    assert read_object(vault, sealed) == footage


async def test_the_old_docks_request_moves_nothing_after_the_camera_moved(
    service, ledger, vault, footage, recording
):
    """Its chunk was on the way: it counts, for it is the clip's, and the new dock need not send."""
    chunks = cut_chunks(footage)
    clip = (await service.announce(recording)).clip
    sending, halt = await hold_at(vault, "put_part", service.store(clip.clip_id, 0, chunks[0]))
    await service.announce(recording, OTHER_DOCK)
    halt.let_go()

    assert (await sending).is_new
    again = await service.store(clip.clip_id, 0, chunks[0], station=OTHER_DOCK)
    assert not again.is_new


async def test_a_moved_tus_upload_is_appended_to_by_its_new_dock_alone(service, footage, recording):
    clip = (await service.announce(recording)).clip
    with pytest.raises(Disconnected):
        await service.append(clip.upload_id, 0, Feed(footage[:40], ending="cut"), 112)

    await service.announce(recording, OTHER_DOCK)

    with pytest.raises(UploadNotFound):
        await service.append_all(clip.upload_id, 40, footage[40:])
    after = await service.append(clip.upload_id, 40, Feed(footage[40:]), 72, station=OTHER_DOCK)
    assert after.state == "finishing"


async def test_two_docks_announcing_at_once_leave_one_holder(
    service, other_service, ledger, recording
):
    clip = (await service.announce(recording)).clip

    await asyncio.gather(
        *(service.announce(recording, OTHER_DOCK), other_service.announce(recording, OTHER_DOCK))
    )

    assert (await get_upload(ledger, clip.upload_id)).station_id == "dock-2"
    async with ledger.acquire() as connection:
        leaves = await connection.fetch(
            "SELECT leaf FROM custody_events WHERE clip_id = $1 ORDER BY clip_seq", clip.clip_id
        )
    assert_chained([row["leaf"] for row in leaves])


def assert_chained(leaves):
    previous = None
    for number, leaf in enumerate(leaves):
        event = json.loads(leaf)
        assert (event["clip_seq"], event["prev"]) == (number, previous)
        previous = hashlib.sha256(b"\0" + leaf).hexdigest()


# --- odd metadata -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        {"started_at": "2004-01-01T00:00:00Z"},
        {"started_at": "0001-01-01T00:00:00+14:00"},
        {"started_at": "9999-12-31T23:59:59-14:00", "ended_at": "0001-01-01T00:00:00Z"},
        {"started_at": "2026-11-22T12:00:00Z", "clock_offset_ms": 2**53 - 1},
        {"started_at": "2026-11-22T12:00:00Z", "clock_offset_ms": -(2**53) + 1},
        {"device_recording_seq": 2**53 - 1, "clock_uncertainty_ms": 2**53 - 1},
        {"officer_id": "", "category": "", "title": "\u202egnitseretni"},
        {"x" * 5000: "y" * 5000},
        {"number": 10**400, "deep": [[[[[[1]]]]]]},
        {"": 1, "\ufffe": 2, "emoji 😀": 3},
    ],
)
async def test_footage_is_never_refused_for_odd_metadata(service, vault, footage, odd):
    clip = (await service.announce(describe_recording(footage, **odd))).clip

    await send_all(service, clip, footage)

    assert read_object(vault, await service.seal(clip.clip_id)) == footage


# --- by tus -------------------------------------------------------------------------------


async def test_each_tus_creation_opens_an_upload_of_its_own(service):
    first, second = await service.open(10), await service.open(10)

    assert first.clip.clip_id != second.clip.clip_id
    assert "device_serial_missing" in first.clip.flags


async def test_a_held_identity_by_tus_is_kept_beside_and_linked(
    service, ledger, vault, footage, recording
):
    clip = (await service.announce(recording)).clip
    serial, name = "QldDLTE=", encode(recording["recording_id"])

    beside = await service.open(10, f"device_serial {serial},recording_id {name}")

    assert beside.clip.duplicate_of == clip.clip_id
    assert beside.clip.flags[0] == "duplicate_identity"
    assert (await service.announce(recording)).clip.clip_id == clip.clip_id


def encode(text):
    return base64.b64encode(text.encode()).decode()


async def test_metadata_that_cannot_be_read_opens_nothing(service):
    with pytest.raises(InvalidHeader):
        await service.open(10, "filename !")


async def test_a_tus_upload_larger_than_the_limit_is_not_opened(service):
    with pytest.raises(ClipTooLarge):
        await service.open(service.rules.clip_bytes_max + 1)


async def test_tus_metadata_is_kept_as_it_came(service, ledger):
    field = "filename Y2xpcC5tcDQ=,is_urgent"

    opened = await service.open(10, field)

    assert (await get_upload(ledger, opened.upload.upload_id)).tus_metadata == field
