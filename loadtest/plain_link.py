"""One keep-alive HTTP/1.1 connection on a plain blocking socket: what gevent and Locust drive."""

import socket
import time
from collections.abc import Sequence
from typing import Final

from loadtest.link import Answer, LinkBroken

_HEAD_END: Final = b"\r\n\r\n"
_RECEIVE_BYTES: Final = 64 * 1024


class PlainLink:
    """Sends one request at a time; answers must have a Content-Length."""

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        """Connect.

        Raises:
            LinkBroken: refused, or no answer in time.
        """
        try:
            self._socket = socket.create_connection((host, port), timeout_s)
        except OSError as error:
            raise LinkBroken(str(error)) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()

    def ask(self, head: bytes, body: Sequence[bytes | memoryview] = ()) -> Answer:
        """Send a request and return its answer.

        Raises:
            LinkBroken: the connection is gone, or was silent too long.
        """
        try:
            for block in (head, *body):
                self._socket.sendall(block)
            return self._read_answer(has_body=not head.startswith(b"HEAD "))
        except LinkBroken:
            self._socket.close()
            raise
        except OSError as error:
            self._socket.close()
            raise LinkBroken(str(error)) from error

    def send_in_part(
        self, head: bytes, body: Sequence[bytes | memoryview], *, body_bytes: int, is_rude: bool
    ) -> None:
        """Send a request up to `body_bytes` of its body, then hang up (rudely: by a reset).

        Raises:
            LinkBroken: the connection was gone before.
        """
        try:
            self._socket.sendall(head)
            for block in body:
                self._socket.sendall(block[:body_bytes])
                body_bytes -= min(len(block), body_bytes)
            if is_rude:
                # Linger for no time: the close is a reset.
                linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except OSError as error:
            raise LinkBroken(str(error)) from error
        finally:
            self._socket.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read_answer(self, *, has_body: bool) -> Answer:
        while (end := self._received.find(_HEAD_END)) < 0:
            self._receive()
        head = bytes(self._received[:end]).lower()
        del self._received[: end + len(_HEAD_END)]
        bare = Answer(int(head[9:12]), b"", head)
        # The answer to a HEAD tells the length of a body that does not come.
        length_bytes = int(bare.find_field("Content-Length") or 0) if has_body else 0
        while len(self._received) < length_bytes:
            self._receive()
        body = bytes(self._received[:length_bytes])
        del self._received[:length_bytes]
        return Answer(bare.status, body, head, time.perf_counter())

    def _receive(self) -> None:
        block = self._socket.recv(_RECEIVE_BYTES)
        if not block:
            message = "the service closed the connection"
            raise LinkBroken(message)
        self._received += block
