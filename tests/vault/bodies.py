"""Bodies for the vault's tests."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

BLOCK_BYTES = 64 * 1024


@dataclass
class Bytes:
    """Bytes in memory, in blocks; `breaks_with` is raised in place of the last block."""

    data: bytes
    sha256: bytes | None = None
    may_replay: bool = True
    breaks_with: BaseException | None = None
    length_bytes: int = -1
    drawn_count: int = 0

    def __post_init__(self) -> None:
        if self.length_bytes < 0:
            self.length_bytes = len(self.data)

    async def blocks(self) -> AsyncIterator[bytes]:
        self.drawn_count += 1
        for offset in range(0, len(self.data), BLOCK_BYTES):
            is_last = offset + BLOCK_BYTES >= len(self.data)
            if self.breaks_with is not None and is_last:
                raise self.breaks_with
            yield self.data[offset : offset + BLOCK_BYTES]


def with_digest(data: bytes, *, may_replay: bool = True) -> Bytes:
    return Bytes(data, hashlib.sha256(data).digest(), may_replay)
