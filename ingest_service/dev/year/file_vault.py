"""A vault in one SQLite file: S3's versions and digests, for hundreds of thousands of tiny clips.

SeaweedFS needs some milliseconds for each object, this some microseconds; and other than a vault in
memory it holds a year. It is for the simulation only: nothing in it survives a power cut.
"""

import hashlib
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn

from ingest_service.domain.retention import LockMode
from ingest_service.errors import (
    ChunkCorrupted,
    ChunkMisshapen,
    StoredBytesLost,
    VaultUnavailable,
)
from ingest_service.vault import Body, OpenedMultipart, StoreAbilities, StoredObject, StoredPart

_PAGE_KEYS: Final = 1000
# Who asks for the first key is mostly answered by the first or second.
_FIRST_KEYS: Final = 4
# After every key of a prefix: no key of ours has such a character.
_LAST: Final = "\U0010ffff"

_MAKE: Final = """
    CREATE TABLE IF NOT EXISTS versions (
        version INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL,
        etag TEXT NOT NULL,
        data BLOB
    );
    CREATE INDEX IF NOT EXISTS versions_key ON versions (key, version);
"""
_INSERT: Final = "INSERT INTO versions (key, etag, data) VALUES (?, ?, ?)"
_FIND_NEWEST: Final = """
    SELECT version, etag, data FROM versions WHERE key = ? ORDER BY version DESC LIMIT 1
"""
_FIND_VERSION: Final = "SELECT version, etag, data FROM versions WHERE key = ? AND version = ?"
_DELETE_VERSION: Final = "DELETE FROM versions WHERE key = ? AND version = ?"
_LIST_KEYS: Final = """
    SELECT DISTINCT key FROM versions WHERE key > ? AND key < ? ORDER BY key LIMIT ?
"""
_SWEEP: Final = """
    DELETE FROM versions
     WHERE key >= ? AND key < ?
       AND NOT (key IS ? AND (? IS NULL OR version = ?))
"""


class FileVault:
    """A `Vault` without multipart uploads and without object lock: asked for them, it refuses.

    A version without data is a delete marker.
    """

    bucket = "year"
    checks_sha256 = True

    def __init__(self, file: Path) -> None:
        self._store = sqlite3.connect(file, isolation_level=None)
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = OFF")
        self._store.executescript(_MAKE)

    def close(self) -> None:
        """Close the file; it stays."""
        self._store.close()

    async def put_object(self, key: str, body: Body) -> StoredObject:
        """See `Vault`."""
        data = await _draw(body)
        if body.sha256 is not None and hashlib.sha256(data).digest() != body.sha256:
            raise ChunkCorrupted
        return self._insert(key, data)

    async def put_new(self, key: str, data: bytes) -> StoredObject | None:
        """See `Vault`."""
        return None if self._holds(key) else self._insert(key, data)

    async def find_first_key(self, prefix: str, *, after: str = "") -> str | None:
        """See `Vault`."""
        return next(self._iterate(prefix, after, _FIRST_KEYS), None)

    async def list_keys(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """See `Vault`."""
        for key in self._iterate(prefix, after, _PAGE_KEYS):
            yield key

    async def open_multipart(self, key: str, *, with_sha256: bool = False) -> OpenedMultipart:
        """Refuse: clips of the simulation fit one part."""
        del with_sha256
        _refuse(f"a multipart upload of {key}")

    async def put_part(
        self, key: str, multipart_id: str, part_number: int, body: Body
    ) -> StoredPart:
        """Refuse: see `open_multipart`."""
        del multipart_id, body
        _refuse(f"part {part_number} of {key}")

    async def complete_multipart(
        self, key: str, multipart_id: str, parts: Sequence[StoredPart]
    ) -> StoredObject:
        """Refuse: see `open_multipart`."""
        del multipart_id
        _refuse(f"{len(parts)} parts of {key}")

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """See `Vault`: an unknown one is fine, and none is known."""

    async def get_facts(self, key: str, version: str | None) -> StoredObject | None:
        """See `Vault`."""
        found = self._find(key, version)
        if found is None or found[2] is None:
            return None
        return StoredObject(found[1], str(found[0]), len(found[2]))

    async def read(
        self, key: str, version: str | None, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `Vault`."""
        found = self._find(key, version)
        if found is None or found[2] is None:
            message = f"no object {key} {version or ''}".strip()
            raise StoredBytesLost(message)
        data = found[2]
        end = len(data) if stop is None else stop
        if end > len(data) or start > end:
            message = f"{key} ends at {len(data)}, not at {end}"
            raise StoredBytesLost(message)
        yield data[start:end]

    async def delete(self, key: str, version: str | None) -> None:
        """See `Vault`."""
        if version is None:
            self._store.execute(_INSERT, (key, "", None))
        else:
            self._store.execute(_DELETE_VERSION, (key, _number(version)))

    async def sweep(
        self,
        prefix: str,
        *,
        keep_key: str | None,
        keep_version: str | None = None,
        keep_multipart_id: str | None = None,
    ) -> int:
        """See `Vault`."""
        del keep_multipart_id
        kept = None if keep_version is None else _number(keep_version)
        swept = self._store.execute(_SWEEP, (prefix, prefix + _LAST, keep_key, kept, kept))
        return swept.rowcount

    async def find_abilities(self) -> StoreAbilities:
        """See `Vault`."""
        return StoreAbilities(has_versions=True, has_object_lock=False)

    async def retain(
        self, key: str, version: str | None, *, until: datetime, mode: LockMode
    ) -> None:
        """Refuse: there is no object lock."""
        del version, until
        _refuse(f"a lock ({mode}) of {key}")

    async def set_legal_hold(self, key: str, version: str | None, *, is_on: bool) -> None:
        """Refuse: there is no object lock."""
        del version, is_on
        _refuse(f"a legal hold of {key}")

    async def check(self) -> None:
        """See `Vault`."""
        self._store.execute("SELECT 1")

    def _insert(self, key: str, data: bytes) -> StoredObject:
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        inserted = self._store.execute(_INSERT, (key, etag, data))
        return StoredObject(etag, str(inserted.lastrowid), len(data))

    def _iterate(self, prefix: str, after: str, page_keys: int) -> Iterator[str]:
        if after < prefix and self._holds(prefix):
            yield prefix
        last = max(prefix, after)
        asked = (prefix + _LAST, page_keys)
        while page := self._store.execute(_LIST_KEYS, (last, *asked)).fetchall():
            for (key,) in page:
                if self._holds(key):
                    yield key
            last = page[-1][0]

    def _holds(self, key: str) -> bool:
        found = self._find(key, None)
        return found is not None and found[2] is not None

    def _find(self, key: str, version: str | None) -> tuple[int, str, bytes | None] | None:
        found: tuple[int, str, bytes | None] | None
        if version is None:
            found = self._store.execute(_FIND_NEWEST, (key,)).fetchone()
        else:
            found = self._store.execute(_FIND_VERSION, (key, _number(version))).fetchone()
        return found


def _number(version: str) -> int:
    """Return the number of a version; of one that is not ours, one that no version has."""
    return int(version) if version.isdecimal() else -1


def _refuse(what: str) -> NoReturn:
    message = f"this store has no such thing: {what}"
    raise VaultUnavailable(message)


async def _draw(body: Body) -> bytes:
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
    return bytes(drawn)
