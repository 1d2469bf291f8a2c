"""The audit: a good ledger holds, and each kind of tampering is found and named."""

import copy

import asyncpg
import pytest

from ingest_service.actions import audit_chains, audit_log
from ingest_service.actions.audit_ledger import audit_ledger, open_audit
from ingest_service.actions.sequence_log import sign_checkpoint
from ingest_service.domain.audit import AuditState, is_chosen
from ingest_service.domain.checkpoint import Checkpoint
from ingest_service.domain.clock import utc_now
from ingest_service.domain.ids import make_id
from ingest_service.domain.log_paths import LEAVES_PREFIX, checkpoint_key
from ingest_service.domain.manifest import ManifestName
from ingest_service.errors import VaultUnavailable
from tests.actions.engine import append_event, register_docks
from tests.actions.kept_ledger import SIGNER, audit, fill_ledger, make_tools, place_and_publish
from tests.actions.test_custody_log import record
from tests.fakes import MemoryVault


@pytest.fixture
async def kept(pool):
    await register_docks(pool)
    return await fill_ledger(pool, MemoryVault(part_bytes_min=1))


@pytest.fixture
async def superuser(postgres, ledger_database):
    connection = await asyncpg.connect(postgres.owner_dsn(ledger_database))
    yield connection
    await connection.close()


def told(state: AuditState) -> str:
    return "\n".join(f"{f.verdict} {f.check} {f.subject}: {f.detail}" for f in state.findings)


async def test_a_ledger_that_nobody_touched_holds(kept):
    state = await audit(kept.pool, kept.vault)

    assert told(state) == ""
    assert state.step is None
    assert state.counts["leaves hashed"] == state.tree_size
    assert state.counts["published leaves compared"] == state.tree_size
    assert state.counts["clips followed"] == len(kept.clips)
    assert state.counts["checkpoints compared"] > 3
    assert state.counts["manifests compared"] == 5
    assert state.counts["objects read"] == 3


async def test_events_that_wait_for_their_place_or_publication_are_no_findings(kept):
    await append_event(kept.pool, kept.clips["secured"].clip_id)
    await record(kept.pool, 3)

    assert told(await audit(kept.pool, kept.vault)) == ""


async def test_an_audit_stopped_after_any_batch_comes_to_the_same_end(kept, superuser, monkeypatch):
    monkeypatch.setattr(audit_log, "BATCH_LEAVES", 50)
    monkeypatch.setattr(audit_chains, "BATCH_CLIPS", 2)
    await superuser.execute(PLANTED["leaf altered"][0])
    saved: list[dict] = []
    whole = await audit(kept.pool, kept.vault, saved=saved)
    assert len(saved) > 15

    for dumped in saved:
        state = AuditState.load(copy.deepcopy(dumped))
        await audit_ledger(state, await make_tools(kept.pool, kept.vault))
        assert state.dump() | {"seconds": {}} == whole.dump() | {"seconds": {}}


@pytest.mark.parametrize("call", ["list_keys", "read"])
async def test_an_audit_that_the_bucket_stopped_is_not_done_and_goes_on(kept, call):
    state = await open_audit(pool=kept.pool, objects_share=1.0)
    kept.vault.fail_next(call, "lost")
    tools = await make_tools(kept.pool, kept.vault)

    with pytest.raises(VaultUnavailable):
        await audit_ledger(state, tools)
    assert state.step is not None

    await audit_ledger(state, tools)
    assert told(state) == ""


PLANTED = {
    "leaf altered": (
        """
        ALTER TABLE custody_events DISABLE TRIGGER USER;
        ALTER TABLE custody_events DROP CONSTRAINT custody_events_leaf_hash;
        UPDATE custody_events
           SET leaf = replace(convert_from(leaf, 'UTF8'), 'dock-1', 'dock-2')::bytea
         WHERE type = 'clip.secured'""",
        {"leaf", "event", "tile", "published checkpoint"},
    ),
    "leaf and hash altered": (
        """
        ALTER TABLE custody_events DISABLE TRIGGER USER;
        UPDATE custody_events
           SET leaf = '\\x7b7d', leaf_hash = sha256('\\x007b7d')
         WHERE event_id = (SELECT event_id FROM log_leaves WHERE leaf_index = 3)""",
        {"tile", "published checkpoint", "published leaves"},
    ),
    "column altered": (
        """
        ALTER TABLE custody_events DISABLE TRIGGER USER;
        UPDATE custody_events SET actor_id = 'dock-2' WHERE type = 'clip.sealed'""",
        {"event"},
    ),
    "event deleted": (
        """
        ALTER TABLE custody_events DISABLE TRIGGER ALL;
        ALTER TABLE log_leaves DISABLE TRIGGER ALL;
        DELETE FROM custody_events WHERE type = 'hash.mismatch'""",
        {"leaf", "chain"},
    ),
    "event and its place deleted": (
        """
        ALTER TABLE custody_events DISABLE TRIGGER ALL;
        ALTER TABLE log_leaves DISABLE TRIGGER ALL;
        DELETE FROM log_leaves WHERE event_id IN (
            SELECT event_id FROM custody_events WHERE type = 'hash.mismatch');
        DELETE FROM custody_events WHERE type = 'hash.mismatch'""",
        {"leaf", "chain"},
    ),
    "event kept from the log": (
        """
        INSERT INTO custody_events (
            event_id, type, recorded_at, actor_kind, actor_id, leaf, leaf_hash)
        SELECT gen_random_uuid(), type, recorded_at, actor_kind, actor_id, leaf, leaf_hash
          FROM custody_events WHERE clip_id IS NULL LIMIT 1;
        DELETE FROM log_queue""",
        {"event"},
    ),
    "last event of a clip taken back": (
        """
        ALTER TABLE custody_events DISABLE TRIGGER ALL;
        DELETE FROM custody_events WHERE type = 'release.issued';
        UPDATE clips SET event_count = event_count - 1 WHERE released_at IS NOT NULL""",
        {"leaf", "chain", "clip"},
    ),
    "clip's digest altered": (
        """
        UPDATE clips SET sha256 = sha256('x'), sha256_readback = sha256('x')
         WHERE state = 'secured'""",
        {"clip"},
    ),
    "clip pointed at another object": (
        "UPDATE clips SET object_version = 'v1' WHERE state = 'secured'",
        {"clip"},
    ),
    "quarantine lifted": (
        "UPDATE clips SET state = 'sealed' WHERE state = 'quarantined'",
        {"clip"},
    ),
    "announcement altered": (
        'UPDATE clips SET announcement = announcement || \'{"officer_id": "P-2"}\'',
        {"clip"},
    ),
    "manifest forgotten": (
        "UPDATE clips SET manifest_sha256 = NULL WHERE state = 'secured'",
        {"clip"},
    ),
    "tile altered": (
        """
        ALTER TABLE log_tiles DISABLE TRIGGER USER;
        UPDATE log_tiles SET hashes = overlay(hashes PLACING sha256('other') FROM 5 * 32 + 1)
         WHERE level = 0 AND tile_index = 0""",
        {"tile"},
    ),
    "right edge altered": (
        """
        ALTER TABLE log_tiles DISABLE TRIGGER USER;
        UPDATE log_tiles SET hashes = overlay(hashes PLACING sha256('other') FROM 5 * 32 + 1)
         WHERE level = 0 AND tile_index = 1""",
        {"tile"},
    ),
    "log cut short": (
        """
        ALTER TABLE log_leaves DISABLE TRIGGER ALL;
        DELETE FROM log_leaves WHERE leaf_index >= 10;
        DELETE FROM log_checkpoints WHERE tree_size > 10;
        UPDATE log_state SET tree_size = 10""",
        {"published checkpoint"},
    ),
}


@pytest.mark.parametrize("what", PLANTED)
async def test_what_an_administrator_rewrites_is_found(kept, superuser, what):
    statement, checks = PLANTED[what]
    await superuser.execute(statement)

    state = await audit(kept.pool, kept.vault, share=0)

    assert checks <= {finding.check for finding in state.findings}, told(state)


def _drop(vault, key):
    vault._versions.pop(key)


def _first(vault, prefix):
    return min(key for key in list(vault.keys()) if key.startswith(prefix))


def _manifest_key(kept, name):
    clip = kept.clips[name]
    return ManifestName(clip.clip_id, clip.manifest_sha256).key


IN_THE_BUCKET = {
    "manifest dropped": (
        lambda kept: _drop(kept.vault, _manifest_key(kept, "secured")),
        "manifest",
    ),
    "manifest altered": (
        lambda kept: kept.vault.tamper(_manifest_key(kept, "secured"), b"{}"),
        "manifest",
    ),
    "leaves dropped": (
        lambda kept: _drop(kept.vault, _first(kept.vault, LEAVES_PREFIX)),
        "published leaves",
    ),
    "leaves altered": (
        lambda kept: kept.vault.tamper(_first(kept.vault, LEAVES_PREFIX), b"\0\2{}"),
        "published leaves",
    ),
    "leaves cut": (
        lambda kept: kept.vault.tamper(_first(kept.vault, LEAVES_PREFIX), b"\0\2{"),
        "published leaves",
    ),
    "checkpoint dropped": (
        lambda kept: _drop(kept.vault, checkpoint_key(97)),
        "published checkpoint",
    ),
    "checkpoint of another key": (
        lambda kept: kept.vault.tamper(checkpoint_key(97), b"x\n97\n"),
        "published checkpoint",
    ),
    "checkpoint of another root": (
        lambda kept: kept.vault.tamper(
            checkpoint_key(97),
            sign_checkpoint(Checkpoint(SIGNER.name, 97, bytes(32)), SIGNER).encode(),
        ),
        "published checkpoint",
    ),
    "object altered": (
        lambda kept: kept.vault.tamper(kept.clips["secured"].object_key, bytes(112)),
        "object",
    ),
    "object cut": (
        lambda kept: kept.vault.tamper(kept.clips["secured"].object_key, bytes(12)),
        "object",
    ),
}


@pytest.mark.parametrize("what", IN_THE_BUCKET)
async def test_what_is_changed_in_the_bucket_is_found(kept, what):
    plant, check = IN_THE_BUCKET[what]
    plant(kept)

    state = await audit(kept.pool, kept.vault)

    assert {(f.check, f.verdict) for f in state.findings} == {(check, "fail")}, told(state)


async def test_an_object_that_is_not_there_is_not_verifiable_never_altered(kept):
    _drop(kept.vault, kept.clips["secured"].object_key)

    state = await audit(kept.pool, kept.vault)

    assert [(f.check, f.verdict) for f in state.findings] == [("object", "not_verifiable")]


async def test_a_clip_that_was_deleted_from_the_ledger_is_told_by_its_manifest(kept, superuser):
    clip_id = kept.clips["secured"].clip_id
    await superuser.execute(
        f"""
        ALTER TABLE custody_events DISABLE TRIGGER ALL;
        ALTER TABLE clips DISABLE TRIGGER ALL;
        DELETE FROM custody_events WHERE clip_id = '{clip_id}';
        DELETE FROM clips WHERE clip_id = '{clip_id}'"""  # noqa: S608 - a test's own id
    )

    state = await audit(kept.pool, kept.vault)

    assert ("manifest", "the ledger does not know this clip") in {
        (finding.check, finding.detail) for finding in state.findings
    }


async def test_a_lost_bucket_is_found(kept):
    state = await audit(kept.pool, MemoryVault())

    assert {"published checkpoint", "published leaves", "manifest", "object"} <= {
        finding.check for finding in state.findings
    }


async def test_a_manifest_of_a_try_that_broke_off_is_no_finding(kept):
    clip = kept.clips["secured"]
    await kept.vault.put_new(ManifestName(clip.clip_id, bytes(32)).key, b"a first try")

    assert told(await audit(kept.pool, kept.vault)) == ""


async def test_the_leaves_of_the_next_checkpoints_belong_to_the_next_audit(kept, monkeypatch):
    state = AuditState("seed", 0.0, 97)
    await record(kept.pool, 500)
    await place_and_publish(kept.pool, kept.vault)

    await audit_ledger(state, await make_tools(kept.pool, kept.vault))

    assert told(state) == ""
    assert state.counts["leaves hashed"] == 97


def test_a_share_chooses_about_so_many_and_always_the_same():
    ids = [make_id(utc_now()) for _ in range(2000)]

    chosen = [each for each in ids if is_chosen(each, seed="s", share=0.05)]

    assert 50 < len(chosen) < 170
    assert chosen == [each for each in ids if is_chosen(each, seed="s", share=0.05)]
    assert all(is_chosen(each, seed="s", share=1.0) for each in ids)
    assert not any(is_chosen(each, seed="s", share=0.0) for each in ids)
