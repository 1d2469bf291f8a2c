"""The threat table: tampering as those can who hold the ledger, and what catches it.

Each test plants one kind of tampering and names what shows it. Statements that need the owner's or
the superuser's rights are run as such; triggers are disabled where an administrator would.
"""

import base64

import pytest

from ingest_service.actions.prove_log import PublishedHead, prove_growth
from ingest_service.actions.publish_checkpoint import check_published, publish_checkpoints
from ingest_service.domain.cosignature import NO_WITNESSES
from ingest_service.domain.log_paths import checkpoint_key, leaves_key
from ingest_service.errors import LogForked
from ingest_service.verifier.checkpoints import check_growth
from ingest_service.verifier.findings import EXIT_FAILS
from tests.actions.test_custody_log import KEY, SIGNER, prove, record, sequence
from tests.fakes import MemoryVault
from tests.paper_log import check_logged


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


async def test_what_a_process_knows_of_the_log_never_makes_a_false_proof(pool, superuser):
    """Known are hashes over whole tiles, and every proof is held against the signed root."""
    await record(pool, 600)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=MemoryVault())
    head = PublishedHead()
    for index in (0, 300, 599):
        await prove(pool, index, head)
    await superuser.execute(PLANTED["tile"] + " WHERE level = 0 AND tile_index = 0")

    with pytest.raises(LogForked):
        await prove(pool, 4, head)
    assert check_logged(*(await told(pool, 301, head)), SIGNER.verifier_key) == 301


async def told(pool, index, head):
    proven = await prove(pool, index, head)
    return proven.leaf, proven.proof


# --- with the stolen key -----------------------------------------------------------------

# What an administrator does who knows the code: the event, and with it the whole log anew.
REWRITE = """
    ALTER TABLE custody_events DISABLE TRIGGER USER;
    ALTER TABLE log_leaves DISABLE TRIGGER USER;
    ALTER TABLE log_tiles DISABLE TRIGGER USER;
    UPDATE custody_events SET leaf = '\\x7b7d', leaf_hash = sha256('\\x007b7d')
     WHERE event_id = (SELECT event_id FROM log_leaves WHERE leaf_index = 2);
    INSERT INTO log_queue (event_id, leaf_hash)
    SELECT event_id, leaf_hash FROM log_leaves JOIN custody_events USING (event_id)
     ORDER BY leaf_index;
    DELETE FROM log_leaves; DELETE FROM log_tiles; DELETE FROM log_checkpoints;
    UPDATE log_state SET tree_size = 0;
    ALTER TABLE custody_events ENABLE TRIGGER USER;
    ALTER TABLE log_leaves ENABLE TRIGGER USER;
    ALTER TABLE log_tiles ENABLE TRIGGER USER"""


async def rewrite_all(pool, superuser) -> None:
    """Leave a ledger that agrees with itself, signed by the log's own key, and its new bucket."""
    await superuser.execute(REWRITE)
    while await sequence(pool):
        pass
    await publish_checkpoints(pool=pool, vault=MemoryVault())


async def test_a_rewritten_log_agrees_with_itself(pool, superuser, log_of_nine):
    """Why old receipts matter: key and database alone show nothing any more."""
    await rewrite_all(pool, superuser)

    proven = await prove(pool, 2)
    assert proven.leaf == b"{}"
    assert check_logged(proven.leaf, proven.proof, SIGNER.verifier_key) == 2


async def test_any_receipt_kept_from_before_contradicts_a_rewritten_log(
    pool, superuser, log_of_nine
):
    kept = (await prove(pool, 7)).proof
    await rewrite_all(pool, superuser)
    new = (await prove(pool, 7)).proof

    findings = compare(new, kept, None)
    assert findings.exit_code == EXIT_FAILS
    assert "two histories" in findings.lines[-1].text


async def test_no_proof_of_growth_joins_a_rewritten_log_to_an_older_receipt(
    pool, superuser, log_of_nine
):
    kept = (await prove(pool, 7)).proof
    await rewrite_all(pool, superuser)
    await record(pool, 4)
    while await sequence(pool):
        pass
    await publish_checkpoints(pool=pool, vault=MemoryVault())
    new = (await prove(pool, 12)).proof
    path = await prove_growth(9, 13, pool=pool)
    growth = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)

    assert compare(new, kept, growth).exit_code == EXIT_FAILS


async def test_the_published_checkpoints_contradict_a_rewritten_log(pool, superuser, log_of_nine):
    _, bucket = log_of_nine
    await rewrite_all(pool, superuser)

    with pytest.raises(LogForked, match="not the published ones"):
        await check_published(pool=pool, vault=bucket, signer=SIGNER)


async def test_a_rewritten_log_cannot_be_published_over_the_old_one(pool, superuser, log_of_nine):
    _, bucket = log_of_nine
    await superuser.execute(REWRITE)
    while await sequence(pool):
        pass

    with pytest.raises(LogForked, match="another content"):
        await publish_checkpoints(pool=pool, vault=bucket)


def compare(newer: str, older: str, growth: str | None):
    return check_growth(
        newer.encode(),
        key=KEY,
        witnesses=NO_WITNESSES,
        older=older.encode(),
        growth=None if growth is None else growth.encode(),
    )


# --- in the bucket -----------------------------------------------------------------------


async def test_a_published_checkpoint_that_was_changed_stops_the_log(pool, log_of_nine):
    _, bucket = log_of_nine
    note = bucket.content(checkpoint_key(9))
    bucket.tamper(checkpoint_key(9), note.replace(b"\n9\n", b"\n8\n"))

    with pytest.raises(LogForked, match="not of this log"):
        await check_published(pool=pool, vault=bucket, signer=SIGNER)


async def test_published_leaves_that_were_changed_stop_the_log(pool):
    vault = MemoryVault()
    await record(pool, 3)
    await sequence(pool)
    await vault.put_new(leaves_key(0, 3), b"others")

    with pytest.raises(LogForked, match="another content"):
        await publish_checkpoints(pool=pool, vault=vault)
