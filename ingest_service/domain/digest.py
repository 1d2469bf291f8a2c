"""Digest fields (RFC 9530): `Content-Digest: sha-256=:<base64>:`."""

import base64
import binascii
import re
from typing import Final

from ingest_service.errors import InvalidHeader, UnknownDigestAlgorithm

CONTENT_DIGEST: Final = "Content-Digest"
_MEMBER: Final = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*(?:;.*)?")
_SHA256_BYTES: Final = 32


def parse_content_digest(value: str | None) -> bytes:
    """Return the SHA-256 of a Content-Digest field, 32 raw bytes.

    Members of other algorithms are ignored, as RFC 9530 section 2 has it; of a repeated one the
    last counts (RFC 8941, section 3.2).

    Raises:
        InvalidHeader: missing or malformed. UnknownDigestAlgorithm: no sha-256 among the members.
    """
    if value is None:
        raise InvalidHeader(CONTENT_DIGEST, "missing; send sha-256=:<base64>:")
    digests: dict[str, str] = {}
    for member in value.split(","):
        matched = _MEMBER.fullmatch(member)
        if matched is None:
            raise InvalidHeader(CONTENT_DIGEST, "not of the form sha-256=:<base64>:")
        digests[matched[1]] = matched[2]
    if "sha-256" not in digests:
        raise UnknownDigestAlgorithm(", ".join(digests)[:100], "sha-256")
    return _decode(digests["sha-256"])


def format_content_digest(sha256: bytes) -> str:
    """Return the field value for a SHA-256."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"


def _decode(text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidHeader(CONTENT_DIGEST, "not base64") from error
    if len(digest) != _SHA256_BYTES:
        raise InvalidHeader(CONTENT_DIGEST, "a SHA-256 has 32 bytes")
    return digest
