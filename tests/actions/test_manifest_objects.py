"""Manifest objects: in the vault before a clip is settled, kept as they are, named by an event."""

import json

import pytest

from ingest_service.actions.store_manifest import add_manifest
from ingest_service.domain.manifest import MANIFESTS_PREFIX, parse_manifest, parse_manifest_key
from ingest_service.errors import VaultUnavailable
from ingest_service.ledger.connection import reading
from ingest_service.ledger.manifests import list_without_manifest
from tests.actions.engine import (
    Process,
    append_event,
    cut_chunks,
    describe_recording,
    get_clip,
    hold_at,
    list_event_types,
)


async def seal(service, footage, **announced):
    clip = (await service.announce(describe_recording(footage, **announced))).clip
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(clip.clip_id, index, chunk)
    return await service.seal(clip.clip_id)


@pytest.fixture
async def sealed(service, footage):
    return await seal(service, footage, officer_id="P-77", title="Market Street")


def list_manifests(vault, clip_id):
    stored = vault.keys()
    return [key for key in stored if key.startswith(f"{MANIFESTS_PREFIX}{clip_id}/")]


def read_manifest(vault, clip_id):
    (key,) = list_manifests(vault, clip_id)
    return parse_manifest(parse_manifest_key(key), vault.content(key))


async def get_facts(ledger, clip_id, event_type):
    async with reading(ledger) as connection:
        leaf = await connection.fetchval(
            "SELECT leaf FROM custody_events WHERE clip_id = $1 AND type = $2", clip_id, event_type
        )
    return json.loads(leaf)["facts"]


async def test_a_secured_clip_has_its_manifest_and_the_event_names_it(
    service, ledger, vault, sealed
):
    await service.read_back(sealed.clip_id)

    found = read_manifest(vault, sealed.clip_id)
    clip = await get_clip(ledger, sealed.clip_id)
    assert {name: getattr(clip, name) for name in found} == found
    facts = await get_facts(ledger, clip.clip_id, "clip.secured")
    assert facts["manifest_sha256"] == clip.manifest_sha256.hex()


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_manifest_that_cannot_be_stored_leaves_the_clip_sealed_for_the_next_try(
    service, ledger, vault, sealed, failure
):
    vault.fail_next("put_object", failure)

    with pytest.raises(VaultUnavailable):
        await service.read_back(sealed.clip_id)
    assert (await get_clip(ledger, sealed.clip_id)).state == "sealed"

    assert await service.read_back(sealed.clip_id) == "secured"
    assert len(list_manifests(vault, sealed.clip_id)) == 1


async def test_two_read_backs_at_once_store_one_manifest(service, ledger, vault, sealed):
    other = Process("other", ledger, vault)
    task, halt = await hold_at(vault, "put_object", service.read_back(sealed.clip_id))

    assert await other.read_back(sealed.clip_id) == "secured"
    halt.let_go()
    assert await task is None
    assert len(list_manifests(vault, sealed.clip_id)) == 1


async def test_a_foreign_object_under_its_manifests_name_does_not_stay_the_newest(
    service, ledger, vault, sealed
):
    vault.fail_next("put_object", "stored")
    with pytest.raises(VaultUnavailable):
        await service.read_back(sealed.clip_id)
    (key,) = list_manifests(vault, sealed.clip_id)
    vault.tamper(key, b"something else")

    assert await service.read_back(sealed.clip_id) == "secured"
    clip = await get_clip(ledger, sealed.clip_id)
    assert read_manifest(vault, sealed.clip_id)["sha256"] == clip.sha256


async def test_a_chain_that_grows_meanwhile_changes_no_manifest(service, ledger, vault, sealed):
    task, halt = await hold_at(vault, "put_object", service.read_back(sealed.clip_id))
    await append_event(ledger, sealed.clip_id)
    halt.let_go()

    assert await task == "secured"
    assert len(list_manifests(vault, sealed.clip_id)) == 1


async def test_a_clip_quarantined_at_the_seal_gets_its_manifest_from_the_job(
    service, ledger, vault, footage
):
    clip = await seal(service, footage, sha256_device="0" * 64)
    assert clip.state == "quarantined"
    async with reading(ledger) as connection:
        assert clip.clip_id in await list_without_manifest(connection, limit=1000)

    assert await add_manifest(clip.clip_id, pool=ledger, vault=vault, now=service.now)

    assert read_manifest(vault, clip.clip_id)["object_key"] == clip.object_key
    assert (await list_event_types(ledger, clip.clip_id))[-1] == "manifest.stored"
    assert not await add_manifest(clip.clip_id, pool=ledger, vault=vault, now=service.now)
    async with reading(ledger) as connection:
        assert clip.clip_id not in await list_without_manifest(connection, limit=1000)
