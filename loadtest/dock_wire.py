"""The native API as bytes on the wire: what a dock sends, made before the clock runs."""

import asyncio
import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from loadtest.footage import PATTERN_BYTES, make_chunk, make_stamp
from loadtest.link import Answer, Link

_STATUS_OK: Final = 200
_STATUS_CREATED: Final = 201
_STATUS_ACCEPTED: Final = 202
_STATUS_NO_CONTENT: Final = 204
_APPEND_TYPE: Final = "application/offset+octet-stream"
_SLICE_BYTES: Final = 64 * 1024
_SEAL_PAUSE_S: Final = 0.2
_RECEIPT_PAUSE_S: Final = 0.5


class Refused(Exception):
    """The service answered otherwise than a load test can go on with."""

    def __init__(self, *, step: str, answer: Answer) -> None:
        super().__init__(f"{step}: {answer.status} {answer.body[:500].decode('utf-8', 'replace')}")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Wire:
    """Where the service is and who asks."""

    host: str
    port: int
    token: str

    def head(self, method: str, path: str, length_bytes: int = 0, extra: str = "") -> bytes:
        """Return the head of a request."""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\nContent-Length: {length_bytes}\r\n{extra}\r\n"
        ).encode()


@dataclass(frozen=True, slots=True)
class ClipOnWire:
    """One clip that is about to be sent: footage of `size_bytes`, in chunks of PATTERN_BYTES.

    sha256_hex    of the whole clip
    digest_full   Content-Digest of every chunk but a shorter last one
    digest_last   Content-Digest of the last chunk
    """

    number: int
    run: str
    size_bytes: int
    stamp: bytes
    sha256_hex: str
    digest_full: str
    digest_last: str

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return -(-self.size_bytes // PATTERN_BYTES)

    def chunk_bytes(self, index: int) -> int:
        """Length of one chunk."""
        return min(PATTERN_BYTES, self.size_bytes - index * PATTERN_BYTES)

    def announcement(self) -> bytes:
        """Return the JSON body that announces it."""
        return json.dumps(
            {
                "device_serial": f"BWC-{self.number % 1000:06d}",
                "recording_id": f"{self.run}-{self.number}",
                "size_bytes": self.size_bytes,
                "sha256_device": self.sha256_hex,
                "started_at": "2026-11-21T22:14:05Z",
                "ended_at": "2026-11-21T22:31:40Z",
                "clock_state": "synced",
                "clock_offset_ms": -420,
                "clock_uncertainty_ms": 20,
                "officer_id": "P1042",
                "category": "stop_and_search",
            }
        ).encode()


def make_clip(run: str, number: int, size_bytes: int) -> ClipOnWire:
    """Return a clip with all its digests; hashes every byte of it once."""
    stamp = make_stamp(number)
    full_count, last_bytes = divmod(size_bytes, PATTERN_BYTES)
    whole = hashlib.sha256()
    full = make_chunk(stamp, PATTERN_BYTES)
    for _ in range(full_count):
        for buffer in full:
            whole.update(buffer)
    last = make_chunk(stamp, last_bytes)
    for buffer in last:
        whole.update(buffer)
    digest_full = _content_digest(full) if full_count else ""
    return ClipOnWire(
        number=number,
        run=run,
        size_bytes=size_bytes,
        stamp=stamp,
        sha256_hex=whole.hexdigest(),
        digest_full=digest_full,
        digest_last=_content_digest(last) if last_bytes else digest_full,
    )


def make_unsealed_clip(run: str, number: int, size_bytes: int) -> ClipOnWire:
    """Return a clip that will never be sealed: its whole hash is not computed."""
    stamp = make_stamp(number)
    digest = _content_digest(make_chunk(stamp, PATTERN_BYTES))
    return ClipOnWire(number, run, size_bytes, stamp, "0" * 64, digest, digest)


def _content_digest(buffers: list[memoryview]) -> str:
    digest = hashlib.sha256()
    for buffer in buffers:
        digest.update(buffer)
    return f"Content-Digest: sha-256=:{base64.b64encode(digest.digest()).decode()}:\r\n"


async def announce(link: Link, wire: Wire, clip: ClipOnWire) -> str:
    """Announce a clip; return the path of its resource."""
    body = clip.announcement()
    head = wire.head("POST", "/v1/clips", len(body), "Content-Type: application/json\r\n")
    answer = await link.ask(head, [body])
    if answer.status not in {200, 201}:
        raise Refused(step="announce", answer=answer)
    told = answer.json()
    if clip.chunk_count > 1 and told["chunk_bytes"] != PATTERN_BYTES:
        raise Refused(step="announce: another chunk size", answer=answer)
    chunks_url: str = told["chunks_url"]
    return urlsplit(chunks_url).path.removesuffix("/chunks")


async def send_chunk(
    link: Link,
    wire: Wire,
    clip: ClipOnWire,
    path: str,
    index: int,
    *,
    seals: bool = False,
    bytes_per_s: int | None = None,
) -> None:
    """Send one chunk; with `seals` it is the last one, and seals the clip.

    bytes_per_s  of the dock's uplink; None: as fast as the connection takes it
    """
    length_bytes = clip.chunk_bytes(index)
    digest = clip.digest_full if length_bytes == PATTERN_BYTES else clip.digest_last
    extra = f"{digest}Content-Type: application/octet-stream\r\n"
    query = "?seal=true" if seals else ""
    head = wire.head("POST", f"{path}/chunks/{index}{query}", length_bytes, extra)
    body = make_chunk(clip.stamp, length_bytes)
    if bytes_per_s is None:
        answer = await link.ask(head, body)
    else:
        every_s = _SLICE_BYTES / bytes_per_s
        answer = await link.ask_slowly(head, body, slice_bytes=_SLICE_BYTES, every_s=every_s)
    if answer.status not in {200, 201}:
        raise Refused(step=f"chunk {index}", answer=answer)
    if seals and answer.json()["sealed"] is None:
        raise Refused(step="seal with the last chunk", answer=answer)


async def create_whole(link: Link, wire: Wire, clip: ClipOnWire) -> str:
    """Send a clip by one request (tus creation-with-upload); return the path of its resource."""
    extra = f"{_tus_fields(clip)}Content-Type: {_APPEND_TYPE}\r\n"
    head = wire.head("POST", "/files", clip.size_bytes, extra)
    answer = await link.ask(head, make_chunk(clip.stamp, clip.size_bytes))
    if answer.status != _STATUS_CREATED:
        raise Refused(step="create", answer=answer)
    return f"/v1/clips/{answer.find_field('ingest-clip-id')}"


async def open_tus(link: Link, wire: Wire, clip: ClipOnWire) -> tuple[str, str]:
    """Open an upload by tus; return its path and that of the clip's resource."""
    answer = await link.ask(wire.head("POST", "/files", 0, _tus_fields(clip)))
    if answer.status != _STATUS_CREATED:
        raise Refused(step="open", answer=answer)
    upload_path = urlsplit(answer.find_field("location") or "").path
    return upload_path, f"/v1/clips/{answer.find_field('ingest-clip-id')}"


async def append_tus(
    link: Link, wire: Wire, clip: ClipOnWire, upload_path: str, index: int, chunk_count: int
) -> None:
    """Send so many chunks of a clip, from this one on, by one PATCH."""
    lengths = [clip.chunk_bytes(each) for each in range(index, index + chunk_count)]
    extra = (
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: {index * PATTERN_BYTES}\r\n"
        f"Content-Type: {_APPEND_TYPE}\r\n"
    )
    head = wire.head("PATCH", upload_path, sum(lengths), extra)
    body = [buffer for length in lengths for buffer in make_chunk(clip.stamp, length)]
    answer = await link.ask(head, body)
    if answer.status != _STATUS_NO_CONTENT:
        raise Refused(step=f"append at chunk {index}", answer=answer)


def _tus_fields(clip: ClipOnWire) -> str:
    said = json.loads(clip.announcement())
    pairs = (
        f"{key} {base64.b64encode(str(value).encode()).decode()}" for key, value in said.items()
    )
    return (
        f"Tus-Resumable: 1.0.0\r\nUpload-Length: {clip.size_bytes}\r\n"
        f"Upload-Metadata: {','.join(pairs)}\r\n"
    )


async def seal(link: Link, wire: Wire, path: str) -> None:
    """Seal a clip; return when nothing more can be written to it."""
    while True:
        answer = await link.ask(wire.head("POST", f"{path}/seal"))
        if answer.status == _STATUS_OK:
            return
        if answer.status != _STATUS_ACCEPTED:
            raise Refused(step="seal", answer=answer)
        await asyncio.sleep(_SEAL_PAUSE_S)


async def wait_for_release(link: Link, wire: Wire, clip: ClipOnWire, path: str) -> None:
    """Return when the receipt is there; it must state the clip's own hash."""
    while True:
        answer = await link.ask(wire.head("GET", f"{path}/receipt"))
        if answer.status == _STATUS_OK:
            break
        if answer.status != _STATUS_ACCEPTED:
            raise Refused(step="receipt", answer=answer)
        await asyncio.sleep(_RECEIPT_PAUSE_S)
    facts = json.loads(answer.json()["leaf"])["facts"]
    if facts["sha256_readback"] != clip.sha256_hex:
        raise Refused(step="receipt for other bytes", answer=answer)
