"""A TCP proxy in front of one server, and the weather that connections through it suffer."""

import asyncio
import random
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

LOOPBACK: Final = "127.0.0.1"
BLOCK_BYTES: Final = 64 * 1024
_BACKLOG: Final = 8192
# With this, closing sends RST instead of FIN.
_RESET: Final = struct.pack("ii", 1, 0)

Direction = Literal["up", "down"]


class Broken(Exception):
    """The weather has ended a connection."""


@dataclass(slots=True)
class Weather:
    """What connections suffer now; all of it may be set at any time.

    latency_s    before every block, and up to as much again
    bytes_s      of all connections together, each direction; None: as fast as they come
    reset_bytes  a connection is reset after at most so many bytes, drawn anew for each; None: never
    cut_bytes    its answers end, in good order, after at most so many bytes; None: never
    is_hole      what is on the way vanishes, and whoever was met by it stays half-open until its
                 ends give up
    is_closed    nobody is let in
    """

    latency_s: float = 0.0
    bytes_s: float | None = None
    reset_bytes: int | None = None
    cut_bytes: int | None = None
    is_hole: bool = False
    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Passage:
    """One connection through the relay: the client's end and the server's."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    is_lost: bool = False
    budget: dict[str, int] = field(default_factory=dict)

    def abort(self, *, is_rude: bool) -> None:
        """Hang up on both ends."""
        for writer in (self.near, self.far):
            if is_rude:
                endpoint = writer.get_extra_info("socket")
                # uvloop: a socket that is closed already has no descriptor any more.
                with suppress(OSError, AttributeError, ValueError):
                    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            else:
                writer.close()


@dataclass(slots=True, eq=False)
class Relay:
    """Passes bytes between one port of ours and a server, in the present weather.

    name      of the link, for people
    upstream  port of 127.0.0.1 of the server; asked anew for each connection
    counts    what happened: connections, resets, cuts, lost, refused
    """

    name: str
    upstream: Callable[[], int]
    seeded: random.Random
    weather: Weather = field(default_factory=Weather)
    counts: dict[str, int] = field(default_factory=dict)
    port: int = 0
    _passages: set[Passage] = field(default_factory=set)
    _free_at: dict[str, float] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Hang up on everybody and listen no more."""
        if self._server is not None:
            self._server.close()
        self.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang_up(self) -> None:
        """Reset every connection."""
        for passage in list(self._passages):
            passage.abort(is_rude=True)

    def count(self, what: str) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + 1

    async def converse(
        self, reader: asyncio.StreamReader, there: asyncio.StreamReader, passage: Passage
    ) -> None:
        """Carry both directions until both have ended; a subclass may listen in."""
        await asyncio.gather(self._pump(reader, passage, "up"), self._pump(there, passage, "down"))

    async def carry(self, block: bytes, passage: Passage, direction: Direction) -> None:
        """Bring a block to the other end, in the present weather.

        Raises:
            Broken: it did not get there, or not whole; the ends were hung up.
        """
        weather = self.weather
        if weather.is_hole and not passage.is_lost:
            passage.is_lost = True
            self.count("lost")
        if passage.is_lost:
            return
        if weather.latency_s:
            await asyncio.sleep(weather.latency_s * self.seeded.uniform(1, 2))
        if weather.bytes_s is not None:
            await self._wait_turn(len(block), weather.bytes_s, direction)
        writer = passage.far if direction == "up" else passage.near
        allowed, is_rude = self._allow(len(block), passage, direction)
        with suppress(ConnectionError, RuntimeError):
            writer.write(block[:allowed])
            await writer.drain()
        if allowed < len(block):
            self.count("resets" if is_rude else "cuts")
            passage.abort(is_rude=is_rude)
            raise Broken

    async def _wait_turn(self, size_bytes: int, bytes_s: float, direction: Direction) -> None:
        now = time.monotonic()
        self._free_at[direction] = (
            max(self._free_at.get(direction, 0.0), now) + size_bytes / bytes_s
        )
        await asyncio.sleep(self._free_at[direction] - now)

    def _allow(self, size_bytes: int, passage: Passage, direction: Direction) -> tuple[int, bool]:
        """Return how much of a block may pass, and whether the end is a reset."""
        limits = [("reset", self.weather.reset_bytes)]
        if direction == "down":
            limits.append(("cut", self.weather.cut_bytes))
        allowed, is_rude = size_bytes, False
        for kind, most_bytes in limits:
            if most_bytes is None:
                passage.budget.pop(kind, None)
                continue
            left = passage.budget.setdefault(kind, self.seeded.randrange(most_bytes))
            if left < allowed:
                allowed, is_rude = left, kind == "reset"
            passage.budget[kind] = left - size_bytes
        return max(allowed, 0), is_rude

    async def _pump(
        self, reader: asyncio.StreamReader, passage: Passage, direction: Direction
    ) -> None:
        while block := await reader.read(BLOCK_BYTES):
            await self.carry(block, passage, direction)
        # In a hole the other end is not told either.
        writer = passage.far if direction == "up" else passage.near
        if not passage.is_lost:
            with suppress(OSError, RuntimeError):
                # (uvloop's word for a connection that has been closed meanwhile.)
                writer.write_eof()

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            return
        self._tasks.add(task)
        try:
            await self._let_through(reader, near)
        finally:
            self._tasks.discard(task)

    async def _let_through(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        if self.weather.is_closed:
            self.count("refused")
            near.transport.abort()
            return
        self.count("connections")
        try:
            there, far = await asyncio.open_connection(LOOPBACK, self.upstream())
        except OSError:
            near.transport.abort()
            return
        passage = Passage(near, far)
        self._passages.add(passage)
        try:
            await self.converse(reader, there, passage)
        except (Broken, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self._passages.discard(passage)
            for writer in (near, far):
                writer.close()
