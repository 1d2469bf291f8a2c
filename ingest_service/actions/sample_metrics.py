"""Sample what is full, and how late this process and its clock are: a little, every two seconds."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ingest_service import telemetry
from ingest_service.domain.admission import Bodies, Door
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.clock import Clock
from ingest_service.errors import LedgerUnavailable
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.queues import ask_clock

INTERVAL_S: Final = 2.0
# The largest lag of so many samples is told: a scrape every half minute misses none.
_LAGS_KEPT: Final = 15
_ROUNDS_PER_CLOCK: Final = 15


@asynccontextmanager
async def sampling(
    *, pool: Pool, door: Door, bodies: Bodies, budget: ReplayBudget, now: Clock
) -> AsyncIterator[None]:
    """Sample as long as the context lasts."""

    def measure() -> None:
        telemetry.REQUESTS_IN_WORK.set(door.in_work)
        telemetry.REQUESTS_IN_WORK_MAX.set(door.in_work_max)
        telemetry.ACTIVE_BODIES_MAX.set(bodies.bodies_max)
        telemetry.REPLAY_BYTES.set(budget.used_bytes)
        telemetry.REPLAY_BYTES_MAX.set(budget.bytes_max)
        telemetry.LEDGER_BUSY.set(pool.line.taken_count)
        telemetry.LEDGER_BUSY_MAX.set(pool.line.places)
        telemetry.LEDGER_WAITING.set(pool.line.waiting_count)

    with telemetry.sampled(measure):
        running = asyncio.create_task(_repeat(pool, now))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _repeat(pool: Pool, now: Clock) -> None:
    loop = asyncio.get_running_loop()
    lags: deque[float] = deque(maxlen=_LAGS_KEPT)
    for number in range(2**62):
        due_at = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        lags.append(max(0.0, loop.time() - due_at))
        telemetry.LOOP_LAG_S.set(max(lags))
        telemetry.sample()
        if number % _ROUNDS_PER_CLOCK == 0:
            await measure_clock(pool=pool, now=now)


async def measure_clock(*, pool: Pool, now: Clock) -> None:
    """Compare this machine's clock with that of Postgres; skipped while Postgres is away."""
    try:
        async with reading(pool) as connection:
            before = now()
            told = await ask_clock(connection)
            after = now()
    except LedgerUnavailable:
        return
    # Told between the two: what lies outside of them is the clocks' doing.
    apart_s = max((before - told).total_seconds(), (told - after).total_seconds(), 0.0)
    telemetry.CLOCK_OFFSET_S.set(apart_s)
