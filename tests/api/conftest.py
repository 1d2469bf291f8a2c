"""One running service per test process; every test brings stations of its own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import structlog

pytest.register_assert_rewrite("tests.api.served")

from ingest_service.dev.postgres import EmbeddedPostgres  # noqa: E402 - after the line above
from ingest_service.domain.clock import utc_now  # noqa: E402
from ingest_service.domain.token import sign_station_token  # noqa: E402
from tests.api.served import READER_SCOPES, Dock, Served, open_wire, serve_apart  # noqa: E402


@pytest.fixture(scope="session")
def served_process(postgres: EmbeddedPostgres, ledger_template: str) -> Iterator[Served]:
    # Undressed: the default renders every local variable of a traceback, footage included.
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(),
        ]
    )
    with serve_apart(postgres, ledger_template, "ledger_api") as service:
        yield service
    structlog.reset_defaults()


@pytest.fixture
def served(served_process: Served) -> Iterator[Served]:
    """The running service; fails the test that met an answer which OpenAPI does not know."""
    served_process.witness.seen.clear()
    yield served_process
    documented = served_process.app.openapi()["paths"]
    undocumented = sorted(
        (method, route, status)
        for method, route, status in served_process.witness.seen
        # Of the path, not of the operation.
        if status != 405 and str(status) not in documented[route][method.lower()]["responses"]
    )
    assert undocumented == []


@pytest.fixture
async def make_dock(served: Served):
    """Registers a station at a call: `await make_dock(borough=...)`."""
    async with AsyncExitStack() as stack:

        async def make(*, borough: str = "Camden") -> Dock:
            station, key = await served.register(borough=borough)
            token = sign_station_token(key, station.station_id, now=utc_now())
            http = await stack.enter_async_context(served.client(token))
            return Dock(served, station, key, token, http)

        yield make


@pytest.fixture
async def dock(make_dock) -> Dock:
    return await make_dock()


@pytest.fixture
async def other_dock(make_dock) -> Dock:
    return await make_dock()


@pytest.fixture
async def reader(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A downstream service that may see every borough."""
    async with served.client(served.token(*READER_SCOPES)) as client:
        yield client


@pytest.fixture
async def stranger(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a token."""
    async with served.client() as client:
        yield client


@pytest.fixture
async def wire(served: Served):
    """A raw connection to the service."""
    async with open_wire(served) as opened:
        yield opened
