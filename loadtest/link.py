"""One keep-alive HTTP/1.1 connection to the service, as cheap as a generator can make it."""

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_HEAD: Final = b"HEAD "
_BIND_ADDRESS_NO_PORT: Final = 24  # Linux; the socket module names it from Python 3.12 on


class LinkBroken(Exception):
    """The service closed the connection or was silent too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    head         status line and fields, in lower case
    received_at  perf_counter when its last byte came
    """

    status: int
    body: bytes
    head: bytes = b""
    received_at: float = 0.0

    def find_field(self, name: str) -> str | None:
        """Return the value of a header field, in lower case; None if it is not there."""
        _, found, rest = self.head.partition(b"\r\n" + name.lower().encode() + b":")
        return rest.split(b"\r\n", 1)[0].strip().decode("latin-1") if found else None

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return the body, decoded."""
        return json.loads(self.body)


class Link(asyncio.Protocol):
    """Sends one request at a time; answers must have a Content-Length."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._head = b""
        self._head_bytes = 0
        self._length_bytes = 0
        self._has_no_body = False
        self._waiter: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, head: bytes, body: Sequence[bytes | memoryview] = ()) -> Answer:
        """Send a request and return its answer; the body's buffers are not copied.

        Raises:
            LinkBroken: the connection is gone.
        """
        if self._transport is None:
            message = "the service closed the connection"
            raise LinkBroken(message)
        self._has_no_body = head.startswith(_HEAD)
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.writelines([head, *body])
        return await self._waiter

    async def ask_slowly(
        self, head: bytes, body: Sequence[bytes | memoryview], *, slice_bytes: int, every_s: float
    ) -> Answer:
        """Send a request as a slow uplink does, a slice of its body at a time; return its answer.

        Raises:
            LinkBroken: the connection is gone.
        """
        asking = asyncio.ensure_future(self.ask(head))
        for block in body:
            for start in range(0, len(block), slice_bytes):
                await asyncio.sleep(every_s)
                if asking.done() or self._transport is None:
                    # Refused before it was sent.
                    return await asking
                self._transport.write(block[start : start + slice_bytes])
        return await asking

    def send_in_part(
        self, head: bytes, body: Sequence[bytes | memoryview], *, body_bytes: int, is_rude: bool
    ) -> None:
        """Send a request up to `body_bytes` of its body, then hang up (rudely: by a reset)."""
        if self._transport is None:
            message = "the service closed the connection"
            raise LinkBroken(message)
        parts: list[bytes | memoryview] = [head]
        for block in body:
            parts.append(block[:body_bytes])
            body_bytes -= len(parts[-1])
        self._transport.writelines(parts)
        if is_rude:
            self._transport.abort()
        else:
            self._transport.close()

    @property
    def is_open(self) -> bool:
        """Whether the service has not hung up."""
        return self._transport is not None

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment]  # always a stream transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request in flight."""
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            message = f"the service closed the connection: {exc}"
            self._waiter.set_exception(LinkBroken(message))

    def data_received(self, data: bytes) -> None:
        """Collect an answer."""
        received = self._received
        received += data
        if not self._head_bytes:
            end = received.find(_HEAD_END)
            if end < 0:
                return
            self._head_bytes = end + len(_HEAD_END)
            lowered = self._head = bytes(received[:end]).lower()
            at = lowered.find(_LENGTH)
            line = lowered[at + len(_LENGTH) :].split(b"\r\n", 1)[0] if at >= 0 else b"0"
            # The answer to a HEAD tells the length of a body that does not come.
            self._length_bytes = 0 if self._has_no_body else int(line)
        total_bytes = self._head_bytes + self._length_bytes
        if len(received) < total_bytes or self._waiter is None:
            return
        body = bytes(received[self._head_bytes : total_bytes])
        answer = Answer(int(received[9:12]), body, self._head, time.perf_counter())
        del received[:total_bytes]
        self._head_bytes = 0
        if not self._waiter.done():
            self._waiter.set_result(answer)


async def open_link(host: str, port: int, source: str | None = None) -> Link:
    """Connect, from the address `source` if one is given.

    Raises:
        LinkBroken: refused, or no address, port or descriptor is left.
    """
    loop = asyncio.get_running_loop()
    if source is None:
        _, link = await loop.create_connection(Link, host, port)
        return link
    try:
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise LinkBroken(str(error)) from error
    try:
        own.setblocking(False)  # noqa: FBT003 - the library's own
        # Without it the port is taken at the bind, for every destination at once.
        own.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
        own.bind((source, 0))
        await loop.sock_connect(own, (host, port))
        _, link = await loop.create_connection(Link, sock=own)
    except OSError as error:
        own.close()
        raise LinkBroken(str(error)) from error
    except BaseException:
        own.close()
        raise
    return link
