"""Store what is published of the log: once, and the same for ever; what a crash tore is mended."""

import hashlib
from typing import Final, Literal

import structlog

from ingest_service import telemetry
from ingest_service.actions.lock_object import lock_object
from ingest_service.domain.bytestream import BytesBody
from ingest_service.domain.checkpoint import parse_checkpoint
from ingest_service.domain.log_paths import CHECKPOINTS_PREFIX
from ingest_service.domain.note import NoteInvalid
from ingest_service.domain.retention import LockTerm
from ingest_service.errors import LogForked, StoredBytesLost, VaultUnavailable
from ingest_service.vault import Vault

Kept = Literal["new", "same", "mended"]
_LOG: Final = structlog.get_logger("ingest.log")


async def store_published(
    key: str,
    data: bytes,
    vault: Vault,
    *,
    term: LockTerm | None = None,
    locks_same: bool = True,
) -> Kept:
    """Store under a free key; a taken one must hold the very same bytes.

    term        for which the store is to refuse to delete it; None: no lock
    locks_same  lock it as well when it is there: whoever stored it may have died before

    One that holds less of them, and nothing else, is what a store that lost power leaves: it is
    written again. Where the bucket has versions, what was there stays to be seen.

    Raises:
        LogForked: it holds others; they stay.
        VaultUnavailable: it may or may not be stored; doing it again does no harm.
    """
    stored = await vault.put_new(key, data)
    if stored is not None:
        await lock_object(key, stored.version, term=term, vault=vault)
        return "new"
    try:
        found = await read_published(key, vault)
    except VaultUnavailable:
        # A disk that was full leaves names whose bytes cannot be read, for good. Its own tag tells
        # that they were these; where tags are no MD5, it waits for whoever removes that version.
        if not await _is_tagged_as(key, data, vault):
            raise
        found = None
    if found == data:
        if locks_same:
            await lock_object(key, None, term=term, vault=vault)
        return "same"
    if found is not None and not _is_damage(key, found, data):
        reason = f"{key} was published with another content"
        raise LogForked(reason)
    stored = await vault.put_object(key, BytesBody([data]))
    await lock_object(key, stored.version, term=term, vault=vault)
    if await read_published(key, vault) != data:
        reason = f"{key} was written again and still cannot be read"
        raise VaultUnavailable(reason)
    alarm_mended(key, "unreadable" if found is None else f"{len(found)} of {len(data)} bytes")
    return "mended"


async def read_published(key: str, vault: Vault) -> bytes | None:
    """Return what is stored under a key of the log; None when there is nothing (any more)."""
    try:
        return b"".join([block async for block in vault.read(key, None)])
    except StoredBytesLost:
        return None


async def _is_tagged_as(key: str, data: bytes, vault: Vault) -> bool:
    facts = await vault.get_facts(key, None)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return facts is not None and (facts.etag, facts.size_bytes) == (digest, len(data))


def alarm_mended(key: str, was: str) -> None:
    """Say that acknowledged bytes were lost: evidence may be as well."""
    telemetry.LOG_MENDED.inc()
    _LOG.error("log_part_mended", key=key, was=was)


def is_checkpoint(data: bytes) -> bool:
    """Tell whether bytes are a signed checkpoint, whoever's: then they are no accident."""
    try:
        parse_checkpoint(data.decode("utf-8", "replace"))
    except NoteInvalid:
        return False
    return True


def _is_damage(key: str, found: bytes, data: bytes) -> bool:
    """Tell whether `found` is what an accident makes of `data`: cut off, or zeros from there on.

    It speaks for no other history then. Of a checkpoint nothing does but another checkpoint.
    """
    is_torn = len(found) <= len(data) and data.startswith(found.rstrip(b"\0"))
    return is_torn or (key.startswith(CHECKPOINTS_PREFIX) and not is_checkpoint(found))
