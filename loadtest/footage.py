"""Footage for load tests: one fixed random pattern, told apart by a stamp at the start.

The null S3 keeps no bytes, yet must give back what was sent, or no read-back would ever match.
So every body of a load test is a stamp of 32 bytes followed by the pattern: the null S3 remembers
the stamp alone and makes the rest again.
"""

import random
from typing import Final

STAMP_BYTES: Final = 32
PATTERN_BYTES: Final = 8 * 1024 * 1024
_SEED: Final = 22_000

# Random bytes, so that nothing on the way can compress them or find repeats.
PATTERN: Final = random.Random(_SEED).randbytes(PATTERN_BYTES)


def make_stamp(number: int) -> bytes:
    """Return the stamp of clip `number`; another one for every number."""
    return random.Random(_SEED + 1 + number).randbytes(STAMP_BYTES)


def make_chunk(stamp: bytes, length_bytes: int) -> list[memoryview]:
    """Return one body as buffers to be sent in order; no byte is copied."""
    if not 0 <= length_bytes <= PATTERN_BYTES:
        message = f"a body has 0..{PATTERN_BYTES} bytes, not {length_bytes}"
        raise ValueError(message)
    head = memoryview(stamp)[:length_bytes]
    return [head, memoryview(PATTERN)[STAMP_BYTES : max(length_bytes, STAMP_BYTES)]]
