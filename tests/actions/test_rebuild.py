"""The rebuild: from the bucket alone comes a ledger that holds, and nothing but what is proved."""

from dataclasses import replace

import asyncpg
import pytest

from ingest_service.actions.announce_clip import announce_clip
from ingest_service.actions.assert_metadata import AssertTools, assert_metadata
from ingest_service.actions.collect_cosignatures import collect_cosignatures
from ingest_service.actions.issue_receipt import issue_receipt
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.actions.publish_checkpoint import check_published, publish_checkpoints
from ingest_service.actions.rebuild_ledger import RebuildRefused, RebuildTools, rebuild_ledger
from ingest_service.actions.sequence_log import sign_checkpoint
from ingest_service.actions.stamp_checkpoint import stamp_checkpoint
from ingest_service.domain.assertion import Statement
from ingest_service.domain.checkpoint import Checkpoint, parse_proof
from ingest_service.domain.clock import utc_now
from ingest_service.domain.custody import Actor
from ingest_service.domain.log_paths import (
    COSIGNED_PREFIX,
    LEAVES_PREFIX,
    TIMESTAMPS_PREFIX,
    checkpoint_key,
)
from ingest_service.domain.manifest import MANIFESTS_PREFIX, ManifestName
from ingest_service.domain.note import parse_verifier_key
from ingest_service.domain.priority import PriorityClaim
from ingest_service.domain.receipt import verify_receipt
from ingest_service.domain.retention import RetentionRules
from ingest_service.errors import VaultUnavailable
from ingest_service.ledger.assertions import list_assertions
from ingest_service.ledger.connection import open_pool, reading
from ingest_service.ledger.directory import Directory
from ingest_service.notary.timestamps import make_time_authority
from schemas.announcement import Announcement
from tests.actions.engine import (
    DOCK,
    Process,
    append_event,
    cut_chunks,
    describe_recording,
    get_clip,
    get_upload,
    list_event_types,
    make_footage,
    register_docks,
)
from tests.actions.kept_ledger import SIGNER, audit, fill_ledger, place_and_publish
from tests.actions.test_audit import told
from tests.actions.test_cosignatures import SecondParty, dial
from tests.actions.test_custody_log import list_log, prove
from tests.fakes import MemoryVault
from tests.time_authority import HAS_OPENSSL, LocalAuthority, ServedAuthority

needs_openssl = pytest.mark.skipif(not HAS_OPENSSL, reason="the local authority is openssl")


@pytest.fixture
async def kept(pool):
    await register_docks(pool)
    return await fill_ledger(pool, MemoryVault(part_bytes_min=1))


@pytest.fixture
async def empty(postgres, ledger_template):
    """Another ledger, migrated and empty: the first one is lost."""
    postgres.copy_database("rebuilt", template=ledger_template)
    opened = await open_pool(
        postgres.service_dsn("rebuilt"), connections_max=6, statement_timeout_s=30
    )
    yield opened
    await opened.close()
    postgres.run_sql('DROP DATABASE "rebuilt" WITH (FORCE)')


async def rebuild(pool, vault, witnesses=()):
    return await rebuild_ledger(
        RebuildTools(
            pool=pool,
            vault=vault,
            signer=SIGNER,
            keys=[parse_verifier_key(SIGNER.verifier_key)],
            now=utc_now,
            tell=lambda _step, _done, _total: None,
            witnesses=witnesses,
        )
    )


async def is_empty(pool) -> bool:
    async with reading(pool) as connection:
        return await connection.fetchval(
            """
            SELECT NOT EXISTS (SELECT FROM clips) AND NOT EXISTS (SELECT FROM custody_events)
               AND NOT EXISTS (SELECT FROM log_queue) AND NOT EXISTS (SELECT FROM log_tiles)
               AND NOT EXISTS (SELECT FROM stations) AND NOT EXISTS (SELECT FROM log_checkpoints)
            """
        )


# What a ledger that was rebuilt cannot know: it was of the upload, or its chain grew.
EXPECTED_TO_DIFFER = {"event_count", "last_leaf_hash", "state", "flags", "announcement"}


async def test_a_rebuilt_ledger_is_the_lost_one_and_its_audit_holds(kept, empty):
    rebuilt = await rebuild(empty, kept.vault)

    assert rebuilt.clips == len(kept.clips)
    assert rebuilt.tree_size == len(await list_log(kept.pool))
    for name, before in kept.clips.items():
        after = await get_clip(empty, before.clip_id)
        if name == "receiving":
            assert after.state == "expired"
            continue
        if name == "sealed":
            # Without a manifest yet: what the events say.
            assert (after.state, after.sha256) == ("sealed", before.sha256)
            continue
        assert after == before, name
    assert [event.leaf for event in await list_log(empty)] == [
        event.leaf for event in await list_log(kept.pool)
    ]
    await place_and_publish(empty, kept.vault)
    assert told(await audit(empty, kept.vault)) == ""


async def test_a_clip_that_claimed_priority_is_rebuilt_as_any_other(kept, empty):
    service = Process("process-1", kept.pool, kept.vault)
    footage = make_footage(20, "urgent")
    raw = describe_recording(footage, category="traffic")
    announced = await announce_clip(
        Announcement.model_validate(raw),
        raw,
        DOCK,
        pool=kept.pool,
        directory=service.directory,
        rules=service.rules,
        now=utc_now,
        claim=PriorityClaim(was_used=True),
    )
    clip_id = announced.clip.clip_id
    await service.store(clip_id, 0, footage)
    await service.seal(clip_id)
    await service.read_back(clip_id)
    await place_and_publish(kept.pool, kept.vault)

    await rebuild(empty, kept.vault)

    before, after = [await get_clip(pool, clip_id) for pool in (kept.pool, empty)]
    assert (after.state, after.flags) == ("secured", before.flags)
    assert "priority_unfounded" in after.flags
    await place_and_publish(empty, kept.vault)
    assert told(await audit(empty, kept.vault)) == ""


async def assert_all(kept, clip, **fields):
    rules = RetentionRules()
    tools = AssertTools(kept.pool, kept.vault, Directory(), rules, utc_now)
    said = Statement(fields, Actor("person", "P-anna"), "test")
    return await assert_metadata(clip.clip_id, said, tools=tools)


async def test_what_was_said_of_clips_comes_back_where_the_log_tells_it(kept, empty):
    clip = kept.clips["secured"]
    first = await assert_all(kept, clip, officer_id="P-17", category="arrest", title="A name")
    [officer] = [each for each in first.assertions if each.field == "officer_id"]
    await assert_all(kept, clip, clock_offset_ms=-61_000, officer_id="P-18")
    await place_and_publish(kept.pool, kept.vault)

    rebuilt = await rebuild(empty, kept.vault)

    before, after = [await get_clip(pool, clip.clip_id) for pool in (kept.pool, empty)]
    names = ("officer_id", "category", "evidential_state", "started_at_corrected")
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    async with reading(kept.pool) as old, reading(empty) as new:
        said, found = [await list_assertions(each, clip.clip_id) for each in (old, new)]
    nothing = bytes(16)
    assert found == [replace(each, salt=nothing) for each in said if each.field != "title"]
    assert officer.assertion_id in {each.assertion_id for each in found}
    assert (rebuilt.assertions, rebuilt.assertions_lost) == (4, 1)


async def test_the_log_goes_on_after_a_rebuild_and_its_history_is_the_published_one(kept, empty):
    await rebuild(empty, kept.vault)
    await check_published(pool=empty, vault=kept.vault, signer=SIGNER)
    before = len(await list_log(kept.pool))

    await place_and_publish(empty, kept.vault)

    placed = await list_log(empty)
    # The rebuild itself, and the clip whose upload was lost with the ledger.
    assert [event.type for event in placed[before:]] == ["clip.restored", "ledger.rebuilt"]
    await check_published(pool=empty, vault=kept.vault, signer=SIGNER)


async def test_a_receipt_can_be_had_again_after_a_rebuild(kept, empty):
    await rebuild(empty, kept.vault)

    _, receipt = await issue_receipt(
        kept.clips["released"].clip_id,
        DOCK.station_id,
        pool=empty,
        signer=SIGNER,
        head=PublishedHead(),
        now=utc_now,
    )

    assert (
        verify_receipt(receipt, SIGNER.verifier_key).sha256 == kept.clips["released"].sha256.hex()
    )


async def test_a_clip_that_was_coming_in_is_brought_again_by_its_camera(kept, empty):
    await rebuild(empty, kept.vault)
    service = Process("after", empty, kept.vault)
    lost = kept.clips["receiving"]
    footage = make_footage(112, "seven")

    again = await service.announce(
        describe_recording(footage, recording_id=lost.recording_id, device_serial="BWC-1")
    )
    assert again.clip.clip_id == lost.clip_id
    for index, chunk in enumerate(cut_chunks(footage)):
        await service.store(lost.clip_id, index, chunk)
    await service.seal(lost.clip_id)

    assert await service.read_back(lost.clip_id) == "secured"


async def test_a_sealed_clip_is_read_back_after_a_rebuild(kept, empty):
    await rebuild(empty, kept.vault)

    assert await Process("after", empty, kept.vault).read_back(kept.clips["sealed"].clip_id) == (
        "secured"
    )


async def test_a_clip_whose_events_were_never_published_is_found_by_its_manifest(kept, empty):
    service = Process("late", kept.pool, kept.vault)
    footage = make_footage(112, "late")
    clip = (await service.announce(describe_recording(footage))).clip
    for index in (3, 2, 1, 0):
        await service.store(clip.clip_id, index, cut_chunks(footage)[index])
    await service.seal(clip.clip_id)
    await service.read_back(clip.clip_id)
    before = await get_clip(kept.pool, clip.clip_id)

    await rebuild(empty, kept.vault)

    found = await get_clip(empty, clip.clip_id)
    assert (found.state, found.object_key, found.title) == ("sealed", before.object_key, None)
    assert await list_event_types(empty, clip.clip_id) == ["clip.restored"]
    assert (await get_upload(empty, found.upload_id)).state == "finished"
    assert await Process("after", empty, kept.vault).read_back(clip.clip_id) == "secured"
    assert (await get_clip(empty, clip.clip_id)).sha256 == before.sha256
    await place_and_publish(empty, kept.vault)
    assert told(await audit(empty, kept.vault)) == ""


async def test_an_unpublished_verdict_is_found_again(kept, empty):
    """Secured, but its clip.secured event was not out of the ledger when that was lost."""
    clip = kept.clips["sealed"]
    assert await Process("late", kept.pool, kept.vault).read_back(clip.clip_id) == "secured"
    before = await get_clip(kept.pool, clip.clip_id)

    await rebuild(empty, kept.vault)

    assert (await get_clip(empty, clip.clip_id)).state == "sealed"
    assert await Process("after", empty, kept.vault).read_back(clip.clip_id) == "secured"
    after = await get_clip(empty, clip.clip_id)
    assert (after.manifest, after.manifest_sha256) == (before.manifest, before.manifest_sha256)


async def test_a_ledger_that_holds_anything_is_refused_and_stays_as_it_is(kept):
    before = await list_log(kept.pool)

    with pytest.raises(RebuildRefused, match="not empty"):
        await rebuild(kept.pool, kept.vault)

    assert await list_log(kept.pool) == before


async def test_a_second_rebuild_is_refused(kept, empty):
    await rebuild(empty, kept.vault)

    with pytest.raises(RebuildRefused, match="not empty"):
        await rebuild(empty, kept.vault)


@pytest.mark.parametrize("call", ["list_keys", "read"])
async def test_a_rebuild_that_breaks_off_leaves_nothing_and_is_begun_again(kept, empty, call):
    kept.vault.fail_next(call, "stored")
    with pytest.raises(VaultUnavailable):
        await rebuild(empty, kept.vault)
    assert await is_empty(empty)

    await rebuild(empty, kept.vault)
    assert not await is_empty(empty)


async def test_leaves_that_no_checkpoint_covers_yet_are_signed_and_published(kept, empty):
    """Killed between the leaves and their checkpoint."""
    await append_event(kept.pool, kept.clips["secured"].clip_id)
    await place_and_publish(kept.pool, kept.vault)
    size = len(await list_log(kept.pool))
    kept.vault._versions.pop(checkpoint_key(size))

    rebuilt = await rebuild(empty, kept.vault)

    assert rebuilt.unsigned_leaves > 0
    await publish_checkpoints(pool=empty, vault=kept.vault)
    assert kept.vault.content(checkpoint_key(size)) is not None
    await place_and_publish(empty, kept.vault)
    assert told(await audit(empty, kept.vault)) == ""


def _key(vault, prefix, number=0):
    return [key for key in list(vault.keys()) if key.startswith(prefix)][number]


def _named(kept):
    clip = kept.clips["secured"]
    return ManifestName(clip.clip_id, clip.manifest_sha256).key


TAMPERED = {
    "leaves dropped": lambda kept: kept.vault._versions.pop(_key(kept.vault, LEAVES_PREFIX, 1)),
    "last leaves dropped": lambda kept: kept.vault._versions.pop(
        _key(kept.vault, LEAVES_PREFIX, -1)
    ),
    "leaf altered": lambda kept: kept.vault.tamper(
        _key(kept.vault, LEAVES_PREFIX),
        kept.vault.content(_key(kept.vault, LEAVES_PREFIX)).replace(b"dock-1", b"dock-2"),
    ),
    "leaves cut": lambda kept: kept.vault.tamper(
        _key(kept.vault, LEAVES_PREFIX), kept.vault.content(_key(kept.vault, LEAVES_PREFIX))[:-5]
    ),
    "checkpoint altered": lambda kept: kept.vault.tamper(
        checkpoint_key(97),
        sign_checkpoint(Checkpoint(SIGNER.name, 97, bytes(32)), SIGNER).encode(),
    ),
    "checkpoint unsigned": lambda kept: kept.vault.tamper(checkpoint_key(97), b"x\n97\nAAAA\n"),
    "manifest dropped": lambda kept: kept.vault._versions.pop(_named(kept)),
    "manifest altered": lambda kept: kept.vault.tamper(_named(kept), b"{}"),
    "a key that is none": lambda kept: kept.vault._store(f"{MANIFESTS_PREFIX}x", b"", "e"),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_bucket_that_was_tampered_with_is_refused(kept, empty, what):
    TAMPERED[what](kept)

    with pytest.raises(RebuildRefused):
        await rebuild(empty, kept.vault)

    assert await is_empty(empty)


async def test_an_empty_bucket_gives_an_empty_ledger_that_says_so(empty):
    rebuilt = await rebuild(empty, MemoryVault())

    assert (rebuilt.tree_size, rebuilt.clips) == (0, 0)


async def test_the_service_role_is_enough(kept, empty, postgres):
    """No owner, no trigger switched off: what was rebuilt is as protected as what was lost."""
    await rebuild(empty, kept.vault)
    owner = await asyncpg.connect(postgres.owner_dsn("rebuilt"))
    try:
        with pytest.raises(asyncpg.RestrictViolationError):
            await owner.execute("DELETE FROM custody_events")
    finally:
        await owner.close()


# --- what second parties said --------------------------------------------------------------


@pytest.fixture
async def attested(kept, tmp_path):
    """The same log, stamped by a time authority and cosigned by two witnesses; and these."""
    local = LocalAuthority(tmp_path / "tsa")
    served = ServedAuthority(local)
    authority = make_time_authority(served.url, local.root_file, 1)
    try:
        await stamp_checkpoint(pool=kept.pool, vault=kept.vault, authority=authority, now=utc_now)
    finally:
        served.stop()
    await place_and_publish(kept.pool, kept.vault)
    parties = [SecondParty(f"w{number}.example", tmp_path / f"w{number}") for number in (1, 2)]
    witnesses = dial(parties, 2)
    await collect_cosignatures(pool=kept.pool, vault=kept.vault, witnesses=witnesses)
    return kept, witnesses.policy


async def list_attested(pool):
    async with reading(pool) as connection:
        return (
            await connection.fetch(
                "SELECT tree_size, token, gen_time FROM log_timestamps ORDER BY tree_size"
            ),
            await connection.fetch(
                "SELECT tree_size, witness, line FROM log_cosignatures ORDER BY tree_size, witness"
            ),
        )


@needs_openssl
async def test_time_stamps_and_cosignatures_come_back(attested, empty):
    kept, policy = attested
    before = await list_attested(kept.pool)

    rebuilt = await rebuild(empty, kept.vault, policy.keys)

    assert (rebuilt.timestamps, rebuilt.timestamps_lost, rebuilt.cosignatures) == (1, 0, 2)
    assert await list_attested(empty) == before
    proven = await prove(empty, 3, PublishedHead(policy))
    assert len(policy.verify(parse_proof(proven.proof).signed)) == 2


@needs_openssl
@pytest.mark.parametrize("left", [None, b"", b"another token"])
async def test_a_time_stamp_that_is_not_the_logged_one_is_told_and_left_out(attested, empty, left):
    kept, policy = attested
    key = _key(kept.vault, TIMESTAMPS_PREFIX)
    if left is None:
        kept.vault._versions.pop(key)
    else:
        kept.vault.tamper(key, left)

    rebuilt = await rebuild(empty, kept.vault, policy.keys)

    assert (rebuilt.timestamps, rebuilt.timestamps_lost) == (0, 1)


FALSE_COSIGNATURES = {
    "torn": lambda text: text[: len(text) // 2],
    "no checkpoint": lambda text: b"<html>",
    "of another root": lambda text: text.replace(text.split(b"\n")[2], b"A" * 43 + b"="),
    "of another size": lambda text: text.replace(b"\n" + text.split(b"\n")[1] + b"\n", b"\n7\n", 1),
    "other signatures": lambda text: b"\n".join(
        line if not line.startswith("\u2014 w".encode()) else line[:-8] + b"AAAAAAAA"
        for line in text.split(b"\n")
    ),
}


@needs_openssl
@pytest.mark.parametrize("what", FALSE_COSIGNATURES)
async def test_cosignatures_that_do_not_verify_are_left_out(attested, empty, what):
    kept, policy = attested
    key = _key(kept.vault, COSIGNED_PREFIX)
    kept.vault.tamper(key, FALSE_COSIGNATURES[what](kept.vault.content(key)))

    rebuilt = await rebuild(empty, kept.vault, policy.keys)

    assert rebuilt.cosignatures == 0


@needs_openssl
async def test_cosignatures_of_witnesses_that_are_not_known_are_left_out(attested, empty):
    kept, policy = attested

    rebuilt = await rebuild(empty, kept.vault, policy.keys[:1])

    assert rebuilt.cosignatures == 1
