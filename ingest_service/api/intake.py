"""A long body on its way from the socket into memory, once.

An `asyncio.Protocol` gets bytes that the event loop copied out of its own buffer. A
`BufferedProtocol` lends its memory: the socket's bytes land where the hash and the store's
connection read them.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

# A quick dock's blocks grow to this; more would fall out of a core's own cache between the
# socket, the hash and the store.
ARENA_BYTES_MAX: Final = 512 * 1024
# A slow dock holds this much; thousands of them may send at once.
ARENA_BYTES_MIN: Final = 32 * 1024
# What is left of an arena is filled, too, if it is worth a call.
_ROOM_BYTES_MIN: Final = 16 * 1024


class Connection(Protocol):
    """What hears of everything but the body's bytes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up."""

    def eof_received(self) -> bool | None:
        """The other side sends no more."""

    def pause_writing(self) -> None:
        """Write no more."""

    def resume_writing(self) -> None:
        """Write on."""


class BodyIntake(asyncio.BufferedProtocol):
    """Takes the transport's protocol's place until the body's last byte is there, not one longer.

    take  gets every block, at least one byte long; nobody writes into it any more
    """

    def __init__(
        self, connection: Connection, left_bytes: int, take: Callable[[memoryview], None]
    ) -> None:
        self._connection = connection
        self._left_bytes = left_bytes
        self._take = take
        self._arena_bytes = ARENA_BYTES_MIN
        self._room = memoryview(b"")
        self._is_fresh = False

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the loop's guess
        """Lend room for the next bytes, never for more than belongs to the body."""
        if len(self._room) < _ROOM_BYTES_MIN:
            self._room = memoryview(bytearray(self._arena_bytes))
            self._is_fresh = True
        return self._room[: self._left_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what came."""
        block, room = self._room[:nbytes], self._room[nbytes:]
        # Only one read that fills a whole arena asks for more: many small ones fill it, too.
        if not room and self._is_fresh:
            self._arena_bytes = min(2 * self._arena_bytes, ARENA_BYTES_MAX)
        elif room and nbytes < self._arena_bytes // 4:
            self._arena_bytes = max(self._arena_bytes // 2, ARENA_BYTES_MIN)
        self._is_fresh = False
        self._room = room
        self._left_bytes -= nbytes
        self._take(block)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand on."""
        self._connection.connection_lost(exc)

    def eof_received(self) -> bool | None:
        """Hand on."""
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        """Hand on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Hand on."""
        self._connection.resume_writing()
