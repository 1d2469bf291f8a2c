"""Devices, officers and categories that are known: an unknown one is flagged, never refused."""

import asyncio
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

from ingest_service.ledger.connection import Pool, reading

# So late may a new entry be believed; the other way round nobody is ever refused for it.
FRESH_S: Final = 10.0

LIST_ENTRIES: Final = """
    SELECT kind, entry_id
      FROM directory_entries
"""


class Directory:
    """The whole directory, remembered: a look into it costs no statement.

    A force has some 60,000 entries: reading them takes some 0.1 s of a process, every FRESH_S at
    most, and only while clips are announced.

    Concurrency: any number of tasks of one event loop; one of them reads, those beside it go on
    with what was known before.
    """

    def __init__(
        self, *, fresh_s: float = FRESH_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fresh_s = fresh_s
        self._monotonic = monotonic
        self._entries: frozenset[tuple[str, str]] | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def entries(self, pool: Pool) -> AbstractSet[tuple[str, str]]:
        """Return what is known, as (kind, id) pairs; at most `fresh_s` seconds old.

        Raises:
            LedgerUnavailable: it could not be read.
        """
        if self._is_fresh() or (self._entries is not None and self._lock.locked()):
            return self._entries or frozenset()
        async with self._lock:
            if not self._is_fresh():
                asked_at = self._monotonic()
                async with reading(pool) as connection:
                    rows = await connection.fetch(LIST_ENTRIES)
                self._entries = frozenset((row["kind"], row["entry_id"]) for row in rows)
                self._read_at = asked_at
            return self._entries or frozenset()

    def _is_fresh(self) -> bool:
        return self._entries is not None and self._monotonic() - self._read_at < self._fresh_s
