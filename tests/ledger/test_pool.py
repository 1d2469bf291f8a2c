"""Connections go from hand to hand; what is odd about one is left to asyncpg."""

import asyncio

import asyncpg
import pytest
from prometheus_client import REGISTRY

from ingest_service import telemetry
from ingest_service.errors import LedgerUnavailable
from ingest_service.ledger import connection as connections
from ingest_service.ledger.connection import open_pool, reading

WHO = "SELECT pg_backend_pid()"


async def ask_who(pool):
    async with reading(pool) as connection:
        return await connection.fetchval(WHO)


async def end_backend(dsn, pid):
    other = await asyncpg.connect(dsn)
    try:
        await other.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    finally:
        await other.close()


async def ask_while_it_goes_away(pool, owner_dsn):
    async with reading(pool) as connection:
        await end_backend(owner_dsn, await connection.fetchval(WHO))
        await connection.fetchval(WHO)


async def test_who_comes_gets_the_connection_that_was_given_back_last(pool):
    async with reading(pool) as first, reading(pool):
        last = await first.fetchval(WHO)

    assert [await ask_who(pool) for _ in range(3)] == [last] * 3


async def test_a_connection_whose_server_went_away_is_not_lent_again(pool, ledger_owner_dsn):
    gone = await ask_who(pool)
    await end_backend(ledger_owner_dsn, gone)
    await asyncio.sleep(0.1)

    assert await ask_who(pool) != gone


async def test_a_connection_on_which_a_statement_was_cut_off_is_whole_for_the_next(pool):
    async def wait_long():
        async with reading(pool) as connection:
            await connection.execute("SELECT pg_sleep(60)")

    waiting = asyncio.create_task(wait_long())
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert await ask_who(pool) > 0


async def test_a_connection_that_nobody_needed_for_long_is_closed(ledger_dsn, monkeypatch):
    monkeypatch.setattr(connections, "_IDLE_MAX_S", 0.2)
    pool = await open_pool(ledger_dsn, connections_max=4, statement_timeout_s=5)
    async with reading(pool), reading(pool), reading(pool):
        pass
    for _ in range(20):
        await asyncio.sleep(0.05)
        await ask_who(pool)

    assert pool.get_size() == 1
    await pool.close()


async def test_a_closing_pool_waits_for_who_has_a_connection(ledger_dsn):
    pool = await open_pool(ledger_dsn, connections_max=4, statement_timeout_s=5)
    async with reading(pool) as connection:
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0.05)
        assert await connection.fetchval(WHO) > 0
        assert not closing.done()
    await closing

    with pytest.raises(LedgerUnavailable):
        await ask_who(pool)


async def test_how_long_a_connection_was_held_is_told(pool):
    telemetry.sample()
    before = REGISTRY.get_sample_value("ingest_ledger_held_seconds_count")
    async with reading(pool):
        await asyncio.sleep(0.03)
    telemetry.sample()

    assert REGISTRY.get_sample_value("ingest_ledger_held_seconds_count") == before + 1


async def test_a_server_that_cuts_off_is_counted(pool, ledger_owner_dsn):
    failed = {"kind": "unavailable"}
    before = REGISTRY.get_sample_value("ingest_ledger_errors_total", failed)
    with pytest.raises(LedgerUnavailable):
        await ask_while_it_goes_away(pool, ledger_owner_dsn)

    assert REGISTRY.get_sample_value("ingest_ledger_errors_total", failed) == before + 1
