"""Whether a file ends where its own structure says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.prober.shape import BOXES_MAX, Shape, find_shape
from tests.videos import make_video


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size_bytes = len(data)
        self.reads = 0

    def read_at(self, offset: int, length: int) -> bytes:
        assert offset >= 0
        self.reads += 1
        return self.data[offset : offset + length]


def shape_of(data: bytes) -> Shape:
    return find_shape(Bytes(data))


def box(name: bytes, length: int) -> bytes:
    return (8 + length).to_bytes(4, "big") + name + bytes(length)


WHOLE = box(b"ftyp", 16) + box(b"mdat", 1000) + box(b"moov", 100)


@pytest.mark.parametrize(
    ("container", "kind"),
    [
        ("mp4", "mp4"),
        ("mov", "mp4"),
        ("matroska", "matroska"),
        ("webm", "matroska"),
        ("avi", "avi"),
    ],
)
def test_whole_files_are_not_cut(container, kind):
    codec = "libvpx" if container == "webm" else "mpeg4"

    assert shape_of(make_video(container=container, codec=codec)) == Shape(kind, is_cut=False)


@pytest.mark.parametrize("length", range(25, len(WHOLE), 37))
def test_an_mp4_cut_anywhere_is_cut(length):
    assert shape_of(WHOLE) == Shape("mp4", is_cut=False)

    assert shape_of(WHOLE[:length]) == Shape("mp4", is_cut=True)


@pytest.mark.parametrize("container", ["matroska", "avi"])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_other_files_cut_are_cut(container, share):
    data = make_video(container=container, codec="mpeg4", noise=True)

    assert shape_of(data[: int(len(data) * share)]).is_cut


def test_a_large_box_has_its_size_behind_its_name():
    large = (1).to_bytes(4, "big") + b"mdat" + (16 + 1000).to_bytes(8, "big") + bytes(1000)

    assert not shape_of(box(b"ftyp", 16) + large + box(b"moov", 10)).is_cut
    assert shape_of(box(b"ftyp", 16) + large[:-1]).is_cut


def test_a_box_to_the_end_needs_its_index_before():
    endless = bytes(4) + b"mdat" + bytes(100)

    assert not shape_of(box(b"moov", 10) + endless).is_cut
    assert shape_of(box(b"ftyp", 10) + endless).is_cut


@pytest.mark.parametrize("filling", [bytes(1000), b"\xff" * 1000, b"\x00\x01" * 500])
def test_filling_behind_the_last_box_is_not_missing_footage(filling):
    assert not shape_of(WHOLE + filling).is_cut


def test_of_a_recording_that_does_not_know_its_length_there_is_no_verdict():
    data = make_video(container="matroska", codec="mpeg4", options={"live": "1"})

    assert not shape_of(data[: len(data) // 2]).is_cut


def test_thousands_of_boxes_are_not_followed():
    source = Bytes(box(b"moov", 10) + box(b"free", 0) * 10_000)

    assert not find_shape(source).is_cut
    assert source.reads <= BOXES_MAX + 1


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x1aE\xdf\xa3", b"\0\0\0\x08ftyp", b"RIFF\0\0\0\0AVI "]),
)
def test_no_bytes_break_it(data, start):
    shape_of(start + data)
