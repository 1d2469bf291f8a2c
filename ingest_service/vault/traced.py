"""The vault where tracing is on: each call is a step of the request or the job that makes it."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from typing import cast

from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.retention import LockMode
from ingest_service.errors import Rejected
from ingest_service.tracing import spans
from ingest_service.vault import (
    Body,
    OpenedMultipart,
    StoreAbilities,
    StoredObject,
    StoredPart,
    Vault,
)


class TracedVault:
    """A Vault around another one; see `Vault` for what it promises.

    A call is one span, however many tries it takes. No key is told: ids stand in it.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self._vault.bucket

    @property
    def checks_sha256(self) -> bool:
        """Whether the store refuses bytes that differ from `body.sha256`."""
        return self._vault.checks_sha256

    @contextmanager
    def _asking(self, operation: str, size_bytes: int | None = None) -> Iterator[spans.Span | None]:
        current = spans.find_recording()
        if current is None:
            yield None
            return
        span = current.begin(
            f"vault.{operation}",
            is_call=True,
            rpc__method=operation,
            aws__s3__bucket=self.bucket,
            ingest__bytes=size_bytes,
        )
        try:
            yield span
        except (Disconnected, Rejected) as error:
            # The dock went away, or sent other bytes than it said: not the store's doing.
            span.describe(ingest__body=type(error).__name__)
            span.end()
            raise
        except BaseException as error:
            span.end(error)
            raise
        span.end()

    async def put_object(self, key: str, body: Body) -> StoredObject:
        """Store one object; see `Vault.put_object`."""
        with self._asking("put_object", body.length_bytes):
            return await self._vault.put_object(key, body)

    async def put_new(self, key: str, data: bytes) -> StoredObject | None:
        """Store a small object under a free key; see `Vault.put_new`."""
        with self._asking("put_new", len(data)):
            return await self._vault.put_new(key, data)

    async def find_first_key(self, prefix: str, *, after: str = "") -> str | None:
        """Return the first key under a prefix; see `Vault.find_first_key`."""
        with self._asking("find_first_key"):
            return await self._vault.find_first_key(prefix, after=after)

    def list_keys(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """Yield the keys under a prefix; see `Vault.list_keys`. Not traced: a walk, not a call."""
        return self._vault.list_keys(prefix, after=after)

    async def open_multipart(self, key: str, *, with_sha256: bool = False) -> OpenedMultipart:
        """Open a multipart upload; see `Vault.open_multipart`."""
        with self._asking("open_multipart"):
            return await self._vault.open_multipart(key, with_sha256=with_sha256)

    async def put_part(
        self, key: str, multipart_id: str, part_number: int, body: Body
    ) -> StoredPart:
        """Store one part; see `Vault.put_part`."""
        with self._asking("put_part", body.length_bytes) as span:
            if span is not None:
                span.describe(aws__s3__part_number=part_number)
            return await self._vault.put_part(key, multipart_id, part_number, body)

    async def complete_multipart(
        self, key: str, multipart_id: str, parts: Sequence[StoredPart]
    ) -> StoredObject:
        """Join the parts; see `Vault.complete_multipart`."""
        with self._asking("complete_multipart"):
            return await self._vault.complete_multipart(key, multipart_id, parts)

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Forget a multipart upload; see `Vault.abort_multipart`."""
        with self._asking("abort_multipart"):
            await self._vault.abort_multipart(key, multipart_id)

    async def get_facts(self, key: str, version: str | None) -> StoredObject | None:
        """Return size, tag and version; see `Vault.get_facts`."""
        with self._asking("get_facts"):
            return await self._vault.get_facts(key, version)

    async def read(
        self, key: str, version: str | None, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the stored bytes; see `Vault.read`."""
        read_bytes = 0
        with self._asking("read") as span:
            blocks = cast(
                "AsyncGenerator[bytes, None]", self._vault.read(key, version, start, stop)
            )
            try:
                async with aclosing(blocks):
                    async for block in blocks:
                        read_bytes += len(block)
                        yield block
            finally:
                if span is not None:
                    span.describe(ingest__bytes=read_bytes)

    async def delete(self, key: str, version: str | None) -> None:
        """Delete one version; see `Vault.delete`."""
        with self._asking("delete"):
            await self._vault.delete(key, version)

    async def sweep(
        self,
        prefix: str,
        *,
        keep_key: str | None,
        keep_version: str | None = None,
        keep_multipart_id: str | None = None,
    ) -> int:
        """Delete leftovers under a prefix; see `Vault.sweep`."""
        with self._asking("sweep"):
            return await self._vault.sweep(
                prefix,
                keep_key=keep_key,
                keep_version=keep_version,
                keep_multipart_id=keep_multipart_id,
            )

    async def find_abilities(self) -> StoreAbilities:
        """Return what the bucket can do; see `Vault.find_abilities`."""
        return await self._vault.find_abilities()

    async def retain(
        self, key: str, version: str | None, *, until: datetime, mode: LockMode
    ) -> None:
        """Lock a version; see `Vault.retain`."""
        with self._asking("retain"):
            await self._vault.retain(key, version, until=until, mode=mode)

    async def set_legal_hold(self, key: str, version: str | None, *, is_on: bool) -> None:
        """Hold a version, or let it go; see `Vault.set_legal_hold`."""
        with self._asking("set_legal_hold"):
            await self._vault.set_legal_hold(key, version, is_on=is_on)

    async def check(self) -> None:
        """Return when the bucket answers; see `Vault.check`."""
        with self._asking("check"):
            await self._vault.check()
