"""Connections to Postgres, and the one place where its errors become ours."""

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import random
from time import monotonic
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import asyncpg
from asyncpg.pool import PoolAcquireContext, PoolConnectionProxy

from ingest_service import telemetry
from ingest_service.domain.breaker import HOLDS_BYTES, Breaker
from ingest_service.errors import LedgerBusy, LedgerUnavailable
from ingest_service.ledger.line import Line

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

# What asyncpg cannot read it shows: of a password with a `/` in it the beginning, as a port.
_DSN: Final = re.compile(
    r"postgres(?:ql)?://(?:[^@/?#]*@)?"
    r"(?:(?:\[[0-9A-Fa-f:.]+\]|[^\s@/?#:,\[\]]*)(?::\d{1,5})?(?:,(?!$)|(?=[/?]|$)))*"
    r"(?:/[^\s@?#]*)?"
    r"(?:\?(?:\w+=[^\s&#]*(?:&(?!$)|$))*)?"
)
DSN_FAULT: Final = (
    "the address of the ledger is no postgresql://user:password@host:port/name; in a name or "
    "password every character but letters, digits and -._~ is written as %XX"
)
_CLOSE_TIMEOUT_S: Final = 5.0
# For those who were let into the line: Postgres has stopped answering meanwhile.
_ACQUIRE_TIMEOUT_S: Final = 10.0
# A connection is replaced after so many statements, for what a session may have gathered; asyncpg
# looks at that when it gets one back, so now and then it does.
_STATEMENTS_MAX: Final = 50_000
_RENEWED_SHARE: Final = 0.001
_IDLE_MAX_S: Final = 300.0
WAIT_MAX_S: Final = 2.0
_NOT_ASKED: Final = "not asked: it did not answer the last ones"
_BUSY: Final = telemetry.LEDGER_ERRORS.labels("busy")
_FAILED: Final = telemetry.LEDGER_ERRORS.labels("unavailable")
_REFUSED: Final = telemetry.BREAKER_REFUSED.labels("ledger")

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
# What Postgres says of itself when it is about to be away. With all else it says, it is there.
_SAYS_AWAY: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)


class _Kept(NamedTuple):
    """A connection that nobody has; since: when it was given back."""

    connection: Connection
    since: float


class Pool(asyncpg.Pool):
    """A pool of connections with a line of our own before it: asyncpg's knows no bound.

    Who comes gets the connection that was given back last, without asyncpg's own hand-over: that
    makes a task and a timer each time, and costs more than a short statement. What is odd about a
    connection (an error, a cancellation, its age) is left to asyncpg.

    line     who waits
    breaker  whether anybody need wait at all
    """

    connection_class: ClassVar["type[asyncpg.Connection[asyncpg.Record]]"] = asyncpg.Connection

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int,
        line: Line,
        breaker: Breaker,
        **options: Any,  # noqa: ANN401 - asyncpg's
    ) -> None:
        super().__init__(
            dsn,
            max_size=max_size,
            max_queries=_STATEMENTS_MAX,
            loop=None,
            connection_class=self.connection_class,
            record_class=asyncpg.Record,
            **options,
        )
        self.line = line
        self.breaker = breaker
        self._kept: deque[_Kept] = deque()
        self._may_keep = True

    async def lend(self, timeout: float | None) -> Connection:  # noqa: ASYNC109 - asyncpg's
        """Return the connection that was given back last, or one of asyncpg's."""
        while self._kept:
            connection = self._kept.pop().connection
            if _is_alive(connection):
                return connection
            await self.release(connection)
        lent: Connection = await self._acquire(timeout)  # type: ignore[attr-defined]  # stubs
        return lent

    async def give_back(self, connection: Connection) -> None:
        """Keep a connection on which all went well for the next who comes."""
        is_due = random() < _RENEWED_SHARE  # noqa: S311 - no secret
        if not self._may_keep or is_due or not _is_alive(connection):
            await self.release(connection)
            return
        now = monotonic()
        self._kept.append(_Kept(connection, now))
        if now - self._kept[0].since > _IDLE_MAX_S:
            # Unused all this time, so fewer are needed: asyncpg will close it.
            await self.release(self._kept.popleft().connection)

    def get_idle_size(self) -> int:
        """Return how many connections wait for somebody."""
        return len(self._kept) + super().get_idle_size()

    async def close(self) -> None:
        """Close every connection, once those who have one have given it back."""
        self._may_keep = False
        while self._kept:
            await self.release(self._kept.pop().connection)
        await super().close()

    def acquire(
        self, *, timeout: float | None = None, is_urgent: bool = False
    ) -> "PoolAcquireContext[asyncpg.Record]":
        """Return a context that lends a connection, after those who came before.

        Raises (on entering):
            LedgerBusy: too many wait already. An urgent caller goes first and is never refused.
            LedgerUnavailable: it is known to be away; nothing was waited for. An urgent caller
                looks himself, and so does one who has bytes of a dock.
            TimeoutError: the turn did not come in `timeout` seconds.
        """
        return _Turn(self, timeout, is_urgent=is_urgent)


def _is_alive(connection: Connection) -> bool:
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        # Its server went away, and asyncpg has taken it back already.
        return False


class _Turn(PoolAcquireContext):
    """One place in the line, and then one connection."""

    __slots__ = ("_entered_at", "_is_probe", "_is_urgent", "_lender", "_lent")

    _lent: Connection

    def __init__(self, pool: Pool, timeout: float | None, *, is_urgent: bool) -> None:
        super().__init__(pool, timeout)
        self._lender = pool
        self._is_urgent = is_urgent
        self._is_probe = False
        self._entered_at = 0.0

    async def __aenter__(self) -> Connection:
        timeout_s = self.timeout or _ACQUIRE_TIMEOUT_S
        line, breaker = self._lender.line, self._lender.breaker
        if not (breaker.is_closed or self._is_urgent or HOLDS_BYTES.get()):
            self._is_probe = breaker.try_probe()
            if not self._is_probe:
                _REFUSED.inc()
                raise LedgerUnavailable(_NOT_ASKED)
        try:
            self._entered_at = await line.enter(timeout_s=timeout_s, is_urgent=self._is_urgent)
        except BaseException:
            breaker.leave(was_probe=self._is_probe)
            raise
        try:
            self._lent = await self._lender.lend(self.timeout)
        except BaseException as error:
            line.leave(self._entered_at)
            self._report(error)
            raise
        return self._lent

    async def __aexit__(self, *exc: object) -> None:
        error = exc[1] if exc else None
        try:
            if isinstance(error, BaseException):
                self._report(error)
                await self._lender.release(self._lent)
            else:
                self._lender.breaker.succeed()
                await self._lender.give_back(self._lent)
        finally:
            self._lender.line.leave(self._entered_at)

    def _report(self, error: BaseException) -> None:
        """Tell the breaker what an error says of Postgres."""
        breaker = self._lender.breaker
        if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _SAYS_AWAY):
            breaker.succeed()
        # (An argument that asyncpg cannot encode is an InterfaceError as well, and ours.)
        elif isinstance(error, _UNAVAILABLE) and not isinstance(error, ValueError):
            breaker.fail(was_probe=self._is_probe)
        else:
            breaker.leave(was_probe=self._is_probe)


async def _keep_session(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Skip asyncpg's reset query: no statement of ours leaves anything in the session."""


def is_dsn(text: str) -> bool:
    """Tell whether this is the URL of a database that the libraries can read."""
    return _DSN.fullmatch(text.strip()) is not None


async def open_pool(
    dsn: str,
    *,
    connections_max: int,
    statement_timeout_s: float,
    connections_min: int = 1,
    wait_max_s: float = WAIT_MAX_S,
    keeps_sessions: bool = True,
    breaker: Breaker | None = None,
    pool_class: type[Pool] = Pool,
) -> Pool:
    """Open a pool of connections.

    wait_max_s      who would wait longer for a connection is refused at once
    breaker         None: everybody looks himself whether Postgres is there
    pool_class      what is traced has one of its own
    keeps_sessions  False: a pooler (PgBouncer in transaction mode) gives each transaction another
                    session, so no prepared statement, lock or LISTEN outlives one

    Raises:
        LedgerUnavailable: Postgres does not answer or refuses the login, or the DSN is none; the
            text shows nothing of the DSN's password.
    """
    if not is_dsn(dsn):
        raise LedgerUnavailable(DSN_FAULT)
    try:
        pool = pool_class(
            dsn,
            min_size=connections_min,
            max_size=connections_max,
            line=Line(connections_max, wait_max_s=wait_max_s),
            breaker=breaker or Breaker(),
            command_timeout=statement_timeout_s,
            max_inactive_connection_lifetime=_IDLE_MAX_S,
            init=_prepare_session,
            reset=_keep_session,
            # asyncpg then parses and executes in one go, which meets one session.
            **({} if keeps_sessions else {"statement_cache_size": 0}),
            server_settings={"application_name": "ingest", "timezone": "UTC"},
        )
        await pool
    except (*_UNAVAILABLE, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(_reason(error)) from error
    return pool


async def close_pool(pool: Pool) -> None:
    """Close a pool; connections that do not end in time (Postgres is gone) are cut."""
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await pool.close()
    except TimeoutError:
        pool.terminate()


# A process that the network has lost in the middle of a transaction would keep its rows locked for
# hours. None of ours waits for anything but Postgres in one.
TRANSACTION_SILENT_S: Final = 60.0
_LIMIT_SESSION: Final = "SELECT set_config('idle_in_transaction_session_timeout', $1, false)"


async def _prepare_session(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(_LIMIT_SESSION, f"{TRANSACTION_SILENT_S * 1000:.0f}ms")
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


@asynccontextmanager
async def reading(pool: Pool, *, is_urgent: bool = False) -> AsyncIterator[Connection]:
    """Lend a connection for single statements, each its own transaction.

    Await only ledger functions inside: a connection never waits for a dock or for S3.

    is_urgent   goes before all who wait, and is never refused; for what a process needs to live

    Raises:
        LedgerBusy: no statement has run.
        LedgerUnavailable: the statement may or may not have run.
    """
    turn = {"is_urgent": True} if is_urgent else {}
    try:
        async with pool.acquire(timeout=_patience(pool), **turn) as connection:
            yield connection
    except LedgerBusy:
        _BUSY.inc()
        raise
    except _UNAVAILABLE as error:
        _FAILED.inc()
        raise LedgerUnavailable(_reason(error)) from error


@asynccontextmanager
async def writing(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection inside one transaction, committed when the block ends.

    Raises:
        LedgerBusy: nothing was begun.
        LedgerUnavailable: the transaction may or may not have committed.
    """
    try:
        async with (
            pool.acquire(timeout=_patience(pool)) as connection,
            connection.transaction(),
        ):
            yield connection
    except LedgerBusy:
        _BUSY.inc()
        raise
    except _UNAVAILABLE as error:
        _FAILED.inc()
        raise LedgerUnavailable(_reason(error)) from error


def _patience(pool: Pool) -> float | None:
    """Return how long to wait for a connection; a timer costs more than an idle one is worth."""
    return None if pool.get_idle_size() else _ACQUIRE_TIMEOUT_S


def _reason(error: BaseException) -> str:
    # Leaving a transaction on a lost connection raises InterfaceError over the real cause.
    cause = error.__context__ if isinstance(error, asyncpg.InterfaceError) else None
    shown = cause or error
    return f"{type(shown).__name__}: {shown}"
