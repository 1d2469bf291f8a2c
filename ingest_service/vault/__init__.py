"""Evidence bytes: what any store must promise."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingest_service.domain.retention import LockMode


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as the store holds it.

    size_bytes  length of the stored object, when the store said so
    etag        the store's tag, without quotes
    version     version id; None in a bucket without versions
    was_retried it took more than one request, so that another version of it may exist
    """

    etag: str
    version: str | None
    size_bytes: int | None = None
    was_retried: bool = False


@dataclass(frozen=True, slots=True)
class OpenedMultipart:
    """A multipart upload that was just opened.

    was_retried  it took more than one request, so that others of this key may lie in the store
    """

    multipart_id: str
    was_retried: bool = False


@dataclass(frozen=True, slots=True)
class StoredPart:
    """One part of a multipart upload.

    number  counts from 1
    etag    the store's tag, without quotes
    sha256  32 raw bytes, where the part was stored with its digest
    """

    number: int
    etag: str
    sha256: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoreAbilities:
    """What the bucket can do beside keeping bytes; None = not known, it did not say."""

    has_versions: bool | None
    has_object_lock: bool | None


class Body(Protocol):
    """Bytes of known length on their way to the store.

    `blocks()` may be called again after a failed try if `may_replay` is true; it then yields
    every byte from the first. Each block is handed over once and not changed afterwards.
    """

    @property
    def length_bytes(self) -> int:
        """Bytes that `blocks()` yields in all."""
        ...

    @property
    def sha256(self) -> bytes | None:
        """Digest that the bytes are declared to have, 32 raw bytes; None when unknown."""
        ...

    @property
    def may_replay(self) -> bool:
        """Whether `blocks()` can start again from the first byte."""
        ...

    def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes in order; raises what the source raises (a cut, a stall)."""
        ...


class Vault(Protocol):
    """Object storage that holds evidence.

    Durability: when a write returns, the store has acknowledged every byte of it.
    Concurrency: any number of calls at once; two writes to one key or part number are not
    fenced (the last one wins), so callers never share keys or numbers between writers.
    Retry: a write is tried again only while `body.may_replay`; reads and deletes always are.

    Every method raises:
        VaultUnavailable: gave up; the write may or may not have happened.
        VaultFull: the store has no space; nothing was written.
    """

    @property
    def bucket(self) -> str:
        """Name of the bucket, for the record."""
        ...

    @property
    def checks_sha256(self) -> bool:
        """Whether the store itself refuses bytes that differ from `body.sha256`."""
        ...

    async def put_object(self, key: str, body: Body) -> StoredObject:
        """Store one object.

        Raises:
            ChunkCorrupted: the store found another digest than `body.sha256`; nothing stored.
            whatever `body.blocks()` raises: the object is not stored (the length is short).
        """
        ...

    async def put_new(self, key: str, data: bytes) -> StoredObject | None:
        """Store a small object under a key that is free; None when the key is taken.

        What is there stays as it is: two writers cannot both believe that theirs is stored.
        """
        ...

    async def find_first_key(self, prefix: str, *, after: str = "") -> str | None:
        """Return the first key under a prefix in byte order, after `after`; None without any."""
        ...

    def list_keys(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """Yield the keys under a prefix in byte order, those after `after` only.

        Keys that come or go meanwhile may be listed or not; all others are.
        """
        ...

    async def open_multipart(self, key: str, *, with_sha256: bool = False) -> OpenedMultipart:
        """Open a multipart upload. Each call opens another one.

        `with_sha256`: every part will come with `body.sha256`. S3 wants to know that up front:
        AWS refuses a part with a digest in an upload opened without, and the other way round;
        and `complete_multipart` then needs the digest of every part.
        """
        ...

    async def put_part(
        self, key: str, multipart_id: str, part_number: int, body: Body
    ) -> StoredPart:
        """Store one part (1..10,000).

        Raises:
            StoredBytesLost: the multipart upload does not exist (any more).
            ChunkCorrupted, whatever `body.blocks()` raises: as `put_object`.
        """
        ...

    async def complete_multipart(
        self, key: str, multipart_id: str, parts: Sequence[StoredPart]
    ) -> StoredObject:
        """Join the parts, in the order given, into the object; may take minutes.

        Idempotent: when the answer of an earlier try was lost, the object is recognised by
        its composite tag, or by a mark of ours where tags are not made of MD5.

        Raises:
            StoredBytesLost: the upload or a part is gone and no such object exists.
        """
        ...

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Forget a multipart upload and its parts; an unknown one is fine."""
        ...

    async def get_facts(self, key: str, version: str | None) -> StoredObject | None:
        """Return size, tag and version as stored; None when there is no such object."""
        ...

    def read(
        self, key: str, version: str | None, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the stored bytes from start up to stop (exclusive; None = the end).

        Raises:
            StoredBytesLost: there is no such object, or it ended early.
        """
        ...

    async def delete(self, key: str, version: str | None) -> None:
        """Delete one version of an object (the object where there are no versions).

        Deleting what is not there is fine.

        Raises:
            ObjectLocked: the store refuses, as it does where a version is retained or held; it is
                not deleted.
        """
        ...

    async def sweep(
        self,
        prefix: str,
        *,
        keep_key: str | None,
        keep_version: str | None = None,
        keep_multipart_id: str | None = None,
    ) -> int:
        """Delete leftovers under a prefix: objects, versions and multipart uploads.

        Spared are `keep_key` (of its versions only `keep_version`, where that is given) and the
        multipart upload `keep_multipart_id`: a store that died while joining may still list it,
        and aborting it would take the joined bytes along. Returns how many were removed.
        """
        ...

    async def find_abilities(self) -> StoreAbilities:
        """Return what the bucket can do; once it has told, it is not asked again."""
        ...

    async def retain(
        self, key: str, version: str | None, *, until: datetime, mode: LockMode
    ) -> None:
        """Have the store refuse to delete a version before `until`; later replaces earlier.

        Raises:
            StoredBytesLost: there is no such version.
            VaultUnavailable: also where the bucket has no object lock.
        """
        ...

    async def set_legal_hold(self, key: str, version: str | None, *, is_on: bool) -> None:
        """Have the store refuse to delete a version for as long as the hold is on.

        Raises:
            StoredBytesLost, VaultUnavailable: as `retain`.
        """
        ...

    async def check(self) -> None:
        """Return when the bucket answers; for health checks."""
        ...
