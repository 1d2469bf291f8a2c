"""A small clip by one request: all of it comes with what opens its upload."""

import asyncio

import pytest

from ingest_service.actions.end_upload import sweep_upload
from ingest_service.domain.bytestream import Disconnected
from ingest_service.errors import BodyStalled, ShuttingDown, TakenOver, VaultUnavailable
from tests.actions.engine import (
    Crash,
    Feed,
    Process,
    append_event,
    get_clip,
    get_upload,
    hold_at,
    list_event_types,
    make_footage,
    read_object,
    read_stored,
)

SMALL = make_footage(20, "small")


@pytest.fixture
async def opened(service):
    return await service.open_whole(len(SMALL))


async def test_one_object_and_one_seal_make_the_clip(service, ledger, vault, opened):
    upload = await service.store_whole(opened, Feed(SMALL))

    clip = await get_clip(ledger, opened.clip.clip_id)
    assert (upload.state, upload.offset_bytes) == ("finished", len(SMALL))
    assert (clip.state, clip.quarantine_reason) == ("sealed", None)
    assert read_object(vault, clip) == SMALL
    assert await list_event_types(ledger, clip.clip_id) == ["clip.announced", "clip.sealed"]


async def test_the_ledger_agrees_with_the_answer(service, ledger, opened):
    upload = await service.store_whole(opened, Feed(SMALL))

    recorded = await get_upload(ledger, upload.upload_id)
    assert (recorded.state, recorded.offset_bytes, recorded.surface) == (
        upload.state,
        upload.offset_bytes,
        upload.surface,
    )


async def test_nothing_is_left_to_sweep(service, ledger, opened):
    await service.store_whole(opened, Feed(SMALL))

    assert await ledger.fetchval(
        "SELECT sweep_after IS NULL FROM uploads WHERE upload_id = $1", opened.upload.upload_id
    )


@pytest.mark.parametrize("reason", [Disconnected(), BodyStalled(1.0)])
async def test_a_cut_keeps_the_prefix_for_whoever_goes_on(service, ledger, vault, opened, reason):
    feed = Feed(SMALL[:9], ending="open")
    feed.cut(reason)

    with pytest.raises(type(reason)):
        await service.store_whole(opened, feed)

    assert await read_stored(ledger, vault, opened.upload.upload_id) == {0: SMALL[:9]}
    upload = await service.append_all(opened.upload.upload_id, 9, SMALL[9:])
    assert upload.state == "finishing"


async def test_a_process_that_stops_keeps_the_prefix(service, ledger, vault, opened):
    feed = Feed(SMALL[:9], ending="open")
    storing = asyncio.create_task(service.store_whole(opened, feed))
    await feed.starving.wait()

    storing.cancel()

    with pytest.raises(ShuttingDown):
        await storing
    assert await read_stored(ledger, vault, opened.upload.upload_id) == {0: SMALL[:9]}


async def test_who_goes_on_meanwhile_wins_and_nothing_is_mixed(
    service, other_service, ledger, vault, opened
):
    """The object is stored, the seal is not recorded yet: another request takes the upload."""
    storing, halt = await hold_at(vault, "put_object", service.store_whole(opened, Feed(SMALL)))
    other = make_footage(20, "other")
    taken = await other_service.append_all(opened.upload.upload_id, 0, other)
    await other_service.finish(taken.upload_id)

    halt.let_go()

    with pytest.raises(TakenOver):
        await storing
    assert read_object(vault, await get_clip(ledger, opened.clip.clip_id)) == other


async def test_what_a_loser_stored_is_swept(service, other_service, ledger, vault, opened):
    storing, halt = await hold_at(vault, "put_object", service.store_whole(opened, Feed(SMALL)))
    taken = await other_service.append_all(opened.upload.upload_id, 0, SMALL)
    await other_service.finish(taken.upload_id)
    halt.let_go()
    with pytest.raises(TakenOver):
        await storing

    due = await ledger.fetchval(
        "SELECT sweep_after IS NOT NULL FROM uploads WHERE upload_id = $1", taken.upload_id
    )
    removed = await sweep_upload(taken.upload_id, pool=ledger, vault=vault)

    assert (due, removed) == (True, 1)


async def test_an_event_meanwhile_breaks_no_chain(service, ledger, vault, opened):
    storing, halt = await hold_at(vault, "put_object", service.store_whole(opened, Feed(SMALL)))
    await append_event(ledger, opened.clip.clip_id)

    halt.let_go()

    assert (await storing).state == "finished"
    types = await list_event_types(ledger, opened.clip.clip_id)
    assert types == ["clip.announced", "metadata.viewed", "clip.sealed"]


async def test_a_store_that_fails_leaves_the_upload_open(service, ledger, vault, opened):
    vault.fail_next("put_object", "lost")

    with pytest.raises(VaultUnavailable):
        await service.store_whole(opened, Feed(SMALL))

    recorded = await get_upload(ledger, opened.upload.upload_id)
    assert (recorded.state, recorded.offset_bytes) == ("open", 0)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["put_object", "ledger"])
async def test_a_crash_at_any_step_leaves_all_or_an_upload_that_goes_on(
    ledger, vault, service, opened, step, moment
):
    dying = Process("dying", ledger, vault)
    dying.mortality.dies_at = (step, moment)
    with pytest.raises(Crash):
        await dying.store_whole(opened, Feed(SMALL))

    upload = await get_upload(ledger, opened.upload.upload_id)
    if upload.state == "open":
        assert upload.offset_bytes == 0
        taken = await service.append_all(upload.upload_id, 0, SMALL)
        await service.finish(taken.upload_id)

    clip = await get_clip(ledger, opened.clip.clip_id)
    assert clip.state == "sealed"
    assert read_object(vault, clip) == SMALL
