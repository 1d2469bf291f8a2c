"""An S3 that costs next to nothing: reads and drops bodies, answers like the real thing.

It measures what the ingest service costs by itself, without a store in the way. Of each body it
keeps the length and the first bytes (loadtest/footage.py), so that a read-back still matches.
Signatures are not checked. Never a place for evidence.

    python -m loadtest.null_s3 --port 0 --port-file FILE
"""

import argparse
import asyncio
import base64
import hashlib
import itertools
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

import uvloop

from loadtest.footage import PATTERN, PATTERN_BYTES, STAMP_BYTES

# One for all connections, so that it stays in the cache: nothing received outlives the callback.
RECEIVE_BUFFER_BYTES: Final = 256 * 1024
# Bodies up to this length are kept until their end, so that a wrong checksum of a small object is
# refused: whoever probes the store learns what a real one would say.
CHECKED_BODY_BYTES_MAX: Final = 1024
HEAD_BYTES_MAX: Final = 64 * 1024
XML_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'
XML_NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
_NOT_FOUND_STATUS: Final = "404 Not Found"


@dataclass(frozen=True, slots=True)
class Piece:
    """What is kept of one body: its first bytes and its length."""

    stamp: bytes
    length_bytes: int
    etag: str


@dataclass(frozen=True, slots=True)
class Held:
    """One object: the pieces that it was made of."""

    pieces: tuple[Piece, ...]
    etag: str
    version: str

    @property
    def length_bytes(self) -> int:
        """Length of the object."""
        return sum(piece.length_bytes for piece in self.pieces)


@dataclass(slots=True)
class Store:
    """Sizes and stamps of all objects and unfinished multipart uploads."""

    objects: dict[str, Held] = field(default_factory=dict)
    uploads: dict[str, dict[int, Piece]] = field(default_factory=dict)
    counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    buffer: bytearray = field(default_factory=lambda: bytearray(RECEIVE_BUFFER_BYTES))

    def make_etag(self) -> str:
        """Return a tag of the right shape; nothing is hashed."""
        return f"{next(self.counter):032x}"


def cut(held: Held, start: int, stop: int) -> Iterator[bytes | memoryview]:
    """Yield the bytes start..stop of an object, made again from its stamps."""
    pattern = memoryview(PATTERN)
    offset = 0
    for piece in held.pieces:
        at = max(start - offset, 0)
        end = min(stop - offset, piece.length_bytes)
        offset += piece.length_bytes
        if at < end and at < STAMP_BYTES:
            yield piece.stamp[at : min(end, STAMP_BYTES)]
            at = STAMP_BYTES
        while at < end:
            inside = at % PATTERN_BYTES
            step = min(end - at, PATTERN_BYTES - inside)
            yield pattern[inside : inside + step]
            at += step


class NullS3(asyncio.BufferedProtocol):
    """One connection: heads are parsed, bodies are counted."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.view = memoryview(store.buffer)
        self.head = bytearray()
        self.body = bytearray()
        self.left_bytes = 0
        self.keep_bytes = 0
        self.in_body = False
        self.method = ""
        self.target = ""
        self.headers: dict[str, str] = {}
        self.transport: asyncio.Transport
        self.may_write = asyncio.Event()
        self.sending: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]  # always a stream transport
        self.may_write.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Stop a download that nobody reads any more."""
        if self.sending is not None:
            self.sending.cancel()

    def pause_writing(self) -> None:
        """Hold a download back."""
        self.may_write.clear()

    def resume_writing(self) -> None:
        """Let a download go on."""
        self.may_write.set()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        """Lend the one buffer."""
        return self.store.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what arrived."""
        at = 0
        while at < nbytes:
            if not self.in_body:
                at = self._take_head(at, nbytes)
            if self.in_body:
                step = min(self.left_bytes, nbytes - at)
                if self.keep_bytes > len(self.body):
                    self.body += self.view[at : at + min(step, self.keep_bytes - len(self.body))]
                at += step
                self.left_bytes -= step
                if self.left_bytes == 0:
                    self.in_body = False
                    self._answer()

    def _take_head(self, at: int, stop: int) -> int:
        before = len(self.head)
        self.head += self.view[at:stop]
        end = self.head.find(b"\r\n\r\n", max(before - 3, 0))
        if end < 0:
            if len(self.head) > HEAD_BYTES_MAX:
                self.transport.abort()
            return stop
        request_line, *lines = bytes(self.head[:end]).decode("latin-1").split("\r\n")
        self.head.clear()
        self.method, self.target, _version = request_line.split(" ", 2)
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        self.left_bytes = int(self.headers.get("content-length", "0"))
        # Bodies of POST are XML that must be read; of others a stamp is enough.
        is_small = self.left_bytes <= CHECKED_BODY_BYTES_MAX or self.method == "POST"
        self.keep_bytes = self.left_bytes if is_small else STAMP_BYTES
        self.body.clear()
        self.in_body = self.left_bytes > 0
        if "transfer-encoding" in self.headers:
            self._send("501 Not Implemented", b"")
            self.transport.close()
        elif "100-continue" in self.headers.get("expect", ""):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not self.in_body:
            self._answer()
        return at + end + 4 - before

    def _answer(self) -> None:
        url = urlsplit(self.target)
        path = unquote(url.path)
        query = {name: values[0] for name, values in parse_qs(url.query, True).items()}  # noqa: FBT003 - keep_blank_values is positional
        _bucket, _, key = path.lstrip("/").partition("/")
        if self.method == "PUT":
            self._put(key, query)
        elif self.method in {"GET", "HEAD"}:
            self._get(key, query)
        elif self.method == "POST":
            self._post(key, query)
        elif self.method == "DELETE":
            self.store.uploads.pop(query.get("uploadId", ""), None)
            self.store.objects.pop(key, None) if "uploadId" not in query else None
            self._send("204 No Content", b"")
        else:
            self._refuse("405 Method Not Allowed", "MethodNotAllowed")

    def _put(self, key: str, query: dict[str, str]) -> None:
        length_bytes = int(self.headers.get("content-length", "0"))
        declared = self.headers.get("x-amz-checksum-sha256")
        if declared is not None and length_bytes <= CHECKED_BODY_BYTES_MAX:
            found = base64.b64encode(hashlib.sha256(self.body).digest()).decode()
            if found != declared:
                self._refuse("400 Bad Request", "BadDigest")
                return
        etag = self.store.make_etag()
        piece = Piece(bytes(self.body[:STAMP_BYTES]), length_bytes, etag)
        if "uploadId" in query:
            parts = self.store.uploads.get(query["uploadId"])
            if parts is None:
                self._refuse(_NOT_FOUND_STATUS, "NoSuchUpload")
                return
            parts[int(query["partNumber"])] = piece
            self._send("200 OK", b"", f'ETag: "{etag}"\r\n')
        elif not key:
            self._send("200 OK", b"")  # the bucket, or its settings
        else:
            self._store(key, Held((piece,), etag, etag))
            self._send("200 OK", b"", f'ETag: "{etag}"\r\nx-amz-version-id: {etag}\r\n')

    def _store(self, key: str, held: Held) -> None:
        self.store.objects[key] = held

    def _post(self, key: str, query: dict[str, str]) -> None:
        if "uploads" in query:
            upload_id = self.store.make_etag()
            self.store.uploads[upload_id] = {}
            self._send_xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")
        elif "uploadId" in query:
            self._complete(key, query["uploadId"])
        elif "delete" in query:
            for found in ET.fromstring(bytes(self.body)).iter(f"{{{XML_NAMESPACE}}}Key"):  # noqa: S314 - our own client
                self.store.objects.pop(found.text or "", None)
            self._send_xml("DeleteResult", "")
        else:
            self._refuse("400 Bad Request", "InvalidRequest")

    def _complete(self, key: str, upload_id: str) -> None:
        parts = self.store.uploads.get(upload_id)
        if parts is None:
            self._refuse(_NOT_FOUND_STATUS, "NoSuchUpload")
            return
        root = ET.fromstring(bytes(self.body))  # noqa: S314 - our own client
        numbers = [int(found.text or "0") for found in root.iter(f"{{{XML_NAMESPACE}}}PartNumber")]
        if not numbers or any(number not in parts for number in numbers):
            self._refuse("400 Bad Request", "InvalidPart")
            return
        pieces = tuple(parts[number] for number in numbers)
        joined = hashlib.md5(
            b"".join(bytes.fromhex(piece.etag) for piece in pieces), usedforsecurity=False
        )
        held = Held(pieces, f"{joined.hexdigest()}-{len(pieces)}", self.store.make_etag())
        self._store(key, held)
        del self.store.uploads[upload_id]
        self._send_xml(
            "CompleteMultipartUploadResult",
            f"<Key>{key}</Key><ETag>&quot;{held.etag}&quot;</ETag>",
            f"x-amz-version-id: {held.version}\r\n",
        )

    def _get(self, key: str, query: dict[str, str]) -> None:
        if not key:
            listed = {"versions": "ListVersionsResult", "uploads": "ListMultipartUploadsResult"}
            name = next((listed[found] for found in listed if found in query), "ListBucketResult")
            self._send_xml(name, "<IsTruncated>false</IsTruncated>")
            return
        held = self.store.objects.get(key)
        if held is None:
            self._refuse(_NOT_FOUND_STATUS, "NoSuchKey")
            return
        size_bytes = held.length_bytes
        status, start, stop = "200 OK", 0, size_bytes
        extra = f'ETag: "{held.etag}"\r\nx-amz-version-id: {held.version}\r\n'
        if (asked := self.headers.get("range")) is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
            if start >= size_bytes:
                self._refuse("416 Range Not Satisfiable", "InvalidRange")
                return
            status = "206 Partial Content"
            extra += f"Content-Range: bytes {start}-{stop - 1}/{size_bytes}\r\n"
        head = f"HTTP/1.1 {status}\r\nContent-Length: {stop - start}\r\n{extra}\r\n"
        self.transport.write(head.encode())
        if self.method == "GET":
            self.transport.pause_reading()
            self.sending = asyncio.get_running_loop().create_task(self._stream(held, start, stop))

    async def _stream(self, held: Held, start: int, stop: int) -> None:
        for block in cut(held, start, stop):
            await self.may_write.wait()
            self.transport.write(block)
        self.transport.resume_reading()

    def _send(self, status: str, body: bytes, extra: str = "") -> None:
        # 204 has no body, and RFC 9110 section 8.6 wants no Content-Length there.
        length = "" if status.startswith("204") else f"Content-Length: {len(body)}\r\n"
        sent = b"" if self.method == "HEAD" else body
        self.transport.write(f"HTTP/1.1 {status}\r\n{length}{extra}\r\n".encode() + sent)

    def _send_xml(self, name: str, inner: str, extra: str = "") -> None:
        text = f'{XML_HEAD}<{name} xmlns="{XML_NAMESPACE}">{inner}</{name}>'
        self._send("200 OK", text.encode(), f"Content-Type: application/xml\r\n{extra}")

    def _refuse(self, status: str, code: str) -> None:
        text = f"{XML_HEAD}<Error><Code>{code}</Code></Error>"
        self._send(status, text.encode(), "Content-Type: application/xml\r\n")


async def serve(port: int, port_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; the chosen port goes to the file once it answers."""
    loop = asyncio.get_running_loop()
    store = Store()
    server = await loop.create_server(lambda: NullS3(store), "127.0.0.1", port, backlog=4096)
    chosen = server.sockets[0].getsockname()[1]
    if port_file is not None:
        part = port_file.with_suffix(".part")
        part.write_text(f"{chosen}\n")
        part.replace(port_file)
    else:
        print(f"http://127.0.0.1:{chosen}", flush=True)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()
    server.close()


def main() -> int:
    """Run the null S3."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--port-file", type=Path, help="the port is written here")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.port, arguments.port_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
