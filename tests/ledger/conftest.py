"""One ledger for a module; what a test changes in it is rolled back."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from ingest_service.dev.postgres import EmbeddedPostgres


@pytest.fixture(scope="module")
def shared_ledger(postgres: EmbeddedPostgres, ledger_template: str) -> Iterator[str]:
    """The name of a migrated database."""
    name = "ledger_shared"
    postgres.copy_database(name, template=ledger_template)
    yield name
    postgres.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def service_connection(
    postgres: EmbeddedPostgres, shared_ledger: str
) -> AsyncIterator[asyncpg.Connection]:
    """The service, with no more rights than in production."""
    async for connection in connect(postgres.service_dsn(shared_ledger)):
        yield connection


@pytest.fixture
async def owner_connection(
    postgres: EmbeddedPostgres, shared_ledger: str
) -> AsyncIterator[asyncpg.Connection]:
    """The administrator, who may do anything."""
    async for connection in connect(postgres.owner_dsn(shared_ledger)):
        yield connection


async def connect(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()
