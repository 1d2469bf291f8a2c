"""PgBouncer in transaction mode before the tests' Postgres; skipped where it is not installed."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import pytest

from tests.e2e.own_process import find_port

# Fewer than processes and jobs use at once: a session is never the one of the statement before.
POOL_SIZE = 3
STARTED_WITHIN_S = 30


def require_bouncer() -> str:
    """Return the program, or skip the test and say why."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        pytest.skip("pgbouncer is not installed (a package of Debian of that name)")
    return found


@asynccontextmanager
async def run_bouncer(dsn: str) -> AsyncIterator[str]:
    """Run one before the database of this DSN; yields the DSN that leads through it."""
    program = require_bouncer()
    parts = urlsplit(dsn)
    name = parts.path.lstrip("/")
    host = parts.hostname or parse_qs(parts.query).get("host", ["127.0.0.1"])[0]
    port = find_port()
    login = f"user={unquote(parts.username or '')}"
    if parts.password:
        login += f" password='{unquote(parts.password)}'"
    lines = [
        "[databases]",
        f"{name} = host={host} port={parts.port or 5432} dbname={name} {login}",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        "pool_mode = transaction",
        f"default_pool_size = {POOL_SIZE}",
        "max_client_conn = 200",
    ]
    if os.getuid() == 0:
        lines.append("user = nobody")
    with tempfile.TemporaryDirectory(prefix="ingest-test-bouncer-") as folder:
        config = Path(folder) / "pgbouncer.ini"
        config.write_text("\n".join(lines) + "\n")
        with (Path(folder) / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program, str(config), stdout=log, stderr=log, start_new_session=True
            )
        pooled = f"postgresql://ingest@127.0.0.1:{port}/{name}?sslmode=disable"
        try:
            await _until_answering(pooled, process, Path(folder) / "log")
            yield pooled
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            await process.wait()


async def _until_answering(dsn: str, process: asyncio.subprocess.Process, log: Path) -> None:
    deadline = asyncio.get_running_loop().time() + STARTED_WITHIN_S
    while asyncio.get_running_loop().time() < deadline and process.returncode is None:
        with suppress(OSError, asyncpg.PostgresError):
            connection = await asyncpg.connect(dsn, statement_cache_size=0, timeout=10)
            await connection.close()
            return
        await asyncio.sleep(0.1)
    message = log.read_text()[-2000:]  # noqa: ASYNC240 - the end of a failed test
    raise AssertionError(message)
