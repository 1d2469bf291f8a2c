"""Docks that keep to the protocol and remember what the service acknowledged; raw httpx."""

import asyncio
import base64
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

TUS = {"Tus-Resumable": "1.0.0"}
APPEND = TUS | {"Content-Type": "application/offset+octet-stream"}
RETRY_STATUS = {423, 503}


@dataclass(frozen=True)
class Recording:
    """A clip on a camera of its own."""

    serial: str
    content: bytes

    sha256: str


def make_recording(length_bytes: int) -> Recording:
    content = os.urandom(length_bytes)
    return Recording(f"BWC-{secrets.token_hex(6)}", content, hashlib.sha256(content).hexdigest())


class Dock(Protocol):
    """`bring_in` begins or goes on; it may be called again after any failure."""

    recording: Recording
    clip_id: str | None

    @property
    def acknowledged_bytes(self) -> int: ...

    async def bring_in(self, http: httpx.AsyncClient) -> None: ...


@dataclass
class Refused:
    """An answer that said 'later', for the tests to look at."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes


@dataclass
class Patience:
    """How a dock takes 423, 503 and lost connections: it may try again, for `wait_s` at a time.

    pace_s  rest before each request, for uploads that take a while
    """

    wait_s: float = 0.1
    tries: int = 1
    pace_s: float = 0
    refused: list[Refused] = field(default_factory=list)

    async def ask(self, send: Callable[[], Any]) -> httpx.Response:
        await asyncio.sleep(self.pace_s)
        for left in reversed(range(self.tries)):
            try:
                answer = await send()
            except httpx.TransportError:
                if not left:
                    raise
            else:
                if answer.status_code not in RETRY_STATUS:
                    return answer
                self.refused.append(
                    Refused(
                        answer.status_code,
                        answer.headers.get("content-type", ""),
                        answer.headers.get("retry-after"),
                        answer.content,
                    )
                )
                if not left:
                    return answer
            await asyncio.sleep(self.wait_s)
        raise AssertionError


@dataclass
class NativeDock:
    """Announces, sends what is missing chunk by chunk, seals.

    acknowledged  indices of the chunks that were answered with 200 or 201
    """

    recording: Recording
    order: Callable[[Sequence[int]], Iterator[int]] = iter
    patience: Patience = field(default_factory=Patience)
    clip_id: str | None = None
    acknowledged: set[int] = field(default_factory=set)
    is_sealed: bool = False
    chunk_bytes: int = 0

    async def bring_in(self, http: httpx.AsyncClient) -> None:
        await self.bring_in_unsealed(http)
        while not self.is_sealed:
            answer = await self.patience.ask(lambda: http.post(f"/v1/clips/{self.clip_id}/seal"))
            assert answer.status_code in {200, 202}, answer.text
            self.is_sealed = answer.status_code == 200

    @property
    def acknowledged_bytes(self) -> int:
        return min(len(self.acknowledged) * self.chunk_bytes, len(self.recording.content))

    async def bring_in_unsealed(self, http: httpx.AsyncClient) -> None:
        await self.announce(http)
        for index in self.order(await self.ask_missing(http)):
            await self.send_chunk(http, index)

    async def announce(self, http: httpx.AsyncClient) -> None:
        announcement = {
            "device_serial": self.recording.serial,
            "recording_id": "recording-1",
            "size_bytes": len(self.recording.content),
            "sha256_device": self.recording.sha256,
        }
        answer = await self.patience.ask(lambda: http.post("/v1/clips", json=announcement))
        assert answer.status_code in {200, 201}, answer.text
        plan = answer.json()
        assert self.clip_id in {None, plan["clip_id"]}, "the clip has got another name"
        self.clip_id = plan["clip_id"]
        self.chunk_bytes = plan["chunk_bytes"]

    async def ask_missing(self, http: httpx.AsyncClient) -> list[int]:
        answer = await self.patience.ask(lambda: http.get(f"/v1/clips/{self.clip_id}/chunks"))
        assert answer.status_code == 200, answer.text
        missing = [
            index for first, last in answer.json()["missing"] for index in range(first, last + 1)
        ]
        lost = self.acknowledged.intersection(missing)
        assert not lost, f"acknowledged chunks {sorted(lost)} are lost"
        assert not (self.is_sealed and missing), f"{missing} are missing after the seal"
        return missing

    async def send_chunk(self, http: httpx.AsyncClient, index: int) -> None:
        request = self.make_chunk(index)
        answer = await self.patience.ask(lambda: http.post(**request))
        assert answer.status_code in {200, 201}, answer.text
        self.acknowledged.add(index)

    def make_chunk(self, index: int) -> dict[str, Any]:
        start = index * self.chunk_bytes
        chunk = self.recording.content[start : start + self.chunk_bytes]
        digest = base64.b64encode(hashlib.sha256(chunk).digest()).decode()
        return {
            "url": f"/v1/clips/{self.clip_id}/chunks/{index}",
            "content": chunk,
            "headers": {"Content-Digest": f"sha-256=:{digest}:"},
        }


@dataclass
class TusDock:
    """Opens an upload and appends up to each of `cuts` in turn, then the rest.

    acknowledged  the highest offset that any answer named
    with_upload   the first piece goes with the POST
    is_chunked    bodies go in chunked coding, their length untold
    hang_up_at    this offset is never reached in one piece: the dock hangs up there
    """

    recording: Recording
    cuts: Sequence[int] = ()
    with_upload: bool = False
    is_chunked: bool = False
    hang_up_at: int | None = None
    patience: Patience = field(default_factory=Patience)
    path: str | None = None
    clip_id: str | None = None
    acknowledged: int = 0

    async def bring_in(self, http: httpx.AsyncClient) -> None:
        if self.path is None:
            await self.open(http)
        else:
            await self.ask_offset(http)
        while self.acknowledged < len(self.recording.content):
            await self.send_piece(http)

    async def open(self, http: httpx.AsyncClient) -> None:
        """Who never heard the Location opens another upload: that is the protocol."""
        serial = base64.b64encode(self.recording.serial.encode()).decode()
        headers = TUS | {
            "Upload-Length": str(len(self.recording.content)),
            "Upload-Metadata": f"device_serial {serial}",
        }
        body = b""
        if self.with_upload:
            headers |= APPEND
            body = self.next_piece()
        answer = await self.patience.ask(lambda: http.post("/files", headers=headers, content=body))
        assert answer.status_code == 201, answer.text
        self.path = urlsplit(answer.headers["location"]).path
        self.hear(answer)

    async def ask_offset(self, http: httpx.AsyncClient) -> int:
        answer = await self.patience.ask(lambda: http.head(self.path or "", headers=TUS))
        assert answer.status_code == 200, f"HEAD: {answer.status_code} {answer.headers}"
        self.hear(answer)
        return self.acknowledged

    async def send_piece(self, http: httpx.AsyncClient) -> None:
        piece, offset = self.next_piece(), self.acknowledged
        if self.hang_up_at is not None and offset <= self.hang_up_at < offset + len(piece):
            await self.hang_up(http, piece, self.hang_up_at - offset)
            return
        answer = await self.patience.ask(lambda: http.patch(**self.make_patch(piece)))
        if answer.status_code == 409:
            # A try before was counted although its answer was lost.
            await self.ask_offset(http)
            assert self.acknowledged > offset
            return
        assert answer.status_code == 204, answer.text
        self.hear(answer)
        assert self.acknowledged == offset + len(piece)

    def make_patch(self, piece: bytes) -> dict[str, Any]:
        return {
            "url": self.path,
            "headers": APPEND | {"Upload-Offset": str(self.acknowledged)},
            "content": trickle(piece) if self.is_chunked else piece,
        }

    @property
    def acknowledged_bytes(self) -> int:
        return self.acknowledged

    async def stall(
        self, http: httpx.AsyncClient, piece: bytes, after_bytes: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Begin to send a piece and fall silent."""
        url = http.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = [
            f"PATCH {self.path} HTTP/1.1",
            f"Host: {url.host}",
            f"Authorization: {http.headers['authorization']}",
            f"Upload-Offset: {self.acknowledged}",
            f"Content-Length: {len(piece)}",
            *(f"{name}: {value}" for name, value in APPEND.items()),
        ]
        writer.write("\r\n".join([*head, "", ""]).encode() + piece[:after_bytes])
        await writer.drain()
        return reader, writer

    async def hang_up(self, http: httpx.AsyncClient, piece: bytes, after_bytes: int) -> None:
        self.hang_up_at = None
        _, writer = await self.stall(http, piece, after_bytes)
        # Let it arrive: what is still in the socket when it closes was never received.
        await asyncio.sleep(0.15)
        writer.close()
        await asyncio.sleep(0.1)
        await self.ask_offset(http)

    def next_piece(self) -> bytes:
        ends = [*self.cuts, len(self.recording.content)]
        end = min(cut for cut in ends if cut > self.acknowledged)
        return self.recording.content[self.acknowledged : end]

    def hear(self, answer: httpx.Response) -> None:
        offset = int(answer.headers.get("upload-offset", "0"))
        assert offset >= self.acknowledged, f"offset {offset}, but {self.acknowledged} were kept"
        self.acknowledged = offset


async def trickle(piece: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(piece), 256 * 1024):
        yield piece[start : start + 256 * 1024]
