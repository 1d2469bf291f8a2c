"""Hearing, in every process, that a newcomer wants an upload, or that the log has grown."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final
from uuid import UUID

import asyncpg

from ingest_service.errors import LedgerUnavailable
from ingest_service.ledger.connection import Pool
from ingest_service.ledger.feed import PUBLISHED_CHANNEL
from ingest_service.ledger.uploads import INTERRUPT_CHANNEL

_PING_S: Final = 5.0
_RECONNECT_S: Final = 1.0


@contextlib.asynccontextmanager
async def listening(
    pool: Pool,
    on_interrupt: Callable[[UUID], None],
    on_published: Callable[[int], None] = lambda _size: None,
) -> AsyncIterator[None]:
    """Call on_interrupt for every interrupted upload while the block runs.

    And on_published with the size of each log that was published. One connection of the pool is
    kept for both and replaced when it dies. What is said meanwhile is not heard: the newcomer then
    waits its full time and takes the lease anyway, and who follows the log looks now and then.
    """
    task = asyncio.create_task(_listen(pool, on_interrupt, on_published))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _listen(
    pool: Pool, on_interrupt: Callable[[UUID], None], on_published: Callable[[int], None]
) -> None:
    def heard(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        on_interrupt(UUID(str(payload)))

    def heard_size(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        on_published(int(str(payload)))

    while True:
        try:
            async with pool.acquire() as connection:
                await connection.add_listener(INTERRUPT_CHANNEL, heard)
                await connection.add_listener(PUBLISHED_CHANNEL, heard_size)
                try:
                    while True:
                        await asyncio.sleep(_PING_S)
                        await connection.execute("SELECT 1")
                finally:
                    if not connection.is_closed():
                        await connection.remove_listener(INTERRUPT_CHANNEL, heard)
                        await connection.remove_listener(PUBLISHED_CHANNEL, heard_size)
        except (
            OSError,
            TimeoutError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            # Nobody is let in just now: too many wait, or Postgres is known to be away.
            LedgerUnavailable,
        ):
            await asyncio.sleep(_RECONNECT_S)
