"""Read a sealed clip back from storage: only then may the camera erase its copy."""

import hashlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.actions.compute_retention import Dating, decide_first
from ingest_service.actions.lock_object import lock_object
from ingest_service.actions.store_manifest import store_manifest
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import (
    WORKER,
    Happening,
    Integrity,
    chain_events,
    format_time,
)
from ingest_service.domain.manifest import ManifestName
from ingest_service.domain.retention import LockTerm, ObjectLock
from ingest_service.errors import StoredBytesLost, Unavailable
from ingest_service.ledger import clips
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

RETRY_S: Final = 5.0
# An object that is not there may be a store that is not whole yet: so often it must be missing,
# with a growing pause between, before that is the verdict. Outages do not count.
LOST_TRIES: Final = 5
LOST_RETRY_S: Final = 30.0
_CHAIN_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the read-back found; reason is None when all is well."""

    sha256_readback: bytes | None
    reason: str | None
    is_verifiable: bool


async def read_back_clip(
    clip_id: UUID,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    lock: ObjectLock | None = None,
    dating: Dating | None = None,
) -> str | None:
    """Compare the stored object with what was received; return the clip's new state.

    lock    set on object and manifest before the clip is settled; None = none
    dating  its date is decided with it; None: by a job later

    'secured' on a match, 'quarantined' on a mismatch (nothing is deleted, the reason is kept),
    None when it is to be tried again or somebody else has settled it.

    Raises:
        VaultUnavailable, LedgerUnavailable: the clip stays 'sealed' and is tried again.
    """
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, clip_id)
    if clip is None or clip.state != "sealed":
        return None
    return await read_back_claimed(clip, pool=pool, vault=vault, now=now, lock=lock, dating=dating)


async def read_back_claimed(
    clip: Clip,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    lock: ObjectLock | None = None,
    dating: Dating | None = None,
) -> str | None:
    """Do `read_back_clip` to a sealed clip that was just read."""
    clip_id = clip.clip_id
    try:
        sha256_readback, reason = await _compare(clip, vault)
    except StoredBytesLost as lost:
        async with reading(pool) as connection:
            lost_count = await clips.count_lost(connection, clip_id, delay_s=LOST_RETRY_S)
        if lost_count < LOST_TRIES:
            return None
        # Absent is not altered: the verdict is 'not verifiable', never 'mismatch'.
        verdict = _Verdict(None, str(lost), is_verifiable=False)
    except Unavailable:
        await _postpone(clip_id, pool)
        raise
    else:
        verdict = _Verdict(sha256_readback, reason, is_verifiable=True)
    # A crash here only means that the object is read once more.
    try:
        term = None if lock is None else lock.begin(now())
        if verdict.reason is None:
            # Before the receipt: no camera erases a copy while the store may still delete ours.
            await lock_object(clip.object_key or "", clip.object_version, term=term, vault=vault)
        return await _settle(clip, verdict, term, dating, pool, vault, now)
    except Unavailable:
        await _postpone(clip_id, pool)
        raise


async def _postpone(clip_id: UUID, pool: Pool) -> None:
    async with reading(pool) as connection:
        await clips.postpone_read_back(connection, clip_id, delay_s=RETRY_S)


async def _compare(clip: Clip, vault: Vault) -> tuple[bytes, str | None]:
    """Return the digest of the stored bytes, and in what they differ from the received ones.

    Where the whole-clip hash did not run (chunks came out of order), every part is compared with
    the digest under which it was received.
    """
    whole = hashlib.sha256()
    parts = _PartDigests(clip) if clip.sha256 is None else None
    size_bytes = 0
    async for block in vault.read(clip.object_key or "", clip.object_version):
        whole.update(block)
        size_bytes += len(block)
        if parts is not None:
            parts.update(block)
    digest = whole.digest()
    if size_bytes != clip.size_bytes:
        return digest, f"{size_bytes} bytes are stored, {clip.size_bytes} were received"
    if parts is not None and (differing := parts.find_differing()) is not None:
        return digest, f"stored part {differing} differs from the received one"
    for name, expected in (("received", clip.sha256), ("announced", clip.sha256_device)):
        if expected is not None and digest != expected:
            return digest, f"the stored bytes do not have the {name} SHA-256"
    return digest, None


class _PartDigests:
    """SHA-256 of each part while the clip streams by."""

    def __init__(self, clip: Clip) -> None:
        manifest = clip.manifest or {}
        self._expected = [
            (part["length_bytes"], bytes.fromhex(part["sha256"] or ""))
            for part in manifest.get("parts", [])
        ]
        self._index = 0
        self._hash = hashlib.sha256()
        self._left = self._expected[0][0] if self._expected else 0
        self._differing: int | None = None

    def update(self, block: bytes) -> None:
        view = memoryview(block)
        while view and self._index < len(self._expected):
            piece = view[: self._left]
            self._hash.update(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
            if self._left == 0:
                self._close_part()

    def find_differing(self) -> int | None:
        """Return the first part that differs (or never ended); None when all agree."""
        if self._differing is None and self._index < len(self._expected):
            return self._index
        return self._differing

    def _close_part(self) -> None:
        if self._differing is None and self._hash.digest() != self._expected[self._index][1]:
            self._differing = self._index
        self._index += 1
        self._hash = hashlib.sha256()
        if self._index < len(self._expected):
            self._left = self._expected[self._index][0]


async def _settle(
    clip: Clip,
    verdict: _Verdict,
    term: LockTerm | None,
    dating: Dating | None,
    pool: Pool,
    vault: Vault,
    now: Clock,
) -> str | None:
    """Record the verdict, after the manifest that the bucket alone can be read by is in it."""
    reason, sha256_readback = verdict.reason, verdict.sha256_readback
    state = "secured" if reason is None else "quarantined"
    latest: Clip | None = clip
    for _ in range(_CHAIN_TRIES):
        if latest is None or latest.state != "sealed":
            return None
        if term is not None and latest.is_held:
            # Held before there was an object: the store holds it before anybody relies on it.
            await vault.set_legal_hold(latest.object_key or "", latest.object_version, is_on=True)
        # The parts agreed one by one, so the read-back's hash is the received one.
        sha256 = latest.sha256 or (sha256_readback if reason is None else None)
        manifest = await store_manifest(
            latest, sha256=sha256, sha256_readback=sha256_readback, vault=vault, term=term
        )
        moment = now()
        happenings = (
            _describe_secured(latest, sha256_readback or b"", format_time(moment), manifest, term)
            if reason is None
            else _describe_mismatch(latest, verdict, reason, manifest)
        )
        computed = None
        if dating is not None and reason is None:
            first = decide_first(latest, moment, dating)
            if first is not None:
                told, computed = first
                happenings.append(told)
        events = chain_events(
            latest.head, happenings, now=moment, device_serial=latest.device_serial
        )
        async with reading(pool) as connection:
            settled = await clips.settle_read_back(
                connection,
                latest,
                events,
                state=state,
                sha256=sha256,
                sha256_readback=sha256_readback,
                secured_at=moment if reason is None else None,
                quarantine_reason=reason,
                manifest_sha256=manifest.sha256,
                computed=computed,
            )
            if settled:
                return state
            latest = await clips.find_clip(connection, clip.clip_id)
    return None


def _describe_secured(
    clip: Clip,
    sha256: bytes,
    moment: str,
    manifest: ManifestName,
    term: LockTerm | None,
) -> list[Happening]:
    return [
        Happening(
            "readback.verified",
            WORKER,
            {"sha256_readback": sha256.hex(), "object_version": clip.object_version},
            integrity="match",
        ),
        Happening(
            "clip.secured",
            WORKER,
            {
                "clip_id": str(clip.clip_id),
                "device_serial": clip.device_serial,
                "recording_id": clip.recording_id,
                "segment_no": clip.segment_no,
                "station_id": clip.station_id,
                "size_bytes": clip.size_bytes,
                "sha256": (clip.sha256 or sha256).hex(),
                "sha256_readback": sha256.hex(),
                "bucket": clip.bucket,
                "object_key": clip.object_key,
                "object_version": clip.object_version,
                "announced_at": format_time(clip.announced_at),
                "sealed_at": format_time(clip.sealed_at or clip.announced_at),
                "secured_at": moment,
                "manifest_sha256": manifest.sha256.hex(),
                "locked_until": None if term is None else format_time(term.until),
            },
            integrity="match",
        ),
    ]


def _describe_mismatch(
    clip: Clip, found: _Verdict, reason: str, manifest: ManifestName
) -> list[Happening]:
    sha256 = found.sha256_readback
    facts = {
        "sha256": None if clip.sha256 is None else clip.sha256.hex(),
        "sha256_device": None if clip.sha256_device is None else clip.sha256_device.hex(),
        "sha256_readback": None if sha256 is None else sha256.hex(),
        "object_key": clip.object_key,
        "object_version": clip.object_version,
        "manifest_sha256": manifest.sha256.hex(),
    }
    verdict: Integrity = "mismatch" if found.is_verifiable else "not_verifiable"
    quarantined = Happening("clip.quarantined", WORKER, facts, reason=reason, integrity=verdict)
    if not found.is_verifiable:
        return [quarantined]
    mismatch = Happening(
        "hash.mismatch", WORKER, facts, outcome="failed", reason=reason, integrity=verdict
    )
    return [mismatch, quarantined]
