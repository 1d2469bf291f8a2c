"""What is made of a parser's report, by whoever wrote it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.clip import Clip, Correction, correct_time, explain_correction
from ingest_service.domain.media import (
    MEDIA_FLAGS,
    ReportInvalid,
    describe_probe,
    judge_media,
)
from schemas.media import MediaFacts as ShownFacts

NOW = datetime(2026, 11, 22, tzinfo=UTC)
START = datetime(2026, 11, 21, 22, 14, 5, tzinfo=UTC)
REPORT = {
    "container": "mp4",
    "codec": "h264",
    "width": 64,
    "height": 64,
    "fps": 25.0,
    "duration_ms": 60_000,
    "audio_present": True,
    "creation_time": "2026-11-21T22:14:05.000000Z",
    "flags": [],
}
CLIP = Clip(
    clip_id=UUID(int=1),
    state="secured",
    upload_id=UUID(int=2),
    device_serial="BWC-1",
    recording_id="r",
    segment_no=0,
    device_recording_seq=None,
    announcement={},
    size_bytes=1000,
    sha256_device=None,
    station_id="dock-1",
    site_id="site-1",
    borough="Camden",
    started_at=START,
    ended_at=START + timedelta(seconds=60),
    clock_offset_ms=None,
    clock_uncertainty_ms=None,
    duplicate_of=None,
    flags=[],
    clock_state="synced",
    started_at_corrected=None,
    announced_at=NOW,
    sealed_at=NOW,
    secured_at=NOW,
    released_at=None,
    officer_id=None,
    incident_id=None,
    crime_ref=None,
    category=None,
    evidential_state="unclassified",
    title=None,
    sha256=None,
    sha256_readback=None,
    quarantine_reason=None,
    bucket=None,
    object_key=None,
    object_version=None,
    manifest=None,
    is_held=False,
    erase_due_at=None,
    event_count=3,
    last_leaf_hash=bytes(32),
)


def judge(report, clip=CLIP, failure=None):
    return judge_media(clip, report, failure, prober="probe 1", bytes_read=10, now=NOW)


def corrected(offset_ms: int, **changes) -> Clip:
    return replace(
        CLIP,
        clock_offset_ms=offset_ms,
        clock_uncertainty_ms=20,
        started_at_corrected=correct_time(START, offset_ms),
        **changes,
    )


def test_footage_that_fits_its_announcement_has_no_flag():
    facts = judge(REPORT)

    assert facts.flags == []
    assert facts.creation_time == START
    assert (facts.container, facts.width, facts.fps) == ("mp4", 64, 25.0)


# --- duration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("announced", "found_ms", "differs"),
    [
        ({}, 64_999, False),
        ({}, 65_001, True),
        ({}, 54_999, True),
        ({"duration_ms": 600_000}, 629_000, False),
        ({"duration_ms": 600_000}, 631_000, True),
        ({"duration_ms": 600_000}, 60_000, True),
        ({"duration_ms": True}, 60_000, False),
        ({"duration_ms": "600000"}, 60_000, False),
    ],
)
def test_a_duration_that_was_announced_otherwise_is_flagged(announced, found_ms, differs):
    clip = replace(CLIP, announcement=announced)

    flags = judge(REPORT | {"duration_ms": found_ms}, clip).flags

    assert ("duration_differs_from_announced" in flags) is differs


@pytest.mark.parametrize("ended_at", [None, START - timedelta(hours=1)])
def test_without_an_announced_duration_none_differs(ended_at):
    clip = replace(CLIP, ended_at=ended_at)

    assert judge(REPORT | {"duration_ms": 10**9}, clip).flags == []


# --- clocks --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_s", "differs"), [(-121, True), (-119, False), (60, False), (179, False), (181, True)]
)
def test_a_creation_time_outside_the_recording_is_flagged(after_s, differs):
    written = (START + timedelta(seconds=after_s)).isoformat()

    flags = judge(REPORT | {"creation_time": written}).flags

    assert ("media_time_differs" in flags) is differs


@pytest.mark.parametrize("offset_ms", [0, 3_600_000])
def test_a_creation_time_by_either_clock_fits(offset_ms):
    clip = corrected(3_600_000)
    written = (START + timedelta(milliseconds=offset_ms)).isoformat()

    assert judge(REPORT | {"creation_time": written}, clip).flags == []


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "yesterday",
        "1904-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-13-40",
        7,
        {"a": 1},
        "\udcff",
    ],
)
def test_a_creation_time_that_is_none_is_left_out(written):
    facts = judge(REPORT | {"creation_time": written})

    assert (facts.creation_time, facts.flags) == (None, [])


def test_a_creation_time_without_a_zone_is_utc():
    assert judge(REPORT | {"creation_time": "2026-11-21 22:14:05"}).creation_time == START


def test_a_correction_rests_on_the_dock_or_on_who_asserted_another_offset():
    assert explain_correction(CLIP) == Correction(None, None, None)
    assert explain_correction(corrected(-420)) == Correction(-420, 20, "dock_contact")
    asserted = replace(corrected(-420), started_at_corrected=START + timedelta(hours=1))
    assert explain_correction(asserted) == Correction(3_600_000, None, "assertion")


# --- what strangers say --------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"flags": "truncated"},
        {"flags": ["erase_me"]},
        {"flags": [["truncated"]]},
        {"container": "x" * 41},
        {"container": "mp4\n"},
        {"codec": 7},
        {"width": -1},
        {"width": 2**31},
        {"height": True},
        {"height": 1.5},
        {"fps": 0},
        {"fps": 1e9},
        {"fps": float("nan")},
        {"duration_ms": 2**60},
        {"audio_present": 1},
    ],
)
def test_what_no_parser_says_is_refused(said):
    with pytest.raises(ReportInvalid):
        judge(REPORT | said)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(REPORT)) | st.text(), _JSON))
def test_any_report_is_refused_or_can_be_shown_and_logged(said):
    try:
        facts = judge(REPORT | said)
    except ReportInvalid:
        return

    assert ShownFacts.model_validate(facts, from_attributes=True).flags == facts.flags
    assert describe_probe(facts).facts["flags"] == facts.flags


def test_a_probe_that_did_not_end_says_nothing_of_the_whole():
    facts = judge(REPORT | {"flags": ["truncated"]}, failure="probe_bytes_exceeded")

    assert facts.flags == ["probe_bytes_exceeded"]
    assert describe_probe(facts).outcome == "failed"
    assert describe_probe(facts).reason == "probe_bytes_exceeded"


def test_odd_footage_is_no_failed_probe():
    assert describe_probe(judge({"flags": ["not_a_video"]})).outcome == "success"


def test_every_flag_is_known_to_the_schema():
    shown = ShownFacts.model_json_schema()["properties"]["flags"]["items"]["enum"]

    assert tuple(shown) == MEDIA_FLAGS
