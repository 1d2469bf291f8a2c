"""Names of the log's parts, in URLs (C2SP tlog-tiles) and in the bucket."""

import re
from typing import Final

from ingest_service.domain.merkle import TILE_WIDTH, TileId

CHECKPOINTS_PREFIX: Final = "log/checkpoint/"
LEAVES_PREFIX: Final = "log/leaves/"
TIMESTAMPS_PREFIX: Final = "log/timestamp/"
COSIGNED_PREFIX: Final = "log/cosigned/"
_SIZE_MAX: Final = 10**18 - 1
_INDEX: Final = re.compile(r"((?:x\d{3}/){0,5}\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


class BadTilePath(ValueError):
    """Not a tile path of C2SP tlog-tiles."""


class BundleInvalid(ValueError):
    """The bytes are not an entry bundle: they end within a leaf."""


def checkpoint_key(tree_size: int) -> str:
    """Return the key of a published checkpoint: the newest is the first in byte order."""
    return f"{CHECKPOINTS_PREFIX}{_SIZE_MAX - tree_size:018d}-{tree_size}"


def timestamp_key(tree_size: int) -> str:
    """Return the key of a time authority's answer over the checkpoint of a size."""
    return f"{TIMESTAMPS_PREFIX}{tree_size:018d}.tsr"


def cosigned_key(tree_size: int) -> str:
    """Return the key of the checkpoint of a size with its witnesses' cosignatures."""
    return f"{COSIGNED_PREFIX}{tree_size:018d}"


def tile_path(tile: TileId, *, width: int = TILE_WIDTH) -> str:
    """Return the C2SP path of a tile: tile/<level>/<index>[.p/<width>]."""
    return f"tile/{tile.level}/{_index_path(tile.index)}{_partial(width)}"


def entries_path(tile_index: int, *, width: int = TILE_WIDTH) -> str:
    """Return the C2SP path of an entry bundle: tile/entries/<index>[.p/<width>]."""
    return f"tile/entries/{_index_path(tile_index)}{_partial(width)}"


def leaves_key(start: int, stop: int) -> str:
    """Return the key of the leaves between two published checkpoints."""
    return f"{LEAVES_PREFIX}{start:018d}-{stop:018d}"


def leaves_from(start: int) -> str:
    """Return what stands in byte order right before the keys of leaves from an index on."""
    return f"{LEAVES_PREFIX}{start:018d}"


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


def parse_checkpoint_key(key: str) -> int | None:
    """Return the size of the checkpoint under a key; None if it is not the key of one."""
    size = key.rpartition("-")[2]
    if not (size.isascii() and size.isdigit()) or checkpoint_key(int(size[:19])) != key:
        return None
    return int(size)


def parse_cosigned_key(key: str) -> int | None:
    """Return the size of the cosigned checkpoint under a key; None if it is not the key of one."""
    size = key.removeprefix(COSIGNED_PREFIX)
    is_form = size.isascii() and size.isdigit() and len(size) < 19  # noqa: PLR2004 - the digits of a bigint
    return int(size) if is_form and cosigned_key(int(size)) == key else None


def parse_leaves_key(key: str) -> tuple[int, int] | None:
    """Return (start, stop) of the leaves under a key; None if it is not the key of any."""
    start, _, stop = key.removeprefix(LEAVES_PREFIX).partition("-")
    is_form = all(part.isascii() and part.isdigit() and len(part) < 19 for part in (start, stop))  # noqa: PLR2004 - the digits of a bigint
    if not is_form or leaves_key(int(start), int(stop)) != key:
        return None
    return int(start), int(stop)


def split_bundle(bundle: bytes) -> list[bytes]:
    """Return the leaves of an entry bundle.

    Raises:
        BundleInvalid: it ends within a leaf.
    """
    leaves: list[bytes] = []
    at = 0
    while at < len(bundle):
        length = int.from_bytes(bundle[at : at + 2], "big")
        leaf = bundle[at + 2 : at + 2 + length]
        if len(leaf) < length or at + 2 > len(bundle):
            raise BundleInvalid(at)
        leaves.append(leaf)
        at += 2 + length
    return leaves
