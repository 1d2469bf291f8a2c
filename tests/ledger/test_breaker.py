"""A Postgres that is away is not asked by everybody; see docs/overload.md."""

import asyncio
import random
import time

import asyncpg
import pytest

from ingest_service.domain.breaker import HOLDS_BYTES, Breaker
from ingest_service.errors import LedgerUnavailable
from ingest_service.ledger.connection import close_pool, open_pool, reading, writing
from loadtest.chaos.relay import Relay

FAILURES = 4
STATEMENT_S = 0.4
# Who still waits then has not been refused: without the breaker that goes on for minutes.
PATIENCE_S = 5.0


@pytest.fixture
async def relay(postgres):
    made = Relay("postgres", lambda: postgres.port, random.Random(1))  # noqa: S311 - no secret
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def breaker():
    # What failed is given back slowly: a rest must not end before a test has begun.
    return Breaker(FAILURES, rest_s=60.0)


@pytest.fixture
async def pool(postgres, ledger_database, relay, breaker):
    dsn = postgres.service_dsn(ledger_database)
    opened = await open_pool(
        dsn.replace(f":{postgres.port}/", f":{relay.port}/"),
        connections_max=FAILURES,
        connections_min=0,
        statement_timeout_s=STATEMENT_S,
        breaker=breaker,
    )
    yield opened
    await close_pool(opened)


async def ask(pool, statement="SELECT 1", lend=reading, **options):
    async with asyncio.timeout(PATIENCE_S), lend(pool, **options) as connection:
        return await connection.fetchval(statement)


async def fail_all(pool, statement="SELECT 1"):
    met = await asyncio.gather(
        *(ask(pool, statement) for _ in range(FAILURES)), return_exceptions=True
    )
    assert {type(each) for each in met} == {LedgerUnavailable}


@pytest.fixture
async def away(pool, relay):
    """Postgres has fallen silent, and FAILURES have met that."""
    await asyncio.gather(*(ask(pool) for _ in range(FAILURES)))
    relay.weather.is_hole = True
    await fail_all(pool)
    return relay.weather


@pytest.mark.parametrize("lend", [reading, writing])
async def test_after_many_failures_nobody_waits_for_the_timeout(pool, away, lend):
    began = time.monotonic()
    for _ in range(20):
        with pytest.raises(LedgerUnavailable):
            await ask(pool, lend=lend)

    assert time.monotonic() - began < STATEMENT_S / 2


async def test_one_success_after_the_rest_opens_it_to_all(pool, away, breaker):
    away.is_hole = False
    breaker._rests_until = 0

    assert await ask(pool) == 1
    assert breaker.is_closed


async def test_a_probe_of_its_health_is_asked_at_any_time(pool, away, breaker):
    away.is_hole = False

    assert await ask(pool, is_urgent=True) == 1
    assert breaker.is_closed


async def test_bytes_that_have_come_are_counted_whatever_the_breaker_says(pool, away):
    away.is_hole = False

    token = HOLDS_BYTES.set(True)
    try:
        assert await ask(pool) == 1
    finally:
        HOLDS_BYTES.reset(token)


async def test_a_place_in_the_line_is_not_lost_by_refusals(pool, away):
    for _ in range(20):
        with pytest.raises(LedgerUnavailable):
            await ask(pool)

    assert (pool.line.taken_count, pool.line.waiting_count) == (0, 0)


async def test_a_postgres_that_does_not_let_in_is_away(pool, relay, breaker):
    relay.weather.is_closed = True
    for _ in range(FAILURES):
        with pytest.raises(LedgerUnavailable):
            await ask(pool)

    assert not breaker.is_closed


async def test_statements_that_take_too_long_do_not_stop_the_others(pool, breaker):
    """Slow is not away: what is quick is answered between them."""
    for _ in range(2):
        slow = [asyncio.create_task(ask(pool, "SELECT pg_sleep(5)")) for _ in range(FAILURES - 1)]
        await asyncio.gather(*slow, return_exceptions=True)
        assert await ask(pool) == 1

    assert breaker.is_closed


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1/0",
        "SELECT nothing FROM nowhere",
        "SELECT pg_sleep(1) WHERE pg_cancel_backend(pg_backend_pid())",
    ],
)
async def test_an_error_that_postgres_tells_is_an_answer(pool, breaker, statement):
    for _ in range(2 * FAILURES):
        with pytest.raises((asyncpg.PostgresError, LedgerUnavailable)):
            await ask(pool, statement)

    assert breaker.is_closed


async def test_an_argument_that_cannot_be_sent_says_nothing_of_postgres(pool, breaker):
    for _ in range(2 * FAILURES):
        with pytest.raises((asyncpg.DataError, LedgerUnavailable)):
            async with reading(pool) as connection:
                await connection.fetchval("SELECT $1::int", "no number")

    assert breaker.is_closed


async def test_a_caller_that_gives_up_says_nothing_of_postgres(pool, breaker):
    for _ in range(2 * FAILURES):
        asking = asyncio.create_task(ask(pool, "SELECT pg_sleep(0.3)"))
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    assert breaker.is_closed
