"""Object lock on what proves the rest: manifests, and what is published of the log."""

import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
from aiobotocore.session import get_session

from ingest_service.actions.collect_cosignatures import collect_cosignatures
from ingest_service.actions.publish_checkpoint import mend_published, publish_checkpoints
from ingest_service.actions.stamp_checkpoint import stamp_checkpoint
from ingest_service.actions.store_manifest import add_manifest, store_manifest
from ingest_service.domain.clock import utc_now
from ingest_service.domain.log_paths import checkpoint_key, leaves_key
from ingest_service.domain.retention import ObjectLock
from ingest_service.errors import ObjectLocked, VaultUnavailable
from ingest_service.ledger import log
from ingest_service.ledger.connection import reading
from ingest_service.notary.timestamps import make_time_authority
from ingest_service.vault.s3 import open_s3_vault
from tests.actions.engine import register_docks
from tests.actions.kept_ledger import fill_ledger
from tests.actions.test_cosignatures import SecondParty, dial
from tests.actions.test_custody_log import record, sequence
from tests.fakes import MemoryVault
from tests.time_authority import HAS_OPENSSL, LocalAuthority, ServedAuthority

LOCK = ObjectLock("governance", timedelta(days=31))
# More than a tile.
EVENTS = 300


async def place(pool, count=EVENTS) -> None:
    await record(pool, count)
    while await sequence(pool):
        pass


async def publish(pool, vault) -> int:
    return await publish_checkpoints(pool=pool, vault=vault, term=LOCK.begin(utc_now()))


def list_unlocked(vault: MemoryVault) -> list[str]:
    stored = vault.keys()
    return [key for key in stored if not vault._versions[key][-1].is_locked]


async def is_marked(pool) -> bool:
    async with reading(pool) as connection:
        return not await log.list_unpublished(connection, limit=1)


async def test_all_that_is_published_of_the_log_is_locked(pool):
    vault = MemoryVault()
    await place(pool)

    await publish(pool, vault)

    stored = vault.keys()
    assert {key.split("/")[1] for key in stored} == {"leaves", "tile", "checkpoint"}
    assert list_unlocked(vault) == []


async def test_nothing_is_asked_of_the_store_where_no_lock_is_set(pool):
    vault = MemoryVault()
    await place(pool)

    await publish_checkpoints(pool=pool, vault=vault)

    assert vault.calls["retain"] == 0


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("locked", [0, 1, 2])
async def test_a_checkpoint_counts_as_published_only_when_it_is_locked(pool, failure, locked):
    vault = MemoryVault()
    await place(pool)
    for _ in range(locked):
        vault._failures["retain"].append(None)
    vault.fail_next("retain", failure)

    with pytest.raises(VaultUnavailable):
        await publish(pool, vault)
    assert not await is_marked(pool)

    assert await publish(pool, vault) == 1
    assert await is_marked(pool)
    assert list_unlocked(vault) == []


async def test_what_is_mended_is_locked_and_what_is_there_is_left_as_it_is(pool):
    vault = MemoryVault()
    await place(pool)
    await publish(pool, vault)
    vault._versions.pop(checkpoint_key(EVENTS))
    vault.tamper(leaves_key(0, EVENTS), b"")
    before = vault.calls["retain"]

    assert await mend_published(pool=pool, vault=vault, term=LOCK.begin(utc_now())) == 2

    assert vault.calls["retain"] == before + 2
    assert list_unlocked(vault) == []


async def test_a_manifest_is_locked_before_an_event_names_it(pool):
    await register_docks(pool)
    kept = await fill_ledger(pool, MemoryVault(part_bytes_min=1), device_events=1)
    clip_id = kept.clips["sealed"].clip_id
    kept.vault.fail_next("retain", "lost")

    async def add() -> bool:
        return await add_manifest(clip_id, pool=pool, vault=kept.vault, now=utc_now, lock=LOCK)

    with pytest.raises(VaultUnavailable):
        await add()
    assert await add()

    stored = kept.vault.keys()
    (key,) = [key for key in stored if key.startswith(f"manifests/{clip_id}/")]
    assert kept.vault._versions[key][-1].is_locked


# --- on a real store ---------------------------------------------------------------------


@pytest.fixture
async def bucket(seaweed):
    """A bucket of one log, with versions and object lock."""
    name = f"lock-{os.urandom(6).hex()}"
    keys = {
        "region_name": "us-east-1",
        "endpoint_url": seaweed.endpoint,
        "aws_access_key_id": seaweed.access_key,
        "aws_secret_access_key": seaweed.secret_key,
    }
    async with AsyncExitStack() as stack:
        s3 = await stack.enter_async_context(get_session().create_client("s3", **keys))
        await s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        vault = await stack.enter_async_context(
            open_s3_vault(
                endpoint=seaweed.endpoint,
                region="us-east-1",
                bucket=name,
                access_key=seaweed.access_key,
                secret_key=seaweed.secret_key,
                checks_sha256="yes",
                connections_max=8,
                timeout_s=10.0,
                attempts=3,
            )
        )
        yield vault


@pytest.mark.s3
@pytest.mark.skipif(not HAS_OPENSSL, reason="the local authority is openssl")
async def test_the_store_refuses_to_delete_what_proves_the_rest(pool, bucket, tmp_path):
    """Deleting by version, as whoever holds the bucket's keys would."""
    await register_docks(pool)
    kept = await fill_ledger(pool, MemoryVault(part_bytes_min=1), device_events=1)
    clip, term = kept.clips["secured"], LOCK.begin(datetime.now(UTC))
    await store_manifest(
        clip, sha256=clip.sha256, sha256_readback=clip.sha256_readback, vault=bucket, term=term
    )
    await place(pool)
    await publish_checkpoints(pool=pool, vault=bucket, term=term)
    party = SecondParty("w1.example", tmp_path / "w1")
    await collect_cosignatures(pool=pool, vault=bucket, witnesses=dial([party], 1), term=term)
    await stamp(pool, bucket, tmp_path / "tsa")

    keys = [key async for key in bucket.list_keys("")]
    assert {key.split("/")[1] for key in keys} == {
        *(str(clip.clip_id), "leaves", "tile", "checkpoint", "cosigned", "timestamp")
    }
    for key in keys:
        found = await bucket.get_facts(key, None)
        with pytest.raises(ObjectLocked):
            await bucket.delete(key, found.version)
        assert await bucket.get_facts(key, found.version) is not None


async def stamp(pool, vault, folder) -> None:
    local = LocalAuthority(folder)
    served = ServedAuthority(local)
    try:
        authority = make_time_authority(served.url, local.root_file, 1)
        await stamp_checkpoint(pool=pool, vault=vault, authority=authority, now=utc_now, lock=LOCK)
    finally:
        served.stop()
