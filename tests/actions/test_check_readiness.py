"""Ready or not, and why: on the real ledger, with every single thing missing."""

import asyncio

import pytest

from ingest_service.actions.check_readiness import CACHE_S, ReadinessCheck
from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.ledger.connection import open_pool
from tests.fakes import MemoryVault


class Ticks:
    """A monotonic clock that moves when told."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def ticks():
    return Ticks()


@pytest.fixture
def vault():
    return MemoryVault()


@pytest.fixture
def readiness(pool, vault, ticks):
    return ReadinessCheck(pool=pool, vault=vault, worker_stale_after_s=30, monotonic=ticks)


async def beat(pool, age_s=0):
    await pool.execute(
        "INSERT INTO worker_beats (worker_id, beat_at)"
        " VALUES ($1, now() - make_interval(secs => $2))",
        f"worker-{age_s}",
        float(age_s),
    )


def failing(checks):
    return {check.name: check.detail for check in checks if not check.is_ok}


async def test_everything_there_is_ready(pool, readiness):
    await beat(pool)
    await beat(pool, age_s=1000)  # one that ended does not matter while another lives

    checks = await readiness.run()
    assert [(check.name, check.detail) for check in checks] == [
        ("database", "ok"),
        ("migrations", "ok"),
        ("bucket", "ok"),
        ("worker", "ok"),
        ("custody_log", "ok"),
        ("object_lock", "ok"),
        ("erasing", "ok"),
    ]


async def test_a_silent_worker_is_named(pool, readiness):
    await beat(pool, age_s=100)

    assert list(failing(await readiness.run())) == ["worker"]


async def test_a_worker_that_never_ran_is_named(readiness):
    assert failing(await readiness.run()) == {"worker": "no 'ingest work' has ever run here"}


async def test_a_bucket_that_does_not_answer_is_named(pool, vault, readiness):
    await beat(pool)
    vault.fail_next("check", "lost")

    assert failing(await readiness.run()) == {"bucket": "Evidence storage is not answering"}


async def test_a_bucket_that_hangs_is_given_up(pool, vault, readiness):
    await beat(pool)
    vault.meet_at("check", asyncio.Barrier(2))

    assert failing(await readiness.run()) == {"bucket": "no answer within 2 s"}


async def test_a_missing_migration_is_named(
    pool, readiness, postgres: EmbeddedPostgres, ledger_database
):
    await beat(pool)
    postgres.run_sql(
        "DELETE FROM schema_migrations WHERE version = '0001'", database=ledger_database
    )

    failed = failing(await readiness.run())
    assert list(failed) == ["migrations"]
    assert "0001_ledger.sql" in failed["migrations"]


async def test_without_a_database_all_that_needs_it_fails_and_nothing_else(
    ledger_dsn, vault, ticks
):
    pool = await open_pool(ledger_dsn, connections_max=2, statement_timeout_s=5)
    await pool.close()
    cut_off = ReadinessCheck(pool=pool, vault=vault, worker_stale_after_s=30, monotonic=ticks)

    assert set(failing(await cut_off.run())) == {
        "database",
        "migrations",
        "worker",
        "custody_log",
        "erasing",
    }


async def test_a_storm_of_probes_asks_once(pool, vault, readiness):
    await asyncio.gather(*(readiness.run() for _ in range(50)))

    assert vault.calls["check"] == 1


async def test_after_a_second_it_asks_again(vault, readiness, ticks):
    await readiness.run()
    ticks.seconds += CACHE_S
    await readiness.run()

    assert vault.calls["check"] == 2


@pytest.mark.parametrize("has_object_lock", [False, None])
async def test_a_lock_that_the_bucket_cannot_set_is_said_and_footage_is_received(
    pool, vault, has_object_lock
):
    vault.has_object_lock = has_object_lock
    check = ReadinessCheck(pool=pool, vault=vault, worker_stale_after_s=30, wants_object_lock=True)

    said = {each.name: each for each in await check.run()}["object_lock"]

    assert not said.is_ok
    assert "object lock" in said.detail
    assert not said.is_vital
