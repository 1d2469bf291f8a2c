"""The ledger's connections where tracing is on: each turn is a span, and each statement in it.

Used instead of what they are made of, so that nothing is looked at where tracing is off.
"""

import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Any, ClassVar, Final, cast

import asyncpg
from asyncpg.pool import PoolAcquireContext

from ingest_service import ledger
from ingest_service.errors import Rejected
from ingest_service.ledger import search
from ingest_service.ledger.connection import Connection, Pool
from ingest_service.tracing import spans
from ingest_service.tracing.spans import Span

_SYSTEM: Final = "postgresql"
# asyncpg's own, around a transaction.
_PLAIN: Final = frozenset({"BEGIN", "COMMIT", "ROLLBACK"})


@cache
def _list_names() -> dict[str, str]:
    """Return the name of every statement of the ledger: its constant's."""
    names = dict.fromkeys((sql for _, sql in search.list_statements()), "search.list")
    for module_info in pkgutil.iter_modules(ledger.__path__):
        module = importlib.import_module(f"{ledger.__name__}.{module_info.name}")
        for name, value in vars(module).items():
            if name.isupper() and not name.startswith("_") and isinstance(value, str):
                names.setdefault(value, f"{module_info.name}.{name.lower()}")
    return names


def name_statement(sql: str) -> str:
    """Return what a statement is called; never any of it but a transaction's first word."""
    name = _list_names().get(sql)
    if name is None:
        word = sql.split(" ", 1)[0].rstrip(";")
        name = word if word in _PLAIN else "statement"
    return name


class TracedConnection(asyncpg.Connection):
    """A connection whose statements are steps of the turn that has it.

    turn  None: nobody records it
    """

    __slots__ = ("turn",)

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - asyncpg's
        super().__init__(*args, **options)
        self.turn: Span | None = None

    def set_turn(self, turn: Span | None) -> None:
        """Say whose steps the next statements are."""
        self.turn = turn

    async def execute(self, query: str, *args: Any, **options: Any) -> str:  # noqa: ANN401
        """Run a statement."""
        with self._step(query):
            return await super().execute(query, *args, **options)

    async def executemany(self, command: str, args: Any, **options: Any) -> None:  # noqa: ANN401
        """Run a statement for many rows."""
        with self._step(command):
            await super().executemany(command, args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run a statement and return its rows."""
        with self._step(query):
            return await super().fetch(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run a statement and return one value."""
        with self._step(query):
            return await super().fetchval(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run a statement and return one row."""
        with self._step(query):
            return await super().fetchrow(query, *args, **options)

    @contextmanager
    def _step(self, sql: str) -> Iterator[None]:
        if self.turn is None:
            yield
            return
        name = name_statement(sql)
        span = self.turn.begin(
            name, is_call=True, db__system__name=_SYSTEM, db__query__summary=name
        )
        try:
            yield
        except BaseException as error:
            span.end(error)
            raise
        span.end()


class _TracedTurn(PoolAcquireContext):
    """A turn at the ledger, from the wait for a connection until it is given back."""

    __slots__ = ("_connection", "_span", "_turn")

    def __init__(self, pool: Pool, turn: "PoolAcquireContext[asyncpg.Record]", span: Span) -> None:
        super().__init__(pool, None)
        self._turn = turn
        self._span = span
        self._connection: TracedConnection | None = None

    async def __aenter__(self) -> Connection:
        began_at = perf_counter()
        try:
            lent = await self._turn.__aenter__()
        except BaseException as error:
            self._span.end(error)
            raise
        self._span.describe(ingest__wait_ms=round((perf_counter() - began_at) * 1000, 3))
        self._connection = cast("TracedConnection", lent)
        self._connection.set_turn(self._span)
        return lent

    async def __aexit__(self, *exc: object) -> None:
        if self._connection is not None:
            self._connection.set_turn(None)
        error = exc[1] if exc else None
        try:
            await self._turn.__aexit__(*exc)
        finally:
            # What the block refused is none of the ledger's failures.
            is_ours = isinstance(error, BaseException) and not isinstance(error, Rejected)
            self._span.end(cast("BaseException", error) if is_ours else None)


class TracedPool(Pool):
    """A pool whose turns are steps of the request or the job that takes them."""

    connection_class: ClassVar = TracedConnection

    def acquire(
        self, *, timeout: float | None = None, is_urgent: bool = False
    ) -> "PoolAcquireContext[asyncpg.Record]":
        """Return a context that lends a connection; see `Pool.acquire`."""
        turn = super().acquire(timeout=timeout, is_urgent=is_urgent)
        current = spans.find_recording()
        if current is None:
            return turn
        return _TracedTurn(self, turn, current.begin("ledger", db__system__name=_SYSTEM))
