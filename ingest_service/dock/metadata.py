"""What the dock says of a recording: options, then FILE.json, then what the file itself tells."""

import json
import mimetypes
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ingest_service.dock.recording import FileIdentity
from schemas.announcement import Announcement

METADATA_SUFFIX: Final = ".json"
# The largest JSON that is taken for metadata; the service refuses more than this anyway.
METADATA_BYTES_MAX: Final = 128 * 1024
NAME_CHARACTERS_MAX: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def describe_recording(
    path: Path, identity: FileIdentity, sha256: bytes, *, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the announcement of a recording as JSON members; always a valid one.

    Footage is never held back for its metadata: members of FILE.json that do not fit are sent
    under `unreadable_metadata`, which the service keeps and flags. Size is the file's own. A
    `sha256_device` in FILE.json is the camera's word and is passed on even if the file differs:
    the service then quarantines the clip, and the camera keeps its copy.
    """
    sha256_hex = sha256.hex()
    told = _read_metadata(path)
    told.pop("size_bytes", None)
    members = (
        _defaults(path, sha256_hex)
        | {name: value for name, value in told.items() if value is not None}
        | dict(options)
        | {"size_bytes": identity.size_bytes}
    )
    try:
        announcement = Announcement.model_validate(members)
    except ValidationError as error:
        misfits = {str(detail["loc"][0]) for detail in error.errors()} & told.keys()
        if not misfits:
            raise
        kept = {name: value for name, value in members.items() if name not in misfits}
        kept["unreadable_metadata"] = {name: told[name] for name in sorted(misfits)}
        announcement = Announcement.model_validate(_defaults(path, sha256_hex) | kept)
    return announcement.model_dump(mode="json", exclude_none=True, exclude_defaults=True) | {
        "segment_no": announcement.segment_no
    }


def _defaults(path: Path, sha256_hex: str) -> dict[str, Any]:
    # The digits make two files of one name two recordings, and one file sent twice the same one.
    stem = _printable(path.stem, NAME_CHARACTERS_MAX - 13)
    content_type, _ = mimetypes.guess_type(path.name)
    members = {
        "device_serial": _printable(path.absolute().parent.name, NAME_CHARACTERS_MAX)
        or socket.gethostname()
        or "unknown",
        "recording_id": f"{stem}-{sha256_hex[:12]}",
        "sha256_device": sha256_hex,
        "filename": _printable(path.name, NAME_CHARACTERS_MAX),
        "container": _printable(path.suffix.removeprefix(".").lower(), NAME_CHARACTERS_MAX),
        "content_type": content_type,
    }
    return {name: value for name, value in members.items() if value}


def _read_metadata(path: Path) -> dict[str, Any]:
    companion = path.with_name(path.name + METADATA_SUFFIX)
    try:
        if companion.stat().st_size > METADATA_BYTES_MAX:
            return {"metadata_error": f"{METADATA_SUFFIX} file is larger than {METADATA_BYTES_MAX}"}
        document = json.loads(companion.read_bytes())
        # What the wire cannot carry (NaN, lone surrogates) is found here, not by the service.
        text = json.dumps(document, allow_nan=False, ensure_ascii=False).encode().decode()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        return {"metadata_error": _printable(str(error), NAME_CHARACTERS_MAX)}
    if not isinstance(document, dict) or "\\u0000" in text:
        return {"metadata_error": "not a JSON object of texts without NUL"}
    return document


def _printable(text: str, characters_max: int) -> str:
    # File names are bytes: what is not UTF-8 arrives here as surrogates, which JSON cannot carry.
    readable = os.fsencode(text).decode("utf-8", "replace")
    return _CONTROL.sub("_", readable)[:characters_max]
