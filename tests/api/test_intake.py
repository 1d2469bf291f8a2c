"""A body that goes straight into memory: every byte once, in order, and none of what follows."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ingest_service.api.intake import ARENA_BYTES_MAX, ARENA_BYTES_MIN, BodyIntake

SIZES = st.lists(st.integers(1, ARENA_BYTES_MAX), min_size=1, max_size=40)


class Loop:
    """Does what an event loop does with a socket that has so many bytes, then so many ..."""

    def __init__(self, length_bytes: int) -> None:
        self.blocks: list[memoryview] = []
        self.intake = BodyIntake(self, length_bytes, self.blocks.append)
        self.called: list[object] = []

    def receive(self, data: bytes) -> int:
        room = self.intake.get_buffer(65536)
        taken = min(len(room), len(data))
        room[:taken] = data[:taken]
        self.intake.buffer_updated(taken)
        return taken

    def connection_lost(self, exc: Exception | None) -> None:
        self.called.append(exc)

    def eof_received(self) -> bool | None:
        self.called.append("eof")
        return True

    def pause_writing(self) -> None:
        self.called.append("pause")

    def resume_writing(self) -> None:
        self.called.append("resume")


def stretch(length_bytes: int) -> bytes:
    return hashlib.shake_128(b"body").digest(length_bytes)


@given(SIZES)
def test_every_byte_is_handed_on_once_and_never_changes(sizes):
    data = stretch(sum(sizes))
    loop = Loop(len(data))

    sent = 0
    for size in sizes:
        end = sent + size
        while sent < end:
            sent += loop.receive(data[sent:end])

    assert b"".join(loop.blocks) == data


@given(SIZES)
def test_no_room_is_lent_for_what_follows_the_body(sizes):
    left = sum(sizes)
    loop = Loop(left)

    while left:
        room = len(loop.intake.get_buffer(65536))
        assert 1 <= room <= left
        left -= loop.receive(bytes(sizes[left % len(sizes)]))


def test_a_dock_that_sends_64_kib_at_a_time_holds_as_much_however_often_it_fills_an_arena():
    loop = Loop(2**30)
    for _ in range(400):
        sent = 0
        while sent < 65536:
            sent += loop.receive(bytes(65536 - sent))

    assert max(len(block.obj) for block in loop.blocks) == 65536


def test_a_slow_dock_holds_little_memory_and_a_quick_one_gets_large_blocks():
    slow, quick = Loop(2**30), Loop(2**30)
    for _ in range(50):
        slow.receive(bytes(1000))
        quick.receive(bytes(ARENA_BYTES_MAX))

    assert {len(block.obj) for block in slow.blocks} == {ARENA_BYTES_MIN}
    assert len(quick.blocks[-1]) == ARENA_BYTES_MAX


def test_a_dock_that_became_slow_holds_little_again():
    loop = Loop(2**30)
    for _ in range(10):
        loop.receive(bytes(ARENA_BYTES_MAX))
    for _ in range(1500):
        loop.receive(bytes(1000))

    assert len(loop.blocks[-1].obj) == ARENA_BYTES_MIN


def test_the_connection_hears_of_everything_else():
    loop = Loop(10)
    loop.intake.pause_writing()
    loop.intake.resume_writing()
    assert loop.intake.eof_received() is True
    loop.intake.connection_lost(None)

    assert loop.called == ["pause", "resume", "eof", None]
