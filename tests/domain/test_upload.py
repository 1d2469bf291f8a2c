"""The grid of parts: where each byte belongs, for good."""

from datetime import UTC, datetime
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.upload import (
    ATTEMPTS_PER_PART,
    MIB,
    PARTS_MAX,
    Upload,
    Writer,
    choose_part_bytes,
    missing_ranges,
    number_part,
    object_key_for,
    tail_key_for,
    tail_prefix,
)

CLIP_ID, UPLOAD_ID = UUID(int=1), UUID(int=2)
S3_PARTS_MAX = 10_000
PART_BYTES = 8 * MIB

lengths = st.integers(0, 2**50)
part_sizes = st.integers(1, 64).map(lambda count: count * MIB)


def plan(length_bytes, part_bytes):
    return Upload(
        upload_id=UPLOAD_ID,
        clip_id=CLIP_ID,
        station_id="dock-1",
        surface="tus",
        state="open",
        length_bytes=length_bytes,
        part_bytes=part_bytes,
        offset_bytes=0,
        hashed_bytes=0,
        sha256_state=None,
        epoch=0,
        leased_by=None,
        multipart_key=None,
        multipart_id=None,
        tus_metadata=None,
        expires_at=datetime(2030, 1, 1, tzinfo=UTC),
    )


# --- the grid -----------------------------------------------------------------------------


@given(lengths, part_sizes)
def test_every_clip_fits_the_parts_that_s3_counts(length, part_bytes):
    chosen = choose_part_bytes(length, part_bytes)

    assert -(-length // chosen) <= PARTS_MAX


@given(lengths, part_sizes)
def test_parts_are_whole_mib_and_no_larger_than_needed(length, part_bytes):
    chosen = choose_part_bytes(length, part_bytes)

    assert chosen >= part_bytes
    assert chosen % MIB == 0
    assert chosen == part_bytes or -(-length // (chosen - MIB)) > PARTS_MAX


@pytest.mark.parametrize(
    ("length", "chosen"),
    [
        (None, PART_BYTES),
        (0, PART_BYTES),
        (1, PART_BYTES),
        (PARTS_MAX * PART_BYTES, PART_BYTES),
        (PARTS_MAX * PART_BYTES + 1, 9 * MIB),
    ],
)
def test_the_grid_grows_only_where_it_must(length, chosen):
    assert choose_part_bytes(length, PART_BYTES) == chosen


def test_small_grids_are_taken_as_they_are():
    assert choose_part_bytes(1000, 32) == 32


@given(st.integers(0, 5000), st.integers(1, 200))
def test_the_parts_cover_the_clip_without_gap_or_overlap(length, part_bytes):
    upload = plan(length, part_bytes)

    parts = [upload.part_length(index) for index in range(upload.part_count)]

    assert sum(parts) == length
    assert all(part == part_bytes for part in parts[:-1])
    assert all(0 < part <= part_bytes for part in parts[-1:])
    assert upload.part_length(upload.part_count) == 0


@pytest.mark.parametrize(("length", "fits"), [(0, True), (32, True), (33, False), (None, False)])
def test_one_part_is_one_object(length, fits):
    assert plan(length, 32).fits_one_part is fits


def test_an_unknown_length_fills_whole_parts():
    upload = plan(None, 32)

    assert (upload.part_length(7), upload.part_count) == (32, 0)


# --- numbers and keys ---------------------------------------------------------------------


@given(st.integers(0, PARTS_MAX - 1), st.integers(0, 10**6))
def test_every_part_number_is_one_that_s3_takes(index, attempt):
    assert 1 <= number_part(index, attempt) <= S3_PARTS_MAX


@given(
    st.tuples(st.integers(0, PARTS_MAX - 1), st.integers(0, ATTEMPTS_PER_PART - 1)),
    st.tuples(st.integers(0, PARTS_MAX - 1), st.integers(0, ATTEMPTS_PER_PART - 1)),
)
def test_no_two_attempts_share_a_part_number(one, two):
    assert (number_part(*one) == number_part(*two)) is (one == two)


@given(st.lists(st.tuples(st.integers(0, PARTS_MAX - 1), st.integers(0, 99)), min_size=2))
def test_part_numbers_rise_with_the_index(parts):
    """S3 wants the list in order; attempts differ from part to part."""
    by_index = dict(sorted(parts))

    numbers = [number_part(index, attempt) for index, attempt in by_index.items()]

    assert numbers == sorted(set(numbers))


@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_two_epochs_never_share_a_tail_or_an_object(one, two):
    assert (tail_key_for(UPLOAD_ID, one, 5, 7) == tail_key_for(UPLOAD_ID, two, 5, 7)) is (
        one == two
    )
    keys = [object_key_for(CLIP_ID, UPLOAD_ID, "append", epoch) for epoch in (one, two)]
    assert (keys[0] == keys[1]) is (one == two)


@given(st.integers(0, 2**31))
def test_two_kinds_of_writers_never_share_an_object(number):
    keys = {object_key_for(CLIP_ID, UPLOAD_ID, writer, number) for writer in get_args(Writer)}

    assert len(keys | {object_key_for(CLIP_ID, UPLOAD_ID)}) == len(get_args(Writer)) + 1


def test_tails_of_one_epoch_differ_by_place_and_length():
    keys = {tail_key_for(UPLOAD_ID, 1, offset, length) for offset in (0, 1) for length in (1, 2)}

    assert len(keys) == 4
    assert all(key.startswith(tail_prefix(UPLOAD_ID)) for key in keys)


# --- what is missing ----------------------------------------------------------------------


@given(st.integers(0, 60), st.data())
def test_missing_ranges_name_every_missing_index_once(part_count, data):
    stored = data.draw(st.sets(st.integers(0, max(part_count - 1, 0)), max_size=part_count))

    ranges, count, is_truncated = missing_ranges(stored, part_count, 1000)

    named = [index for first, last in ranges for index in range(first, last + 1)]
    assert named == [index for index in range(part_count) if index not in stored]
    assert (count, is_truncated) == (len(named), False)


@given(st.integers(1, 60), st.integers(1, 5), st.data())
def test_a_short_list_of_ranges_is_the_beginning_and_says_so(part_count, limit, data):
    stored = data.draw(st.sets(st.integers(0, part_count - 1), max_size=part_count))
    whole, whole_count, _ = missing_ranges(stored, part_count, 1000)

    ranges, count, is_truncated = missing_ranges(stored, part_count, limit)

    assert ranges == whole[:limit]
    assert (count, is_truncated) == (whole_count, len(whole) > limit)


@given(st.integers(1, 60), st.data())
def test_ranges_are_as_long_as_they_can_be(part_count, data):
    stored = data.draw(st.sets(st.integers(0, part_count - 1), max_size=part_count))

    ranges, _, _ = missing_ranges(stored, part_count, 1000)

    ends = [last for _, last in ranges[:-1]]
    starts = [first for first, _ in ranges[1:]]
    assert all(end + 1 < start for end, start in zip(ends, starts, strict=True))
