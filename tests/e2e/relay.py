"""A network path that a test may break: one port in front of whatever runs behind it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

_BLOCK_BYTES = 64 * 1024

Fault = Literal["cut", "hold", "garble"]


class Relay:
    """Passes bytes on, until the fault that a test asked for.

    broken    set when the fault happened
    bytes_s   how fast bytes go to the service; None: as fast as they come
    """

    def __init__(self) -> None:
        self._upstream = ("127.0.0.1", 0)
        self._connections: set[asyncio.Task] = set()
        self._held: list[asyncio.StreamWriter] = []
        self._fault: Fault | None = None
        self._left_bytes = 0
        self.url = ""
        self.bytes_s: int | None = None
        self.broken = asyncio.Event()

    def lead_to(self, url: str) -> None:
        """Let connections to come end at this origin."""
        parts = urlsplit(url)
        self._upstream = (parts.hostname or "", parts.port or 0)

    def break_after(self, after_bytes: int, fault: Fault) -> None:
        """Break the connection that carries the byte after so many more to the service.

        cut: both ends are hung up. hold: nothing is passed on any more, and no end is told.
        garble: one bit is turned.
        """
        self._fault, self._left_bytes = fault, after_bytes
        self.broken.clear()

    def hang_up_held(self) -> None:
        """End what `hold` holds."""
        while self._held:
            self._held.pop().transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            there, back = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        finally:
            self._connections.discard(task)
        self._connections.add(task)
        try:
            down = asyncio.create_task(self._pass_down(there, writer))
            await self._pass_up(reader, back, writer)
            back.close()
            await down
        except (ConnectionError, asyncio.CancelledError):
            back.transport.abort()
            writer.transport.abort()
        finally:
            self._connections.discard(task)

    async def _pass_up(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
    ) -> None:
        while block := await reader.read(_BLOCK_BYTES):
            self._left_bytes -= len(block)
            if self._fault is not None and self._left_bytes < 0:
                fault, self._fault = self._fault, None
                if fault == "garble":
                    block = bytes([block[0] ^ 1]) + block[1:]
                else:
                    await self._break(fault, back, writer)
            back.write(block)
            await back.drain()
            if self.bytes_s is not None:
                await asyncio.sleep(len(block) / self.bytes_s)

    async def _break(
        self, fault: Fault, back: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        # What was passed on is to arrive: what is in a socket that is aborted never does.
        await back.drain()
        await asyncio.sleep(0.2)
        if fault == "cut":
            self.broken.set()
            raise ConnectionResetError
        self._held += [back, writer]
        self.broken.set()
        await asyncio.Event().wait()

    @staticmethod
    async def _pass_down(there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while block := await there.read(_BLOCK_BYTES):
                writer.write(block)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def open_relay() -> AsyncIterator[Relay]:
    relay = Relay()
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(server.close)
        stack.push_async_callback(relay.close)
        yield relay
