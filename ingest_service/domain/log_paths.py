"""Names of the log's parts, in URLs (C2SP tlog-tiles) and in the bucket."""

import re
from typing import Final

from ingest_service.domain.merkle import TILE_WIDTH, TileId

CHECKPOINTS_PREFIX: Final = "log/checkpoint/"
_SIZE_MAX: Final = 10**18 - 1
_INDEX: Final = re.compile(r"((?:x\d{3}/){0,5}\d{3})(?:\.p/([1-9]\d{0,2}))?")


class BadTilePath(ValueError):
    """Not a tile path of C2SP tlog-tiles."""


def checkpoint_key(tree_size: int) -> str:
    """Return the key of a published checkpoint: the newest is the first in byte order."""
    return f"{CHECKPOINTS_PREFIX}{_SIZE_MAX - tree_size:018d}-{tree_size}"


def tile_path(tile: TileId, *, width: int = TILE_WIDTH) -> str:
    """Return the C2SP path of a tile: tile/<level>/<index>[.p/<width>]."""
    return f"tile/{tile.level}/{_index_path(tile.index)}{_partial(width)}"


def entries_path(tile_index: int, *, width: int = TILE_WIDTH) -> str:
    """Return the C2SP path of an entry bundle: tile/entries/<index>[.p/<width>]."""
    return f"tile/entries/{_index_path(tile_index)}{_partial(width)}"


def leaves_key(start: int, stop: int) -> str:
    """Return the key of the leaves between two published checkpoints."""
    return f"log/leaves/{start:018d}-{stop:018d}"


def bundle_entries(leaves: list[bytes]) -> bytes:
    """Return leaves as a C2SP entry bundle: each behind its length, big-endian uint16."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def _index_path(index: int) -> str:
    path = f"{index % 1000:03d}"
    while index >= 1000:  # noqa: PLR2004  tlog-tiles: elements of three digits
        index //= 1000
        path = f"x{index % 1000:03d}/{path}"
    return path


def _partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"


def parse_tile_path(path: str) -> tuple[int, int]:
    """Return (index, width) of the part of a tile's path after its level.

    Raises:
        BadTilePath: another form, superfluous leading elements, or a width outside 1..255.
    """
    matched = _INDEX.fullmatch(path)
    if matched is None or matched[1].startswith("x000/"):
        raise BadTilePath(path)
    index = int(matched[1].replace("x", "").replace("/", ""))
    width = TILE_WIDTH if matched[2] is None else int(matched[2])
    if matched[2] is not None and width >= TILE_WIDTH:
        raise BadTilePath(path)
    return index, width
