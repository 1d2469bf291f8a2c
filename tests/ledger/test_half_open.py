"""Connections to Postgres that have gone silent, and nobody was told."""

import asyncio
import random
import time

import pytest

from ingest_service.errors import LedgerUnavailable
from ingest_service.ledger import connection as connections
from ingest_service.ledger import log
from ingest_service.ledger.connection import close_pool, open_pool, reading, writing
from loadtest.chaos.relay import Relay

STATEMENT_S = 0.5
WELL_WITHIN_S = 6.0
CONNECTIONS = 2


@pytest.fixture
async def relay(postgres):
    made = Relay("postgres", lambda: postgres.port, random.Random(1))  # noqa: S311 - no secret
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def pool(postgres, ledger_database, relay):
    dsn = postgres.service_dsn(ledger_database)
    # Each test's sessions are made when it asks: as it has set them.
    opened = await open_pool(
        dsn.replace(f":{postgres.port}/", f":{relay.port}/"),
        connections_max=CONNECTIONS,
        connections_min=0,
        statement_timeout_s=STATEMENT_S,
    )
    yield opened
    await close_pool(opened)


@pytest.fixture
async def other_pool(postgres, ledger_database):
    """Of another process, whose network is well."""
    opened = await open_pool(
        postgres.service_dsn(ledger_database), connections_max=2, statement_timeout_s=30
    )
    yield opened
    await close_pool(opened)


@pytest.mark.parametrize("lend", [reading, writing])
async def test_who_meets_a_silent_connection_gives_its_place_back(pool, relay, lend):
    async def ask():
        async with lend(pool) as connection:
            return await connection.fetchval("SELECT 1")

    assert await asyncio.gather(*(ask() for _ in range(CONNECTIONS))) == [1] * CONNECTIONS
    relay.weather.is_hole = True
    began = time.monotonic()
    async with asyncio.timeout(WELL_WITHIN_S):
        met = await asyncio.gather(*(ask() for _ in range(CONNECTIONS)), return_exceptions=True)
    relay.weather.is_hole = False
    assert {type(each) for each in met} == {LedgerUnavailable}

    async with asyncio.timeout(WELL_WITHIN_S):
        assert await asyncio.gather(*(ask() for _ in range(CONNECTIONS))) == [1] * CONNECTIONS
    assert time.monotonic() - began < WELL_WITHIN_S


async def test_a_leader_that_was_lost_without_a_word_leads_no_more(pool, relay, other_pool):
    async def lead():
        async with reading(pool) as leader:
            assert await log.try_lead(leader)
            await log.limit_lead(leader, idle_s=1)
            relay.weather.is_hole = True
            await leader.fetchval("SELECT 1")

    with pytest.raises(LedgerUnavailable):
        await lead()

    async with asyncio.timeout(WELL_WITHIN_S), reading(other_pool) as other:
        while not await log.try_lead(other):  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.1)


async def test_who_has_stopped_leading_may_be_silent(pool):
    async with reading(pool) as leader:
        assert await log.try_lead(leader)
        await log.limit_lead(leader, idle_s=1)
        await log.stop_leading(leader)
        await asyncio.sleep(1.5)

        assert await leader.fetchval("SELECT 1") == 1


async def test_a_transaction_that_was_lost_without_a_word_locks_nothing(
    monkeypatch, pool, relay, other_pool
):
    monkeypatch.setattr(connections, "TRANSACTION_SILENT_S", 1.0)

    async def begin():
        async with writing(pool) as connection:
            await connection.execute("UPDATE log_state SET halted_reason = 'lost'")
            relay.weather.is_hole = True
            await connection.fetchval("SELECT 1")

    with pytest.raises(LedgerUnavailable):
        await begin()

    async with asyncio.timeout(WELL_WITHIN_S), reading(other_pool) as other:
        await other.execute("UPDATE log_state SET halted_reason = NULL")
