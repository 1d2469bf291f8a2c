"""An engine on a real ledger and a vault in memory, one part being 32 bytes."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.ledger.connection import Pool, open_pool
from ingest_service.vault.s3 import open_s3_vault
from tests.actions.engine import Process, describe_recording, make_footage, register_docks
from tests.actions.life import Life
from tests.fakes import MemoryVault


@pytest.fixture(scope="module")
def engine_dsn(postgres: EmbeddedPostgres, ledger_template: str) -> Iterator[str]:
    """One ledger for a module: every test has clips of its own."""
    name = "engine"
    postgres.copy_database(name, template=ledger_template)
    yield postgres.service_dsn(name)
    postgres.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def ledger(engine_dsn: str) -> AsyncIterator[Pool]:
    """The ledger as the service sees it, with two registered stations."""
    opened = await open_pool(engine_dsn, connections_max=8, statement_timeout_s=10)
    await register_docks(opened)
    yield opened
    await opened.close()


@pytest.fixture
def vault():
    return MemoryVault(part_bytes_min=1)


@pytest.fixture
async def life(pool, vault):
    """A ledger of its own, in which months can pass."""
    await register_docks(pool)
    return Life(pool, vault)


@pytest.fixture
async def real_vault(seaweed):
    """A store with versions and object lock. The tests share its bucket."""
    async with open_s3_vault(
        endpoint=seaweed.endpoint,
        region="us-east-1",
        bucket=seaweed.bucket,
        access_key=seaweed.access_key,
        secret_key=seaweed.secret_key,
        checks_sha256="yes",
        connections_max=16,
        timeout_s=30.0,
        attempts=3,
    ) as opened:
        yield opened


@pytest.fixture
async def real_life(pool, real_vault):
    """As `life`, on a real store; its log goes elsewhere, for one bucket takes one log."""
    await register_docks(pool)
    return Life(pool, real_vault, MemoryVault())


@pytest.fixture
def service(ledger, vault):
    """One process of the service."""
    return Process("process-1", ledger, vault)


@pytest.fixture
def other_service(ledger, vault):
    """Another process of the same service; neither hears the other's interruptions."""
    return Process("process-2", ledger, vault)


@pytest.fixture
def footage():
    """Three parts and a half."""
    return make_footage(112)


@pytest.fixture
async def clip(service, footage):
    """A clip that was announced; nothing of it was sent."""
    return (await service.announce(describe_recording(footage))).clip


@pytest.fixture
async def upload(service, footage):
    """An upload opened by tus."""
    return (await service.open(len(footage))).upload


@pytest.fixture
async def superuser(postgres, ledger_database):
    """Who may do anything in the ledger of the fixture `pool`."""
    connection = await asyncpg.connect(postgres.owner_dsn(ledger_database))
    yield connection
    await connection.close()
