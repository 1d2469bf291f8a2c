"""The seal of a clip: what is known of it when nothing more can be written to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.upload import Part, Surface, Upload
from schemas.announcement import ClipState


@dataclass(frozen=True, slots=True)
class Seal:
    """What the ledger records of a clip that is complete, or of one that is set aside."""

    state: ClipState
    sealed_at: datetime
    size_bytes: int
    sha256: bytes | None
    bucket: str
    object_key: str
    object_version: str | None
    manifest: dict[str, Any]
    quarantine_reason: str | None


@dataclass(frozen=True, slots=True)
class SealedFacts:
    """What a seal says of a clip: its state, its hash if it is known, and where it is stored."""

    clip_id: UUID
    state: ClipState
    size_bytes: int | None
    sha256: bytes | None
    object_key: str | None
    object_version: str | None
    manifest: dict[str, Any] | None
    quarantine_reason: str | None

    @classmethod
    def of(cls, clip: Clip) -> "SealedFacts":
        """Return those of a clip, sealed or not."""
        return cls(
            clip.clip_id,
            clip.state,
            clip.size_bytes,
            clip.sha256,
            clip.object_key,
            clip.object_version,
            clip.manifest,
            clip.quarantine_reason,
        )

    @classmethod
    def made(cls, clip_id: UUID, seal: Seal) -> "SealedFacts":
        """Return those of a seal that was just recorded."""
        return cls(
            clip_id,
            seal.state,
            seal.size_bytes,
            seal.sha256,
            seal.object_key,
            seal.object_version,
            seal.manifest,
            seal.quarantine_reason,
        )


def make_seal(
    upload: Upload,
    parts: Sequence[Part],
    *,
    bucket: str,
    object_key: str,
    object_version: str | None,
    etag: str,
    stored_bytes: int | None,
    sha256: bytes | None,
    sha256_device: bytes | None,
    surface: Surface,
    now: datetime,
) -> Seal:
    """Return the seal of a clip whose bytes are all stored; it sets the clip aside on a mismatch.

    etag          of the stored object
    stored_bytes  its length as the store says; None where it was not asked
    sha256        of the received bytes; None when only the read-back will know it
    """
    reason = _compare_lengths(upload, stored_bytes) or _compare_with_device(sha256_device, sha256)
    return Seal(
        state="sealed" if reason is None else "quarantined",
        sealed_at=now,
        size_bytes=upload.length_bytes or 0,
        sha256=sha256,
        bucket=bucket,
        object_key=object_key,
        object_version=object_version,
        manifest=_make_manifest(upload, parts, etag, surface),
        quarantine_reason=reason,
    )


def describe_seal(
    upload: Upload, seal: Seal, *, sha256_device: bytes | None, surface: Surface
) -> list[Happening]:
    """Return what a seal means for the clip's chain of custody."""
    station = Actor("station", upload.station_id)
    facts = {
        "size_bytes": seal.size_bytes,
        "sha256": None if seal.sha256 is None else seal.sha256.hex(),
        "sha256_device": None if sha256_device is None else sha256_device.hex(),
        "bucket": seal.bucket,
        "object_key": seal.object_key,
        "object_version": seal.object_version,
        "part_count": len(seal.manifest["parts"]),
        "surface": surface,
    }
    if seal.quarantine_reason is None:
        return [Happening("clip.sealed", station, facts)]
    return [
        Happening(
            "hash.mismatch",
            station,
            facts,
            outcome="failed",
            reason=seal.quarantine_reason,
            integrity="mismatch",
        ),
        Happening("clip.quarantined", station, {}, reason=seal.quarantine_reason),
    ]


def _compare_lengths(upload: Upload, stored_bytes: int | None) -> str | None:
    """Return in what the stored object is not what was received; None when it may be."""
    if stored_bytes is None or stored_bytes == upload.length_bytes:
        return None
    return f"stored object has {stored_bytes} bytes, {upload.length_bytes} were received"


def _compare_with_device(sha256_device: bytes | None, sha256: bytes | None) -> str | None:
    """Return why the clip is not what the camera recorded; None when it may be."""
    if sha256 is None or sha256_device is None or sha256 == sha256_device:
        return None
    return "the received bytes do not have the SHA-256 that the device announced"


def _make_manifest(
    upload: Upload, parts: Sequence[Part], etag: str, surface: Surface
) -> dict[str, Any]:
    return {
        "upload_id": str(upload.upload_id),
        "surface": surface,
        "etag": etag,
        "part_bytes": upload.part_bytes,
        "parts": [
            {
                "number": part.part_number,
                "length_bytes": part.length_bytes,
                "sha256": None if part.sha256 is None else part.sha256.hex(),
                "etag": part.etag,
            }
            for part in parts
        ],
    }
