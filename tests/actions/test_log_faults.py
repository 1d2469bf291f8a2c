"""Faults of the custody log: killed at each step, three at once, an older dump, a lost bucket.

Whatever happens: no two checkpoints contradict each other, no event is lost or placed twice.
"""

import asyncio
import itertools

import pytest

from ingest_service import telemetry
from ingest_service.actions.publish_checkpoint import (
    check_published,
    is_deletion_safe,
    mend_published,
    publish_checkpoints,
)
from ingest_service.actions.sequence_log import Sequencer, sequence_log, sign_checkpoint
from ingest_service.actions.store_published import store_published
from ingest_service.domain.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from ingest_service.domain.clock import utc_now
from ingest_service.domain.log_paths import (
    CHECKPOINTS_PREFIX,
    LEAVES_PREFIX,
    checkpoint_key,
    leaves_key,
    parse_checkpoint_key,
    parse_leaves_key,
)
from ingest_service.domain.merkle import Edge
from ingest_service.errors import LogForked, VaultFull, VaultUnavailable
from ingest_service.ledger.connection import open_pool
from tests.actions.engine import Crash, Mortality, MortalPool, MortalVault
from tests.actions.kept_ledger import audit
from tests.actions.test_audit import told
from tests.actions.test_custody_log import KEY, SIGNER, list_log, record
from tests.fakes import MemoryVault

EVENTS = 40
BATCH = 15


class Countdown(Mortality):
    """Dies at its n-th moment: before or after each use of the ledger or call of the vault."""

    def __init__(self, moments: int) -> None:
        super().__init__()
        self._left = moments

    def _tick(self) -> None:
        self.check()
        self._left -= 1
        if self._left == 0:
            self.die()

    def before(self, step: str) -> None:
        self._tick()

    def after(self, step: str) -> None:
        self._tick()


async def drive(pool, vault) -> None:
    """Do what the leader does, until nothing waits."""
    sequencer = Sequencer()
    while await sequence_log(sequencer, pool=pool, signer=SIGNER, now=utc_now, limit=BATCH):
        while await publish_checkpoints(pool=pool, vault=vault):
            pass
    while await publish_checkpoints(pool=pool, vault=vault):
        pass


def content_of(vault) -> dict[str, bytes]:
    stored = vault.keys()
    return {key: vault.content(key) for key in stored}


async def assert_one_history(pool, vault, count: int) -> None:
    placed = await list_log(pool)
    assert len({event.event_id for event in placed}) == len(placed) == count
    edge = Edge(0, {})
    roots = {}
    for event in placed:
        edge.append(event.leaf_hash)
        roots[edge.size] = edge.root()
    published = [key for key in content_of(vault) if key.startswith(CHECKPOINTS_PREFIX)]
    assert published
    for key in published:
        signed = parse_checkpoint(vault.content(key).decode())
        verify_checkpoint(signed, KEY)
        assert signed.checkpoint.root == roots[signed.checkpoint.size]
    # A rebuild reads the leaves by their names, one bundle right behind the other.
    spans = sorted(
        parse_leaves_key(key) for key in content_of(vault) if key.startswith(LEAVES_PREFIX)
    )
    assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
    assert all(start < stop for start, stop in spans)
    await check_published(pool=pool, vault=vault, signer=SIGNER)
    assert told(await audit(pool, vault, share=0)) == ""


async def test_a_sequencer_killed_at_any_moment_leaves_one_history(pool):
    """The next one goes on where it was; nothing is lost, nothing placed or published twice."""
    vault, count = MemoryVault(), 0
    for moment in itertools.count(1):
        await record(pool, EVENTS)
        count += EVENTS
        mortality = Countdown(moment)
        try:
            await drive(MortalPool(pool, mortality), MortalVault(vault, mortality))
        except Crash:
            await check_published(pool=pool, vault=vault, signer=SIGNER)
            await mend_published(pool=pool, vault=vault)
            await drive(pool, vault)
        else:
            break
        await check_published(pool=pool, vault=vault, signer=SIGNER)
    assert moment > 30  # steps were there to die at
    await assert_one_history(pool, vault, count)


async def test_three_sequencers_that_also_publish_write_one_history(pool):
    """No advisory lock: only the row lock and If-None-Match stand between them."""
    vault = MemoryVault()
    start = asyncio.Barrier(4)
    total = 0

    async def write() -> None:
        nonlocal total
        await start.wait()
        for number in range(12):
            await record(pool, 9, f"camera-{number}")
            total += 9

    async def lead() -> None:
        await start.wait()
        for _ in range(12):
            await drive(pool, vault)
            await asyncio.sleep(0)

    await asyncio.gather(write(), lead(), lead(), lead())
    await drive(pool, vault)

    await assert_one_history(pool, vault, total)


@pytest.fixture
async def reopen(postgres, ledger_database):
    """Opens this test's ledger, or another by its name; one at a time, so that it can be copied."""
    opened = []

    async def open_one(name=ledger_database):
        for pool in opened:
            await pool.close()
        opened.clear()
        pool = await open_pool(
            postgres.service_dsn(name), connections_max=4, statement_timeout_s=10
        )
        opened.append(pool)
        return pool

    yield open_one
    for pool in opened:
        await pool.close()


@pytest.fixture
async def older_dump(postgres, ledger_database, reopen):
    """A ledger restored from a dump, older than what was published since; and the bucket."""
    vault = MemoryVault()
    pool = await reopen()
    await record(pool, 20)
    await drive(pool, vault)
    await pool.close()
    postgres.copy_database("older", template=ledger_database)
    pool = await reopen()
    await record(pool, 20)
    await drive(pool, vault)
    yield await reopen("older"), vault
    await reopen()
    postgres.run_sql('DROP DATABASE "older" WITH (FORCE)')


async def test_a_ledger_restored_from_an_older_dump_refuses_to_lead_and_to_delete(older_dump):
    pool, vault = older_dump

    with pytest.raises(LogForked, match="holds 20 leaves, 40 were published"):
        await check_published(pool=pool, vault=vault, signer=SIGNER)
    assert not await is_deletion_safe(pool=pool, vault=vault, signer=SIGNER)


@pytest.mark.parametrize("limit", [BATCH, 20, 7], ids=["same sizes", "same end", "other sizes"])
async def test_even_if_it_leads_an_older_dump_publishes_no_second_history(older_dump, limit):
    """Suppose the check was skipped: what is published is compared once more."""
    pool, vault = older_dump
    before = content_of(vault)
    await record(pool, 20, "another history")
    await sequence_log(Sequencer(), pool=pool, signer=SIGNER, now=utc_now, limit=limit)

    with pytest.raises(LogForked, match=r"another content|no such checkpoint"):
        await publish_checkpoints(pool=pool, vault=vault)

    assert content_of(vault) == before


async def test_an_audit_of_an_older_dump_says_what_is_missing(older_dump):
    pool, vault = older_dump

    state = await audit(pool, vault, share=0)

    assert "40 leaves were published, the ledger has 20" in told(state)


async def test_a_ledger_whose_bucket_holds_nothing_any_more_refuses_to_go_on(pool):
    """Another bucket, or all is lost: nothing is left by which a restored ledger could be told."""
    await record(pool, 20)
    await drive(pool, MemoryVault())
    emptied = MemoryVault()

    with pytest.raises(LogForked, match="20 leaves were published, the bucket knows of none"):
        await check_published(pool=pool, vault=emptied, signer=SIGNER)
    assert not await is_deletion_safe(pool=pool, vault=emptied, signer=SIGNER)


# --- a store that lost power ---------------------------------------------------------------

# What it may come back with under a name whose object it had acknowledged.
LEFT = {
    "nothing": lambda data: None,
    "no bytes": lambda data: b"",
    "a part": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "a part, then zeros": lambda data: data[:40] + bytes(len(data) - 40),
}
HIT = {
    "the newest checkpoint": [checkpoint_key(20)],
    "the last two checkpoints": [checkpoint_key(20), checkpoint_key(15)],
    "the newest leaves": [leaves_key(15, 20)],
    "checkpoint and leaves": [checkpoint_key(20), leaves_key(15, 20)],
}


@pytest.fixture
async def published(pool):
    """Three checkpoints, of 5, 15 and 20 leaves; and the bucket."""
    vault = MemoryVault()
    for count in (5, 10, 5):
        await record(pool, count)
        await drive(pool, vault)
    return vault


def lose(vault: MemoryVault, keys: list[str], left) -> None:
    for key in keys:
        data = left(vault.content(key))
        if data is None:
            vault._versions.pop(key)
        else:
            vault.tamper(key, data)


@pytest.mark.parametrize("left", LEFT)
@pytest.mark.parametrize("hit", HIT)
async def test_what_a_store_lost_of_the_log_is_published_again(pool, published, hit, left):
    before = content_of(published)
    lose(published, HIT[hit], LEFT[left])

    await check_published(pool=pool, vault=published, signer=SIGNER)
    assert await mend_published(pool=pool, vault=published) == len(HIT[hit])

    assert content_of(published) == before
    assert await is_deletion_safe(pool=pool, vault=published, signer=SIGNER)
    assert await mend_published(pool=pool, vault=published) == 0


@pytest.mark.parametrize("left", [*LEFT, "no checkpoint"])
async def test_nothing_is_deleted_while_a_checkpoint_is_lost(pool, published, left):
    left = LEFT.get(left, lambda data: b"<html>no such thing</html>")
    lose(published, [checkpoint_key(20)], left)

    assert not await is_deletion_safe(pool=pool, vault=published, signer=SIGNER)


async def test_a_checkpoint_that_tore_while_it_was_published_is_published_again(pool, published):
    await record(pool, 4)
    await sequence_log(Sequencer(), pool=pool, signer=SIGNER, now=utc_now)
    await published.put_new(checkpoint_key(24), b"")

    assert await publish_checkpoints(pool=pool, vault=published) == 1

    await assert_one_history(pool, published, 24)


async def test_a_part_that_cannot_be_read_is_published_again_if_the_stores_tag_is_its_own(
    pool, published
):
    """As a disk leaves it that was full: the name is taken, its bytes cannot be read."""
    await record(pool, 4)
    await sequence_log(Sequencer(), pool=pool, signer=SIGNER, now=utc_now)
    twin = MemoryVault()
    await publish_checkpoints(pool=pool, vault=twin)
    await published.put_new(leaves_key(20, 24), twin.content(leaves_key(20, 24)))
    published.fail_next("read", "lost")

    await store_published(leaves_key(20, 24), twin.content(leaves_key(20, 24)), published)

    assert len(published._versions[leaves_key(20, 24)]) == 2


async def test_a_part_that_cannot_be_read_and_may_be_another_is_left_alone(published):
    published.fail_next("read", "lost")

    with pytest.raises(VaultUnavailable):
        await store_published(leaves_key(15, 20), b"others", published)

    assert len(published._versions[leaves_key(15, 20)]) == 1


async def test_every_mending_is_counted_for_the_alarm(pool, published):
    before = telemetry.LOG_MENDED._value.get()
    lose(published, [checkpoint_key(20)], LEFT["nothing"])
    lose(published, [leaves_key(15, 20)], LEFT["a part"])

    await mend_published(pool=pool, vault=published)

    assert telemetry.LOG_MENDED._value.get() == before + 2


async def test_leaves_that_say_something_else_are_not_mended(pool, published):
    other = bytes(len(published.content(leaves_key(15, 20)))).replace(b"\0", b"x")
    lose(published, [leaves_key(15, 20)], lambda data: other)

    with pytest.raises(LogForked, match="another content"):
        await mend_published(pool=pool, vault=published)

    assert published.content(leaves_key(15, 20)) == other


async def test_a_signed_checkpoint_of_another_history_is_never_written_over(pool, published):
    other = sign_checkpoint(Checkpoint(SIGNER.name, 20, bytes(32)), SIGNER).encode()
    lose(published, [checkpoint_key(20)], lambda data: other)

    with pytest.raises(LogForked, match="not the published ones"):
        await check_published(pool=pool, vault=published, signer=SIGNER)
    with pytest.raises(LogForked, match="another content"):
        await mend_published(pool=pool, vault=published)

    assert published.content(checkpoint_key(20)) == other


@pytest.mark.parametrize("left", LEFT)
async def test_an_older_ledger_is_told_although_the_newer_checkpoints_are_gone(older_dump, left):
    """Whoever can write to the bucket removes what would give a restored ledger away."""
    pool, vault = older_dump
    newer = [key for key in content_of(vault) if key.startswith(CHECKPOINTS_PREFIX)]
    lose(vault, [key for key in newer if parse_checkpoint_key(key) > 20], LEFT[left])

    with pytest.raises(LogForked, match=r"was published, the ledger holds 20|no such checkpoint"):
        await check_published(pool=pool, vault=vault, signer=SIGNER)


async def test_a_new_service_with_an_empty_bucket_leads(pool):
    await record(pool, 3)

    await check_published(pool=pool, vault=MemoryVault(), signer=SIGNER)


@pytest.mark.parametrize("call", range(1, 8))
async def test_a_store_that_is_full_for_a_while_costs_no_event_and_no_second_history(pool, call):
    """Full from the n-th write on, while events come in; then there is space again."""
    vault = MemoryVault()
    for number in range(call):
        await record(pool, 5, f"camera-{number}")
        await sequence_log(Sequencer(), pool=pool, signer=SIGNER, now=utc_now)
    for _ in range(call // 2):
        await publish_checkpoints(pool=pool, vault=vault)
    await record(pool, 5, "while there is no space")
    for _ in range(3):
        await sequence_log(Sequencer(), pool=pool, signer=SIGNER, now=utc_now)
        vault.fail_next("put_new", "lost", error=VaultFull())
        with pytest.raises(VaultFull):
            await publish_checkpoints(pool=pool, vault=vault)
        await record(pool, 5, "more")

    await drive(pool, vault)

    await assert_one_history(pool, vault, 5 * call + 20)
