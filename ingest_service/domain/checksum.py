"""Checksums of one request's body: the checksum extension of tus 1.0.0, and RFC 9530 digests."""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ingest_service.domain.bytestream import Hash
from ingest_service.errors import ChecksumMismatch, InvalidHeader, UnknownDigestAlgorithm

UPLOAD_CHECKSUM: Final = "Upload-Checksum"


class _Crc32:
    """CRC-32 (IEEE 802.3), four bytes big-endian."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, block: bytes, /) -> None:
        """Add bytes."""
        self._value = zlib.crc32(block, self._value)

    def digest(self) -> bytes:
        """Return the checksum so far."""
        return self._value.to_bytes(4, "big")


# Weak ones guard against accidents on the way, which is what they are asked for; evidence rests
# on the SHA-256 of the whole clip alone.
_MAKERS: Final[Mapping[str, Callable[[], Hash]]] = {
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32": _Crc32,
    # RFC 9530 alone
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
}
TUS_ALGORITHMS: Final = ("sha1", "sha256", "md5", "crc32")
DIGEST_ALGORITHMS: Final = ("sha-256", "sha-512")
_SIZES: Final = {name: len(make().digest()) for name, make in _MAKERS.items()}


class BodyCheck:
    """The checksums that a body is declared to have, computed as it passes.

    expected  by algorithm; None when they come behind the body, in its trailer
    trailer   asked for them then
    """

    def __init__(
        self,
        expected: Mapping[str, bytes] | None,
        *,
        algorithms: Sequence[str] = (),
        trailer: Callable[[], Mapping[str, bytes]] | None = None,
    ) -> None:
        self._expected = expected
        self._trailer = trailer
        self._by_name = {name: _MAKERS[name]() for name in (expected or algorithms)}
        self.hashes: Sequence[Hash] = list(self._by_name.values())

    def verify(self) -> None:
        """Compare every checksum that was declared.

        Raises:
            ChecksumMismatch: the body is another. InvalidHeader: the trailer does not say.
        """
        expected = self._expected
        if expected is None:
            expected = {} if self._trailer is None else self._trailer()
        for name, digest in expected.items():
            if self._by_name[name].digest() != digest:
                raise ChecksumMismatch(name)


def parse_upload_checksum(value: str) -> dict[str, bytes]:
    """Return algorithm and digest of an Upload-Checksum field (tus 1.0.0).

    Raises:
        InvalidHeader: not `algorithm base64`, or a digest of another length.
        UnknownDigestAlgorithm: not one of ours.
    """
    tokens = value.strip().split(" ")
    if len(tokens) != 2:  # noqa: PLR2004 - algorithm and digest
        raise InvalidHeader(UPLOAD_CHECKSUM, "not of the form 'sha1 <base64>'")
    name, text = tokens[0].lower(), tokens[1]
    if name not in TUS_ALGORITHMS:
        raise UnknownDigestAlgorithm(name[:100], ",".join(TUS_ALGORITHMS))
    try:
        digest = base64.b64decode(text, validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        raise InvalidHeader(UPLOAD_CHECKSUM, "the digest is not base64") from error
    if len(digest) != _SIZES[name]:
        raise InvalidHeader(UPLOAD_CHECKSUM, f"a {name} digest has {_SIZES[name]} bytes")
    return {name: digest}


def digest_size(algorithm: str) -> int:
    """Return the length of an algorithm's digest, in bytes."""
    return _SIZES[algorithm]
