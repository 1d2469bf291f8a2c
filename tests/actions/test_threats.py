"""The threat table: tampering as those can who hold the ledger, and what catches it.

Each test plants one kind of tampering and names what shows it. Statements that need the owner's or
the superuser's rights are run as such; triggers are disabled where an administrator would.
"""

import pytest

from ingest_service.actions.prove_log import PublishedHead
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.errors import LogForked
from tests.actions.test_custody_log import prove, record, sequence
from tests.fakes import MemoryVault


@pytest.fixture
async def log_of_nine(pool):
    """A published log of nine events."""
    vault = MemoryVault()
    events = await record(pool, 9)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=vault)
    return events, vault


PLANTED = {
    "leaf": """
        ALTER TABLE custody_events DISABLE TRIGGER USER;
        ALTER TABLE custody_events DROP CONSTRAINT custody_events_leaf_hash;
        UPDATE custody_events SET leaf = '\\x7b7d'
         WHERE event_id = (SELECT event_id FROM log_leaves WHERE leaf_index = 4)""",
    "leaf and its hash": """
        ALTER TABLE custody_events DISABLE TRIGGER USER;
        UPDATE custody_events SET leaf = '\\x7b7d', leaf_hash = sha256('\\x007b7d')
         WHERE event_id = (SELECT event_id FROM log_leaves WHERE leaf_index = 4)""",
    "order": """
        ALTER TABLE log_leaves DISABLE TRIGGER USER;
        UPDATE log_leaves SET leaf_index = 100 WHERE leaf_index = 4;
        UPDATE log_leaves SET leaf_index = 4 WHERE leaf_index = 5;
        UPDATE log_leaves SET leaf_index = 5 WHERE leaf_index = 100""",
    "tile": """
        ALTER TABLE log_tiles DISABLE TRIGGER USER;
        UPDATE log_tiles SET hashes = overlay(hashes PLACING sha256('other') FROM 5 * 32 + 1)""",
    "tile cut off": """
        ALTER TABLE log_tiles DISABLE TRIGGER USER;
        UPDATE log_tiles SET hashes = substring(hashes FROM 1 FOR 5 * 32)""",
    "checkpoint": """
        UPDATE log_checkpoints SET note = replace(note, E'\\n9\\n', E'\\n8\\n')""",
    "checkpoint of another size": """
        UPDATE log_checkpoints SET tree_size = 10""",
}


@pytest.mark.parametrize("what", PLANTED)
async def test_no_proof_is_given_over_what_was_rewritten(pool, superuser, log_of_nine, what):
    """The signed root is compared before a proof leaves: no receipt that a verifier refuses."""
    await superuser.execute(PLANTED[what])

    with pytest.raises(LogForked):
        await prove(pool, 4)


@pytest.mark.parametrize("what", ["leaf", "leaf and its hash", "order", "tile", "tile cut off"])
async def test_a_process_that_knows_the_checkpoint_sees_it_too(pool, superuser, log_of_nine, what):
    head = PublishedHead()
    await prove(pool, 0, head)
    await superuser.execute(PLANTED[what])

    with pytest.raises(LogForked):
        await prove(pool, 4, head)
