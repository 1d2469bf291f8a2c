"""Header values that are numbers of bytes, and which of two forms an answer may take."""

import re
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers

from ingest_service.errors import InvalidHeader

_DIGITS_MAX: Final = 18  # fits the ledger's bigint
_WEIGHT: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


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


def choose_media_type(headers: Headers, offered: Sequence[str]) -> str:
    """Return which of the offered types Accept wants most; the first one if it does not say."""
    accepted = _read_accepted(headers)
    return max(offered, key=lambda media_type: _weigh(accepted, media_type))


def prefers_text(headers: Headers) -> bool:
    """Tell whether Accept wants text/plain rather than application/json (RFC 9110, 12.5.1).

    JSON is the answer to who does not care, or cannot be understood.
    """
    accepted = _read_accepted(headers)
    return _weigh(accepted, "text/plain") > _weigh(accepted, "application/json")


def _read_accepted(headers: Headers) -> dict[str, float]:
    accepted: dict[str, float] = {}
    for element in ",".join(headers.getlist("accept")).lower().split(","):
        media_range, *parameters = (part.strip() for part in element.split(";"))
        accepted[media_range] = _parse_weight(parameters)
    return accepted


def _weigh(accepted: dict[str, float], media_type: str) -> float:
    """Return the weight of the most specific range that fits; 0 when none does."""
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        if media_range in accepted:
            return accepted[media_range]
    return 0.0


def _parse_weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            matched = _WEIGHT.fullmatch(value.strip())
            return float(matched[0]) if matched else 0.0
    return 1.0
