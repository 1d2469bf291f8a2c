"""Does a file end where its own structure says? Only headers are read, by the child process.

ISO base media (MP4, QuickTime), Matroska and WebM, AVI. What a camera that lost its power leaves,
and what a copy that broke off leaves, shows here; libav would play both up to where they end.
"""

from dataclasses import dataclass
from typing import Final, Protocol

# A fragmented recording has thousands of boxes; after so many there is no verdict.
BOXES_MAX: Final = 32
_BOX_HEADER_BYTES: Final = 8
_LARGE_HEADER_BYTES: Final = 16
_FIRST_BOXES: Final = frozenset(
    {b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}
)
_EBML: Final = b"\x1aE\xdf\xa3"
_SEGMENT: Final = b"\x18S\x80g"
_HEAD_BYTES: Final = 4096


class Source(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size_bytes(self) -> int:
        """Length of the whole."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return so many bytes; fewer at the end, or where no more may be read."""
        ...


@dataclass(frozen=True, slots=True)
class Shape:
    """What kind of file it is by its first bytes, and whether it is shorter than it says.

    kind    None = none of those that are known here
    is_cut  False also where that cannot be told
    """

    kind: str | None
    is_cut: bool


def find_shape(source: Source) -> Shape:
    """Return what a file is, as far as its outermost structure goes."""
    head = source.read_at(0, _HEAD_BYTES)
    if head[4:8] in _FIRST_BOXES:
        return Shape("mp4", _is_cut_mp4(source))
    if head.startswith(_EBML):
        return Shape("matroska", _is_cut_matroska(head, source.size_bytes))
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return Shape("avi", 8 + int.from_bytes(head[4:8], "little") > source.size_bytes)
    return Shape(None, is_cut=False)


def _is_cut_mp4(source: Source) -> bool:
    offset, has_index = 0, False
    for _ in range(BOXES_MAX):
        if offset == source.size_bytes:
            # Who lost power before the index was written has none.
            return not has_index
        header = source.read_at(offset, _LARGE_HEADER_BYTES)
        if len(header) < _BOX_HEADER_BYTES:
            return True
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        if size == 0 or not name.isascii() or not name.decode().isprintable():
            # To the end, or something that is no box: some cameras fill up what they reserved.
            return not has_index
        has_index = has_index or name == b"moov"
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < _BOX_HEADER_BYTES:
            return not has_index
        offset += size
        if offset > source.size_bytes:
            return True
    return False


def _is_cut_matroska(head: bytes, size_bytes: int) -> bool:
    header_size, offset = _read_size(head, len(_EBML))
    if header_size is None:
        return False
    offset += header_size
    if head[offset : offset + len(_SEGMENT)] != _SEGMENT:
        return size_bytes <= offset
    segment_size, offset = _read_size(head, offset + len(_SEGMENT))
    # A recording that was written to a pipe does not know its length: no verdict.
    return segment_size is not None and offset + segment_size > size_bytes


def _read_size(data: bytes, offset: int) -> tuple[int | None, int]:
    """Return an EBML size (RFC 8794, section 6) and where it ends; None: unknown."""
    if offset >= len(data) or data[offset] == 0:
        return None, offset
    length = 9 - data[offset].bit_length()
    raw = int.from_bytes(data[offset : offset + length], "big")
    value = raw & ((1 << 7 * length) - 1)
    is_unknown = value == (1 << 7 * length) - 1
    return (None if is_unknown else value), offset + length
