"""Record: who was refused what, in the security log, within what a disk can bear."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.domain.clock import Clock, utc_now
from ingest_service.errors import Unavailable
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.security import Denials, insert_denials

FOLD_S: Final = 60.0
_TICK_S: Final = 1.0
# More kinds of refusals than that at once are counted as one.
_KINDS_MAX: Final = 200
_ANY: Final = "*"
# Its lines bear `stream=security`: whoever collects logs keeps them apart from the others.
_LOG: Final = structlog.get_logger("security", stream="security")

_Kind = tuple[str | None, str | None, str, str, str]


@dataclass(slots=True)
class _Fold:
    """Refusals of one kind that were not written yet; none before due_at (monotonic)."""

    due_at: float
    count: int
    first_at: datetime
    last_at: datetime
    request_id: str | None = None
    source: str | None = None


class SecurityLog:
    """Notes refusals in memory and writes them: the first of its kind at once, then once a minute.

    Strangers are of one kind, whatever they ask for. A crash loses at most what a minute has
    counted; every refusal of a kind that was quiet before is a line of the log at once, too.

    Concurrency: any number of tasks of one event loop.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        now: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._now = now
        self._monotonic = monotonic
        self._folds: dict[_Kind, _Fold] = {}

    def note(
        self,
        *,
        principal: tuple[str, str] | None,
        method: str,
        route: str,
        problem: str,
        request_id: str | None,
        source: str | None,
    ) -> None:
        """Note a refusal; writes nothing."""
        kind: _Kind = (
            (None, None, _ANY, _ANY, problem)
            if principal is None
            else (*principal, method, route, problem)
        )
        if kind not in self._folds and len(self._folds) >= _KINDS_MAX:
            kind = (None, _ANY, _ANY, _ANY, _ANY)
        moment = self._now()
        fold = self._folds.get(kind)
        if fold is None:
            fold = self._folds[kind] = _Fold(self._monotonic(), 0, moment, moment)
            _LOG.warning(
                "access_denied",
                principal_kind=kind[0],
                principal=kind[1],
                method=method,
                route=route,
                problem=problem,
                source=source,
            )
        if not fold.count:
            fold.first_at = moment
        fold.count += 1
        fold.last_at, fold.request_id, fold.source = moment, request_id, source

    async def flush(self, *, is_last: bool = False) -> int:
        """Write what is due (at the end: everything); return how many rows.

        Raises:
            LedgerUnavailable: all of it is kept, and tried again.
        """
        now = self._monotonic()
        due = {kind: fold for kind, fold in self._folds.items() if is_last or fold.due_at <= now}
        written = {kind: fold.count for kind, fold in due.items() if fold.count}
        if written:
            rows = [self._make_row(kind, self._folds[kind]) for kind in written]
            async with reading(self._pool) as connection:
                await insert_denials(connection, self._now(), rows)
        for kind, fold in due.items():
            # More may have come while we wrote.
            fold.count -= written.get(kind, 0)
            fold.first_at = fold.last_at
            if kind in written:
                fold.due_at = now + FOLD_S
            elif not fold.count:
                del self._folds[kind]
        return len(written)

    def _make_row(self, kind: _Kind, fold: _Fold) -> Denials:
        principal_kind, principal_id, method, route, problem = kind
        return Denials(
            self._now(),
            principal_kind,
            principal_id,
            method,
            route,
            problem,
            fold.count,
            fold.first_at,
            fold.last_at,
            fold.request_id,
            fold.source,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write what is due while the block runs, and the rest at its end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            with suppress(Unavailable):
                await self.flush(is_last=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self.flush()
            except Unavailable as error:
                _LOG.warning("security_log_waits", reason=str(error.facts()))
            except Exception:  # noqa: BLE001 - this loop is one of a job's kind
                # Whatever one round meets, the next is tried.
                telemetry.JOB_RUNS.labels("security_log", "failed").inc()
                _LOG.exception("security_log_failed")
