"""A clip of one part is counted and sealed by one statement."""

import asyncio
import hashlib

import pytest

from ingest_service.domain.bytestream import Disconnected
from ingest_service.errors import ChunkConflict
from tests.actions.engine import (
    Crash,
    Feed,
    Process,
    append_event,
    describe_recording,
    get_clip,
    get_upload,
    hold_at,
    list_event_types,
    make_footage,
    read_object,
)

SMALL = make_footage(20, "small")


@pytest.fixture
async def small(service):
    return (await service.announce(describe_recording(SMALL))).clip


async def test_the_last_chunk_seals_a_clip_of_one_part(service, ledger, vault, small):
    stored = await service.store(small.clip_id, 0, SMALL, seals=True)

    clip = await get_clip(ledger, small.clip_id)
    assert stored.sealed is not None
    assert (stored.sealed.state, clip.state) == ("sealed", "sealed")
    assert clip.sha256 == stored.sealed.sha256 == hashlib.sha256(SMALL).digest()
    assert read_object(vault, clip) == SMALL


async def test_both_ways_to_a_seal_record_the_same(service, ledger, small):
    await service.store(small.clip_id, 0, SMALL, seals=True)
    other = (await service.announce(describe_recording(SMALL))).clip
    await service.store(other.clip_id, 0, SMALL)
    await service.seal(other.clip_id)

    one, two = await get_clip(ledger, small.clip_id), await get_clip(ledger, other.clip_id)
    assert (one.sha256, one.size_bytes, one.event_count) == (
        two.sha256,
        two.size_bytes,
        two.event_count,
    )
    assert one.manifest is not None
    assert two.manifest is not None
    assert one.manifest["parts"] == two.manifest["parts"]


async def test_a_repeat_of_the_sealing_chunk_is_told_that_it_is_stored(service, small):
    await service.store(small.clip_id, 0, SMALL, seals=True)

    again = await service.store(small.clip_id, 0, SMALL, seals=True)

    assert (again.is_new, again.is_complete) == (False, True)


async def test_a_chunk_before_the_last_seals_nothing(service, ledger, clip, footage):
    stored = await service.store(clip.clip_id, 0, footage[:32], seals=True)

    assert (stored.is_complete, stored.sealed) == (False, None)
    assert (await get_clip(ledger, clip.clip_id)).state == "receiving"


async def test_the_last_of_many_chunks_tells_that_a_seal_is_due(service, clip, footage):
    stored = [
        await service.store(clip.clip_id, index, footage[32 * index : 32 * index + 32], seals=True)
        for index in range(4)
    ]

    assert [each.is_complete for each in stored] == [False, False, False, True]


async def test_other_bytes_than_the_device_announced_are_set_aside(service, ledger, vault):
    announced = describe_recording(SMALL, sha256_device="00" * 32)
    clip = (await service.announce(announced)).clip

    stored = await service.store(clip.clip_id, 0, SMALL, seals=True)

    assert stored.sealed is not None
    assert stored.sealed.state == "quarantined"
    assert await list_event_types(ledger, clip.clip_id) == [
        "clip.announced",
        "hash.mismatch",
        "clip.quarantined",
    ]
    assert read_object(vault, stored.sealed) == SMALL


async def test_of_two_senders_one_seals_and_the_other_is_told_so(
    service, other_service, ledger, small
):
    """Both have stored the object, under keys of their own; nothing is recorded yet."""
    barrier = asyncio.Barrier(2)
    service.vault._vault.meet_at("put_object", barrier)

    stored = await asyncio.gather(
        service.store(small.clip_id, 0, SMALL, seals=True),
        other_service.store(small.clip_id, 0, SMALL, seals=True),
    )

    assert sorted(each.is_new for each in stored) == [False, True]
    assert await list_event_types(ledger, small.clip_id) == ["clip.announced", "clip.sealed"]


async def test_a_chunk_seals_only_under_the_last_claims_digest(service, ledger, vault, small):
    """The dock read the camera again and sends other bytes, while its first request still runs."""
    other = make_footage(20, "read again")
    first, halt = await hold_at(
        vault, "put_object", service.store(small.clip_id, 0, SMALL, seals=True)
    )
    second, second_halt = await hold_at(
        vault, "put_object", service.store(small.clip_id, 0, other, seals=True)
    )

    halt.let_go()
    with pytest.raises(ChunkConflict):
        await first
    assert (await get_clip(ledger, small.clip_id)).state == "receiving"

    second_halt.let_go()
    assert (await second).sealed is not None
    assert read_object(vault, await get_clip(ledger, small.clip_id)) == other


async def test_an_event_between_claim_and_seal_breaks_no_chain(service, ledger, vault, small):
    storing, halt = await hold_at(
        vault, "put_object", service.store(small.clip_id, 0, SMALL, seals=True)
    )
    await append_event(ledger, small.clip_id)
    halt.let_go()

    stored = await storing

    assert (stored.is_new, stored.is_complete) == (True, True)
    assert (await service.seal(small.clip_id)).state == "sealed"
    types = await list_event_types(ledger, small.clip_id)
    assert types == ["clip.announced", "metadata.viewed", "clip.sealed"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["put_object", "ledger"])
async def test_the_sealing_chunk_survives_a_crash_at_every_step(
    ledger, vault, service, small, step, moment
):
    dying = Process("dying", ledger, vault)
    dying.mortality.dies_at = (step, moment)
    with pytest.raises(Crash):
        await dying.store(small.clip_id, 0, SMALL, seals=True)

    await service.store(small.clip_id, 0, SMALL, seals=True)

    clip = await get_clip(ledger, small.clip_id)
    assert clip.state == "sealed"
    assert read_object(vault, clip) == SMALL
    upload = await get_upload(ledger, clip.upload_id)
    assert (upload.state, upload.offset_bytes) == ("finished", len(SMALL))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_the_seal_of_a_stored_part_survives_a_crash(ledger, vault, service, small, moment):
    await service.store(small.clip_id, 0, SMALL)
    dying = Process("dying", ledger, vault)
    dying.mortality.dies_at = ("ledger", moment)
    with pytest.raises(Crash):
        await dying.seal(small.clip_id)

    assert (await service.seal(small.clip_id)).state == "sealed"


async def test_a_cut_sealing_chunk_seals_nothing(service, ledger, small):
    feed = Feed(SMALL[:5], ending="cut")

    with pytest.raises(Disconnected):
        await service.store(small.clip_id, 0, SMALL, feed=feed, seals=True)

    assert (await get_clip(ledger, small.clip_id)).state == "receiving"
