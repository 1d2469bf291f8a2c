"""The line for connections: bounded, in order, and nothing is lost when somebody gives up."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from ingest_service.errors import LedgerBusy, LedgerUnavailable
from ingest_service.ledger.connection import open_pool, reading
from ingest_service.ledger.line import Line


class Time:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Time()


async def settle():
    """Let every task that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


class Crowd:
    """People in a line, each a task that says when it got its place."""

    def __init__(self, line):
        self.line = line
        self.served = []
        self.tasks = {}

    async def join(self, name, *, timeout_s=30.0, is_urgent=False):
        async def stand():
            entered_at = await self.line.enter(timeout_s=timeout_s, is_urgent=is_urgent)
            self.served.append(name)
            return entered_at

        self.tasks[name] = asyncio.create_task(stand())
        await settle()

    async def leave(self, name):
        self.line.leave(await self.tasks[name])
        await settle()

    async def send_home(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@pytest.fixture
async def crowd(clock):
    """One place, taken; four may wait."""
    made = Crowd(Line(1, wait_max_s=0.0201, monotonic=clock))
    await made.join("holder")
    assert made.line.waiting_max == 4
    yield made
    await made.send_home()


async def test_who_finds_the_line_full_is_refused_at_once(crowd):
    for name in "abcd":
        await crowd.join(name)

    await crowd.join("e")
    assert isinstance(crowd.tasks["e"].exception(), LedgerBusy)
    assert crowd.line.waiting_count == 4
    assert crowd.served == ["holder"]


async def test_the_refusal_says_when_to_come_back(crowd):
    for name in "abcdefg":
        await crowd.join(name)

    assert crowd.tasks["g"].exception().retry_after_s >= 1


async def test_first_come_first_served(crowd):
    for name in "abc":
        await crowd.join(name)

    for name in ("holder", "a", "b", "c"):
        await crowd.leave(name)
    assert crowd.served == ["holder", "a", "b", "c"]


async def test_an_urgent_one_goes_first_and_is_never_refused(crowd):
    for name in "abcd":
        await crowd.join(name)

    await crowd.join("probe", is_urgent=True)
    await crowd.leave("holder")
    assert crowd.served == ["holder", "probe"]


async def test_a_line_that_does_not_move_takes_nobody_however_short_it_is(crowd, clock):
    await crowd.join("a")
    clock.now += 0.03

    await crowd.join("b")
    assert isinstance(crowd.tasks["b"].exception(), LedgerBusy)


async def test_the_line_is_shorter_where_places_are_held_longer(clock):
    line = Line(10, wait_max_s=2, monotonic=clock)
    before = line.waiting_max

    for _ in range(200):
        entered_at = await line.enter(timeout_s=1)
        clock.now += 0.1
        line.leave(entered_at)
    # Ten places at 100 ms each serve 200 in two seconds.
    assert before > 1000
    assert line.waiting_max == pytest.approx(200, rel=0.05)


async def test_the_door_closes_before_those_inside_are_refused(crowd):
    await crowd.join("a")

    assert crowd.line.pressure() >= 1
    await crowd.join("b")
    assert not crowd.tasks["b"].done()


async def test_who_gives_up_leaves_the_line(crowd):
    for name in "ab":
        await crowd.join(name)

    crowd.tasks["a"].cancel()
    await settle()
    assert crowd.line.waiting_count == 1
    await crowd.leave("holder")
    assert crowd.served == ["holder", "b"]


async def test_a_place_given_to_one_who_gave_up_in_that_moment_is_passed_on(crowd):
    """The place is handed over, and cancellation comes before the task has run again."""
    for name in "ab":
        await crowd.join(name)
    entered_at = await crowd.tasks["holder"]

    crowd.line.leave(entered_at)
    crowd.tasks["a"].cancel()
    await settle()
    assert crowd.served == ["holder", "b"]


async def test_nobody_is_given_a_place_who_has_given_up_and_not_yet_left(crowd):
    """Cancellation first, then the place, before the task has run again."""
    for name in "ab":
        await crowd.join(name)
    entered_at = await crowd.tasks["holder"]

    crowd.tasks["a"].cancel()
    crowd.line.leave(entered_at)
    await settle()
    assert crowd.served == ["holder", "b"]


async def test_who_waits_too_long_is_told_so_and_the_place_is_not_lost(crowd):
    await crowd.join("a", timeout_s=0.01)

    with pytest.raises(TimeoutError):
        await crowd.tasks["a"]
    await crowd.leave("holder")
    await crowd.join("b")
    assert crowd.served == ["holder", "b"]


# --- before a real pool --------------------------------------------------------------------


async def test_a_busy_ledger_refuses_at_once_and_serves_again_afterwards(ledger_dsn):
    """Both connections are held at a barrier; two may wait, and the fifth is not kept waiting."""
    pool = await open_pool(ledger_dsn, connections_max=2, statement_timeout_s=5, wait_max_s=0.000_1)
    both_hold = asyncio.Barrier(3)
    is_over = asyncio.Event()

    async def hold():
        async with reading(pool) as connection:
            await both_hold.wait()
            await is_over.wait()
            return await connection.fetchval("SELECT 1")

    async with AsyncExitStack() as stack:
        stack.push_async_callback(pool.close)
        holders = [asyncio.create_task(hold()) for _ in range(2)]
        await both_hold.wait()

        began = time.perf_counter()
        with pytest.raises(LedgerBusy):
            # Two wait at most; the line does not move, so not even they should.
            await asyncio.gather(*(_ask(pool) for _ in range(3)))
        took_s = time.perf_counter() - began
        is_over.set()

        assert took_s < 1
        assert await asyncio.gather(*holders) == [1, 1]
        assert await _ask(pool) == 1


async def _ask(pool):
    async with reading(pool) as connection:
        return await connection.fetchval("SELECT 1")


async def test_an_error_inside_gives_the_place_back(pool):
    for _ in range(30):
        with pytest.raises(LedgerUnavailable):
            async with reading(pool):
                raise ConnectionResetError

    assert await _ask(pool) == 1
    assert pool.line.waiting_count == 0


async def test_a_connection_that_cannot_be_had_gives_the_place_back(ledger_dsn):
    pool = await open_pool(ledger_dsn, connections_max=2, statement_timeout_s=5)
    await pool.close()

    for _ in range(5):
        with pytest.raises(LedgerUnavailable) as refused:
            await _ask(pool)
        assert not isinstance(refused.value, LedgerBusy)
    assert pool.line.waiting_count == 0
    async with asyncio.timeout(1):
        await pool.line.enter(timeout_s=1)
