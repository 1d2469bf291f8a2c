"""The read-back: only bytes that came back from storage unchanged are secured."""

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest

from ingest_service.actions.issue_receipt import issue_receipt
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.read_back_clip import LOST_TRIES, read_back_clip
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.domain.receipt import verify_receipt
from ingest_service.domain.retention import ObjectLock
from ingest_service.errors import ClipNotFound, VaultUnavailable
from ingest_service.ledger import clips
from ingest_service.signer import make_signing_key, open_local_signer
from tests.actions.engine import (
    OTHER_DOCK,
    Crash,
    Process,
    append_event,
    cut_chunks,
    describe_recording,
    get_clip,
    hold_at,
    list_event_types,
    make_footage,
    read_object,
    wait_for_a_lock,
)
from tests.fakes import MemoryVault


async def seal(service, footage, *, order=(0, 1, 2, 3), **announced):
    clip = (await service.announce(describe_recording(footage, **announced))).clip
    chunks = cut_chunks(footage)
    for index in order:
        await service.store(clip.clip_id, index, chunks[index])
    return await service.seal(clip.clip_id)


@pytest.fixture
async def sealed(service, footage):
    """A sealed clip whose whole hash ran along."""
    return await seal(service, footage)


@pytest.fixture
async def sealed_unordered(service, footage):
    """A sealed clip whose chunks came last first."""
    return await seal(service, footage, order=(3, 2, 1, 0))


async def test_a_clip_that_comes_back_unchanged_is_secured(service, ledger, sealed, footage):
    assert await service.read_back(sealed.clip_id) == "secured"

    clip = await get_clip(ledger, sealed.clip_id)
    digest = hashlib.sha256(footage).digest()
    assert (clip.state, clip.sha256, clip.sha256_readback) == ("secured", digest, digest)
    assert (await list_event_types(ledger, clip.clip_id))[-2:] == [
        "readback.verified",
        "clip.secured",
    ]


async def test_chunks_out_of_order_get_their_whole_hash_from_the_read_back(
    service, ledger, sealed_unordered, footage
):
    assert sealed_unordered.sha256 is None

    assert await service.read_back(sealed_unordered.clip_id) == "secured"

    clip = await get_clip(ledger, sealed_unordered.clip_id)
    assert clip.sha256 == clip.sha256_readback == hashlib.sha256(footage).digest()


async def test_a_clip_of_tus_is_secured(service, ledger, upload, footage):
    await service.append_all(upload.upload_id, 0, footage)
    await service.finish(upload.upload_id)

    assert await service.read_back(upload.clip_id) == "secured"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
@pytest.mark.parametrize("position", [0, 31, 32, 100, 111])
async def test_one_altered_byte_quarantines_the_clip_and_keeps_it(
    service, ledger, vault, footage, order, position
):
    sealed = await seal(service, footage, order=order)
    altered = bytearray(footage)
    altered[position] ^= 1
    vault.tamper(sealed.object_key, bytes(altered))

    assert await service.read_back(sealed.clip_id) == "quarantined"

    clip = await get_clip(ledger, sealed.clip_id)
    assert (clip.state, clip.secured_at) == ("quarantined", None)
    assert (await list_event_types(ledger, clip.clip_id))[-2:] == [
        "hash.mismatch",
        "clip.quarantined",
    ]
    assert read_object(vault, clip) == bytes(altered)


async def test_the_altered_part_is_named(service, ledger, vault, sealed_unordered, footage):
    vault.tamper(sealed_unordered.object_key, footage[:64] + bytes(32) + footage[96:])

    await service.read_back(sealed_unordered.clip_id)

    clip = await get_clip(ledger, sealed_unordered.clip_id)
    assert clip.quarantine_reason == "stored part 2 differs from the received one"


@pytest.mark.parametrize("data", [b"", make_footage(111), make_footage(112) + b"x"])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
async def test_an_object_of_another_length_is_quarantined(service, vault, footage, data, order):
    sealed = await seal(service, footage, order=order)
    vault.tamper(sealed.object_key, data)

    assert await service.read_back(sealed.clip_id) == "quarantined"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
async def test_a_clip_that_differs_from_the_devices_hash_is_never_secured(
    service, ledger, vault, footage, order
):
    """In order it is seen at the seal, out of order by the read-back."""
    sealed = await seal(service, footage, order=order, sha256_device="0" * 64)

    await service.read_back(sealed.clip_id)

    clip = await get_clip(ledger, sealed.clip_id)
    assert clip.state == "quarantined"
    assert read_object(vault, clip) == footage


async def test_a_missing_object_is_not_verifiable_never_a_mismatch(service, ledger, vault, sealed):
    await vault.delete(sealed.object_key, sealed.object_version)

    for _ in range(1, LOST_TRIES):
        assert await service.read_back(sealed.clip_id) is None
        assert (await get_clip(ledger, sealed.clip_id)).state == "sealed"
    assert await service.read_back(sealed.clip_id) == "quarantined"

    types = await list_event_types(ledger, sealed.clip_id)
    assert types == ["clip.announced", "clip.sealed", "clip.quarantined"]
    async with ledger.acquire() as connection:
        leaf = await connection.fetchval(
            "SELECT leaf FROM custody_events WHERE clip_id = $1 AND type = 'clip.quarantined'",
            sealed.clip_id,
        )
    assert b'"integrity":"not_verifiable"' in leaf


async def test_an_object_that_comes_back_in_time_is_secured(service, vault, sealed, footage):
    versions = vault._versions.pop(sealed.object_key)
    assert await service.read_back(sealed.clip_id) is None
    vault._versions[sealed.object_key] = versions

    assert await service.read_back(sealed.clip_id) == "secured"


async def test_the_pinned_version_is_read_not_a_newer_one(service, vault, sealed):
    vault._store(sealed.object_key, b"something else", "0" * 32)

    assert await service.read_back(sealed.clip_id) == "secured"


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_read_back_goes_on_after_the_vault_failed(service, ledger, vault, sealed, failure):
    vault.fail_next("read", failure)
    with pytest.raises(VaultUnavailable):
        await service.read_back(sealed.clip_id)
    assert (await get_clip(ledger, sealed.clip_id)).state == "sealed"

    assert await service.read_back(sealed.clip_id) == "secured"


async def test_a_clip_that_is_not_sealed_is_not_judged(service, clip):
    assert await service.read_back(clip.clip_id) is None


async def test_read_back_twice_at_once_secures_once(service, other_service, ledger, vault, sealed):
    barrier = asyncio.Barrier(2)
    vault.meet_at("put_object", barrier)

    states = await asyncio.gather(
        service.read_back(sealed.clip_id), other_service.read_back(sealed.clip_id)
    )

    assert sorted(states, key=str) == [None, "secured"]
    assert (await list_event_types(ledger, sealed.clip_id)).count("clip.secured") == 1


async def test_an_event_during_the_read_back_breaks_no_chain(service, ledger, vault, sealed):
    reading_back, halt = await hold_at(vault, "read", service.read_back(sealed.clip_id))
    await append_event(ledger, sealed.clip_id)
    halt.let_go()

    assert await reading_back == "secured"
    assert (await list_event_types(ledger, sealed.clip_id))[2:] == [
        "metadata.viewed",
        "readback.verified",
        "clip.secured",
    ]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["ledger", "read", "put_object"])
async def test_a_read_back_survives_a_crash_at_every_step(
    ledger, vault, service, sealed, step, moment
):
    dying = Process("dying", ledger, vault)
    dying.mortality.dies_at = (step, moment)
    with pytest.raises(Crash):
        await dying.read_back(sealed.clip_id)

    await service.read_back(sealed.clip_id)

    assert (await get_clip(ledger, sealed.clip_id)).state == "secured"


async def test_the_oldest_sealed_clip_is_claimed_once(ledger, service, sealed):
    async with ledger.acquire() as connection:
        claimed = await clips.claim_read_backs(connection, limit=100, claim_s=60)
        again = await clips.claim_read_backs(connection, limit=100, claim_s=60)

    assert sealed.clip_id in [clip.clip_id for clip in claimed]
    assert sealed.clip_id not in [clip.clip_id for clip in again]


async def claim_fresh(ledger, service, *, yield_s=60.0):
    async with ledger.acquire() as connection:
        claimed = await clips.claim_read_backs(
            connection,
            limit=100,
            claim_s=60,
            yield_s=yield_s,
            expires_after_s=service.rules.expires_after.total_seconds(),
        )
    return [clip.clip_id for clip in claimed]


async def test_while_footage_comes_in_a_fresh_clip_waits(ledger, service, sealed):
    await ledger.execute("UPDATE uploads SET expires_at = now() WHERE state = 'open'")
    for number in range(4):
        announced = await service.announce(describe_recording(make_footage(112, str(number))))
        await service.store(announced.clip.clip_id, 0, make_footage(112, str(number))[:32])

    assert sealed.clip_id not in await claim_fresh(ledger, service)
    assert sealed.clip_id in await claim_fresh(ledger, service, yield_s=0)


async def test_a_few_uploads_hold_up_no_read_back(ledger, service, sealed):
    await ledger.execute("UPDATE uploads SET expires_at = now() WHERE state = 'open'")
    await service.announce(describe_recording(make_footage(112)))

    assert sealed.clip_id in await claim_fresh(ledger, service)


# --- the receipt --------------------------------------------------------------------------


@pytest.fixture
def signer(tmp_path):
    make_signing_key(tmp_path / "key.pem")
    return open_local_signer(tmp_path / "key.pem", "ingest.test/custody")


async def publish(service, signer):
    while await sequence_log(Sequencer(), pool=service.pool, signer=signer, now=service.now):
        pass
    await publish_checkpoints(pool=service.pool, vault=MemoryVault())


async def ask_receipt(service, signer, clip_id, station=None):
    return await issue_receipt(
        clip_id,
        (station or "dock-1"),
        pool=service.pool,
        signer=signer,
        head=PublishedHead(),
        now=service.now,
    )


async def test_there_is_no_receipt_before_the_proof_is_published(service, ledger, signer, sealed):
    await service.read_back(sealed.clip_id)
    waiting = await ask_receipt(service, signer, sealed.clip_id)
    while await sequence_log(Sequencer(), pool=service.pool, signer=signer, now=service.now):
        pass
    signed = await ask_receipt(service, signer, sealed.clip_id)

    assert (waiting[0].state, waiting[1], signed[1]) == ("secured", None, None)
    assert "release.issued" not in await list_event_types(ledger, sealed.clip_id)


async def test_there_is_no_receipt_before_the_read_back(service, signer, sealed):
    _, receipt = await ask_receipt(service, signer, sealed.clip_id)

    assert receipt is None


async def test_there_is_no_receipt_for_a_quarantined_clip(service, signer, vault, sealed):
    vault.tamper(sealed.object_key, bytes(112))
    await service.read_back(sealed.clip_id)

    _, receipt = await ask_receipt(service, signer, sealed.clip_id)

    assert receipt is None


async def test_the_receipt_states_what_was_read_back(service, signer, sealed, footage):
    await service.read_back(sealed.clip_id)
    await publish(service, signer)

    _, receipt = await ask_receipt(service, signer, sealed.clip_id)

    facts = verify_receipt(receipt, signer.verifier_key)
    assert facts.size_bytes == 112
    assert facts.sha256 == hashlib.sha256(footage).hexdigest()


async def test_asked_twice_at_once_the_receipt_is_one_and_issued_once(
    service, ledger, signer, sealed
):
    await service.read_back(sealed.clip_id)
    await publish(service, signer)

    answers = await asyncio.gather(
        *(ask_receipt(service, signer, sealed.clip_id) for _ in range(4))
    )

    assert len({receipt.leaf for _, receipt in answers}) == 1
    assert (await list_event_types(ledger, sealed.clip_id)).count("release.issued") == 1


async def test_an_event_under_the_receipt_breaks_no_chain(service, ledger, signer, sealed):
    """The release has read the clip as it was before the event, and waits for its row."""
    await service.read_back(sealed.clip_id)
    await publish(service, signer)
    asking = []

    async def ask_meanwhile():
        asking.append(asyncio.create_task(ask_receipt(service, signer, sealed.clip_id)))
        await wait_for_a_lock(ledger)

    await append_event(ledger, sealed.clip_id, before_commit=ask_meanwhile)

    _, receipt = await asking[0]
    assert receipt is not None
    types = await list_event_types(ledger, sealed.clip_id)
    assert types[-2:] == ["metadata.viewed", "release.issued"]


async def test_another_station_gets_no_receipt(service, signer, sealed):
    with pytest.raises(ClipNotFound):
        await ask_receipt(service, signer, sealed.clip_id, OTHER_DOCK.station_id)


# --- object lock -------------------------------------------------------------------------

LOCK = ObjectLock("governance", timedelta(days=31))


async def read_back_locked(service, clip):
    return await read_back_clip(
        clip.clip_id, pool=service.pool, vault=service.vault, now=service.now, lock=LOCK
    )


async def test_a_clip_is_secured_with_its_object_locked(service, ledger, vault, sealed):
    assert await read_back_locked(service, sealed) == "secured"

    with pytest.raises(VaultUnavailable):
        await vault.delete(sealed.object_key, sealed.object_version)
    locked_until = datetime.fromisoformat((await get_facts(ledger, sealed))["locked_until"])
    assert timedelta(days=31) <= locked_until - datetime.now(UTC) + timedelta(minutes=1)


async def get_facts(ledger, clip):
    async with ledger.acquire() as connection:
        leaf = await connection.fetchval(
            "SELECT leaf FROM custody_events WHERE clip_id = $1 AND type = 'clip.secured'",
            clip.clip_id,
        )
    return json.loads(leaf)["facts"]


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_lock_that_cannot_be_set_leaves_the_clip_sealed(
    service, ledger, vault, sealed, failure
):
    vault.fail_next("retain", failure)

    with pytest.raises(VaultUnavailable):
        await read_back_locked(service, sealed)
    assert (await get_clip(ledger, sealed.clip_id)).state == "sealed"

    assert await read_back_locked(service, sealed) == "secured"


async def test_in_a_bucket_without_locks_nothing_is_secured_while_one_is_set(
    service, ledger, vault, sealed
):
    vault.has_object_lock = False

    with pytest.raises(VaultUnavailable):
        await read_back_locked(service, sealed)
    assert (await get_clip(ledger, sealed.clip_id)).state == "sealed"


async def test_of_what_is_quarantined_only_the_manifest_is_locked(service, ledger, vault, sealed):
    vault.tamper(sealed.object_key, bytes(112))

    assert await read_back_locked(service, sealed) == "quarantined"

    is_locked = {
        key.split("/")[0]: versions[-1].is_locked for key, versions in vault._versions.items()
    }
    assert (is_locked["clips"], is_locked["manifests"]) == (False, True)


async def test_a_clip_is_secured_with_its_manifest_locked(service, vault, sealed):
    assert await read_back_locked(service, sealed) == "secured"

    stored = vault.keys()
    (key,) = [key for key in stored if key.startswith(f"manifests/{sealed.clip_id}/")]
    with pytest.raises(VaultUnavailable):
        await vault.delete(key, (await vault.get_facts(key, None)).version)


async def test_a_manifest_whose_lock_cannot_be_set_leaves_the_clip_sealed(
    service, ledger, vault, sealed
):
    # The first one is of the object itself.
    vault._failures["retain"].append(None)
    vault.fail_next("retain", "lost")

    with pytest.raises(VaultUnavailable):
        await read_back_locked(service, sealed)
    assert (await get_clip(ledger, sealed.clip_id)).state == "sealed"

    assert await read_back_locked(service, sealed) == "secured"
