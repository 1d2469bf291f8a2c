"""Ends without a clip: the offer stands again, nothing is left in the vault, evidence is spared."""

from dataclasses import replace

import pytest

from ingest_service.actions.end_upload import sweep_upload
from ingest_service.errors import (
    StoredBytesLost,
    TakenOver,
    UploadGone,
    UploadNotFound,
    VaultUnavailable,
)
from ingest_service.ledger import uploads
from tests.actions.engine import (
    Feed,
    cut_chunks,
    describe_recording,
    get_clip,
    get_upload,
    hold_at,
    list_event_types,
    make_footage,
    make_overdue,
    read_object,
)
from tests.fakes import MemoryVault


async def make_sweep_due(ledger, upload_id):
    """Let the pause pass after which an upload on the list is swept."""
    async with ledger.acquire() as connection:
        await connection.execute(
            "UPDATE uploads SET sweep_after = sweep_after - interval '1 day' WHERE upload_id = $1",
            upload_id,
        )


async def list_for_sweep(ledger, upload_id):
    async with ledger.acquire() as connection:
        await connection.execute(
            "UPDATE uploads SET sweep_after = now() WHERE upload_id = $1", upload_id
        )


async def claim_all_sweeps(ledger):
    async with ledger.acquire() as connection:
        return await uploads.claim_sweeps(connection, limit=1000)


async def test_an_overdue_upload_expires_and_its_bytes_go(service, ledger, vault, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:50])
    await make_overdue(ledger, upload.upload_id)

    assert await service.expire(upload.upload_id)

    after = await get_upload(ledger, upload.upload_id)
    assert (after.state, after.epoch) == ("expired", 2)
    assert (vault.keys(), vault.open_multiparts()) == ([], [])
    assert await list_event_types(ledger, upload.clip_id) == ["clip.announced", "upload.expired"]


async def test_an_upload_in_time_does_not_expire(service, ledger, upload):
    assert not await service.expire(upload.upload_id)

    assert (await get_upload(ledger, upload.upload_id)).state == "open"


async def test_expiring_twice_is_recorded_once(service, ledger, upload):
    await make_overdue(ledger, upload.upload_id)
    await service.expire(upload.upload_id)

    assert not await service.expire(upload.upload_id)
    assert (await list_event_types(ledger, upload.clip_id)).count("upload.expired") == 1


async def test_every_append_moves_the_deadline(service, ledger, upload, footage):
    async with ledger.acquire() as connection:
        await connection.execute(
            "UPDATE uploads SET expires_at = now() + interval '1 minute' WHERE upload_id = $1",
            upload.upload_id,
        )
    before = await get_upload(ledger, upload.upload_id)

    after = await service.append_all(upload.upload_id, 0, footage[:1])

    assert after.expires_at > before.expires_at
    assert (await get_upload(ledger, upload.upload_id)).expires_at == after.expires_at


async def test_an_expired_clip_announced_again_is_sent_from_the_first_byte(
    service, ledger, vault, footage
):
    recording = describe_recording(footage)
    clip = (await service.announce(recording)).clip
    await service.store(clip.clip_id, 1, footage[32:64])
    await make_overdue(ledger, clip.upload_id)
    await service.expire(clip.upload_id)

    again = await service.announce(recording)

    assert (again.is_new, again.clip.clip_id) == (False, clip.clip_id)
    assert again.upload.upload_id != clip.upload_id
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)
    assert read_object(vault, await service.seal(clip.clip_id)) == footage


async def test_a_terminated_upload_is_gone(service, vault, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:50])

    await service.terminate(upload.upload_id)

    assert (vault.keys(), vault.open_multiparts()) == ([], [])
    with pytest.raises(UploadGone):
        await service.append_all(upload.upload_id, 50, footage[50:])
    with pytest.raises(UploadGone):
        await service.terminate(upload.upload_id)


async def test_an_unknown_upload_cannot_be_terminated(service, clip):
    with pytest.raises(UploadNotFound):
        await service.terminate(clip.clip_id)


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_what_could_not_be_swept_stays_on_the_list(
    service, ledger, vault, upload, footage, failure
):
    await service.append_all(upload.upload_id, 0, footage[:50])
    await make_overdue(ledger, upload.upload_id)
    vault.fail_next("sweep", failure)
    with pytest.raises(VaultUnavailable):
        await service.expire(upload.upload_id)

    await make_sweep_due(ledger, upload.upload_id)
    assert upload.upload_id in await claim_all_sweeps(ledger)
    await sweep_upload(upload.upload_id, pool=ledger, vault=vault)
    assert (vault.keys(), vault.open_multiparts()) == ([], [])


async def test_what_a_late_writer_leaves_behind_is_swept_in_the_end(
    service, other_service, ledger, vault, upload, footage
):
    """Its tail was on the way when the upload expired and was swept."""
    late, halt = await hold_at(
        vault, "put_object", service.append_all(upload.upload_id, 0, footage[:9]), moment="asked"
    )
    await make_overdue(ledger, upload.upload_id)
    await other_service.expire(upload.upload_id)
    halt.let_go()
    with pytest.raises(TakenOver):
        await late
    assert len(vault.keys()) == 1
    await make_sweep_due(ledger, upload.upload_id)

    assert upload.upload_id in await claim_all_sweeps(ledger)
    await sweep_upload(upload.upload_id, pool=ledger, vault=vault)
    assert vault.keys() == []
    assert upload.upload_id not in await claim_all_sweeps(ledger)


@pytest.mark.parametrize("surface", ["native", "tus"])
async def test_a_multipart_upload_of_which_the_answer_was_lost_is_swept(
    service, ledger, vault, footage, monkeypatch, surface
):
    """The store opened one, nobody heard of it, and the vault opened another."""
    open_one = MemoryVault.open_multipart

    async def open_two(self, key, **options):
        await open_one(self, key, **options)
        return replace(await open_one(self, key, **options), was_retried=True)

    monkeypatch.setattr(MemoryVault, "open_multipart", open_two)
    if surface == "tus":
        clip_id, upload_id = await bring_by_tus(service, footage)
    else:
        clip_id, upload_id = await bring_by_chunks(service, footage)
    assert len(vault.open_multiparts()) == 1
    await make_sweep_due(ledger, upload_id)

    assert upload_id in await claim_all_sweeps(ledger)
    await sweep_upload(upload_id, pool=ledger, vault=vault)

    clip = await get_clip(ledger, clip_id)
    assert (vault.keys(), vault.open_multiparts()) == ([clip.object_key], [])


async def bring_by_tus(service, footage):
    upload = (await service.open(len(footage))).upload
    await service.append_all(upload.upload_id, 0, footage)
    await service.finish(upload.upload_id)
    return upload.clip_id, upload.upload_id


async def bring_by_chunks(service, footage):
    clip = (await service.announce(describe_recording(footage))).clip
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)
    await service.seal(clip.clip_id)
    return clip.clip_id, clip.upload_id


async def test_a_sweep_spares_the_clips_object(service, other_service, ledger, vault, footage):
    """An overtaken writer left a tail and an object of its own; both go, the evidence stays."""
    data = make_footage(20)
    upload = (await service.open(len(data))).upload
    zombie, halt = await hold_at(
        vault,
        "put_object",
        service.append_all(upload.upload_id, 0, make_footage(20, "zombie")),
        moment="asked",
    )
    await other_service.append(upload.upload_id, 0, Feed(data), 20, wait_s=0)
    halt.let_go()
    with pytest.raises(TakenOver):
        await zombie
    await other_service.finish(upload.upload_id)
    clip = await get_clip(ledger, upload.clip_id)
    assert len(vault.keys()) == 2
    await make_sweep_due(ledger, upload.upload_id)

    assert upload.upload_id in await claim_all_sweeps(ledger)
    await sweep_upload(upload.upload_id, pool=ledger, vault=vault)

    assert vault.keys() == [clip.object_key]
    assert read_object(vault, clip) == data


async def test_an_open_upload_is_never_swept(service, ledger, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:50])
    await list_for_sweep(ledger, upload.upload_id)

    assert upload.upload_id not in await claim_all_sweeps(ledger)


async def test_what_is_left_of_a_quarantined_clip_is_never_swept(
    service, ledger, vault, upload, footage
):
    """A part is lost; what is left may be all that anybody has of the clip."""
    await service.append_all(upload.upload_id, 0, footage)
    multipart_id = (await get_upload(ledger, upload.upload_id)).multipart_id
    vault._multiparts[multipart_id].parts.popitem()
    with pytest.raises(StoredBytesLost):
        await service.finish(upload.upload_id)
    await list_for_sweep(ledger, upload.upload_id)

    assert upload.upload_id not in await claim_all_sweeps(ledger)
