"""The relay before S3: it understands HTTP, so that it can answer in the store's stead."""

import asyncio
from dataclasses import dataclass, field
from typing import Final, Literal

from loadtest.chaos.relay import BLOCK_BYTES, Broken, Passage, Relay

Fault = Literal[
    "refused", "slow_down", "stored_refused", "stored_lost", "error_in_200", "truncated"
]

_HEAD_END: Final = b"\r\n\r\n"
_INFORMATIONAL: Final = 200
_NO_CONTENT: Final = frozenset({204, 304})
_REFUSALS: Final = ((500, "InternalError"), (503, "ServiceUnavailable"), (503, "SlowDown"))
_SLOW_DOWN: Final = (503, "SlowDown")
_HIDDEN_ERROR: Final = (200, "InternalError")


@dataclass(slots=True)
class Temper:
    """How often the store fails on a request, and in which ways.

    share   of requests that fail, 0..1
    faults  drawn from
    """

    share: float = 0.0
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class _Message:
    """The head of a request or an answer. length_bytes: of its body; None: it is chunked."""

    raw: bytes
    first: str
    length_bytes: int | None

    @property
    def status(self) -> int:
        return int(self.first.split(" ", 2)[1])

    @property
    def method(self) -> str:
        return self.first.split(" ", 1)[0]

    @property
    def is_join(self) -> bool:
        """Whether it asks for CompleteMultipartUpload, which may answer 200 and fail."""
        return self.method == "POST" and "uploadId=" in self.first


@dataclass(slots=True, eq=False)
class S3Relay(Relay):
    """A relay whose server may be made to fail, with the request carried out or not.

    refused, slow_down  not carried out: 500, 503 ServiceUnavailable, 503 SlowDown
    stored_refused      carried out, and answered by such an error
    stored_lost         carried out, and the answer never comes
    error_in_200        a join is answered by 200 and an error, carried out or not
    truncated           carried out, and the answer ends in the middle
    """

    temper: Temper = field(default_factory=Temper)

    async def converse(
        self, reader: asyncio.StreamReader, there: asyncio.StreamReader, passage: Passage
    ) -> None:
        """Carry request after request, and answer after answer."""
        while not reader.at_eof():
            raw = await reader.readuntil(_HEAD_END)
            if passage.is_lost or self.weather.is_hole:
                await self._swallow(reader, there, raw, passage)
                return
            request = _parse(raw)
            fault = self._draw(request)
            if fault in {"refused", "slow_down"} or (
                fault == "error_in_200" and self.seeded.random() < 0.5  # noqa: PLR2004 - a coin
            ):
                await self._drain(reader, request)
                await self._refuse(fault, passage)
                continue
            await self._exchange(reader, there, request, fault, passage)

    def _draw(self, request: _Message) -> Fault | None:
        temper = self.temper
        if not temper.faults or self.seeded.random() >= temper.share:
            return None
        fault = self.seeded.choice(temper.faults)
        if fault == "error_in_200" and not request.is_join:
            return None
        self.count(fault)
        return fault

    async def _swallow(
        self,
        reader: asyncio.StreamReader,
        there: asyncio.StreamReader,
        raw: bytes,
        passage: Passage,
    ) -> None:
        await self.carry(raw, passage, "up")
        await Relay.converse(self, reader, there, passage)

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        there: asyncio.StreamReader,
        request: _Message,
        fault: Fault | None,
        passage: Passage,
    ) -> None:
        await self.carry(request.raw, passage, "up")
        # Beside each other: the store may refuse before it has seen the whole body.
        sending = asyncio.create_task(self._forward(reader, request, passage, "up"))
        try:
            answer = _parse(await there.readuntil(_HEAD_END))
            while answer.status < _INFORMATIONAL:
                await self.carry(answer.raw, passage, "down")
                answer = _parse(await there.readuntil(_HEAD_END))
            if request.method == "HEAD" or answer.status in _NO_CONTENT:
                answer = _Message(answer.raw, answer.first, 0)
            if fault is None:
                await self.carry(answer.raw, passage, "down")
                await self._forward(there, answer, passage, "down")
                await sending
                return
            body = await self._drain(there, answer)
            await sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        if fault in {"stored_refused", "error_in_200"}:
            await self._refuse(fault, passage)
            return
        if fault == "truncated":
            whole = answer.raw + body
            await self.carry(whole[: self.seeded.randrange(1, len(whole))], passage, "down")
        passage.abort(is_rude=fault == "stored_lost")
        raise Broken

    async def _refuse(self, fault: Fault | None, passage: Passage) -> None:
        status, code = self.seeded.choice(_REFUSALS)
        if fault == "slow_down":
            status, code = _SLOW_DOWN
        elif fault == "error_in_200":
            status, code = _HIDDEN_ERROR
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>chaos</Message></Error>"
        head = (
            f"HTTP/1.1 {status} Chaos\r\nContent-Type: application/xml\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        await self.carry(f"{head}{body}".encode(), passage, "down")

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        message: _Message,
        passage: Passage,
        direction: Literal["up", "down"],
    ) -> None:
        if message.length_bytes is None:
            await self._forward_chunks(reader, passage, direction)
            return
        left = message.length_bytes
        while left:
            block = await reader.read(min(BLOCK_BYTES, left))
            if not block:
                # One end is gone in the middle: so is the other.
                passage.abort(is_rude=True)
                raise Broken
            left -= len(block)
            await self.carry(block, passage, direction)

    async def _forward_chunks(
        self, reader: asyncio.StreamReader, passage: Passage, direction: Literal["up", "down"]
    ) -> None:
        is_last = False
        while not is_last:
            line = await reader.readuntil(b"\r\n")
            is_last = line.split(b";")[0].strip() == b"0"
            chunk = await reader.readexactly(int(line.split(b";")[0], 16) + 2)
            await self.carry(line + chunk, passage, direction)

    @staticmethod
    async def _drain(reader: asyncio.StreamReader, message: _Message) -> bytes:
        """Read a body that goes nowhere; return it."""
        if message.length_bytes is not None:
            return await reader.readexactly(message.length_bytes)
        read = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            read += line + await reader.readexactly(int(line.split(b";")[0], 16) + 2)
            if line.split(b";")[0].strip() == b"0":
                return read


def _parse(raw: bytes) -> _Message:
    first, *lines = raw.decode("latin-1").split("\r\n")
    fields = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    if "chunked" in fields.get("transfer-encoding", "").lower():
        return _Message(raw, first, None)
    return _Message(raw, first, int(fields.get("content-length", "0")))
