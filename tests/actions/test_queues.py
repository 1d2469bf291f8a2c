"""What waits for the jobs is counted with its age; the process tells how late it is itself."""

from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from ingest_service import telemetry
from ingest_service.actions.sample_metrics import measure_clock, sampling
from ingest_service.domain.admission import Bodies, Door
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.clock import utc_now
from ingest_service.ledger import queues
from ingest_service.ledger.connection import reading
from ingest_service.ledger.log import insert_cosignature
from tests.actions.engine import Process, cut_chunks, describe_recording

INSERT_CHECKPOINT = """
    INSERT INTO log_checkpoints (tree_size, note, signed_at, published_at)
    VALUES ($1, 'note', now() - interval '1 hour' * $2, now() - interval '1 hour' * $3)
"""


@pytest.fixture
def alone(life, pool, vault):
    """A process on a ledger that nobody else works on."""
    return Process("alone", pool, vault)


async def measure(pool):
    async with reading(pool) as connection:
        return {each.queue: each for each in await queues.measure_queues(connection)}


async def test_a_sealed_clip_waits_for_its_read_back_until_it_is_secured(alone, pool, footage):
    clip_id = (await alone.announce(describe_recording(footage))).clip.clip_id
    for index, piece in enumerate(cut_chunks(footage)):
        await alone.store(clip_id, index, piece)
    await alone.seal(clip_id)
    before = await measure(pool)
    await alone.read_back(clip_id)
    after = await measure(pool)

    assert (before["read_back"].waiting, after["read_back"].waiting) == (1, 0)


async def test_events_wait_for_their_place_in_the_log(alone, pool, footage):
    await alone.announce(describe_recording(footage))

    assert (await measure(pool))["log"].waiting > 0


async def test_an_upload_that_nobody_clears_away_is_overdue(alone, pool, superuser):
    await alone.open(7)
    await superuser.execute("UPDATE uploads SET expires_at = now() - interval '2 hours'")

    found = (await measure(pool))["expire"]
    assert (found.waiting, round(found.oldest_s / 3600)) == (1, 2)


async def test_leftovers_that_nobody_sweeps_are_overdue(alone, pool, superuser):
    opened = await alone.open(7)
    await alone.terminate(opened.upload.upload_id)
    await superuser.execute("UPDATE uploads SET sweep_after = now() - interval '3 hours'")

    found = (await measure(pool))["sweep"]
    assert (found.waiting, round(found.oldest_s / 3600)) == (1, 3)


async def test_a_checkpoint_that_is_not_published_is_overdue(pool, superuser):
    await superuser.execute(INSERT_CHECKPOINT, 1, 2, None)

    found = (await measure(pool))["publish"]
    assert (found.waiting, round(found.oldest_s / 3600)) == (1, 2)


@pytest.mark.parametrize(
    ("cosigned", "hours"),
    [({}, 5), ({3: "a"}, 5), ({3: "ab"}, 4), ({7: "ab"}, 0), ({3: "ab", 7: "a"}, 4)],
)
async def test_the_log_is_without_its_quorum_since_the_first_that_lacks_it(
    pool, superuser, cosigned, hours
):
    for size, published in ((3, 5), (5, 4), (7, 3)):
        await superuser.execute(INSERT_CHECKPOINT, size, published, published)
    async with reading(pool) as connection:
        for size, witnesses in cosigned.items():
            for witness in witnesses:
                await insert_cosignature(connection, size, witness, "line")
        lag_s = await queues.measure_quorum(connection, ["a", "b", "c"], 2)

    assert round(lag_s / 3600) == hours


@pytest.mark.parametrize("apart_s", [-90, 0, 90])
async def test_a_clock_that_is_not_that_of_postgres_is_seen(pool, apart_s):
    await measure_clock(pool=pool, now=lambda: utc_now() + timedelta(seconds=apart_s))

    told = REGISTRY.get_sample_value("ingest_clock_offset_seconds")
    assert told == pytest.approx(abs(apart_s), abs=1)


async def test_what_is_full_is_sampled(pool):
    door, budget = Door(16), ReplayBudget(1000)
    door.enter("bytes")
    budget.take(300, "s")
    async with (
        sampling(pool=pool, door=door, bodies=Bodies(9), budget=budget, now=utc_now),
        reading(pool),
    ):
        telemetry.sample()

    names = ("requests_in_work", "replay_bytes", "ledger_connections")
    told = [REGISTRY.get_sample_value(f"ingest_{name}") for name in names]
    assert told == [1, 300, 1]
    limits = [REGISTRY.get_sample_value(f"ingest_{name}_max") for name in names]
    assert limits == [16, 1000, 10]
