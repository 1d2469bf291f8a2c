"""A stored object, read in blocks: each once, and never more than a given number of bytes."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

ReadRange = Callable[[int, int], Awaitable[bytes]]

BLOCK_BYTES: Final = 64 * 1024
# So many are kept, 8 MiB.
_KEPT_MAX: Final = 128
# Who reads on and on gets up to 1 MiB with each request to the store.
_AHEAD_MAX: Final = 16


class Ranges:
    """Blocks of one object.

    read_range     asks the store for the bytes from start up to stop (exclusive)
    bytes_read     asked of the store so far
    was_exhausted  somebody wanted more than `bytes_max`
    """

    def __init__(self, read_range: ReadRange, size_bytes: int, *, bytes_max: int) -> None:
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._bytes_max = bytes_max
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next_index = -1
        self._ahead = 1
        self.bytes_read = 0
        self.was_exhausted = False

    async def read(self, offset: int, length: int) -> bytes:
        """Return the bytes from offset on; fewer at the end, or when no more may be read.

        Raises:
            whatever `read_range` raises.
        """
        stop = min(offset + length, self._size_bytes)
        if not 0 <= offset < stop:
            return b""
        pieces: list[bytes] = []
        for index in range(offset // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES + 1):
            block = await self._find_block(index)
            if block is None:
                break
            begin = index * BLOCK_BYTES
            pieces.append(block[max(0, offset - begin) : stop - begin])
        return b"".join(pieces)

    async def _find_block(self, index: int) -> bytes | None:
        if index not in self._blocks:
            await self._fetch(index)
        block = self._blocks.get(index)
        if block is not None:
            self._blocks.move_to_end(index)
        return block

    async def _fetch(self, index: int) -> None:
        self._ahead = min(2 * self._ahead, _AHEAD_MAX) if index == self._next_index else 1
        start = index * BLOCK_BYTES
        stop = min(start + self._ahead * BLOCK_BYTES, self._size_bytes)
        if self.bytes_read + stop - start > self._bytes_max:
            stop = min(start + BLOCK_BYTES, self._size_bytes)
        if self.bytes_read + stop - start > self._bytes_max:
            self.was_exhausted = True
            return
        data = await self._read_range(start, stop)
        self.bytes_read += len(data)
        for number in range(-(-len(data) // BLOCK_BYTES)):
            self._blocks[index + number] = data[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
            self._next_index = index + number + 1
        while len(self._blocks) > _KEPT_MAX:
            self._blocks.popitem(last=False)
