"""Real servers for every test: one Postgres and one SeaweedFS per test process.

Both are started when the first test asks for them. The schema is migrated once, into a template;
each test works on a clone of its own.
"""

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path

import pytest
from aiobotocore.session import get_session
from httpx._transports import default

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.seaweed import EmbeddedSeaweed
from ingest_service.ledger.connection import Pool, open_pool
from ingest_service.ledger.migrations import migrate
from ingest_service.vault import s3
from tests.e2e.chromium import find_chromium, running_chromium

_TEMPLATE = "ledger_template"
_numbers = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def files_read_once() -> Iterator[None]:
    """The authorities of TLS and the models of S3 are read once, not for every client.

    Reading them is nearly all that opening a client costs: 30 ms of CPU and 70 ms.
    """
    session = get_session()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "create_ssl_context", cache(default.create_ssl_context))
        patch.setattr(s3, "get_session", lambda: session)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running Postgres without databases of ours; tests that stop it start one of their own."""
    with tempfile.TemporaryDirectory(prefix="ingest-test-postgres-") as folder:
        server = EmbeddedPostgres(Path(folder), is_durable=False)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def ledger_template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody connects to, to be cloned."""
    postgres.make_database(_TEMPLATE)
    migrate(postgres.owner_dsn(_TEMPLATE))
    postgres.make_service_login()
    return _TEMPLATE


@pytest.fixture
def ledger_database(postgres: EmbeddedPostgres, ledger_template: str) -> Iterator[str]:
    """The name of this test's own migrated database."""
    name = f"ledger_{next(_numbers)}"
    postgres.copy_database(name, template=ledger_template)
    yield name
    postgres.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def ledger_owner_dsn(postgres: EmbeddedPostgres, ledger_database: str) -> str:
    """This test's ledger as its owner, who may do anything."""
    return postgres.owner_dsn(ledger_database)


@pytest.fixture
def ledger_dsn(postgres: EmbeddedPostgres, ledger_database: str) -> str:
    """This test's ledger as the service, with no more rights than in production."""
    return postgres.service_dsn(ledger_database)


@pytest.fixture
async def pool(ledger_dsn: str) -> AsyncIterator[Pool]:
    """This test's ledger as the service sees it."""
    opened = await open_pool(ledger_dsn, connections_max=10, statement_timeout_s=10)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[EmbeddedSeaweed]:
    """A running S3 store: endpoint, access_key, secret_key, bucket. Tests share its bucket."""
    with tempfile.TemporaryDirectory(prefix="ingest-test-seaweed-") as folder:
        server = EmbeddedSeaweed(Path(folder))
        server.start()
        yield server
        # Nothing in it is needed any more, and an orderly stop takes seconds.
        server.kill()


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Chromium, where there is one; each test opens a browser of its own in it."""
    with running_chromium(find_chromium() or "", tmp_path_factory.mktemp("chromium")) as url:
        yield url
