"""HTTP/1.1 to the store, for the hot requests: one PUT or GET at a time per connection.

aiohttp costs 0.35 CPU-s/GiB and 0.11 ms per small request here, this costs 0.27 and 0.05; and the
body is drawn in the caller's own task, so its errors and the caller's cancellation need no
translation. Measured with 8 MiB bodies in blocks of 64 KiB to loadtest/null_s3.py.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal, cast

import httptools

from ingest_service import telemetry
from ingest_service.errors import ChunkMisshapen
from ingest_service.vault import Body
from ingest_service.vault.failures import StoreFailed

# Stores close idle connections after 20 s or more; one that is about to be closed is not used.
IDLE_S_MAX: Final = 10.0
# A reader that is slower than the store: the socket is not read while this much waits.
UNREAD_BYTES_MAX: Final = 512 * 1024
SMALL_ANSWER_BYTES_MAX: Final = 64 * 1024
_STATUS_OK: Final = 200
_STATUS_REDIRECT: Final = 300


class StoreConnection(asyncio.Protocol):
    """One connection. Every method raises StoreFailed when the connection is lost or silent."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._lost_reason: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_write_paused = False
        self._is_read_paused = False
        self._may_keep_alive = False
        self._is_sent = True
        self._has_head = False
        self._has_end = True
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.idle_since = 0.0
        self.sent_at = 0.0

    @property
    def waited_s(self) -> float:
        """How long the store took from the request's last byte to now, in seconds."""
        return self._loop.time() - self.sent_at

    @property
    def is_reusable(self) -> bool:
        """Whether the last exchange ended cleanly on both sides."""
        return (
            self._lost_reason is None and self._is_sent and self._has_end and self._may_keep_alive
        )

    async def send(self, head: bytes, body: Body | None = None) -> None:
        """Send a request and return when its answer's head is there: `status`, `headers`.

        Raises:
            whatever `body.blocks()` raises: the connection is cut before the body's end, so
                that the store holds nothing of it.
            ChunkMisshapen: the body was not as long as it said; cut as well.
        """
        self._has_head = self._has_end = self._is_sent = self._may_keep_alive = False
        self._unread.clear()
        self._unread_bytes = 0
        self._resume_reading()
        try:
            if body is None:
                self._write(head)
                self._is_sent = True
            else:
                self._is_sent = await self._send_body(head, body)
            self.sent_at = self._loop.time()
            while not self._has_head:
                await self._wait()
        except BaseException:
            self.abort()
            raise

    async def _send_body(self, head: bytes, body: Body) -> bool:
        """Return whether all of it was sent: a store may refuse before it has the body."""
        sent_bytes, length_bytes = 0, body.length_bytes
        # The head goes with the first bytes: SeaweedFS 4.48 stores an empty object when the
        # connection is cut between the two, and none when it is cut later.
        unsent = [head]
        blocks = body.blocks()
        try:
            async for block in blocks:
                if sent_bytes + len(block) > length_bytes:
                    raise ChunkMisshapen(length_bytes, sent_bytes + len(block))
                while self._is_write_paused and not self._has_head:
                    await self._wait()
                if self._has_head:
                    return self._stop_early()
                self._write(*unsent, block)
                unsent.clear()
                sent_bytes += len(block)
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()
        if sent_bytes != length_bytes:
            raise ChunkMisshapen(length_bytes, sent_bytes)
        if unsent:
            self._write(*unsent)
        return True

    def _stop_early(self) -> bool:
        if self.status < _STATUS_REDIRECT:
            message = f"the store answered {self.status} before it had the whole body"
            raise StoreFailed(message)
        return False

    async def read(self) -> bytes:
        """Return the next bytes of the answer's body; b'' at its end."""
        while not self._unread:
            if self._has_end:
                return b""
            await self._wait()
        block = self._unread.popleft()
        self._unread_bytes -= len(block)
        if self._unread_bytes < UNREAD_BYTES_MAX // 2:
            self._resume_reading()
        return block

    def _resume_reading(self) -> None:
        if self._is_read_paused:
            self._is_read_paused = False
            if self._transport is not None:
                self._transport.resume_reading()

    async def read_small(self) -> bytes:
        """Return the whole body of a small answer."""
        collected = bytearray()
        while block := await self.read():
            collected += block
            if len(collected) > SMALL_ANSWER_BYTES_MAX:
                message = f"the store's answer {self.status} does not end"
                raise StoreFailed(message)
        return bytes(collected)

    def abort(self) -> None:
        """Cut the connection at once; what was not sent yet is dropped."""
        if self._lost_reason is None:
            self._lost_reason = "the connection was cut"
        if self._transport is not None:
            self._transport.abort()

    def _write(self, *blocks: bytes) -> None:
        if self._lost_reason is not None or self._transport is None:
            raise StoreFailed(self._lost_reason or "not connected")
        if len(blocks) == 1:
            self._transport.write(blocks[0])
        else:
            self._transport.writelines(blocks)

    async def _wait(self) -> None:
        """Return when anything happened on the connection."""
        if self._lost_reason is not None:
            raise StoreFailed(self._lost_reason)
        self._waiter = self._loop.create_future()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._waiter
        except TimeoutError:
            self.abort()
            message = f"the store made no progress for {self._timeout_s:g} s"
            raise StoreFailed(message) from None
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- called by the event loop ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        if self._lost_reason is None:
            self._lost_reason = f"the store closed the connection{f': {exc}' if exc else ''}"
        self._transport = None
        self._wake()

    def pause_writing(self) -> None:
        """Hold the body back: the store is slower than the dock."""
        self._is_write_paused = True

    def resume_writing(self) -> None:
        """Let the body go on."""
        self._is_write_paused = False
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._has_end:
            self._lost_reason = "the store spoke unasked"
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lost_reason = f"the store's answer is not HTTP: {error}"
            self.abort()
        self._wake()

    # --- called by the parser ----------------------------------------------------------

    def on_message_begin(self) -> None:
        """Forget the answer before."""
        self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header."""
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Let the sender look at the status; 1xx are not the answer yet."""
        self.status = self._parser.get_status_code()
        self._has_head = self.status >= _STATUS_OK

    def on_body(self, body: bytes) -> None:
        """Keep bytes until they are read."""
        self._unread.append(body)
        self._unread_bytes += len(body)
        if self._unread_bytes > UNREAD_BYTES_MAX and not self._is_read_paused:
            self._is_read_paused = True
            if self._transport is not None:
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self._has_head:
            self._has_end = True
            self._may_keep_alive = self._parser.should_keep_alive()


class StoreConnections:
    """Connections to the store, kept open between requests."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        connections_max: int,
        timeout_s: float,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._timeout_s = timeout_s
        self._connections_max = connections_max
        # A write may read tails from the store while it holds its slot: if both kinds shared one
        # pool, writes alone could take every slot and then wait for each other for ever.
        self._slots = {
            "write": asyncio.Semaphore(connections_max),
            "read": asyncio.Semaphore(connections_max),
        }
        self._idle: list[StoreConnection] = []
        self._busy = {"write": 0, "read": 0}

    def sample(self) -> None:
        """Tell the metrics how many connections carry a request."""
        for use, count in self._busy.items():
            telemetry.VAULT_BUSY.labels(use).set(count)
        telemetry.VAULT_BUSY_MAX.set(self._connections_max)

    @asynccontextmanager
    async def lend(self, use: Literal["read", "write"]) -> AsyncIterator[StoreConnection]:
        """Lend a connection for one exchange; it is cut unless the exchange ended cleanly.

        Raises:
            StoreFailed: no connection can be made, or all are busy for too long.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._slots[use].acquire()
        except TimeoutError:
            message = f"all {self._connections_max} connections to the store are busy"
            raise StoreFailed(message, may_pass=False) from None
        self._busy[use] += 1
        try:
            connection = self._take_idle() or await self._connect()
            try:
                yield connection
            finally:
                if connection.is_reusable:
                    connection.idle_since = asyncio.get_running_loop().time()
                    self._idle.append(connection)
                else:
                    connection.abort()
        finally:
            self._busy[use] -= 1
            self._slots[use].release()

    def close(self) -> None:
        """Cut the idle connections."""
        while self._idle:
            self._idle.pop().abort()

    def _take_idle(self) -> StoreConnection | None:
        oldest = asyncio.get_running_loop().time() - IDLE_S_MAX
        while self._idle:
            # The one used last is the likeliest to be alive; if it is too old, all are.
            connection = self._idle.pop()
            if connection.is_reusable and connection.idle_since >= oldest:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> StoreConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await loop.create_connection(
                    lambda: StoreConnection(self._timeout_s), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            message = f"{self._host}:{self._port} does not accept connections"
            raise StoreFailed(message) from error
        except OSError as error:
            message = f"{self._host}:{self._port}: {error}"
            raise StoreFailed(message) from error
        return connection
