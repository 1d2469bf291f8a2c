"""Upload-Concat of tus 1.0.0: which uploads a clip is joined from."""

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from ingest_service.errors import InvalidHeader

HEADER: Final = "Upload-Concat"
PARTIAL: Final = "partial"
PARTIALS_MAX: Final = 500
_FINAL: Final = "final;"
_PATH: Final = "/files/"


def parse_concat(value: str, hosts: Collection[str]) -> list[UUID] | None:
    """Return the uploads that a final lists, in order; None for a partial.

    hosts  names (with ports) that are this service; a path alone is always

    Raises:
        InvalidHeader: neither, an empty list, or a URL that is no upload of this service.
    """
    if value == PARTIAL:
        return None
    if not value.startswith(_FINAL):
        raise InvalidHeader(HEADER, "neither 'partial' nor 'final;<url> <url>'")
    urls = value.removeprefix(_FINAL).split()
    if not urls:
        raise InvalidHeader(HEADER, "no upload is listed")
    if len(urls) > PARTIALS_MAX:
        raise InvalidHeader(HEADER, f"more than {PARTIALS_MAX} uploads are listed")
    return [_parse_url(url, hosts) for url in urls]


def _parse_url(url: str, hosts: Collection[str]) -> UUID:
    try:
        parts = urlsplit(url)
        head, _, name = parts.path.rpartition(_PATH)
        is_ours = not parts.netloc or parts.netloc in hosts
        # A proxy may put a prefix before the path.
        if is_ours and parts.path != name and (not head or parts.netloc):
            return UUID(name)
    except ValueError:
        pass
    raise InvalidHeader(HEADER, "a listed URL is no upload of this service")
