"""How often the log is sequenced and published: as the store bears it, and never at its mercy."""

import asyncio
from contextlib import asynccontextmanager
from time import monotonic
from types import SimpleNamespace

import pytest

from ingest_service.jobs.sequence_log import TICK_S, lead_log
from ingest_service.resources import JobRules
from tests.actions.engine import Process, describe_recording, make_footage, register_docks
from tests.actions.test_custody_log import SIGNER
from tests.fakes import MemoryVault

PATIENCE_S = 20.0
SLOW_S = 0.2


class SlowStore(MemoryVault):
    """A store that takes its time for what is published."""

    pause_s = 0.0

    async def put_new(self, key, data):
        await asyncio.sleep(self.pause_s)
        return await super().put_new(key, data)


@pytest.fixture
async def store():
    return SlowStore(part_bytes_min=1)


@pytest.fixture
async def dock(pool, store):
    await register_docks(pool)
    return Process("process-1", pool, store)


@asynccontextmanager
async def leading(pool, store, dock):
    opened = SimpleNamespace(
        pool=pool,
        sessions=pool,
        vault=store,
        signer=SIGNER,
        now=dock.now,
        holders=SimpleNamespace(name="leader"),
        jobs=JobRules(1, 1, 0),
        witnesses=SimpleNamespace(posts=()),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(lead_log(opened, stop))
    try:
        yield
    finally:
        stop.set()
        store.stop_meeting()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def count_placed(pool):
    return await pool.fetchval("SELECT count(*) FROM log_leaves")


async def announce(dock, number):
    await dock.announce(describe_recording(make_footage(112, f"pace {number}")))


async def wait_until_placed(pool, count):
    async with asyncio.timeout(PATIENCE_S):
        while await count_placed(pool) < count:  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(TICK_S / 2)


async def test_events_get_their_places_although_the_store_does_not_answer(pool, store, dock):
    barrier = asyncio.Barrier(2)
    store.meet_at("put_new", barrier)
    async with leading(pool, store, dock):
        await announce(dock, 0)
        await wait_until_placed(pool, 1)
        # The checkpoint of it is on its way, and nothing comes back.
        for number in (1, 2):
            await announce(dock, number)
            await wait_until_placed(pool, number + 1)

    assert await pool.fetchval("SELECT count(*) FROM log_checkpoints WHERE published_at IS NULL")


async def test_while_the_store_is_slow_events_share_checkpoints(pool, store, dock):
    store.pause_s = SLOW_S
    began = monotonic()
    async with leading(pool, store, dock):
        for number in range(30):
            await announce(dock, number)
            await asyncio.sleep(TICK_S / 2)
        await wait_until_placed(pool, 30)

    # Two of its requests for each checkpoint, and a rest: not one at every look at the queue.
    at_most = (monotonic() - began) / (2 * SLOW_S) + 1
    assert await pool.fetchval("SELECT count(*) FROM log_checkpoints") <= at_most
