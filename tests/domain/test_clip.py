"""What is odd about an announcement is flagged; nothing is refused for it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.clip import FLAGS_MAX, correct_time, judge_announcement
from ingest_service.domain.custody import Actor, ChainHead, Happening, chain_events
from ingest_service.domain.ids import make_id
from schemas.announcement import Announcement

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KNOWN = {("device", "BWC-1"), ("officer", "P1"), ("category", "arrest")}
DIGEST = "ab" * 32


def announce(**members):
    """An announcement about which nothing is odd, with these members changed; None drops one."""
    plain = {
        "device_serial": "BWC-1",
        "recording_id": "r-1",
        "size_bytes": 100,
        "sha256_device": DIGEST,
        "officer_id": "P1",
        "category": "arrest",
        "started_at": "2026-11-22T10:00:00Z",
        "ended_at": "2026-11-22T10:30:00Z",
        "clock_offset_ms": -400,
    }
    merged = {name: value for name, value in (plain | members).items() if value is not None}
    return Announcement.model_validate(merged)


def judge(**members):
    return judge_announcement(announce(**members), KNOWN, now=NOW)


def test_nothing_odd_is_nothing_flagged():
    judgement = judge()

    assert (judgement.flags, judgement.clock_state) == ([], "synced")
    assert judgement.started_at_corrected == datetime(2026, 11, 22, 9, 59, 59, 600000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("members", "flag"),
    [
        ({"device_serial": "BWC-9"}, "device_unknown"),
        ({"officer_id": "P9"}, "officer_unknown"),
        ({"officer_id": None}, "officer_missing"),
        ({"category": "picnic"}, "category_unknown"),
        ({"category": None}, "category_missing"),
        ({"sha256_device": None}, "device_digest_missing"),
        ({"ended_at": "2026-11-22T09:00:00Z"}, "ends_before_it_starts"),
        ({"mood": "good"}, "unknown_member:mood"),
    ],
)
def test_one_odd_thing_is_one_flag(members, flag):
    assert judge(**members).flags == [flag]


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ({"started_at": "2004-01-01T00:00:00Z"}, "implausible"),
        ({"started_at": "2014-12-31T23:59:59Z", "clock_offset_ms": None}, "implausible"),
        ({"started_at": "2026-11-23T12:00:01Z", "clock_offset_ms": None}, "implausible"),
        ({"started_at": "9999-12-31T23:59:59Z"}, "implausible"),
        ({"started_at": "0001-01-01T00:00:00+14:00"}, "implausible"),
        ({"started_at": None}, "not_set"),
        ({"clock_state": "not_set"}, "not_set"),
        ({"clock_state": "free_running"}, "free_running"),
        ({"clock_offset_ms": None}, "free_running"),
        ({"started_at": "2026-11-23T11:00:00Z", "clock_offset_ms": None}, "free_running"),
        ({}, "synced"),
    ],
)
def test_the_clock_is_judged(members, state):
    judgement = judge(**members)

    assert judgement.clock_state == state
    assert (f"clock_{state}" in judgement.flags) is (state in ("implausible", "not_set"))


def test_a_measured_offset_makes_a_wrong_clock_plausible():
    """The camera believes in 2004, and the dock measured by how much it is wrong."""
    started_at = datetime(2004, 1, 1, tzinfo=UTC)
    offset_ms = int((NOW - timedelta(hours=1) - started_at) / timedelta(milliseconds=1))

    judgement = judge(started_at=started_at.isoformat(), ended_at=None, clock_offset_ms=offset_ms)

    assert (judgement.flags, judgement.clock_state) == ([], "synced")
    assert judgement.started_at_corrected == NOW - timedelta(hours=1)


@given(st.datetimes(timezones=st.timezones()), st.integers(-(2**53) + 1, 2**53 - 1))
def test_no_offset_is_too_large_to_be_judged(started_at, offset_ms):
    corrected = correct_time(started_at, offset_ms)

    assert corrected is None or corrected - started_at == timedelta(milliseconds=offset_ms)


def test_many_unknown_members_make_a_bounded_list_of_flags():
    judgement = judge(**{f"x{number}": 1 for number in range(1000)})

    assert len(judgement.flags) == FLAGS_MAX


# What json.loads makes of whatever a hostile dock sends; NUL and lone surrogates are refused by
# the API before (no database keeps them).
JSON_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMES = JSON_TEXT.filter(lambda name: name not in Announcement.model_fields)


@given(st.dictionaries(NAMES, JSON_VALUES, max_size=5))
def test_hostile_members_are_flagged_and_fit_into_a_leaf(extras):
    judgement = judge(**extras)

    [event] = chain_events(
        ChainHead(make_id(NOW)),
        [Happening("clip.announced", Actor("station", "dock-1"), {"flags": judgement.flags})],
        now=NOW,
    )
    given_names = {name[:80] for name, value in extras.items() if value is not None}
    flagged = [flag for flag in judgement.flags if flag.startswith("unknown_member:")]
    assert {flag.removeprefix("unknown_member:") for flag in flagged} == given_names
    assert json.loads(event.leaf)["facts"]["flags"] == judgement.flags
