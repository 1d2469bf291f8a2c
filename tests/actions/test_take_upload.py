"""A newcomer wins at once, and whoever was overtaken can do no harm any more."""

import asyncio
from dataclasses import replace

import pytest

from ingest_service.domain.bytestream import Disconnected
from ingest_service.errors import OffsetMismatch, TakenOver, UploadGone, UploadNotFound
from tests.actions.engine import (
    Crash,
    Feed,
    Process,
    get_clip,
    get_upload,
    hold_at,
    make_footage,
    make_overdue,
    read_object,
    read_stored,
)
from tests.fakes import MemoryVault


async def read_all_stored(ledger, vault, upload_id):
    pieces = await read_stored(ledger, vault, upload_id)
    return b"".join(pieces[offset] for offset in sorted(pieces))


async def start(service, upload, data, length_bytes, **options):
    """Start a request that has sent `data` and then stays silent."""
    feed = Feed(data, ending="open", **options)
    request = asyncio.create_task(service.append(upload.upload_id, 0, feed, length_bytes))
    await feed.starving.wait()
    return feed, request


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_newcomer_interrupts_and_gets_the_prefix_that_had_arrived(
    service, ledger, vault, upload, footage, is_known
):
    _, first = await start(service, upload, footage[:50], 112 if is_known else None)

    settled = await service.head(upload.upload_id)

    assert (settled.offset_bytes, settled.leased_by) == (50, None)
    assert await read_all_stored(ledger, vault, upload.upload_id) == footage[:50]
    with pytest.raises(TakenOver):
        await first


async def test_head_of_an_idle_upload_changes_nothing(service, ledger, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:50])
    before = await get_upload(ledger, upload.upload_id)

    assert await service.head(upload.upload_id) == before
    assert await get_upload(ledger, upload.upload_id) == before


async def test_head_of_an_upload_that_completes_meanwhile_says_so(service, vault, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:96])
    request, halt = await hold_at(
        vault, "put_part", service.append_all(upload.upload_id, 96, footage[96:])
    )
    asking = asyncio.create_task(service.head(upload.upload_id))
    await asyncio.sleep(0)
    halt.let_go()

    assert (await asking).state in ("finishing", "finished")
    assert (await request).state == "finishing"


async def test_a_newcomer_does_not_wait_for_a_process_that_died(
    service, other_service, ledger, vault, upload, footage
):
    feed, request = await start(service, upload, footage[:50], 112)
    service.mortality.is_dead = True
    feed.cut()
    with pytest.raises(Crash):
        await request

    settled = await other_service.head(upload.upload_id, wait_s=0)

    # The last part's prefix was in the memory of the dead.
    assert settled.offset_bytes == 32
    await other_service.append_all(upload.upload_id, 32, footage[32:])
    await other_service.finish(upload.upload_id)
    clip = await get_clip(ledger, upload.clip_id)
    assert read_object(vault, clip) == footage


async def test_of_two_writers_at_one_offset_exactly_one_counts(ledger, vault, upload, footage):
    """Both have stored their part when they meet; the contents differ, and never mix."""
    one, two = Process("one", ledger, vault), Process("two", ledger, vault)
    contents = {"one": footage[:32], "two": make_footage(32, "other")}
    first, halt = await hold_at(
        vault, "put_part", one.append_all(upload.upload_id, 0, contents["one"])
    )

    second = two.append(upload.upload_id, 0, Feed(contents["two"]), 32, wait_s=0)
    barrier = asyncio.Barrier(2)
    vault.meet_at("put_part", barrier)
    meeting = asyncio.create_task(meet_then_let_go(barrier, halt))
    results = await asyncio.gather(first, second, meeting, return_exceptions=True)

    assert isinstance(results[0], TakenOver)
    assert results[1].offset_bytes == 32
    assert await read_all_stored(ledger, vault, upload.upload_id) == contents["two"]


async def meet_then_let_go(barrier, halt):
    await barrier.wait()
    halt.let_go()


async def test_of_two_writers_of_a_one_part_clip_exactly_one_counts(ledger, vault, service):
    data, other = make_footage(20), make_footage(20, "other")
    upload = (await service.open(20)).upload
    one, two = Process("one", ledger, vault), Process("two", ledger, vault)
    first, halt = await hold_at(vault, "put_object", one.append_all(upload.upload_id, 0, data))
    await two.append(upload.upload_id, 0, Feed(other), 20, wait_s=0)
    halt.let_go()

    with pytest.raises(TakenOver):
        await first
    await two.finish(upload.upload_id)
    assert read_object(vault, await get_clip(ledger, upload.clip_id)) == other


async def test_of_several_newcomers_at_once_exactly_one_holds_the_lease(
    ledger, vault, upload, footage
):
    dead = Process("dead", ledger, vault)
    feed, request = await start(dead, upload, footage[:10], 112)
    feed.cut(Crash())
    dead.mortality.is_dead = True
    with pytest.raises(Crash):
        await request
    before = await get_upload(ledger, upload.upload_id)

    feeds = [Feed(footage[:1], ending="open", is_deaf=True) for _ in range(4)]
    newcomers = [
        asyncio.create_task(
            Process(f"new-{number}", ledger, vault).append(upload.upload_id, 0, feed, 112, wait_s=0)
        )
        for number, feed in enumerate(feeds)
    ]
    await asyncio.gather(*(feed.starving.wait() for feed in feeds))
    after = await get_upload(ledger, upload.upload_id)
    for feed in feeds:
        feed.send(footage[1:])
    results = await asyncio.gather(*newcomers, return_exceptions=True)

    assert after.epoch == before.epoch + 4
    won = [number for number, result in enumerate(results) if not isinstance(result, Exception)]
    assert [f"new-{number}" for number in won] == [after.leased_by]
    assert sum(isinstance(result, TakenOver) for result in results) == 3


async def test_a_zombie_moves_no_offset_and_replaces_no_part(
    service, other_service, ledger, vault, upload, footage
):
    """Overtaken while its part was on the way: the part lands after the newer one was counted."""
    zombie, halt = await hold_at(
        vault,
        "put_part",
        service.append_all(upload.upload_id, 0, make_footage(112, "zombie")),
        moment="asked",
    )
    await other_service.append(upload.upload_id, 0, Feed(footage[:70]), 70, wait_s=0)

    halt.let_go()

    with pytest.raises(TakenOver):
        await zombie
    after = await get_upload(ledger, upload.upload_id)
    assert after.offset_bytes == 70
    assert await read_all_stored(ledger, vault, upload.upload_id) == footage[:70]
    await other_service.append_all(upload.upload_id, 70, footage[70:])
    await other_service.finish(upload.upload_id)
    assert read_object(vault, await get_clip(ledger, upload.clip_id)) == footage


async def test_a_zombies_tail_is_not_taken_for_the_newer_one(
    service, other_service, ledger, vault, upload, footage
):
    zombie, halt = await hold_at(
        vault,
        "put_object",
        service.append_all(upload.upload_id, 0, make_footage(9, "zombie")),
        moment="asked",
    )
    await other_service.append(upload.upload_id, 0, Feed(footage[:9]), 9, wait_s=0)

    halt.let_go()

    with pytest.raises(TakenOver):
        await zombie
    assert await read_all_stored(ledger, vault, upload.upload_id) == footage[:9]


async def test_a_zombie_that_finds_its_tails_joined_was_taken_over(
    service, other_service, ledger, vault, upload, footage
):
    """Tails that the newer writer deleted are not lost evidence."""
    await service.append_all(upload.upload_id, 0, footage[:9])
    zombie, halt = await hold_at(
        vault, "put_part", service.append_all(upload.upload_id, 9, footage[9:]), moment="asked"
    )
    await other_service.append(upload.upload_id, 9, Feed(footage[9:]), 103, wait_s=0)

    halt.let_go()

    with pytest.raises(TakenOver):
        await zombie


async def test_the_overtaken_dock_is_told_the_right_offset_when_it_comes_back(
    service, upload, footage
):
    _, first = await start(service, upload, footage[:50], 112)
    await service.append(upload.upload_id, 50, Feed(footage[50:60]), 10)
    with pytest.raises(TakenOver):
        await first

    with pytest.raises(OffsetMismatch) as refused:
        await service.append_all(upload.upload_id, 50, footage[50:])

    assert refused.value.expected_offset == 60


async def test_head_of_another_stations_upload_finds_nothing(service, clip):
    with pytest.raises(UploadNotFound):
        await service.head(clip.clip_id)


# --- ends under a writer ------------------------------------------------------------------


async def test_delete_under_append_ends_both(service, ledger, vault, upload, footage):
    _, writing = await start(service, upload, footage[:50], 112)

    await service.terminate(upload.upload_id)

    with pytest.raises(TakenOver):
        await writing
    assert (await get_upload(ledger, upload.upload_id)).state == "terminated"
    assert (await get_clip(ledger, upload.clip_id)).state == "expired"
    assert (vault.keys(), vault.open_multiparts()) == ([], [])


async def test_delete_under_a_part_on_its_way_counts_nothing(
    service, other_service, ledger, vault, upload, footage
):
    zombie, halt = await hold_at(
        vault, "put_part", service.append_all(upload.upload_id, 0, footage), moment="asked"
    )
    other_service.rules = replace(service.rules, take_over_wait_s=0)
    await other_service.terminate(upload.upload_id)

    halt.let_go()

    # Its multipart upload is gone: the store says so, or the ledger does.
    with pytest.raises((TakenOver, UploadGone)):
        await zombie
    assert (await get_upload(ledger, upload.upload_id)).offset_bytes == 0
    assert vault.open_multiparts() == []


async def test_a_multipart_opened_too_late_for_a_deleted_upload_is_not_left(
    service, other_service, vault, upload, footage
):
    zombie, halt = await hold_at(
        vault, "open_multipart", service.append_all(upload.upload_id, 0, footage), moment="asked"
    )
    other_service.rules = replace(service.rules, take_over_wait_s=0)
    await other_service.terminate(upload.upload_id)

    halt.let_go()

    with pytest.raises(UploadGone):
        await zombie
    assert vault.open_multiparts() == []


async def test_expiry_loses_against_a_last_append(service, ledger, vault, upload, footage):
    """The append was counted while expiry was on its way: it has moved the deadline."""
    await service.append_all(upload.upload_id, 0, footage[:40])
    await make_overdue(ledger, upload.upload_id)
    async with ledger.acquire() as connection:
        await connection.execute(
            "UPDATE uploads SET expires_at = now() + interval '1 hour' WHERE upload_id = $1",
            upload.upload_id,
        )

    assert not await service.expire(upload.upload_id)
    assert (await get_upload(ledger, upload.upload_id)).state == "open"


async def test_an_append_loses_against_expiry(service, other_service, ledger, upload, vault):
    """Expired while the part was on the way: fenced off by the epoch, nothing is counted."""
    data = make_footage(112)
    writing, halt = await hold_at(vault, "put_part", service.append_all(upload.upload_id, 0, data))
    await make_overdue(ledger, upload.upload_id)
    assert await other_service.expire(upload.upload_id)

    halt.let_go()

    with pytest.raises(TakenOver):
        await writing
    after = await get_upload(ledger, upload.upload_id)
    assert (after.state, after.offset_bytes) == ("expired", 0)


# --- one multipart upload -----------------------------------------------------------------


async def test_of_two_multiparts_opened_at_once_one_is_used_and_the_other_aborted(
    ledger, service, clip, footage
):
    vault: MemoryVault = service.vault._vault
    barrier = asyncio.Barrier(2)
    vault.meet_at("open_multipart", barrier)
    parts = [footage[start : start + 32] for start in range(0, 112, 32)]

    await asyncio.gather(
        service.store(clip.clip_id, 0, parts[0]), service.store(clip.clip_id, 1, parts[1])
    )

    assert vault.calls["open_multipart"] == 2
    upload = await get_upload(ledger, clip.upload_id)
    assert vault.open_multiparts() == [upload.multipart_id]
    vault.stop_meeting()
    await service.store(clip.clip_id, 2, parts[2])
    await service.store(clip.clip_id, 3, parts[3])
    await service.seal(clip.clip_id)
    assert read_object(vault, await get_clip(ledger, clip.clip_id)) == footage


async def test_a_disconnect_in_the_newcomers_body_keeps_both_prefixes(
    service, ledger, vault, upload, footage
):
    _, first = await start(service, upload, footage[:50], 112)
    with pytest.raises(Disconnected):
        await service.append(upload.upload_id, 50, Feed(footage[50:61], ending="cut"), 62)
    with pytest.raises(TakenOver):
        await first

    assert await read_all_stored(ledger, vault, upload.upload_id) == footage[:61]
