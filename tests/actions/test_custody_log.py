"""The custody log: every event placed once, no two histories, nothing signed that is not kept."""

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.actions.check_readiness import ReadinessCheck
from ingest_service.actions.prove_log import (
    ProvenEvent,
    PublishedHead,
    prove_event,
    prove_growth,
)
from ingest_service.actions.publish_checkpoint import check_published, publish_checkpoints
from ingest_service.actions.sequence_log import Sequencer, sequence_log, sign_checkpoint
from ingest_service.domain.checkpoint import (
    Checkpoint,
    parse_checkpoint,
    parse_proof,
    verify_checkpoint,
    verify_proof,
)
from ingest_service.domain.clock import utc_now
from ingest_service.domain.custody import (
    Actor,
    CustodyEvent,
    Happening,
    hash_leaf,
    make_device_events,
)
from ingest_service.domain.log_paths import checkpoint_key
from ingest_service.domain.merkle import verify_consistency
from ingest_service.domain.note import parse_verifier_key
from ingest_service.errors import (
    InvalidLogRange,
    LogForked,
    LogPartNotFound,
    VaultUnavailable,
)
from ingest_service.ledger import log
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.custody import insert_device_events
from ingest_service.signer import LocalSigner
from tests.domain.test_merkle import define_root
from tests.fakes import MemoryVault
from tests.paper_log import check_logged

SIGNER = LocalSigner(Ed25519PrivateKey.from_private_bytes(bytes(range(32))), "test.example/log")
KEY = parse_verifier_key(SIGNER.verifier_key)


class BrokenSigner(LocalSigner):
    """A signer whose key cannot be reached."""

    def sign(self, message: bytes) -> bytes:
        raise OSError(len(message))


def make_events(count: int, name: str = "camera") -> list[CustodyEvent]:
    happening = Happening("device.docked", Actor("station", "dock-1"), {"name": name})
    return make_device_events("BWC-1", [happening] * count, now=datetime.now(UTC))


async def record(pool: Pool, count: int, name: str = "camera") -> list[CustodyEvent]:
    events = make_events(count, name)
    async with writing(pool) as connection:
        await insert_device_events(connection, events)
    return events


async def sequence(pool: Pool, sequencer: Sequencer | None = None, **options: int) -> int:
    return await sequence_log(
        sequencer or Sequencer(), pool=pool, signer=SIGNER, now=utc_now, **options
    )


async def prove(pool: Pool, index: int, head: PublishedHead | None = None) -> ProvenEvent:
    return await prove_event(
        index, pool=pool, head=head or PublishedHead(), verifier_key=SIGNER.verifier_key
    )


async def list_log(pool: Pool) -> list[CustodyEvent]:
    async with reading(pool) as connection:
        return await log.list_leaves(connection, 0, 10**9)


async def get_newest(pool: Pool) -> Checkpoint:
    async with reading(pool) as connection:
        found = await log.find_newest_checkpoint(connection, only_published=False)
    signed = parse_checkpoint(found.note)
    verify_checkpoint(signed, KEY)
    return signed.checkpoint


@pytest.fixture
def vault():
    return MemoryVault()


async def test_every_recorded_event_gets_one_place_and_the_signed_root_covers_them(pool):
    recorded = await record(pool, 300)

    assert await sequence(pool) == 300
    placed = await list_log(pool)
    checkpoint = await get_newest(pool)
    assert {event.event_id for event in placed} == {event.event_id for event in recorded}
    assert checkpoint == Checkpoint(
        SIGNER.name, 300, define_root([event.leaf_hash for event in placed])
    )


async def test_an_event_waits_from_its_own_transaction_on(pool):
    async def record_and_fail() -> None:
        async with writing(pool) as connection:
            await insert_device_events(connection, make_events(1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await record_and_fail()

    assert await sequence(pool) == 0


async def test_batches_and_restarts_lead_to_the_same_root_as_one_go(pool):
    await record(pool, 700)
    sequencer = Sequencer()
    while await sequence(pool, sequencer, limit=97):
        if (await get_newest(pool)).size > 300:
            sequencer = Sequencer()

    placed = await list_log(pool)
    assert (await get_newest(pool)).root == define_root([event.leaf_hash for event in placed])


async def test_three_sequencers_at_once_write_one_log(pool):
    """The advisory lock is not taken: the row lock alone keeps the log one."""
    sequencers = [Sequencer() for _ in range(3)]
    start = asyncio.Barrier(4)

    async def drive(sequencer: Sequencer) -> None:
        await start.wait()
        for _ in range(30):
            await sequence(pool, sequencer, limit=13)

    async def write() -> None:
        await start.wait()
        for number in range(20):
            await record(pool, 15, f"camera-{number}")

    await asyncio.gather(write(), *(drive(sequencer) for sequencer in sequencers))
    while await sequence(pool):
        pass

    placed = await list_log(pool)
    assert len({event.event_id for event in placed}) == len(placed) == 300
    async with reading(pool) as connection:
        notes = await connection.fetch("SELECT note FROM log_checkpoints ORDER BY tree_size")
    for note in notes:
        checkpoint = parse_checkpoint(note["note"]).checkpoint
        hashes = [event.leaf_hash for event in placed[: checkpoint.size]]
        assert checkpoint.root == define_root(hashes)


async def test_a_batch_whose_signing_fails_leaves_nothing_and_loses_nothing(pool):
    await record(pool, 10)
    sequencer = Sequencer()
    await sequence(pool, sequencer, limit=4)
    broken = BrokenSigner(Ed25519PrivateKey.generate(), SIGNER.name)

    with pytest.raises(Exception, match="not answering"):
        await sequence_log(sequencer, pool=pool, signer=broken, now=utc_now)

    assert (await get_newest(pool)).size == 4
    assert await sequence(pool, sequencer) == 6
    placed = await list_log(pool)
    assert (await get_newest(pool)).root == define_root([event.leaf_hash for event in placed])


async def test_what_is_published_is_enough_to_know_the_whole_log(pool, vault):
    recorded = await record(pool, 600)
    while await sequence(pool, limit=200):
        await publish_checkpoints(pool=pool, vault=vault)

    leaves: list[bytes] = []
    stored = vault.keys()
    for key in [key for key in stored if key.startswith("log/leaves/")]:
        bundle = vault.content(key)
        while bundle:
            length = int.from_bytes(bundle[:2], "big")
            leaves.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
    assert sorted(leaves) == sorted(event.leaf for event in recorded)
    assert len(vault.content("log/tile/0/001")) == 8192
    newest = parse_checkpoint(vault.content(checkpoint_key(600)).decode())
    verify_checkpoint(newest, KEY)
    assert await vault.find_first_key("log/checkpoint/") == checkpoint_key(600)


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_publication_that_breaks_off_is_done_again(pool, vault, failure):
    await record(pool, 3)
    await sequence(pool)
    vault.fail_next("put_new", failure)

    with pytest.raises(VaultUnavailable):
        await publish_checkpoints(pool=pool, vault=vault)
    assert await publish_checkpoints(pool=pool, vault=vault) == 1

    assert vault.content(checkpoint_key(3)) is not None


async def test_a_ledger_restored_from_a_backup_refuses_to_go_on(pool, vault):
    await record(pool, 5)
    await sequence(pool)
    ahead = sign_checkpoint(Checkpoint(SIGNER.name, 9, bytes(32)), SIGNER)
    await vault.put_new(checkpoint_key(9), ahead.encode())

    with pytest.raises(LogForked, match="9 were published"):
        await check_published(pool=pool, vault=vault, signer=SIGNER)


async def test_a_ledger_with_another_history_refuses_to_go_on(pool, vault):
    await record(pool, 9)
    await sequence(pool)
    other = sign_checkpoint(Checkpoint(SIGNER.name, 9, bytes(32)), SIGNER)
    await vault.put_new(checkpoint_key(9), other.encode())

    with pytest.raises(LogForked, match="not the published ones"):
        await check_published(pool=pool, vault=vault, signer=SIGNER)
    with pytest.raises(LogForked, match="another content"):
        await publish_checkpoints(pool=pool, vault=vault)


async def test_a_checkpoint_of_a_stranger_in_the_bucket_stops_the_log(pool, vault):
    stranger = LocalSigner(Ed25519PrivateKey.generate(), SIGNER.name)
    note = sign_checkpoint(Checkpoint(SIGNER.name, 1, bytes(32)), stranger)
    await vault.put_new(checkpoint_key(1), note.encode())

    with pytest.raises(LogForked, match="not of this log"):
        await check_published(pool=pool, vault=vault, signer=SIGNER)


async def test_a_ledger_that_has_what_was_published_goes_on(pool, vault):
    await record(pool, 300)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=vault)
    await record(pool, 5)
    await sequence(pool)

    await check_published(pool=pool, vault=vault, signer=SIGNER)


async def test_a_proof_shows_an_event_to_who_has_only_the_verifier_key(pool, vault):
    await record(pool, 270)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=vault)

    for index in (0, 1, 255, 256, 269):
        proven = await prove(pool, index)
        verify_proof(parse_proof(proven.proof), hash_leaf(proven.leaf), KEY)
        assert check_logged(proven.leaf, proven.proof, SIGNER.verifier_key) == index


async def test_no_proof_is_given_before_the_checkpoint_is_outside_the_ledger(pool, vault):
    await record(pool, 1)
    await sequence(pool)

    with pytest.raises(LogPartNotFound):
        await prove(pool, 0)
    await publish_checkpoints(pool=pool, vault=vault)
    assert (await prove(pool, 0)).log_index == 0


async def test_a_process_that_knows_an_older_checkpoint_looks_for_a_newer_one(pool, vault):
    head = PublishedHead()
    for size in (3, 6):
        await record(pool, 3)
        await sequence(pool)
        await publish_checkpoints(pool=pool, vault=vault)
        await prove(pool, size - 1, head)
        assert head.signed.checkpoint.size == size


async def test_an_old_checkpoint_serves_as_long_as_it_covers_the_leaf(pool, vault):
    head = PublishedHead()
    await record(pool, 5)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=vault)
    await prove(pool, 4, head)
    await record(pool, 700)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=vault)

    for index in range(5):
        proven = await prove(pool, index, head)
        assert check_logged(proven.leaf, proven.proof, SIGNER.verifier_key) == index
    assert head.signed.checkpoint.size == 5


async def test_an_index_beyond_the_log_is_refused(pool, vault):
    await record(pool, 2)
    await sequence(pool)
    await publish_checkpoints(pool=pool, vault=vault)

    with pytest.raises(InvalidLogRange):
        await prove(pool, 2)


async def test_the_growth_between_two_checkpoints_is_provable(pool):
    await record(pool, 40)
    await sequence(pool)
    old = await get_newest(pool)
    await record(pool, 300)
    await sequence(pool)
    new = await get_newest(pool)

    path = await prove_growth(old.size, new.size, pool=pool)

    verify_consistency(old.size, old.root, new.size, new.root, path)


async def test_not_even_the_owner_shrinks_a_tile_or_moves_a_leaf(pool, ledger_owner_dsn):
    await record(pool, 3)
    await sequence(pool)
    owner = await asyncpg.connect(ledger_owner_dsn)
    try:
        for statement in (
            "UPDATE log_tiles SET hashes = substring(hashes FROM 1 FOR 32)",
            "DELETE FROM log_tiles",
            "UPDATE log_leaves SET leaf_index = leaf_index + 10",
            "DELETE FROM log_leaves",
            "TRUNCATE log_leaves",
        ):
            with pytest.raises(asyncpg.RestrictViolationError):
                await owner.execute(statement)
    finally:
        await owner.close()


async def test_the_lead_is_taken_by_one_connection_at_a_time(pool):
    async with reading(pool) as one, reading(pool) as other:
        assert await log.try_lead(one)
        assert not await log.try_lead(other)
        await log.stop_leading(one)

        assert await log.try_lead(other)
        await log.stop_leading(other)


async def test_a_halted_log_is_said_and_the_service_goes_on_receiving(pool, vault):
    async with reading(pool) as connection:
        await log.set_halt(connection, "9 were published")
    check = ReadinessCheck(pool=pool, vault=vault, worker_stale_after_s=30)

    said = {each.name: each for each in await check.run()}["custody_log"]

    assert not said.is_ok
    assert "9 were published" in said.detail
    assert not said.is_vital
