"""Store a clip's manifest object, by which the bucket alone can rebuild the ledger."""

from typing import Final
from uuid import UUID

from ingest_service.actions.lock_object import lock_object
from ingest_service.domain.bytestream import BytesBody
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import WORKER, Happening, chain_events
from ingest_service.domain.manifest import ManifestName, make_manifest, name_manifest
from ingest_service.domain.retention import LockTerm, ObjectLock
from ingest_service.ledger import clips, manifests
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

_CHAIN_TRIES: Final = 8


async def store_manifest(
    clip: Clip,
    *,
    sha256: bytes | None,
    sha256_readback: bytes | None,
    vault: Vault,
    term: LockTerm | None = None,
) -> ManifestName:
    """Store the manifest of a clip and return its name; storing the same again changes nothing.

    term  for which the store is to refuse to delete it; no erasure deletes manifests

    Raises:
        VaultUnavailable: it may or may not be stored; no event names it yet.
    """
    data = make_manifest(clip, sha256=sha256, sha256_readback=sha256_readback)
    name = name_manifest(clip.clip_id, data)
    # One small PUT. A crash after it leaves a manifest that no event names: the next try stores
    # the same one again, or another one beside it if the clip has changed. Whoever writes under
    # this name writes these bytes, so nothing has to be free: a condition would cost the store
    # more than the write.
    stored = await vault.put_object(name.key, BytesBody([data], sha256=name.sha256))
    # Before any event names it: what is named is locked.
    await lock_object(name.key, stored.version, term=term, vault=vault)
    return name


async def add_manifest(
    clip_id: UUID, *, pool: Pool, vault: Vault, now: Clock, lock: ObjectLock | None = None
) -> bool:
    """Give a settled clip that has none its manifest; False when there is nothing to do.

    Vault first, then the ledger with the event `manifest.stored`.

    Raises:
        VaultUnavailable, LedgerUnavailable: the clip is found again later.
    """
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            clip = await clips.find_clip(connection, clip_id)
        if clip is None or clip.manifest_sha256 is not None:
            return False
        name = await store_manifest(
            clip,
            sha256=clip.sha256,
            sha256_readback=clip.sha256_readback,
            vault=vault,
            term=None if lock is None else lock.begin(now()),
        )
        stored = Happening("manifest.stored", WORKER, {"manifest_sha256": name.sha256.hex()})
        events = chain_events(clip.head, [stored], now=now(), device_serial=clip.device_serial)
        async with reading(pool) as connection:
            if await manifests.set_manifest(connection, clip, name.sha256, events):
                return True
    return False
