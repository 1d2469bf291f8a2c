"""Check whether this process can do its work."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from ingest_service.errors import IngestError
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.erasures import find_open_halt
from ingest_service.ledger.health import ask, find_worker_silence
from ingest_service.ledger.log import find_halt
from ingest_service.ledger.migrations import find_pending_migrations
from ingest_service.vault import Vault

# However many probes there are, each thing is asked once a second, and given two to answer.
CACHE_S: Final = 1.0
DEADLINE_S: Final = 2.0

_LOG: Final = structlog.get_logger("ingest.readiness")
_NAMES: Final = (
    "database",
    "migrations",
    "bucket",
    "worker",
    "custody_log",
    "object_lock",
    "erasing",
)
# A halted log is said, but footage is received all the same: events wait for their place. Without
# the lock that is set clips stay sealed, and cameras keep theirs. What is not erased can wait.
_NOT_VITAL: Final = frozenset({"custody_log", "object_lock", "erasing"})


class _NotReady(Exception):
    """A check found something wrong; the message is for the world to read."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check; detail says what is wrong, or 'ok'."""

    name: str
    is_ok: bool
    detail: str

    @property
    def is_vital(self) -> bool:
        """Whether the process cannot do its work without this."""
        return self.name not in _NOT_VITAL


class ReadinessCheck:
    """Asks the database, the bucket and the workers, and remembers the answers for a second.

    Concurrency: any number of tasks of one event loop.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        vault: Vault,
        worker_stale_after_s: float,
        wants_object_lock: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._worker_stale_after_s = worker_stale_after_s
        self._wants_object_lock = wants_object_lock
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._checks: tuple[Check, ...] = ()

    async def run(self) -> tuple[Check, ...]:
        """Return every check, in a fixed order. Never raises; takes some 2 seconds at most."""
        async with self._asking:
            if self._monotonic() - self._asked_at >= CACHE_S:
                checks = (
                    self._check_database,
                    self._check_migrations,
                    self._check_bucket,
                    self._check_worker,
                    self._check_custody_log,
                    self._check_object_lock,
                    self._check_erasing,
                )
                self._checks = tuple(
                    await asyncio.gather(*map(_run_one, _NAMES, (check() for check in checks)))
                )
                self._asked_at = self._monotonic()
        return self._checks

    async def _check_database(self) -> None:
        # Overloaded is not dead: probes do not stand in line with docks.
        async with reading(self._pool, is_urgent=True) as connection:
            await ask(connection)

    async def _check_migrations(self) -> None:
        async with reading(self._pool, is_urgent=True) as connection:
            pending = await find_pending_migrations(connection)
        if pending:
            message = f"run 'ingest migrate': not applied are {', '.join(pending)}"
            raise _NotReady(message)

    async def _check_bucket(self) -> None:
        await self._vault.check()

    async def _check_worker(self) -> None:
        async with reading(self._pool, is_urgent=True) as connection:
            silence_s = await find_worker_silence(connection)
        if silence_s is None:
            message = "no 'ingest work' has ever run here"
            raise _NotReady(message)
        if silence_s > self._worker_stale_after_s:
            message = f"no 'ingest work' was heard of for {silence_s:.0f} s"
            raise _NotReady(message)

    async def _check_custody_log(self) -> None:
        async with reading(self._pool, is_urgent=True) as connection:
            reason = await find_halt(connection)
        if reason is not None:
            message = f"nothing is sequenced: {reason}"
            raise _NotReady(message)

    async def _check_object_lock(self) -> None:
        if not self._wants_object_lock:
            return
        found = await self._vault.find_abilities()
        if found.has_object_lock is None:
            message = "whether the bucket has object lock is not known"
            raise _NotReady(message)
        if not found.has_object_lock:
            message = "the bucket has no object lock: nothing is secured while the lock is set"
            raise _NotReady(message)

    async def _check_erasing(self) -> None:
        async with reading(self._pool, is_urgent=True) as connection:
            reason = await find_open_halt(connection)
        if reason is not None:
            message = f"nothing is erased until two people release it: {reason}"
            raise _NotReady(message)


async def _run_one(name: str, check: Awaitable[None]) -> Check:
    try:
        async with asyncio.timeout(DEADLINE_S):
            await check
    except _NotReady as error:
        return Check(name, is_ok=False, detail=str(error))
    except TimeoutError:
        return Check(name, is_ok=False, detail=f"no answer within {DEADLINE_S:g} s")
    except IngestError as error:
        # What a stranger reads names no host; the reason is in the log.
        _LOG.warning("not_ready", check=name, reason=error.facts().get("reason", str(error)))
        return Check(name, is_ok=False, detail=error.title)
    except Exception:  # noqa: BLE001 - a check that fails must say so, whatever it was
        _LOG.exception("not_ready", check=name)
        return Check(name, is_ok=False, detail="the check failed")
    return Check(name, is_ok=True, detail="ok")
