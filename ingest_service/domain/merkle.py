"""RFC 6962 Merkle trees, kept as C2SP tiles (c2sp.org/tlog-tiles).

A tile holds up to 256 hashes of one level; level L of the tiles is level 8*L of the tree, counted
from the leaves. A full tile never changes; a partial one is a prefix of what it becomes, so the
right edge of every level is all that has to be rewritten when leaves are appended.

Proofs are computed from tiles by a reader that the caller brings: nothing here does I/O.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
# A log of ten million leaves has some 1,200 spans of 2^14 leaves and more.
KNOWN_ENTRIES_MAX: Final = 8192
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


class ProofInvalid(ValueError):
    """The proof does not lead from what it is said to prove to the root."""


@dataclass(frozen=True, slots=True, order=True)
class TileId:
    """Where a tile stands: level counts tiles from the leaves, index counts from the left."""

    level: int
    index: int


# Reads tiles: one bytes object of 32-byte hashes for each id, at least as wide as asked for.
TileReader = Callable[[Sequence[TileId]], Awaitable[dict[TileId, bytes]]]


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(peaks: Sequence[bytes]) -> bytes:
    """Return the root over perfect subtrees, largest first."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = hash_children(peak, root)
    return root


def hash_perfect(hashes: Sequence[bytes]) -> bytes:
    """Return the root of a perfect subtree over 2^n hashes of one level."""
    return _hash_level(b"".join(hashes))


def _hash_level(level: bytes) -> bytes:
    """Return the root over the 2^n hashes that stand in `level` one after the other."""
    # Not by hash_children: an audit of a long log spends its time in this line.
    sha256 = hashlib.sha256
    while len(level) > HASH_BYTES:
        level = b"".join(
            [sha256(b"\x01" + level[i : i + 64]).digest() for i in range(0, len(level), 64)]
        )
    return level


class Edge:
    """The right edge of a log's tiles: what appending needs, a few KiB at any size."""

    def __init__(self, size: int, tiles: dict[int, bytes]) -> None:
        """Start from a log of `size` leaves.

        tiles  by level, the tile that is not full yet; a level without one has none open
        """
        self.size = size
        self._open = {level: split_hashes(tile) for level, tile in tiles.items()}
        self._changed: dict[TileId, bytes] = {}

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf."""
        self._add(0, self.size, leaf_hash)
        self.size += 1

    def extend(self, leaf_hashes: Sequence[bytes]) -> None:
        """Add many leaves, in order; cheaper than one by one."""
        at = 0
        while at < len(leaf_hashes):
            hashes = self._open.setdefault(0, [])
            taken = leaf_hashes[at : at + TILE_WIDTH - len(hashes)]
            hashes += taken
            at += len(taken)
            self.size += len(taken)
            if len(hashes) == TILE_WIDTH:
                self._close(0, self.size // TILE_WIDTH - 1)

    def open_tiles(self) -> dict[int, bytes]:
        """Return the tiles that are not full, by level: what another edge can start from."""
        return {level: b"".join(hashes) for level, hashes in self._open.items() if hashes}

    def take_full(self) -> dict[TileId, bytes]:
        """Return the tiles that became full since this or `take_changed` was asked last."""
        full, self._changed = self._changed, {}
        return full

    def take_changed(self) -> dict[TileId, bytes]:
        """Return the tiles that changed since this was asked last, full and partial."""
        for level, hashes in self._open.items():
            if hashes:
                index = (self.size >> (TILE_HEIGHT * level)) // TILE_WIDTH
                self._changed[TileId(level, index)] = b"".join(hashes)
        changed, self._changed = self._changed, {}
        return changed

    def root(self) -> bytes:
        """Return the root of the tree as it stands."""
        peaks: list[bytes] = []
        for level in sorted(self._open, reverse=True):
            peaks.extend(_peaks_of(self._open[level]))
        return root_of(peaks)

    def _add(self, level: int, position: int, node: bytes) -> None:
        hashes = self._open.setdefault(level, [])
        hashes.append(node)
        if len(hashes) == TILE_WIDTH:
            self._close(level, position // TILE_WIDTH)

    def _close(self, level: int, tile_index: int) -> None:
        """Set a full tile aside; its root is a node of the level above."""
        hashes, self._open[level] = self._open[level], []
        self._changed[TileId(level, tile_index)] = b"".join(hashes)
        self._add(level + 1, tile_index, hash_perfect(hashes))


def _peaks_of(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the roots of the perfect subtrees in a tile, largest first."""
    peaks: list[bytes] = []
    start = 0
    while start < len(hashes):
        width = 1 << ((len(hashes) - start).bit_length() - 1)
        peaks.append(hash_perfect(hashes[start : start + width]))
        start += width
    return peaks


def split_hashes(tile: bytes) -> list[bytes]:
    """Return the hashes of a tile."""
    return [tile[i : i + HASH_BYTES] for i in range(0, len(tile), HASH_BYTES)]


def open_tiles(size: int) -> list[TileId]:
    """Return which tiles are partial in a log of this size."""
    tiles: list[TileId] = []
    level, width = 0, size
    while width:
        if width % TILE_WIDTH:
            tiles.append(TileId(level, width // TILE_WIDTH))
        width //= TILE_WIDTH
        level += 1
    return tiles


# --- proofs -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Node:
    """A perfect subtree: its height above the leaves, counted from the left at that height."""

    height: int
    index: int


# Leaves from a start up to a stop, exclusive.
_Span = tuple[int, int]


def _split(size: int) -> int:
    """Return the largest power of two below size (RFC 6962's k)."""
    return 1 << ((size - 1).bit_length() - 1)


def _cover(start: int, stop: int) -> list[_Node]:
    """Return the perfect subtrees of the subtree over leaves [start, stop), largest first."""
    nodes: list[_Node] = []
    while start < stop:
        height = (stop - start).bit_length() - 1
        nodes.append(_Node(height, start >> height))
        start += 1 << height
    return nodes


def _inclusion_spans(index: int, size: int) -> list[_Span]:
    """Return which leaves the hashes of an audit path are over, as the path has them."""
    spans: list[_Span] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            spans.append((middle, stop))
            stop = middle
        else:
            spans.append((start, middle))
            start = middle
    return spans[::-1]


def _consistency_cover(old_size: int, new_size: int) -> list[list[_Node]]:
    path: list[list[_Node]] = []
    start, stop, is_whole = 0, new_size, True
    while old_size != stop:
        middle = start + _split(stop - start)
        if old_size <= middle:
            path.append(_cover(middle, stop))
            stop = middle
        else:
            path.append(_cover(start, middle))
            start, is_whole = middle, False
    if not is_whole:
        path.append(_cover(start, stop))
    return path[::-1]


class KnownSubtrees:
    """Hashes over spans of leaves that verified proofs have shown; the least used go first.

    What a span hashes to never changes in a log that only grows. The upper part of a long log is
    in every proof: kept here, it costs neither a tile nor a hash.
    """

    def __init__(self, entries_max: int = KNOWN_ENTRIES_MAX) -> None:
        """Begin with none; at most so many are kept, of some 250 bytes each."""
        self._entries_max = entries_max
        self._hashes: dict[_Span, bytes] = {}

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, span: _Span) -> bytes | None:
        """Return what the leaves of a span hash to; None when it is not known."""
        found = self._hashes.pop(span, None)
        if found is not None:
            self._hashes[span] = found
        return found

    def learn(self, index: int, size: int, path: Sequence[bytes]) -> None:
        """Keep what a path says that has been verified to lead to a signed root."""
        for span, found in zip(_inclusion_spans(index, size), path, strict=True):
            # The leaf's own tile is read for every proof, and gives all that is within it.
            if span[0] // TILE_WIDTH != index // TILE_WIDTH:
                self._hashes[span] = found
        while len(self._hashes) > self._entries_max:
            del self._hashes[next(iter(self._hashes))]


@dataclass(frozen=True, slots=True)
class InclusionPlan:
    """What is to be read for an audit path: the tiles `wanted`, all at once.

    _parts  for each hash of the path: itself where it is known, else the subtrees that make it up
    """

    wanted: list[TileId]
    _parts: list[bytes | list[_Node]]

    def make_path(self, tiles: dict[TileId, bytes]) -> list[bytes]:
        """Return the audit path.

        Raises:
            ProofInvalid: the tiles are not all there.
        """
        return [
            part if isinstance(part, bytes) else _hash_cover(part, tiles) for part in self._parts
        ]


def plan_inclusion(index: int, size: int, known: KnownSubtrees | None = None) -> InclusionPlan:
    """Plan the audit path of a leaf in the tree of `size` leaves (RFC 6962, section 2.1.1).

    0 <= index < size.
    """
    parts: list[bytes | list[_Node]] = []
    for span in _inclusion_spans(index, size):
        found = None if known is None else known.find(span)
        parts.append(_cover(*span) if found is None else found)
    covers = [part for part in parts if not isinstance(part, bytes)]
    return InclusionPlan(sorted({_tile_of(node) for cover in covers for node in cover}), parts)


async def prove_inclusion(index: int, size: int, read_tiles: TileReader) -> list[bytes]:
    """Return the audit path of a leaf in the tree of `size` leaves (RFC 6962, section 2.1.1).

    0 <= index < size; the reader is called once.
    """
    plan = plan_inclusion(index, size)
    return plan.make_path(await read_tiles(plan.wanted))


async def prove_consistency(old_size: int, new_size: int, read_tiles: TileReader) -> list[bytes]:
    """Return the proof that the old tree is a prefix of the new one (RFC 6962, section 2.1.2).

    0 <= old_size <= new_size; empty when the sizes are equal or the old tree is empty.
    """
    if old_size in (0, new_size):
        return []
    return await _hash_covers(_consistency_cover(old_size, new_size), read_tiles)


async def compute_root(size: int, read_tiles: TileReader) -> bytes:
    """Return the root of the first `size` leaves, from tiles."""
    if size == 0:
        return EMPTY_ROOT
    return (await _hash_covers([_cover(0, size)], read_tiles))[0]


async def _hash_covers(covers: list[list[_Node]], read_tiles: TileReader) -> list[bytes]:
    wanted = sorted({_tile_of(node) for cover in covers for node in cover})
    tiles = await read_tiles(wanted)
    return [_hash_cover(cover, tiles) for cover in covers]


def _hash_cover(cover: Sequence[_Node], tiles: dict[TileId, bytes]) -> bytes:
    return root_of([_hash_node(node, tiles) for node in cover])


def _tile_of(node: _Node) -> TileId:
    level = node.height // TILE_HEIGHT
    first = node.index << (node.height % TILE_HEIGHT)
    return TileId(level, first // TILE_WIDTH)


def _hash_node(node: _Node, tiles: dict[TileId, bytes]) -> bytes:
    tile_id = _tile_of(node)
    width = 1 << (node.height % TILE_HEIGHT)
    first = (node.index * width) % TILE_WIDTH
    tile = tiles.get(tile_id, b"")
    if len(tile) < (first + width) * HASH_BYTES:
        message = f"tile {tile_id.level}/{tile_id.index} is too narrow"
        raise ProofInvalid(message)
    return _hash_level(tile[first * HASH_BYTES : (first + width) * HASH_BYTES])


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Check an audit path (RFC 9162, section 2.1.3.2).

    Raises:
        ProofInvalid: the leaf is not at this index of the tree with this root.
    """
    if not 0 <= index < size:
        message = f"index {index} is outside a log of {size} leaves"
        raise ProofInvalid(message)
    position, last, node = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            message = "the inclusion path is too long"
            raise ProofInvalid(message)
        if position & 1 or position == last:
            node = hash_children(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = hash_children(node, sibling)
        position >>= 1
        last >>= 1
    if last != 0 or node != root:
        message = "the inclusion path does not lead to the root"
        raise ProofInvalid(message)


def verify_consistency(  # noqa: C901  the RFC's own algorithm, step by step
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]
) -> None:
    """Check that the old tree is a prefix of the new one (RFC 9162, section 2.1.4.2).

    Raises:
        ProofInvalid: history was rewritten, or the proof is not for these two trees.
    """
    if not 0 <= old_size <= new_size:
        message = f"{old_size} is not a prefix of {new_size} leaves"
        raise ProofInvalid(message)
    if old_size in (0, new_size):
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if path or old_root != expected:
            message = "the roots of equal (or empty) trees differ"
            raise ProofInvalid(message)
        return
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        message = "the consistency path is empty"
        raise ProofInvalid(message)
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_node = new_node = steps[0]
    for step in steps[1:]:
        if last == 0:
            message = "the consistency path is too long"
            raise ProofInvalid(message)
        if position & 1 or position == last:
            old_node = hash_children(step, old_node)
            new_node = hash_children(step, new_node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_node = hash_children(new_node, step)
        position >>= 1
        last >>= 1
    if last != 0 or old_node != old_root or new_node != new_root:
        message = "the consistency path does not lead to both roots"
        raise ProofInvalid(message)
