"""Connections to Postgres, and the one place where its errors become ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from ingest_service.errors import LedgerUnavailable

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_CLOSE_TIMEOUT_S: Final = 5.0
# Beyond this the queue for connections only grows: the caller is told to come back.
_ACQUIRE_TIMEOUT_S: Final = 10.0

# What asyncpg raises when the server, the network or the pool is the trouble, not the statement.
_UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # On a connection whose server has just died: "another operation is in progress".
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)


async def _keep_session(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Skip asyncpg's reset query: no statement of ours leaves anything in the session."""


async def open_pool(
    dsn: str, *, connections_max: int, statement_timeout_s: float, connections_min: int = 1
) -> Pool:
    """Open a pool of connections.

    Raises:
        LedgerUnavailable: Postgres does not answer or refuses the login.
    """
    try:
        return await asyncpg.create_pool(
            dsn,
            min_size=connections_min,
            max_size=connections_max,
            command_timeout=statement_timeout_s,
            max_inactive_connection_lifetime=300,
            init=_prepare_session,
            reset=_keep_session,
            server_settings={"application_name": "ingest", "timezone": "UTC"},
        )
    except (*_UNAVAILABLE, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(_reason(error)) from error


async def close_pool(pool: Pool) -> None:
    """Close a pool; connections that do not end in time (Postgres is gone) are cut."""
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def _prepare_session(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection for single statements, each its own transaction.

    Await only ledger functions inside: a connection never waits for a dock or for S3.

    Raises:
        LedgerUnavailable: the statement may or may not have run.
    """
    try:
        async with pool.acquire(timeout=_patience(pool)) as connection:
            yield connection
    except _UNAVAILABLE as error:
        raise LedgerUnavailable(_reason(error)) from error


@asynccontextmanager
async def writing(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection inside one transaction, committed when the block ends.

    Raises:
        LedgerUnavailable: the transaction may or may not have committed.
    """
    try:
        async with (
            pool.acquire(timeout=_patience(pool)) as connection,
            connection.transaction(),
        ):
            yield connection
    except _UNAVAILABLE as error:
        raise LedgerUnavailable(_reason(error)) from error


def _patience(pool: Pool) -> float | None:
    """Return how long to wait for a connection; a timer costs more than an idle one is worth."""
    return None if pool.get_idle_size() else _ACQUIRE_TIMEOUT_S


def _reason(error: BaseException) -> str:
    # Leaving a transaction on a lost connection raises InterfaceError over the real cause.
    cause = error.__context__ if isinstance(error, asyncpg.InterfaceError) else None
    shown = cause or error
    return f"{type(shown).__name__}: {shown}"
