"""Blocks of a stored object: each is fetched once, and no more than may be."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ingest_service.prober.ranges import BLOCK_BYTES, Ranges

DATA = random.Random(7).randbytes(1_000_003)  # noqa: S311


class Store:
    def __init__(self):
        self.asked = []

    async def read_range(self, start, stop):
        self.asked.append((start, stop))
        return DATA[start:stop]


@given(
    st.lists(
        st.tuples(st.integers(-5, len(DATA) + 5), st.integers(0, 200_000)), min_size=1, max_size=20
    )
)
async def test_what_is_read_is_what_is_stored(wanted):
    ranges = Ranges(Store().read_range, len(DATA), bytes_max=10**9)

    for offset, length in wanted:
        got = await ranges.read(offset, length)

        assert got == (DATA[offset : offset + length] if offset >= 0 else b"")


async def test_a_block_is_fetched_once():
    store = Store()
    ranges = Ranges(store.read_range, len(DATA), bytes_max=10**9)

    for offset in (0, 100, BLOCK_BYTES - 1, 50):
        await ranges.read(offset, 1)

    assert store.asked == [(0, BLOCK_BYTES)]


async def test_who_reads_on_is_given_more_at_once():
    store = Store()
    ranges = Ranges(store.read_range, len(DATA), bytes_max=10**9)

    for offset in range(0, len(DATA), 1000):
        await ranges.read(offset, 1000)

    assert len(store.asked) < 6
    assert ranges.bytes_read == len(DATA)


async def test_no_more_is_asked_for_than_may_be():
    store = Store()
    ranges = Ranges(store.read_range, len(DATA), bytes_max=3 * BLOCK_BYTES)

    got = b"".join([await ranges.read(offset, 50_000) for offset in range(0, len(DATA), 50_000)])

    assert DATA.startswith(got)
    assert ranges.was_exhausted
    assert ranges.bytes_read <= 3 * BLOCK_BYTES
