"""The footage of one clip of a load test: made from a seed, so that no copy has to be kept.

Bytes are slices of the one random pattern in `footage`; each piece of 8 MiB begins with a stamp and
goes on at a place of its own in the pattern. So no two clips of a run agree anywhere, and whoever
knows (run, number, size) can make any stretch of a clip again without having read the rest.
"""

import base64
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from loadtest.footage import PATTERN, PATTERN_BYTES, STAMP_BYTES

_VIEW: Final = memoryview(PATTERN)


@dataclass(frozen=True, slots=True)
class Reel:
    """One clip's bytes.

    run          name of the run; another run has other bytes
    number       of the clip within the run, 0-based
    size_bytes   exact length
    is_rotated   False for the null S3, which can only make the unrotated pattern again
    """

    run: str
    number: int
    size_bytes: int
    is_rotated: bool = True

    @property
    def recording_id(self) -> str:
        """The camera's name for the recording."""
        return f"{self.run}-{self.number:06d}"

    def blocks(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes start..stop in order; nothing is copied."""
        at = start
        while at < stop:
            piece_index, inside = divmod(at, PATTERN_BYTES)
            end = min(stop - at + inside, PATTERN_BYTES)
            stamp, rotation = self._piece(piece_index)
            at += end - inside
            if inside < STAMP_BYTES:
                yield memoryview(stamp)[inside:end]
                inside = STAMP_BYTES
            if inside < end:
                begin = (inside + rotation) % PATTERN_BYTES
                first = min(end - inside, PATTERN_BYTES - begin)
                yield _VIEW[begin : begin + first]
                if first < end - inside:
                    yield _VIEW[: end - inside - first]

    def content_digest(self, start: int, stop: int) -> str:
        """Return the value of `Content-Digest` (RFC 9530) of the bytes start..stop."""
        if not self.is_rotated and start % PATTERN_BYTES == 0:
            # Every full piece is the same, and hashing is what a generator has least time for.
            return _unrotated_digest(self.run, self.number, stop - start)
        return _show_digest(self.sha256(start, stop))

    def sha256(self, start: int = 0, stop: int | None = None) -> bytes:
        """Return the SHA-256 of the bytes start..stop; of the whole clip unless told."""
        digest = hashlib.sha256()
        for block in self.blocks(start, self.size_bytes if stop is None else stop):
            digest.update(block)
        return digest.digest()

    def find_difference(self, start: int, received: bytes) -> int | None:
        """Return the offset of the first byte that is not this clip's; None if all are."""
        view, at = memoryview(received), 0
        for block in self.blocks(start, start + len(received)):
            part = view[at : at + len(block)]
            if part != block:
                pairs = zip(part, block, strict=True)
                return start + at + next(i for i, (got, made) in enumerate(pairs) if got != made)
            at += len(block)
        return None

    def _piece(self, index: int) -> tuple[bytes, int]:
        return _make_piece(self.run, self.number, index if self.is_rotated else None)


@lru_cache(maxsize=4096)
def _make_piece(run: str, number: int, index: int | None) -> tuple[bytes, int]:
    seeded = random.Random(f"{run}/{number}/{index}")
    stamp = seeded.randbytes(STAMP_BYTES)
    return stamp, 0 if index is None else seeded.randrange(PATTERN_BYTES)


@lru_cache(maxsize=1024)
def _unrotated_digest(run: str, number: int, length_bytes: int) -> str:
    return _show_digest(Reel(run, number, length_bytes, is_rotated=False).sha256())


def _show_digest(digest: bytes) -> str:
    return f"sha-256=:{base64.b64encode(digest).decode()}:"
