"""Seal and finish: as often, and from as many sides at once, as may be."""

import asyncio
import hashlib

import pytest

from ingest_service.actions.finish_upload import finish_within
from ingest_service.errors import (
    ChunksMissing,
    ClipNotFound,
    StoredBytesLost,
    SurfaceMismatch,
    TerminationRefused,
    UploadGone,
    VaultUnavailable,
)
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import reading
from tests.actions.engine import (
    OTHER_DOCK,
    Crash,
    Process,
    append_event,
    cut_chunks,
    describe_recording,
    get_clip,
    get_upload,
    hold_at,
    list_event_types,
    make_finish_due,
    make_overdue,
    read_object,
    wait_for_a_lock,
)


@pytest.fixture
async def sent(service, clip, footage):
    """A clip all of whose chunks were stored."""
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)
    return clip


async def test_a_sealed_clip_states_what_was_received(service, ledger, vault, sent, footage):
    clip = await service.seal(sent.clip_id)

    assert clip.state == "sealed"
    assert (clip.size_bytes, clip.sha256) == (len(footage), hashlib.sha256(footage).digest())
    assert read_object(vault, clip) == footage
    assert [part["length_bytes"] for part in clip.manifest["parts"]] == [32, 32, 32, 16]
    assert await list_event_types(ledger, clip.clip_id) == ["clip.announced", "clip.sealed"]


async def test_nothing_but_the_object_is_left(service, ledger, vault, sent):
    clip = await service.seal(sent.clip_id)

    assert (vault.keys(), vault.open_multiparts()) == ([clip.object_key], [])
    async with ledger.acquire() as connection:
        assert not await connection.fetch(
            "SELECT 1 FROM parts WHERE upload_id = $1", sent.upload_id
        )


async def test_sealing_again_returns_the_sealed_clip(service, sent):
    first = await service.seal(sent.clip_id)

    assert await service.seal(sent.clip_id) == first


async def test_seal_names_the_missing_chunks(service, ledger, clip, footage):
    chunks = cut_chunks(footage)
    await service.store(clip.clip_id, 1, chunks[1])

    with pytest.raises(ChunksMissing) as refused:
        await service.seal(clip.clip_id)

    assert (refused.value.missing_count, refused.value.missing) == (3, [[0, 0], [2, 3]])
    assert (await get_upload(ledger, clip.upload_id)).state == "open"


async def test_a_claimed_chunk_is_missing_until_it_is_stored(service, vault, clip, footage):
    vault.fail_next("put_part", "lost")
    with pytest.raises(VaultUnavailable):
        await service.store(clip.clip_id, 0, footage[:32])

    with pytest.raises(ChunksMissing) as refused:
        await service.seal(clip.clip_id)

    assert refused.value.missing == [[0, 3]]


async def test_an_empty_clip_is_sealed_at_once(service, vault):
    clip = (await service.announce(describe_recording(b""))).clip

    sealed = await service.seal(clip.clip_id)

    assert (sealed.state, sealed.sha256) == ("sealed", hashlib.sha256().digest())
    assert read_object(vault, sealed) == b""


async def test_another_stations_clip_cannot_be_sealed(service, sent):
    with pytest.raises(ClipNotFound):
        await service.seal(sent.clip_id, OTHER_DOCK)


async def test_a_clip_that_tus_brings_is_not_sealed_natively(service, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:40])

    with pytest.raises(SurfaceMismatch):
        await service.seal(upload.clip_id)


async def test_an_expired_upload_cannot_be_sealed(service, ledger, clip):
    await make_overdue(ledger, clip.upload_id)
    await service.expire(clip.upload_id)

    with pytest.raises(UploadGone):
        await service.seal(clip.clip_id)


async def test_a_sealed_clip_cannot_be_terminated(service, sent):
    await service.seal(sent.clip_id)

    with pytest.raises(TerminationRefused):
        await service.terminate(sent.upload_id)


async def test_a_sealed_upload_does_not_expire(service, ledger, vault, sent, footage):
    clip = await service.seal(sent.clip_id)
    await make_overdue(ledger, sent.upload_id)

    assert not await service.expire(sent.upload_id)
    assert read_object(vault, clip) == footage


# --- the device's own hash ----------------------------------------------------------------


async def test_a_clip_with_the_devices_hash_is_sealed(service, footage):
    digest = hashlib.sha256(footage).hexdigest()
    clip = (await service.announce(describe_recording(footage, sha256_device=digest))).clip
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)

    assert (await service.seal(clip.clip_id)).state == "sealed"


async def test_a_clip_without_the_devices_hash_is_quarantined_and_kept(
    service, ledger, vault, footage
):
    clip = (await service.announce(describe_recording(footage, sha256_device="0" * 64))).clip
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)

    sealed = await service.seal(clip.clip_id)

    assert sealed.state == "quarantined"
    assert "device" in sealed.quarantine_reason
    assert read_object(vault, sealed) == footage
    assert await list_event_types(ledger, clip.clip_id) == [
        "clip.announced",
        "hash.mismatch",
        "clip.quarantined",
    ]


# --- a failing vault ----------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("call", ["complete_multipart", "get_facts"])
async def test_finishing_goes_on_after_the_vault_failed(
    service, ledger, vault, upload, footage, call, failure
):
    await service.append_all(upload.upload_id, 0, footage)
    vault.fail_next(call, failure)
    with pytest.raises(VaultUnavailable):
        await service.finish(upload.upload_id)
    assert (await get_upload(ledger, upload.upload_id)).state == "finishing"
    await make_finish_due(ledger, upload.upload_id)

    assert await service.finish(upload.upload_id)

    clip = await get_clip(ledger, upload.clip_id)
    assert clip.state == "sealed"
    assert read_object(vault, clip) == footage
    assert len(vault._versions[clip.object_key]) == 1


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_an_empty_clip_is_finished_after_the_vault_failed(service, ledger, vault, failure):
    clip = (await service.announce(describe_recording(b""))).clip
    vault.fail_next("put_object", failure)
    assert (await service.seal(clip.clip_id)).state == "finishing"
    await make_finish_due(ledger, clip.upload_id)

    assert (await service.seal(clip.clip_id)).state == "sealed"


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_seal_answers_finishing_while_the_vault_fails(service, ledger, vault, sent, failure):
    vault.fail_next("complete_multipart", failure)

    assert (await service.seal(sent.clip_id)).state == "finishing"

    await make_finish_due(ledger, sent.upload_id)
    assert (await service.seal(sent.clip_id)).state == "sealed"


async def test_lost_parts_quarantine_the_clip_and_delete_nothing(
    service, ledger, vault, upload, footage
):
    await service.append_all(upload.upload_id, 0, footage)
    multipart_id = (await get_upload(ledger, upload.upload_id)).multipart_id
    vault._multiparts[multipart_id].parts.popitem()

    with pytest.raises(StoredBytesLost):
        await service.finish(upload.upload_id)

    clip = await get_clip(ledger, upload.clip_id)
    assert (clip.state, clip.sha256_readback) == ("quarantined", None)
    assert (await get_upload(ledger, upload.upload_id)).state == "failed"
    assert (await list_event_types(ledger, clip.clip_id))[-1] == "clip.quarantined"
    assert vault.open_multiparts() == [multipart_id]


async def test_an_object_of_another_size_is_quarantined(service, ledger, vault, upload, footage):
    await service.append_all(upload.upload_id, 0, footage)
    finishing, halt = await hold_at(vault, "complete_multipart", service.finish(upload.upload_id))
    vault.tamper(vault.keys()[0], footage[:-1])
    halt.let_go()
    await finishing

    clip = await get_clip(ledger, upload.clip_id)
    assert clip.state == "quarantined"
    assert "111 bytes" in clip.quarantine_reason


# --- races --------------------------------------------------------------------------------


async def test_sealed_twice_at_once_it_is_completed_once(service, ledger, vault, sent, footage):
    first, halt = await hold_at(vault, "complete_multipart", service.seal(sent.clip_id))
    second = asyncio.create_task(service.seal(sent.clip_id))
    await asyncio.sleep(0.05)
    halt.let_go()

    clips = await asyncio.gather(first, second)

    assert clips[0] == clips[1]
    assert clips[0].state == "sealed"
    assert vault.calls["complete_multipart"] == 1
    assert (await list_event_types(ledger, sent.clip_id)).count("clip.sealed") == 1


async def test_finished_by_two_at_once_it_is_sealed_once(
    service, other_service, ledger, vault, upload, footage
):
    """The first driver's claim lapsed while it was still at it: both have completed."""
    await service.append_all(upload.upload_id, 0, footage)
    first, halt = await hold_at(vault, "complete_multipart", service.finish(upload.upload_id))
    await make_finish_due(ledger, upload.upload_id)
    await other_service.finish(upload.upload_id)
    halt.let_go()

    assert await first
    clip = await get_clip(ledger, upload.clip_id)
    assert clip.state == "sealed"
    assert read_object(vault, clip) == footage
    types = await list_event_types(ledger, upload.clip_id)
    assert types == ["clip.announced", "clip.sealed"]


async def test_a_driver_that_comes_too_late_finds_nothing_lost(
    service, other_service, ledger, upload, footage
):
    """Its claim lapsed before it read the part rows: they went when another sealed the clip."""
    await service.append_all(upload.upload_id, 0, footage)
    async with reading(ledger) as connection:
        late = await uploads.claim_finish(connection, upload.upload_id, claim_s=10)
    await make_finish_due(ledger, upload.upload_id)
    await other_service.finish(upload.upload_id)

    done = await finish_within(
        late, pool=service.pool, vault=service.vault, now=service.now, wait_s=10
    )

    assert done is None
    assert (await get_clip(ledger, upload.clip_id)).state == "sealed"


async def test_a_claimed_finishing_is_not_driven_by_another(
    service, other_service, vault, upload, footage
):
    await service.append_all(upload.upload_id, 0, footage)
    first, halt = await hold_at(vault, "complete_multipart", service.finish(upload.upload_id))

    assert not await other_service.finish(upload.upload_id)

    halt.let_go()
    assert await first


async def test_an_event_between_reading_and_sealing_breaks_no_chain(
    service, ledger, upload, footage
):
    """The seal has read the clip as it was before the event, and waits for its row."""
    await service.append_all(upload.upload_id, 0, footage)
    finishing = []

    async def finish_meanwhile():
        finishing.append(asyncio.create_task(service.finish(upload.upload_id)))
        await wait_for_a_lock(ledger)

    await append_event(ledger, upload.clip_id, before_commit=finish_meanwhile)

    assert await finishing[0]
    types = await list_event_types(ledger, upload.clip_id)
    assert types == ["clip.announced", "metadata.viewed", "clip.sealed"]


# --- crashes ------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["complete_multipart", "get_facts", "ledger"])
async def test_finishing_survives_a_crash_at_every_step(
    ledger, vault, service, upload, footage, step, moment
):
    await service.append_all(upload.upload_id, 0, footage)
    dying = Process("dying", ledger, vault)
    dying.mortality.dies_at = (step, moment)
    with pytest.raises(Crash):
        await dying.finish(upload.upload_id)

    if (await get_upload(ledger, upload.upload_id)).state == "finishing":
        await make_finish_due(ledger, upload.upload_id)
        await service.finish(upload.upload_id)

    clip = await get_clip(ledger, upload.clip_id)
    assert clip.state == "sealed"
    assert read_object(vault, clip) == footage
