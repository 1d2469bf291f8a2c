"""Stand-ins for what surrounds the service, as strict as the real thing."""

import asyncio
import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from ingest_service.domain.retention import LockMode
from ingest_service.errors import (
    ChunkCorrupted,
    ChunkMisshapen,
    IngestError,
    ObjectLocked,
    StoredBytesLost,
    VaultUnavailable,
)
from ingest_service.vault import Body, OpenedMultipart, StoreAbilities, StoredObject, StoredPart

S3_PART_BYTES_MIN = 5 * 1024 * 1024
S3_PART_NUMBER_MAX = 10_000
READ_BLOCK_BYTES = 64 * 1024

Failure = Literal["lost", "stored"]
Moment = Literal["asked", "done"]


@dataclass
class _Version:
    number: str
    data: bytes | None  # None: a delete marker
    etag: str
    retained_until: datetime | None = None
    is_held: bool = False

    @property
    def is_locked(self) -> bool:
        return self.is_held or (
            self.retained_until is not None and self.retained_until > datetime.now(UTC)
        )


@dataclass
class _Multipart:
    key: str
    with_sha256: bool
    parts: dict[int, tuple[bytes, StoredPart]] = field(default_factory=dict)


class MemoryVault:
    """A Vault in memory with S3's rules: versions, part numbers where the last write wins,
    5 MiB for all parts but the last, digests that must be announced.

    It never tries again by itself, so every failure reaches the caller at once.

    `fail_next(call, failure)` breaks the next such call: 'lost' before it took effect, 'stored'
    after (only the answer is lost). `meet_at(call, barrier)` makes such calls wait for each other.
    """

    def __init__(
        self, *, part_bytes_min: int = S3_PART_BYTES_MIN, checks_sha256: bool = True
    ) -> None:
        self.bucket = "memory"
        self.checks_sha256 = checks_sha256
        self.has_object_lock = True
        self.part_bytes_min = part_bytes_min
        self.calls: Counter[str] = Counter()
        self._versions: dict[str, list[_Version]] = defaultdict(list)
        self._multiparts: dict[str, _Multipart] = {}
        self._completed: dict[str, tuple[tuple[StoredPart, ...], StoredObject]] = {}
        self._numbers = itertools.count(1)
        self._failures: dict[str, list[tuple[Failure, IngestError | None]]] = defaultdict(list)
        self._barriers: dict[tuple[str, Moment], asyncio.Barrier] = {}

    # --- for tests ---------------------------------------------------------------------

    def fail_next(
        self, call: str, failure: Failure, *, times: int = 1, error: IngestError | None = None
    ) -> None:
        """Break the next `times` calls of the method named; by default with VaultUnavailable."""
        self._failures[call] += [(failure, error)] * times

    def meet_at(self, call: str, barrier: asyncio.Barrier, *, moment: Moment = "done") -> None:
        """Let calls of the method named wait at the barrier, before or after they take effect."""
        self._barriers[call, moment] = barrier

    def stop_meeting(self) -> None:
        """Forget all barriers."""
        self._barriers.clear()

    def tamper(self, key: str, data: bytes) -> None:
        """Exchange the newest stored bytes of a key behind everybody's back."""
        self._versions[key][-1].data = data

    def content(self, key: str) -> bytes | None:
        """Return the newest bytes of a key; None when it is absent or deleted."""
        versions = self._versions.get(key)
        return versions[-1].data if versions else None

    def keys(self) -> list[str]:
        """Return the keys that hold any version with bytes."""
        return sorted(
            key
            for key, versions in self._versions.items()
            if any(version.data is not None for version in versions)
        )

    def open_multiparts(self) -> list[str]:
        """Return the ids of multipart uploads that are neither completed nor aborted."""
        return sorted(self._multiparts)

    # --- the Vault ---------------------------------------------------------------------

    async def put_object(self, key: str, body: Body) -> StoredObject:
        """See `Vault`."""
        failure = await self._begin("put_object")
        data = await self._draw(body)
        self._maybe_lose(failure)
        stored = self._store(key, data, hashlib.md5(data, usedforsecurity=False).hexdigest())
        await self._end("put_object", failure)
        return stored

    async def put_new(self, key: str, data: bytes) -> StoredObject | None:
        failure = await self._begin("put_new")
        self._maybe_lose(failure)
        stored = None
        if self.content(key) is None:
            stored = self._store(key, data, hashlib.md5(data, usedforsecurity=False).hexdigest())
        await self._end("put_new", failure)
        return stored

    async def find_first_key(self, prefix: str, *, after: str = "") -> str | None:
        failure = await self._begin("find_first_key")
        self._maybe_lose(failure)
        listed = (key for key in self.keys() if key.startswith(prefix) and key > after)
        found = min((key for key in listed if self.content(key) is not None), default=None)
        await self._end("find_first_key", failure)
        return found

    async def list_keys(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        failure = await self._begin("list_keys")
        self._maybe_lose(failure)
        for key in self.keys():
            if key.startswith(prefix) and key > after and self.content(key) is not None:
                yield key
        await self._end("list_keys", failure)

    async def open_multipart(self, key: str, *, with_sha256: bool = False) -> OpenedMultipart:
        """See `Vault`."""
        failure = await self._begin("open_multipart")
        self._maybe_lose(failure)
        multipart_id = f"multipart-{next(self._numbers)}"
        self._multiparts[multipart_id] = _Multipart(key, with_sha256)
        await self._end("open_multipart", failure)
        return OpenedMultipart(multipart_id)

    async def put_part(
        self, key: str, multipart_id: str, part_number: int, body: Body
    ) -> StoredPart:
        """See `Vault`."""
        if not 1 <= part_number <= S3_PART_NUMBER_MAX:
            message = f"part numbers are 1..{S3_PART_NUMBER_MAX}, not {part_number}"
            raise ValueError(message)
        failure = await self._begin("put_part")
        data = await self._draw(body)
        self._maybe_lose(failure)
        multipart = self._find_multipart(key, multipart_id)
        if multipart.with_sha256 is not (body.sha256 is not None):
            # What AWS answers; see Vault.open_multipart.
            message = (
                f"400 InvalidRequest: opened with_sha256={multipart.with_sha256}, "
                f"but the part {'has' if body.sha256 else 'has no'} digest"
            )
            raise VaultUnavailable(message)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        part = StoredPart(part_number, etag, body.sha256)
        multipart.parts[part_number] = (data, part)
        await self._end("put_part", failure)
        return part

    async def complete_multipart(
        self, key: str, multipart_id: str, parts: Sequence[StoredPart]
    ) -> StoredObject:
        """See `Vault`."""
        failure = await self._begin("complete_multipart")
        self._maybe_lose(failure)
        done = self._completed.get(multipart_id)
        if done is None or done[0] != tuple(parts):
            stored = self._join(key, self._find_multipart(key, multipart_id), parts)
            self._completed[multipart_id] = (tuple(parts), stored)
            del self._multiparts[multipart_id]
        else:
            stored = done[1]
        await self._end("complete_multipart", failure)
        return stored

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """See `Vault`."""
        failure = await self._begin("abort_multipart")
        self._maybe_lose(failure)
        self._multiparts.pop(multipart_id, None)
        await self._end("abort_multipart", failure)

    async def get_facts(self, key: str, version: str | None) -> StoredObject | None:
        """See `Vault`."""
        failure = await self._begin("get_facts")
        self._maybe_lose(failure)
        found = self._find(key, version)
        await self._end("get_facts", failure)
        if found is None or found.data is None:
            return None
        return StoredObject(found.etag, found.number, len(found.data))

    async def read(
        self, key: str, version: str | None, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `Vault`. A failing read breaks after its first block."""
        failure = await self._begin("read")
        found = self._find(key, version)
        if found is None or found.data is None:
            message = f"no object {key} {version or ''}".strip()
            raise StoredBytesLost(message)
        data = found.data
        end = len(data) if stop is None else stop
        if end > len(data) or start > end:
            message = f"{key} ends at {len(data)}, not at {end}"
            raise StoredBytesLost(message)
        for offset in range(start, end, READ_BLOCK_BYTES):
            yield data[offset : min(offset + READ_BLOCK_BYTES, end)]
            self._maybe_lose(failure)
        await self._end("read", failure)

    async def delete(self, key: str, version: str | None) -> None:
        """See `Vault`."""
        failure = await self._begin("delete")
        self._maybe_lose(failure)
        versions = self._versions[key]
        if version is None:
            versions.append(_Version(self._make_version(), None, ""))
        else:
            self._refuse_locked(each for each in versions if each.number == version)
            versions[:] = [kept for kept in versions if kept.number != version]
        await self._end("delete", failure)

    async def sweep(
        self,
        prefix: str,
        *,
        keep_key: str | None,
        keep_version: str | None = None,
        keep_multipart_id: str | None = None,
    ) -> int:
        """See `Vault`."""
        failure = await self._begin("sweep")
        self._maybe_lose(failure)
        removed_count = 0
        for multipart_id, multipart in list(self._multiparts.items()):
            if multipart.key.startswith(prefix) and multipart_id != keep_multipart_id:
                del self._multiparts[multipart_id]
                removed_count += 1
        for key in list(self._versions):
            if not key.startswith(prefix):
                continue
            kept = [
                version
                for version in self._versions[key]
                if key == keep_key and keep_version in {None, version.number}
            ]
            self._refuse_locked(each for each in self._versions[key] if each not in kept)
            removed_count += len(self._versions[key]) - len(kept)
            if kept:
                self._versions[key] = kept
            else:
                del self._versions[key]
        await self._end("sweep", failure)
        return removed_count

    async def find_abilities(self) -> StoreAbilities:
        """See `Vault`."""
        return StoreAbilities(has_versions=True, has_object_lock=self.has_object_lock)

    async def retain(
        self, key: str, version: str | None, *, until: datetime, mode: LockMode
    ) -> None:
        """See `Vault`."""
        failure = await self._begin("retain")
        self._maybe_lose(failure)
        self._find_lockable(key, version).retained_until = until
        await self._end("retain", failure)

    async def set_legal_hold(self, key: str, version: str | None, *, is_on: bool) -> None:
        """See `Vault`."""
        failure = await self._begin("set_legal_hold")
        self._maybe_lose(failure)
        self._find_lockable(key, version).is_held = is_on
        await self._end("set_legal_hold", failure)

    async def check(self) -> None:
        """See `Vault`."""
        failure = await self._begin("check")
        self._maybe_lose(failure)
        await self._end("check", failure)

    # --- how ---------------------------------------------------------------------------

    async def _begin(self, call: str) -> tuple[Failure, IngestError | None] | None:
        self.calls[call] += 1
        planned = self._failures[call]
        failure = planned.pop(0) if planned else None
        # Real storage is never done in the same breath.
        await asyncio.sleep(0)
        await self._meet(call, "asked")
        return failure

    async def _end(self, call: str, failure: tuple[Failure, IngestError | None] | None) -> None:
        await self._meet(call, "done")
        if failure is not None and failure[0] == "stored":
            raise failure[1] or VaultUnavailable("the answer was lost")

    async def _meet(self, call: str, moment: Moment) -> None:
        barrier = self._barriers.get((call, moment))
        if barrier is not None:
            await barrier.wait()

    def _maybe_lose(self, failure: tuple[Failure, IngestError | None] | None) -> None:
        if failure is not None and failure[0] == "lost":
            raise failure[1] or VaultUnavailable("the request was lost")

    async def _draw(self, body: Body) -> bytes:
        drawn = bytearray()
        blocks = body.blocks()
        try:
            async for block in blocks:
                drawn += block
                if len(drawn) > body.length_bytes:
                    raise ChunkMisshapen(body.length_bytes, len(drawn))
        finally:
            if isinstance(blocks, AsyncGenerator):
                await blocks.aclose()
        if len(drawn) != body.length_bytes:
            raise ChunkMisshapen(body.length_bytes, len(drawn))
        data = bytes(drawn)
        is_checked = self.checks_sha256 and body.sha256 is not None
        if is_checked and hashlib.sha256(data).digest() != body.sha256:
            raise ChunkCorrupted
        return data

    def _make_version(self) -> str:
        return f"v{next(self._numbers)}"

    def _store(self, key: str, data: bytes, etag: str) -> StoredObject:
        version = _Version(self._make_version(), data, etag)
        self._versions[key].append(version)
        return StoredObject(etag, version.number, len(data))

    def _find_lockable(self, key: str, version: str | None) -> _Version:
        if not self.has_object_lock:
            message = "400 InvalidRequest: the bucket has no object lock"
            raise VaultUnavailable(message)
        found = self._find(key, version)
        if found is None or found.data is None:
            message = f"404 NoSuchVersion: {key}"
            raise StoredBytesLost(message)
        return found

    def _refuse_locked(self, versions: Iterable[_Version]) -> None:
        if any(version.is_locked for version in versions):
            message = "403 AccessDenied: the version is locked"
            raise ObjectLocked(message)

    def _find(self, key: str, version: str | None) -> _Version | None:
        versions = self._versions.get(key, [])
        if version is None:
            return versions[-1] if versions else None
        return next((found for found in versions if found.number == version), None)

    def _find_multipart(self, key: str, multipart_id: str) -> _Multipart:
        found = self._multiparts.get(multipart_id)
        if found is None or found.key != key:
            message = "404 NoSuchUpload"
            raise StoredBytesLost(message)
        return found

    def _join(self, key: str, multipart: _Multipart, parts: Sequence[StoredPart]) -> StoredObject:
        if not parts:
            message = "400 InvalidRequest: no parts"
            raise VaultUnavailable(message)
        if [part.number for part in parts] != sorted({part.number for part in parts}):
            message = "400 InvalidPartOrder"
            raise StoredBytesLost(message)
        joined = bytearray()
        for part in parts:
            data, held = multipart.parts.get(part.number, (b"", None))
            if held is None or held.etag != part.etag:
                message = f"400 InvalidPart: {part.number}"
                raise StoredBytesLost(message)
            if held.sha256 != part.sha256:
                message = f"400 InvalidRequest: the digest of part {part.number} is to be repeated"
                raise VaultUnavailable(message)
            if part is not parts[-1] and len(data) < self.part_bytes_min:
                message = f"400 EntityTooSmall: part {part.number} has {len(data)} bytes"
                raise StoredBytesLost(message)
            joined += data
        tags = b"".join(bytes.fromhex(part.etag) for part in parts)
        etag = f"{hashlib.md5(tags, usedforsecurity=False).hexdigest()}-{len(parts)}"
        return self._store(key, bytes(joined), etag)
