"""What the store's refusals mean to us."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
from botocore import exceptions as botocore_errors
from botocore.parsers import ResponseParserError

from ingest_service import telemetry
from ingest_service.errors import ChunkCorrupted, IngestError, StoredBytesLost, VaultFull


class StoreFailed(Exception):
    """The store did not do what was asked, for a reason that is not the bytes.

    Stays inside the vault: it is tried again or becomes VaultUnavailable.
    """

    def __init__(self, reason: str, *, may_pass: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_pass = may_pass


class KeyTaken(Exception):
    """There is an object under the key that was to be new. Stays inside the vault."""


_FULL: Final = frozenset(
    {
        "InsufficientStorage",
        "InsufficientStorageSpace",
        "QuotaExceeded",
        "StorageFull",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
    }
)
_CORRUPTED: Final = frozenset(
    {
        "BadDigest",
        "InvalidDigest",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
    }
)
# The last three say that the parts which were acknowledged cannot become the object any more.
_LOST: Final = frozenset(
    {
        "NoSuchKey",
        "NoSuchUpload",
        "NoSuchVersion",
        "EntityTooSmall",
        "InvalidPart",
        "InvalidPartOrder",
    }
)
# 4xx that are about now, not about the request.
_PASSING: Final = frozenset({"OperationAborted", "RequestTimeout", "SlowDown", "TooManyRequests"})
_PASSING_STATUS: Final = frozenset({408, 409, 425, 429})
_STATUS_FULL: Final = 507
_STATUS_SERVER: Final = 500


def judge(status: int, code: str, message: str, *, has_digest: bool) -> IngestError | StoreFailed:
    """Return the error that a refusal means; `has_digest`: a SHA-256 was sent with the bytes."""
    if status == _STATUS_FULL or code in _FULL:
        return VaultFull()
    if code in _CORRUPTED and has_digest:
        return ChunkCorrupted()
    reason = f"{status} {code} {message}".strip()
    if code in _LOST:
        return StoredBytesLost(reason)
    may_pass = status >= _STATUS_SERVER or status in _PASSING_STATUS or code in _PASSING
    return StoreFailed(reason, may_pass=may_pass)


_CODE: Final = re.compile(rb"<Code>([^<]{1,100})</Code>")
_MESSAGE: Final = re.compile(rb"<Message>([^<]{1,300})</Message>")


def parse_refusal(body: bytes) -> tuple[str, str]:
    """Return code and message of an S3 error document; empty strings where it has none."""
    code, message = _CODE.search(body), _MESSAGE.search(body)
    return (
        code.group(1).decode("utf-8", "replace") if code else "",
        message.group(1).decode("utf-8", "replace") if message else "",
    )


def status_of(error: botocore_errors.ClientError) -> int:
    """Return the HTTP status of a refusal; 0 where there is none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def count_failure(operation: str, error: Exception) -> None:
    """Count a try that the store failed; what is not its fault is not counted."""
    for kind, cause in _KINDS.items():
        if isinstance(error, cause):
            telemetry.VAULT_ERRORS.labels(operation, kind).inc()


_KINDS: Final[dict[str, type[Exception]]] = {
    "failed": StoreFailed,
    "full": VaultFull,
    "lost": StoredBytesLost,
    "corrupted": ChunkCorrupted,
}


@contextmanager
def translating(operation: str) -> Iterator[None]:
    """Turn what aiobotocore raises into what the vault raises; time and count the request."""
    started = time.perf_counter()
    try:
        yield
    except botocore_errors.ClientError as error:
        told = error.response.get("Error", {})
        failure = judge(
            status_of(error), told.get("Code", ""), told.get("Message", ""), has_digest=False
        )
        count_failure(operation, failure)
        raise failure from error
    except (
        botocore_errors.HTTPClientError,
        botocore_errors.ConnectionError,
        ResponseParserError,
        aiohttp.ClientError,
        OSError,
        TimeoutError,
    ) as error:
        failure = StoreFailed(f"{type(error).__name__}: {error}")
        count_failure(operation, failure)
        raise failure from error
    telemetry.tally(telemetry.VAULT_SECONDS, operation).note(time.perf_counter() - started)
