"""Migrations: what they make, and that everyone agrees on it."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.schema import read_schema
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.migrations import (
    MigrationFailed,
    find_pending_migrations,
    list_migrations,
    migrate,
)

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def empty_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    postgres.run_sql("CREATE DATABASE empty")
    yield "empty"
    postgres.run_sql("DROP DATABASE empty WITH (FORCE)")


def test_committed_schema_is_what_a_fresh_migration_makes(
    postgres: EmbeddedPostgres, ledger_database: str
) -> None:
    committed = (REPOSITORY / "schemas" / "ledger.sql").read_text(encoding="utf-8")

    assert read_schema(postgres, ledger_database) == committed, "run `make schema` and commit"


def test_empty_database_gets_every_migration_once(
    postgres: EmbeddedPostgres, empty_database: str
) -> None:
    first = migrate(postgres.owner_dsn(empty_database))
    second = migrate(postgres.owner_dsn(empty_database))

    assert (first, second) == (list_migrations(), [])


async def test_service_sees_that_nothing_is_pending(pool: Pool) -> None:
    async with reading(pool) as connection:
        pending = await find_pending_migrations(connection)

    assert pending == []


async def test_every_migration_is_pending_on_an_empty_database(
    postgres: EmbeddedPostgres, empty_database: str
) -> None:
    pool = await asyncpg.create_pool(postgres.owner_dsn(empty_database), min_size=1, max_size=1)
    async with pool, reading(pool) as connection:
        pending = await find_pending_migrations(connection)

    assert pending == list_migrations()


def test_missing_database_is_reported_with_its_name(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(MigrationFailed, match="nowhere"):
        migrate(postgres.owner_dsn("nowhere"))


def test_migrations_are_numbered_without_gap_or_repeat() -> None:
    numbers = [int(name.partition("_")[0]) for name in list_migrations()]

    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("change", ["UPDATE custody_events SET type = 'x'",
                                    "DELETE FROM custody_events",
                                    "TRUNCATE custody_events"])  # fmt: skip
async def test_service_role_may_not_change_custody_events(pool: Pool, change: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(change)


async def test_service_role_may_not_change_the_schema(pool: Pool) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute("CREATE TABLE mine (id integer)")
