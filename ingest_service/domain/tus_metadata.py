"""Upload-Metadata of tus 1.0.0: read strictly, understood leniently."""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from ingest_service.domain.admission import UNKNOWN_DEVICE
from ingest_service.errors import InvalidHeader
from schemas.announcement import Announcement

HEADER: Final = "Upload-Metadata"
METADATA_CHARS_MAX: Final = 16 * 1024
# tus: keys are ASCII, not empty, without spaces and commas.
_KEY: Final = re.compile(r"[!-+\--~]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# The names that common clients send, and ours.
_ALIASES: Final = {"filetype": "content_type", "type": "content_type", "name": "filename"}


def parse_metadata(value: str | None) -> dict[str, str]:
    """Return the pairs of an Upload-Metadata field; an absent or empty field has none.

    Raises:
        InvalidHeader: an empty or repeated key, a value that is not base64, a third token.
    """
    pairs: dict[str, str] = {}
    if value is None or not value.strip():
        return pairs
    if len(value) > METADATA_CHARS_MAX:
        raise InvalidHeader(HEADER, f"longer than {METADATA_CHARS_MAX} characters")
    for pair in value.split(","):
        tokens = pair.strip().split(" ")
        key, *values = tokens
        if len(values) > 1 or not _KEY.fullmatch(key):
            raise InvalidHeader(HEADER, "not of the form 'key base64,key base64'")

        if key in pairs:
            raise InvalidHeader(HEADER, f"the key '{key}' is repeated")
        pairs[key] = _decode(values[0]) if values else ""
    return pairs


def find_device_serial(value: str | None) -> str | None:
    """Return which camera an Upload-Metadata field names; None: it does not say.

    Raises:
        InvalidHeader: as `parse_metadata`.
    """
    return _clean(parse_metadata(value).get("device_serial", "")) or None


def _clean(value: str) -> str:
    return _CONTROL.sub("", value).strip()


def _decode(text: str) -> str:
    try:
        decoded = base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except ValueError as error:  # what is not ASCII is no binascii.Error
        raise InvalidHeader(HEADER, "a value is not base64") from error
    # Postgres keeps no NUL in a text.
    return decoded.replace("\x00", "\ufffd")


def make_announcement(
    pairs: Mapping[str, str], *, upload_name: str, length_bytes: int
) -> tuple[Announcement, list[str]]:
    """Return the announcement that tus metadata amounts to, and flags for what was unusable.

    Footage is never refused for its metadata: what is missing is filled in and flagged.

    upload_name  stands in for a missing recording_id
    """
    flags: list[str] = []
    members: dict[str, Any] = {}
    for key, value in pairs.items():
        name = _ALIASES.get(key, key)
        cleaned = _clean(value)
        if cleaned and name not in members:
            members[name] = cleaned
    for name, stand_in in (("device_serial", UNKNOWN_DEVICE), ("recording_id", upload_name)):
        if name not in members:
            members[name] = stand_in
            flags.append(f"{name}_missing")
    members["size_bytes"] = length_bytes
    while True:
        try:
            return Announcement.model_validate(members), flags
        except ValidationError as error:
            for name in {str(item["loc"][0]) for item in error.errors()}:
                flags.append(f"unreadable:{name}")
                dropped = members.pop(name)
                if name == "device_serial":
                    members[name] = UNKNOWN_DEVICE
                elif name == "recording_id":
                    members[name] = upload_name
                else:
                    members[f"unreadable_{name}"] = dropped
