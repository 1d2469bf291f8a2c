"""One keep-alive HTTP/1.1 connection to any upload server, cheap enough to saturate it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httptools


class LinkBroken(Exception):
    """The server closed the connection in the middle of a request."""


@dataclass(slots=True)
class Answer:
    """One answer; names of headers are in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)


class Link(asyncio.Protocol):
    """Sends one request at a time; understands every framing that a peer may answer with."""

    def __init__(self, host: str, port: int) -> None:
        self._address = f"{host}:{port}"
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._waiter: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Sequence[bytes | memoryview] = (),
    ) -> Answer:
        """Send a request and return its answer; the body's buffers are not copied.

        Raises:
            LinkBroken: the connection is gone.
        """
        if self._transport is None:
            message = "the server had closed the connection"
            raise LinkBroken(message)
        self._waiter = asyncio.get_running_loop().create_future()
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length_bytes = sum(map(len, body))
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._address}\r\n"
            f"Content-Length: {length_bytes}\r\n{fields}\r\n"
        )
        self._transport.writelines([head.encode(), *body])
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
            message = f"the server closed the connection: {exc}"
            self._waiter.set_exception(LinkBroken(message))

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._answer.body += body

    def on_message_complete(self) -> None:
        """Hand the answer over; an interim one (1xx) is dropped."""
        answer, self._answer = self._answer, Answer()
        answer.status = self._parser.get_status_code()
        is_final = answer.status >= 200  # noqa: PLR2004 - RFC 9110, section 15.2
        if is_final and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(answer)


async def open_link(host: str, port: int) -> Link:
    """Connect."""
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(host, port), host, port)
    return link
