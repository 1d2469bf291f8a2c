"""A network link that can be cut: a TCP proxy for demonstrations and tests."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

BLOCK_BYTES: Final = 64 * 1024
# With this, closing sends RST instead of FIN, as a link does that went away and came back.
_RESET: Final = struct.pack("ii", 1, 0)


class FaultyLink:
    """Carries bytes between a dock and a service, and breaks when it is told to.

    port           where the dock connects, on 127.0.0.1
    sent_bytes     carried from the dock to the service so far, by all connections
    cut_count      how often it was cut
    """

    def __init__(self, service_port: int) -> None:
        self._service_port = service_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._plan: list[tuple[int, Callable[[], None]]] = []
        self.port = 0
        self.sent_bytes = 0
        self.cut_count = 0

    def plan(self, sent_bytes: int, action: Callable[[], None]) -> None:
        """Call `action` at the moment when so many bytes have gone to the service."""
        self._plan = sorted([*self._plan, (sent_bytes, action)], key=lambda step: step[0])

    def cut(self) -> None:
        """Reset every connection, in both directions; what was on the way is lost."""
        self.cut_count += 1
        self.close()

    def close(self) -> None:
        """Reset every connection without counting it as a cut."""
        for writer in self._writers:
            endpoint = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the dock."""
        try:
            there = await asyncio.open_connection("127.0.0.1", self._service_port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, there[1]}
        self._writers |= ends
        try:
            await asyncio.gather(
                self._pump(reader, there[1], is_upstream=True),
                self._pump(there[0], writer, is_upstream=False),
            )
        except OSError:
            # One side is gone: so is the other.
            pass
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_upstream: bool
    ) -> None:
        while block := await reader.read(BLOCK_BYTES):
            if is_upstream:
                self.sent_bytes += len(block)
                while self._plan and self.sent_bytes >= self._plan[0][0]:
                    self._plan.pop(0)[1]()
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@asynccontextmanager
async def open_link(service_port: int) -> AsyncIterator[FaultyLink]:
    """Open a link to a service on 127.0.0.1; it listens on a free port."""
    link = FaultyLink(service_port)
    server = await asyncio.start_server(link.carry, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.close()
        await server.wait_closed()
