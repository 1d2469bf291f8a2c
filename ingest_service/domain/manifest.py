"""The manifest object beside a clip: with the log's leaves, all that rebuilds the ledger.

Canonical JSON (RFC 8785), stored once under a key that holds its own SHA-256: it is never
overwritten, and a changed one shows by its name alone. The event that settles a clip names it.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import rfc8785

from ingest_service.domain.clip import Clip

MANIFESTS_PREFIX: Final = "manifests/"
FORMAT: Final = "ingest-clip-manifest/1"

_IDS: Final = ("clip_id", "upload_id", "duplicate_of")
_DIGESTS: Final = ("sha256", "sha256_device", "sha256_readback")
_TIMES: Final = ("started_at", "ended_at", "started_at_corrected", "announced_at", "sealed_at")
_PLAIN: Final = (
    "device_serial",
    "recording_id",
    "segment_no",
    "device_recording_seq",
    "size_bytes",
    "station_id",
    "site_id",
    "borough",
    "clock_offset_ms",
    "clock_uncertainty_ms",
    "flags",
    "clock_state",
    "officer_id",
    "incident_id",
    "crime_ref",
    "category",
    "evidential_state",
    "title",
    "bucket",
    "object_key",
    "object_version",
)
_KEY: Final = re.compile(
    MANIFESTS_PREFIX
    + r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/([0-9a-f]{64})\.json"
)


class ManifestInvalid(ValueError):
    """These bytes are not the manifest that was stored under this name; the message says why."""


@dataclass(frozen=True, slots=True, order=True)
class ManifestName:
    """What a manifest's key says: the clip, and the SHA-256 (32 raw bytes) of the object."""

    clip_id: UUID
    sha256: bytes

    @property
    def key(self) -> str:
        """Key in the bucket; in byte order of the clips' ids."""
        return f"{MANIFESTS_PREFIX}{self.clip_id}/{self.sha256.hex()}.json"


def name_manifest(clip_id: UUID, data: bytes) -> ManifestName:
    """Return the name under which a manifest is stored."""
    return ManifestName(clip_id, hashlib.sha256(data).digest())


def parse_manifest_key(key: str) -> ManifestName:
    """Return what a key says.

    Raises:
        ManifestInvalid: it is not the key of a manifest.
    """
    matched = _KEY.fullmatch(key)
    if matched is None:
        message = f"{key} is not the key of a manifest"
        raise ManifestInvalid(message)
    return ManifestName(UUID(matched[1]), bytes.fromhex(matched[2]))


def make_manifest(clip: Clip, *, sha256: bytes | None, sha256_readback: bytes | None) -> bytes:
    """Return the manifest of a clip that is about to be settled.

    What later events say (secured, released, held, checked) is left to them: the same clip gives
    the same bytes however often this is tried.
    """
    digests = {
        "sha256": sha256,
        "sha256_device": clip.sha256_device,
        "sha256_readback": sha256_readback,
    }
    ids = {name: getattr(clip, name) for name in _IDS}
    times: dict[str, datetime | None] = {name: getattr(clip, name) for name in _TIMES}
    return rfc8785.dumps(
        {
            "format": FORMAT,
            **{name: getattr(clip, name) for name in _PLAIN},
            **{name: None if value is None else str(value) for name, value in ids.items()},
            **{name: None if value is None else value.hex() for name, value in digests.items()},
            **{name: None if value is None else value.isoformat() for name, value in times.items()},
            # As text: a camera's own numbers may be beyond what canonical JSON can say.
            "announcement": json.dumps(clip.announcement, sort_keys=True, separators=(",", ":")),
            "parts": clip.manifest,
        }
    )


def parse_manifest(name: ManifestName, data: bytes) -> dict[str, Any]:
    """Return the members of `Clip` that a manifest holds, after checking that it is the one named.

    Raises:
        ManifestInvalid: other bytes, another clip, or a form that this version does not know.
    """
    if hashlib.sha256(data).digest() != name.sha256:
        message = f"{name.key} does not have the SHA-256 that its name says"
        raise ManifestInvalid(message)
    try:
        found = json.loads(data)
        if found["format"] != FORMAT:
            message = f"{name.key} is of the unknown form {found['format']}"
            raise ManifestInvalid(message)
        read: dict[str, Any] = {member: found[member] for member in _PLAIN}
        read |= {member: _read(UUID, found[member]) for member in _IDS}
        read |= {member: _read(bytes.fromhex, found[member]) for member in _DIGESTS}
        read |= {member: _read(datetime.fromisoformat, found[member]) for member in _TIMES}
        read["announcement"] = json.loads(found["announcement"])
        read["manifest"] = found["parts"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ManifestInvalid):
            raise
        message = f"{name.key} is not a manifest: {error}"
        raise ManifestInvalid(message) from error
    if read["clip_id"] != name.clip_id:
        message = f"{name.key} is the manifest of clip {read['clip_id']}"
        raise ManifestInvalid(message)
    return read | {"manifest_sha256": name.sha256}


def _read(convert: Any, value: str | None) -> Any:  # noqa: ANN401 - whatever convert returns
    return None if value is None else convert(value)
