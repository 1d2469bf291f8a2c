"""HTTP/1.1 as uvicorn speaks it, with limits to what a stranger may make a process keep.

uvicorn has no limit of its own on the head of a request, on the time it takes, nor on what is
still read of a request that was answered early.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Self, cast

from httptools import HttpRequestParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingest_service import telemetry
from ingest_service.api.intake import BodyIntake
from ingest_service.api.problems import problem_response
from ingest_service.domain.clock import utc_now
from ingest_service.domain.ids import make_id
from ingest_service.errors import HeadTooLarge, IngestError, MalformedRequest

# tus metadata may take 16 KiB of it.
HEAD_BYTES_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 100
HEAD_TIMEOUT_S: Final = 30.0
# A chunk that is refused early is read to its end, so that its connection can be used again.
DRAIN_BYTES_MAX: Final = 16 * 1024 * 1024
# Nobody waits for it, so it has no right to trickle.
DRAIN_TIMEOUT_S: Final = 60.0

# Two changes of the transport's protocol cost as much as the copies that they save in this much.
INTAKE_BYTES_MIN: Final = 128 * 1024
# A body that is longer than what came with its head goes past the parser, which would copy it.
_CONTENT_LENGTH: Final = b"content-length"
_TRANSFER_ENCODING: Final = b"transfer-encoding"
_HOST: Final = b"host"
_HTTP_1_1: Final = "1.1"
# Under these names the lifespan's state says how many connections an address may have (0: any
# number), and keeps how many it has.
CONNECTIONS_MAX: Final = "ingest.connections_per_address_max"
_CONNECTIONS: Final = "ingest.connections_by_address"

_REASONS: Final = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


class _Blocks:
    """What arrived of a body and was not read yet; a single block is handed on as it is."""

    __slots__ = ("_blocks", "_length")

    def __init__(self) -> None:
        self._blocks: list[bytes | memoryview] = []
        self._length = 0

    def __iadd__(self, block: bytes | memoryview) -> Self:
        self._blocks.append(block)
        self._length += len(block)
        return self

    def __len__(self) -> int:
        return self._length

    def take(self) -> bytes | memoryview:
        """Hand everything over."""
        blocks, self._blocks, self._length = self._blocks, [], 0
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)


class _UncopiedCycle(RequestResponseCycle):
    """uvicorn's own copies every body twice: into a bytearray, and out of it again.

    A block may be a `memoryview` instead of `bytes`.
    """

    @property  # type: ignore[override]
    def body(self) -> _Blocks:
        """What `receive` hands on next."""
        blocks: _Blocks | None = self.__dict__.get("_blocks")
        if blocks is None:
            blocks = self.__dict__["_blocks"] = _Blocks()
        return blocks

    @body.setter
    def body(self, blocks: "_Blocks | bytearray") -> None:
        self.__dict__["_blocks"] = blocks if isinstance(blocks, _Blocks) else _Blocks()

    async def receive(self) -> Any:  # noqa: ANN401 - uvicorn's own
        """Return the next of the body, as uvicorn does."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            await self.message_event.wait()
            self.message_event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.body.take(), "more_body": self.more_body}


class GuardedProtocol(HttpToolsProtocol):
    """One connection: an endless head, a silent caller or an endless refused body ends it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._unread_bytes = 0
        self._declared_bytes: int | None = None
        self._parsed_bytes = 0
        self._past_parser_bytes = 0
        self._is_in_head = False
        self._is_in_body = False
        self._trailers: list[tuple[bytes, bytes]] = []
        self._head_timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Event | None = None
        self._host_count = 0
        self._codings: list[bytes] = []
        self._address: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a head."""
        super().connection_made(transport)
        if not self._take_seat():
            # Not a word: what is written for each of a flood costs more than the flood.
            telemetry.CONNECTIONS_REFUSED.inc()
            transport.abort()
            return
        self._start_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._leave_seat()
        super().connection_lost(exc)

    def _take_seat(self) -> bool:
        """Count the connection with those of its address; False: that has as many as it may."""
        connections_max = self.app_state.get(CONNECTIONS_MAX, 0)
        if not connections_max or self.client is None:
            return True
        seats = self.app_state.setdefault(_CONNECTIONS, {})
        address = self.client[0]
        taken = seats.get(address, 0)
        if taken >= connections_max:
            return False
        seats[address] = taken + 1
        self._address = address
        return True

    def _leave_seat(self) -> None:
        if self._address is None:
            return
        seats = self.app_state[_CONNECTIONS]
        seats[self._address] -= 1
        if not seats[self._address]:
            del seats[self._address]
        self._address = None

    def data_received(self, data: bytes) -> None:
        """Parse what came, and look whether it leads anywhere."""
        was_answered = self._is_in_body and self.cycle.response_complete
        if self._past_parser_bytes:
            self._pass_parser(data)
        else:
            super().data_received(data)
            if self._is_in_body and self._declared_bytes is not None:
                # The rest of this body is that long, whatever is in it: nothing to parse.
                self._past_parser_bytes = self._declared_bytes - self._parsed_bytes
                if self._past_parser_bytes >= INTAKE_BYTES_MIN:
                    intake = BodyIntake(self, self._past_parser_bytes, self._take_block)
                    self.transport.set_protocol(intake)
        if self._is_in_head:
            self._unread_bytes += len(data)
            if self._unread_bytes > HEAD_BYTES_MAX:
                self._refuse(HeadTooLarge(HEAD_BYTES_MAX, HEADERS_MAX))
        elif self._is_in_body and was_answered:
            self._drain(len(data))

    def _take_block(self, block: memoryview) -> None:
        """Take what the intake has, which ends with the body."""
        was_answered = self.cycle.response_complete
        self._pass_parser(block)
        if not self._past_parser_bytes:
            self.transport.set_protocol(self)
        if was_answered:
            self._drain(len(block))

    def _drain(self, length_bytes: int) -> None:
        """Count what nobody reads any more."""
        self._unread_bytes += length_bytes
        if self._is_in_body and self._head_timer is None:
            self._start_waiting(DRAIN_TIMEOUT_S)
        if self._unread_bytes > DRAIN_BYTES_MAX:
            self.transport.close()

    def _pass_parser(self, data: bytes | memoryview) -> None:
        """Hand on the next of a body of known length as it came (RFC 9112, section 6.2)."""
        self._unset_keepalive_if_required()
        left = self._past_parser_bytes
        block, rest = (data, b"") if len(data) <= left else (data[:left], data[left:])
        self._past_parser_bytes -= len(block)
        self.on_body(block)
        if self._past_parser_bytes == 0:
            self.on_message_complete()
            # The old one still waits for the body's end.
            self.parser = HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            if rest:
                super().data_received(bytes(rest))

    def on_body(self, body: bytes | memoryview) -> None:
        """Take a piece of the body."""
        self._parsed_bytes += len(body)
        super().on_body(cast("bytes", body))  # it goes into `_UncopiedCycle.body` as it is

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._declared_bytes = None
        self._parsed_bytes = 0
        self._head_bytes = self._unread_bytes = 0
        self._is_in_head = True
        self._host_count = 0
        self._codings = []
        self._trailers = []
        if self._head_timer is None:
            self._start_waiting()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._head_bytes += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a field of the head (or of the trailer).

        Raises:
            HeadTooLarge: httptools turns it into a parser error, which ends in a refusal.
        """
        self._head_bytes += len(name) + len(value)
        if (
            self._head_bytes > HEAD_BYTES_MAX
            or len(self.headers) + len(self._trailers) >= HEADERS_MAX
        ):
            raise HeadTooLarge(HEAD_BYTES_MAX, HEADERS_MAX)
        if self._is_in_body:
            # uvicorn would let it pass for a header, after those were checked.
            self._trailers.append((name.lower(), value))
            return
        super().on_header(name, value)
        name = self.headers[-1][0]
        if name == _CONTENT_LENGTH:
            # The parser has refused what is no number, and any Transfer-Encoding beside it.
            self._declared_bytes = int(value)
        elif name == _HOST:
            self._host_count += 1
        elif name == _TRANSFER_ENCODING:
            self._codings.append(value)

    def on_headers_complete(self) -> None:
        """Leave the head; the application finds the trailer where it looks when the body ended.

        Raises:
            MalformedRequest: as from `on_header`, a parser error.
        """
        self._refuse_ambiguity()
        self.scope["extensions"] = {
            "ingest.wire": {
                "trailers": self._trailers,
                "inform": self._inform,
                "watch_ending": self._watch_ending,
            }
        }
        super().on_headers_complete()
        # uvicorn offers no place to name another class; nothing was put into this one yet.
        self.cycle.__class__ = _UncopiedCycle
        self._is_in_head = False
        self._is_in_body = True
        self._unread_bytes = 0
        self._stop_waiting()

    def _refuse_ambiguity(self) -> None:
        """Refuse what a proxy before us may have read otherwise, and what the parser lets pass."""
        version = self.parser.get_http_version()
        if self._host_count > 1 or (self._host_count == 0 and version == _HTTP_1_1):
            reason = "a request has one Host"  # RFC 9112, section 3.2
            raise MalformedRequest(reason)
        if self._codings and (version != _HTTP_1_1 or _join(self._codings) != b"chunked"):
            # RFC 9112, section 6.1: another coding would have to be undone, HTTP/1.0 has none.
            reason = "the only transfer coding is chunked"
            raise MalformedRequest(reason)

    def _inform(self, headers: Mapping[str, str]) -> None:
        """Send 104 (Upload Resumption Supported), which ASGI has no message for.

        The application's request is the one whose answer is due, so nothing is mixed up.
        """
        if self.cycle.response_started or self.transport.is_closing():
            return
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(["HTTP/1.1 104 Upload Resumption Supported", *lines, "", ""])
        self.transport.write(head.encode("latin-1"))

    def _watch_ending(self) -> asyncio.Event:
        """Return what is set when the process drains: who answers without end then comes to one."""
        if self._ending is None:
            self._ending = asyncio.Event()
        return self._ending

    def shutdown(self) -> None:
        """End the connection, or let the answer that is under way be the last."""
        if self._ending is not None:
            self._ending.set()
        super().shutdown()

    def on_message_complete(self) -> None:
        """Leave the body."""
        self._is_in_body = False
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem document, as everything else."""
        if self._head_bytes > HEAD_BYTES_MAX or len(self.headers or ()) >= HEADERS_MAX:
            self._refuse(HeadTooLarge(HEAD_BYTES_MAX, HEADERS_MAX))
        else:
            self._refuse(MalformedRequest(msg))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401
        if cycle.waiting_for_100_continue:
            app = _CloseUnlessRead(cast("ASGIApp", app), cycle)
        super()._start_asgi_task(cycle, app)

    def _refuse(self, error: IngestError) -> None:
        """Answer outside of any application, then hang up."""
        if self.transport.is_closing():
            return
        # An answer that is under way (or owed to an earlier request) is not to be mixed with ours.
        is_owed = self.cycle is not None and not self.cycle.response_complete
        if not is_owed or (self._is_in_body and not self.cycle.response_started):
            request_id = make_id(utc_now()).hex
            response = problem_response(error, request_id=request_id)
            lines = [
                b"HTTP/1.1 %d %s" % (response.status_code, _REASONS[response.status_code]),
                *(b"%s: %s" % field for field in response.raw_headers),
                b"x-request-id: " + request_id.encode(),
                b"connection: close",
            ]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self._is_in_head = self._is_in_body = False
        self.transport.close()

    def _start_waiting(self, timeout_s: float | None = None) -> None:
        """Give the caller so long to end its head, or the body that was refused."""
        wait_s = HEAD_TIMEOUT_S if timeout_s is None else timeout_s
        self._head_timer = self.loop.call_later(wait_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.close()


def _join(codings: list[bytes]) -> bytes:
    return b",".join(codings).strip().lower()


class _CloseUnlessRead:
    """A caller that waits for `100 Continue` and is refused need not send its body.

    Whether it does is its choice, so what it sends next cannot be told from a new request: the
    connection ends with the answer (RFC 9110, section 10.1.1).
    """

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and self._cycle.waiting_for_100_continue:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, send_and_close)
