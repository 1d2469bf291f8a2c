"""One keep-alive HTTP/1.1 connection to the service, as cheap as a generator can make it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class LinkBroken(Exception):
    """The service closed the connection or was silent too long."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of one answer."""

    status: int
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON is what it is
        """Return the body, decoded."""
        return json.loads(self.body)


class Link(asyncio.Protocol):
    """Sends one request at a time; answers must have a Content-Length."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._head_bytes = 0
        self._length_bytes = 0
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
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.writelines([head, *body])
        return await self._waiter

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
            lowered = bytes(received[:end]).lower()
            at = lowered.find(_LENGTH)
            line = lowered[at + len(_LENGTH) :].split(b"\r\n", 1)[0] if at >= 0 else b"0"
            self._length_bytes = int(line)
        total_bytes = self._head_bytes + self._length_bytes
        if len(received) < total_bytes or self._waiter is None:
            return
        answer = Answer(int(received[9:12]), bytes(received[self._head_bytes : total_bytes]))
        del received[:total_bytes]
        self._head_bytes = 0
        if not self._waiter.done():
            self._waiter.set_result(answer)


async def open_link(host: str, port: int) -> Link:
    """Connect."""
    _, link = await asyncio.get_running_loop().create_connection(Link, host, port)
    return link
