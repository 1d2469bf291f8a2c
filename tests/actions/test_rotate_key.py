"""A change of keys: nobody who pinned either key is left behind, and the log names its keys."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.actions.audit_ledger import audit_ledger, find_log_keys, open_audit
from ingest_service.actions.audit_tools import AuditTools
from ingest_service.actions.publish_checkpoint import check_published, publish_checkpoints
from ingest_service.actions.rebuild_ledger import RebuildTools, rebuild_ledger
from ingest_service.actions.rotate_key import announce_rotation
from ingest_service.actions.sequence_log import Sequencer, sequence_log, sign_checkpoint
from ingest_service.domain.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from ingest_service.domain.clock import utc_now
from ingest_service.domain.log_paths import checkpoint_key
from ingest_service.domain.note import NoteInvalid, parse_verifier_key
from ingest_service.errors import LogForked
from ingest_service.ledger.connection import open_pool
from ingest_service.signer import LocalSigner
from tests.actions.test_audit import told
from tests.actions.test_custody_log import record
from tests.fakes import MemoryVault
from tests.paper_log import read_checkpoint

NAME = "test.example/log"
OLD_PRIVATE, NEW_PRIVATE = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
OLD, NEW = LocalSigner(OLD_PRIVATE, NAME), LocalSigner(NEW_PRIVATE, NAME)
BEFORE_THE_CHANGE = LocalSigner(OLD_PRIVATE, NAME, NEW)
AFTER_THE_CHANGE = LocalSigner(NEW_PRIVATE, NAME, OLD)


async def go_on(pool, vault, signer):
    await check_published(pool=pool, vault=vault, signer=signer)
    await record(pool, 10)
    await sequence_log(Sequencer(), pool=pool, signer=signer, now=utc_now)
    await publish_checkpoints(pool=pool, vault=vault)


@pytest.fixture
async def rotated(pool):
    """A log that went from one key to the next, in the documented order."""
    vault = MemoryVault()
    await go_on(pool, vault, OLD)
    await announce_rotation(OLD.verifier_key, NEW.verifier_key, pool=pool, now=utc_now)
    for signer in (BEFORE_THE_CHANGE, AFTER_THE_CHANGE, NEW):
        await go_on(pool, vault, signer)
    return vault


def read(vault, size):
    return vault.content(checkpoint_key(size)).decode()


@pytest.mark.parametrize("signer", [BEFORE_THE_CHANGE, AFTER_THE_CHANGE])
def test_during_the_overlap_a_checkpoint_holds_under_both_keys(signer):
    note = sign_checkpoint(Checkpoint(NAME, 5, bytes(32)), signer)

    for key in (OLD, NEW):
        verify_checkpoint(parse_checkpoint(note), parse_verifier_key(key.verifier_key))
        # Also for a reader that shares no code with the writer.
        assert read_checkpoint(note, key.verifier_key)[0] == 5


async def test_every_step_of_a_change_goes_on_with_the_log(rotated):
    assert [len(parse_checkpoint(read(rotated, size)).lines) for size in (10, 21, 31, 41)] == [
        1,
        2,
        2,
        1,
    ]


async def test_what_the_old_key_signed_goes_on_holding_under_it(rotated):
    for size in (10, 21, 31):
        signed = parse_checkpoint(read(rotated, size))
        verify_checkpoint(signed, parse_verifier_key(OLD.verifier_key))


async def test_the_old_key_alone_does_not_sign_any_more(rotated):
    with pytest.raises(NoteInvalid):
        verify_checkpoint(parse_checkpoint(read(rotated, 41)), parse_verifier_key(OLD.verifier_key))


async def test_a_change_without_overlap_is_refused_instead_of_forking(pool):
    vault = MemoryVault()
    await go_on(pool, vault, OLD)

    with pytest.raises(LogForked, match="not of this log"):
        await check_published(pool=pool, vault=vault, signer=NEW)


async def test_an_audit_under_the_new_key_believes_the_old_ones_that_the_log_names(pool, rotated):
    state = await open_audit(pool=pool, objects_share=0)
    tools = AuditTools(
        pool=pool,
        vault=rotated,
        keys=await find_log_keys(pool, [parse_verifier_key(NEW.verifier_key)]),
        tell=lambda *_: None,
        save=lambda _: None,
    )

    await audit_ledger(state, tools)

    assert told(state) == ""


async def test_a_rebuild_under_the_old_key_learns_the_new_one_from_the_log(
    rotated, postgres, ledger_template
):
    postgres.copy_database("rotated", template=ledger_template)
    dsn = postgres.service_dsn("rotated")
    empty = await open_pool(dsn, connections_max=4, statement_timeout_s=10)
    try:
        rebuilt = await rebuild_ledger(
            RebuildTools(
                pool=empty,
                vault=rotated,
                signer=NEW,
                keys=[parse_verifier_key(OLD.verifier_key)],
                now=utc_now,
                tell=lambda *_: None,
            )
        )
    finally:
        await empty.close()
        postgres.run_sql('DROP DATABASE "rotated" WITH (FORCE)')

    assert rebuilt.checkpoints == 4


@pytest.mark.parametrize(
    "new", [OLD, LocalSigner(NEW_PRIVATE, "other.example/log")], ids=["same key", "other log"]
)
async def test_what_is_no_change_of_keys_is_not_recorded(pool, new):
    with pytest.raises(NoteInvalid):
        await announce_rotation(OLD.verifier_key, new.verifier_key, pool=pool, now=utc_now)
