"""Time stamps (RFC 3161): that a checkpoint existed at a time, on the word of a time authority.

What is stamped are the checkpoint's signed lines: its body. The bytes of the authority's whole
answer are kept, for that is what `openssl ts -verify -in` reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

Roots = Sequence[x509.Certificate]


class TimestampInvalid(ValueError):
    """The time stamp shows nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class TimestampQuery:
    """A request to a time authority; the nonce ties the answer to it."""

    body: bytes
    nonce: int


def make_query(message: bytes) -> TimestampQuery:
    """Ask for a time stamp over a message, by its SHA-256."""
    builder = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256)
    request = builder.cert_request(cert_request=True).build()
    return TimestampQuery(request.as_bytes(), request.nonce or 0)


def read_roots(pem: bytes) -> Roots:
    """Read the root certificates of time authorities (PEM).

    Raises:
        TimestampInvalid: there is none in it.
    """
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        message = "no certificate in PEM"
        raise TimestampInvalid(message) from error


def read_claimed_time(answer: bytes) -> datetime:
    """Return the time that an answer states, on nobody's word yet.

    Raises:
        TimestampInvalid: it cannot be read, or the authority refused.
    """
    return _gen_time(_decode(answer))


def verify_timestamp(
    answer: bytes, message: bytes, roots: Roots, *, nonce: int | None = None
) -> datetime:
    """Check an authority's answer and return the time that it vouches for.

    Certificates are judged as of that time: what has expired since was good then.

    Raises:
        TimestampInvalid: another message, a false signature, or no chain to one of the roots.
    """
    response = _decode(answer)
    builder = VerifierBuilder(roots=list(roots), nonce=nonce)
    try:
        builder.build().verify_message(response, message)
    except (VerificationError, ValueError) as error:
        raise TimestampInvalid(str(error)) from error
    return _gen_time(response)


def _decode(answer: bytes) -> TimeStampResponse:
    try:
        return decode_timestamp_response(answer)
    except ValueError as error:
        message = "no answer of a time authority (RFC 3161)"
        raise TimestampInvalid(message) from error


def _gen_time(response: TimeStampResponse) -> datetime:
    try:
        return response.tst_info.gen_time.replace(tzinfo=UTC)
    except ValueError as error:
        message = f"the time authority refused: status {response.status}"
        raise TimestampInvalid(message) from error
