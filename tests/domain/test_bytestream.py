"""Bytes on their way: counted, hashed once, held back until they are known to be right."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.bytestream import BytesBody, Disconnected, PieceBody, ReplayBudget
from ingest_service.errors import ChunkCorrupted, ChunkMisshapen


class Blocks:
    """A source of these blocks; then it ends, or raises."""

    def __init__(self, *blocks, then=None):
        self._blocks = list(blocks)
        self._then = then

    async def read(self, bytes_max):
        if not self._blocks:
            if self._then is not None:
                raise self._then
            return b""
        block = self._blocks.pop(0)
        assert block, "sources hand over no empty block before the end"
        taken, rest = block[:bytes_max], block[bytes_max:]
        if rest:
            self._blocks.insert(0, rest)
        return taken


async def draw(body):
    """Return what a store receives, and what ended it."""
    received = bytearray()
    try:
        async for block in body.blocks():
            received += block
    except (ChunkCorrupted, ChunkMisshapen, Disconnected) as error:
        return bytes(received), error
    return bytes(received), None


def make_prefix(*blocks):
    async def read():
        for block in blocks:
            yield block

    return read


def checked(source, data, **options):
    own = hashlib.sha256()
    digest = hashlib.sha256(data).digest()
    return PieceBody(source, len(data), hashes=[own], sha256=digest, checked_by=own, **options)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6))
async def test_all_bytes_pass_in_order_and_are_hashed_once(blocks):
    data = b"".join(blocks)
    hashes = [hashlib.sha256(), hashlib.sha256()]
    body = PieceBody(Blocks(*blocks), len(data), hashes=hashes)

    assert await draw(body) == (data, None)
    assert {each.digest() for each in hashes} == {hashlib.sha256(data).digest()}
    assert (body.received_bytes, body.length_bytes) == (len(data), len(data))


async def test_no_byte_beyond_the_piece_is_read():
    source = Blocks(b"0123456789")

    assert await draw(PieceBody(source, 4)) == (b"0123", None)
    assert await source.read(100) == b"456789"


@pytest.mark.parametrize("blocks", [[b"abcdef"], [b"abc", b"def"], [b"a", b"bcde", b"f"]])
async def test_a_wrong_digest_holds_back_the_last_block(blocks):
    """The store is left short of the announced length, so it stores nothing."""
    body = checked(Blocks(*blocks), b"abcdeF")

    received, error = await draw(body)

    assert isinstance(error, ChunkCorrupted)
    assert received == b"".join(blocks[:-1])
    assert len(received) < body.length_bytes


async def test_after_a_wrong_digest_a_second_try_is_short_too():
    body = checked(Blocks(b"abc", b"def"), b"abcdeF", keep=True)
    await draw(body)

    received, _ = await draw(body)

    assert len(received) < body.length_bytes


async def test_the_right_digest_lets_all_bytes_pass():
    assert await draw(checked(Blocks(b"abc", b"def"), b"abcdef")) == (b"abcdef", None)


async def test_a_digest_that_the_store_checks_is_left_to_it():
    body = PieceBody(Blocks(b"abc"), 3, sha256=bytes(32), checked_by=None)

    assert await draw(body) == (b"abc", None)
    assert body.sha256 == bytes(32)


@pytest.mark.parametrize("arrived", [b"", b"a", b"abcde"])
async def test_an_early_end_is_a_misshapen_chunk(arrived):
    source = Blocks(*([arrived] if arrived else []))

    received, error = await draw(PieceBody(source, 6))

    assert isinstance(error, ChunkMisshapen)
    assert received == arrived


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_cut_leaves_what_arrived_only_where_it_is_kept(is_kept):
    body = PieceBody(Blocks(b"abc", b"d", then=Disconnected()), 6, keep=is_kept)

    received, error = await draw(body)

    assert (received, type(error)) == (b"abcd", Disconnected)
    assert body.received_bytes == 4
    assert body.kept == ([b"abc", b"d"] if is_kept else None)


async def test_a_second_try_replays_kept_bytes_then_goes_on():
    running = hashlib.sha256()
    body = PieceBody(Blocks(b"abc", b"def", b"ghi"), 9, hashes=[running], keep=True)
    first_try = body.blocks()
    await anext(first_try)
    await anext(first_try)
    await first_try.aclose()

    assert body.may_replay
    assert await draw(body) == (b"abcdefghi", None)
    assert running.digest() == hashlib.sha256(b"abcdefghi").digest()


async def test_a_finished_piece_replays_from_memory():
    body = checked(Blocks(b"abc", b"def"), b"abcdef", keep=True)
    await draw(body)

    assert await draw(body) == (b"abcdef", None)


async def test_bytes_that_are_not_kept_cannot_be_replayed():
    body = PieceBody(Blocks(b"abc"), 3)

    assert body.may_replay
    await draw(body)
    assert not body.may_replay


async def test_the_prefix_goes_first_each_time_and_is_not_hashed_again():
    running = hashlib.sha256()
    body = PieceBody(
        Blocks(b"def"),
        3,
        hashes=[running],
        keep=True,
        prefix=make_prefix(b"a", b"bc"),
        prefix_bytes=3,
    )

    assert body.length_bytes == 6
    assert await draw(body) == (b"abcdef", None)
    assert await draw(body) == (b"abcdef", None)
    assert running.digest() == hashlib.sha256(b"def").digest()
    assert body.received_bytes == 3


async def test_a_digest_of_the_piece_alone_is_not_given_for_prefix_and_piece():
    body = PieceBody(
        Blocks(b"def"), 3, sha256=bytes(32), prefix=make_prefix(b"abc"), prefix_bytes=3
    )

    assert body.sha256 is None


async def test_bytes_in_memory_are_drawn_as_often_as_wanted():
    body = BytesBody([b"abc", b"def"])

    assert (body.length_bytes, body.may_replay) == (6, True)
    assert await draw(body) == await draw(body) == (b"abcdef", None)


@given(st.lists(st.integers(1, 30), max_size=30))
def test_the_replay_budget_is_never_overdrawn(wishes):
    budget = ReplayBudget(50)

    taken = [wish for wish in wishes if budget.take(wish, "s")]

    assert budget.used_bytes == sum(taken) <= 50
    for length in taken:
        budget.give_back(length, "s")
    assert budget.used_bytes == 0


def test_a_refused_wish_takes_nothing():
    budget = ReplayBudget(10)
    budget.take(6, "s")

    assert not budget.take(5, "s")
    assert budget.take(4, "s")


def test_the_last_of_the_memory_is_for_who_has_less_than_an_equal_share():
    budget = ReplayBudget(100)
    taken = [budget.take(10, "large") for _ in range(8)]

    assert all(taken)
    assert budget.take(10, "small")
    assert not budget.take(10, "large")
    assert budget.take(10, "small")
    assert budget.used_bytes == 100


def test_who_is_alone_has_all_of_the_memory():
    budget = ReplayBudget(100)

    assert [budget.take(50, "only") for _ in range(3)] == [True, True, False]


def test_one_camera_has_no_more_than_half_of_the_memory():
    budget = ReplayBudget(100)

    taken = [budget.take(20, "s", "BWC-1") for _ in range(5)]
    assert taken == [True, True, False, False, False]
    assert budget.take(40, "s", "BWC-2")


def test_a_cameras_first_body_is_kept_however_large_it_is():
    budget = ReplayBudget(100)

    assert budget.take(80, "s", "BWC-1")
    assert not budget.take(1, "s", "BWC-1")


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(1, 30)), max_size=40))
def test_what_cameras_gave_back_nobody_remembers(wishes):
    budget = ReplayBudget(100)
    taken = [wish for wish in wishes if budget.take(wish[1], "s", wish[0])]
    for serial, length_bytes in taken:
        budget.give_back(length_bytes, "s", serial)

    assert (budget.used_bytes, budget._of, budget._of_device) == (0, {}, {})
