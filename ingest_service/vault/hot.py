"""The two requests that carry evidence: PUT and GET, signed and streamed."""

import base64
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from ingest_service import telemetry
from ingest_service.errors import ChunkCorrupted, StoredBytesLost, VaultFull
from ingest_service.vault import Body
from ingest_service.vault.connections import StoreConnections
from ingest_service.vault.failures import (
    KeyTaken,
    StoreFailed,
    count_failure,
    judge,
    parse_refusal,
)
from ingest_service.vault.signing import RequestSigner

_STATUS_OK: Final = 200
_STATUS_PARTIAL: Final = 206
_STATUS_TAKEN: Final = 412
# A delete marker, other content than before (If-Match), a range beyond the end.
_STATUS_LOST: Final = frozenset({405, 412, 416})
# What is the store's doing, and not the dock's.
_STORES_FAULT: Final = (StoreFailed, StoredBytesLost, VaultFull)
_PUT_WAITED: Final = telemetry.tally(telemetry.VAULT_SECONDS, "put")
_GET_WAITED: Final = telemetry.tally(telemetry.VAULT_SECONDS, "get")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")


@dataclass(slots=True)
class Reading:
    """How far a read has come.

    offset  the next byte
    stop    the end, exclusive; None until the store told it
    etag    tag of the content that it began with, as the store wrote it
    """

    offset: int
    stop: int | None
    etag: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether every byte was read."""
        return self.stop is not None and self.offset >= self.stop

    def make_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest, and only of the same content."""
        headers = {} if self.etag is None else {"if-match": self.etag}
        if self.offset > 0 or self.stop is not None:
            last = "" if self.stop is None else str(self.stop - 1)
            headers["range"] = f"bytes={self.offset}-{last}"
        return headers

    def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Check that an answer holds the bytes that were asked for.

        Raises:
            StoredBytesLost: the object ends before `stop`.
            StoreFailed: the answer is for another range.
        """
        first, end = 0, int(headers.get("content-length", "-1"))
        if status == _STATUS_PARTIAL:
            found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
            first, end = (int(found[1]), int(found[2]) + 1) if found else (-1, -1)
        is_longer = self.stop is not None and end > self.stop
        if first != self.offset or end < 0 or is_longer:
            message = f"the store did not answer the range from {self.offset}"
            raise StoreFailed(message, may_pass=False)
        self.etag = headers.get("etag", self.etag)
        if self.stop is None:
            self.stop = end
        elif end < self.stop:
            message = f"the stored object ends at {end}, not at {self.stop}"
            raise StoredBytesLost(message)


class HotRequests:
    """PUT and GET to one bucket; failures that may pass are StoreFailed."""

    def __init__(
        self, *, connections: StoreConnections, signer: RequestSigner, endpoint: str, bucket: str
    ) -> None:
        self._connections = connections
        self._signer = signer
        url = urlsplit(endpoint)
        self._host = url.netloc.rpartition("@")[2]
        self._base_path = f"{url.path.rstrip('/')}/{bucket}/"

    async def put(
        self, key: str, query: str, body: Body, *, with_sha256: bool, only_new: bool = False
    ) -> Mapping[str, str]:
        """Store an object or part and return the answer's headers, among them `etag`.

        only_new  refuse to store over an object that is there

        Raises:
            KeyTaken: with `only_new`, there is one; nothing stored.
            ChunkCorrupted: the store found another digest; nothing stored.
            StoredBytesLost: there is no such multipart upload.
            VaultFull, StoreFailed: not stored, or the answer was lost.
            whatever `body.blocks()` raises: not stored.
        """
        headers = {}
        sha256 = body.sha256 if with_sha256 else None
        if sha256 is not None:
            headers["x-amz-checksum-sha256"] = base64.b64encode(sha256).decode()
        if only_new:
            headers["if-none-match"] = "*"
        head = self._make_head("PUT", key, query, headers, body.length_bytes)
        try:
            async with self._connections.lend("write") as connection:
                await connection.send(head, body)
                _PUT_WAITED.note(connection.waited_s)
                answer = await connection.read_small()
                if connection.status == _STATUS_OK and connection.headers.get("etag"):
                    return connection.headers
                # (409 is another conditional write under way: asked again, it tells.)
                if only_new and connection.status == _STATUS_TAKEN:
                    raise KeyTaken
                code, message = parse_refusal(answer)
                failure = judge(connection.status, code, message, has_digest=sha256 is not None)
                if isinstance(failure, ChunkCorrupted):
                    count_failure("put", failure)
                raise failure
        except _STORES_FAULT as error:
            count_failure("put", error)
            raise

    async def get(self, key: str, query: str, reading: Reading) -> AsyncGenerator[bytes, None]:
        """Yield the rest of a reading, moving its offset before each block.

        Raises:
            StoredBytesLost: there is no such content.
            StoreFailed: the answer broke off; `reading` knows where.
        """
        head = self._make_head("GET", key, query, reading.make_headers())
        try:
            async with self._connections.lend("read") as connection:
                await connection.send(head)
                _GET_WAITED.note(connection.waited_s)
                if connection.status not in {_STATUS_OK, _STATUS_PARTIAL}:
                    code, message = parse_refusal(await connection.read_small())
                    if connection.status in _STATUS_LOST:
                        reason = f"{key} is not as it was stored: {connection.status} {code}"
                        raise StoredBytesLost(reason)
                    raise judge(connection.status, code, message, has_digest=False)
                reading.start(connection.status, connection.headers)
                while block := await connection.read():
                    reading.offset += len(block)
                    yield block
            if not reading.is_done:
                message = f"the store's answer ended at {reading.offset} of {reading.stop}"
                raise StoreFailed(message)
        except _STORES_FAULT as error:
            count_failure("get", error)
            raise

    def _make_head(
        self, method: str, key: str, query: str, headers: dict[str, str], length_bytes: int = 0
    ) -> bytes:
        path = self._base_path + quote(key, safe="/-_.~")
        headers["host"] = self._host
        signed = self._signer.sign(
            method=method, path=path, query=query, headers=headers, now=datetime.now(UTC)
        )
        target = f"{path}?{query}" if query else path
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        # Not signed: proxies may change how the length is told.
        return (
            f"{method} {target} HTTP/1.1\r\n{lines}content-length: {length_bytes}\r\n\r\n".encode()
        )
