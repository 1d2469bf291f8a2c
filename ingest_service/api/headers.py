"""Header values that are numbers of bytes."""

from typing import Final

from starlette.datastructures import Headers

from ingest_service.errors import InvalidHeader

_DIGITS_MAX: Final = 18  # fits the ledger's bigint


def parse_integer(headers: Headers, name: str) -> int:
    """Return a header's value as a number of bytes, 0 or more.

    Raises:
        InvalidHeader: missing, signed, fractional, empty, not ASCII, or too large.
    """
    value = headers.get(name)
    if value is None:
        raise InvalidHeader(name, "missing")
    if not (value.isascii() and value.isdigit()) or len(value) > _DIGITS_MAX:
        raise InvalidHeader(name, "not a number of bytes")
    return int(value)
