"""Upload-Metadata: read strictly, understood leniently."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest_service.domain.tus_metadata import (
    METADATA_CHARS_MAX,
    make_announcement,
    parse_metadata,
)
from ingest_service.errors import InvalidHeader
from schemas.announcement import Announcement

KEYS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=1
)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
FIELDS = [*Announcement.model_fields, "filetype", "type", "name", "note"]


def encode(value):
    return base64.b64encode(value.encode()).decode()


def format_pairs(pairs):
    return ",".join(f"{key} {encode(value)}".rstrip() for key, value in pairs.items())


# --- the field ----------------------------------------------------------------------------


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_what_a_client_formats_is_read_back(pairs):
    assert parse_metadata(format_pairs(pairs)) == pairs


@pytest.mark.parametrize("value", [None, "", " ", "\t"])
def test_an_absent_or_empty_field_has_no_pairs(value):
    assert parse_metadata(value) == {}


def test_a_key_without_a_value_is_a_flag():
    assert parse_metadata("is_urgent,device_serial QldD") == {
        "is_urgent": "",
        "device_serial": "BWC",
    }


def test_a_value_that_is_not_utf8_is_kept_readable():
    assert parse_metadata("title /w==") == {"title": "\ufffd"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("title QQ==,title QQ==", "repeated"),
        ("title,title", "repeated"),
        ("title QQ== QQ==", "not of the form"),
        ("title  QQ==", "not of the form"),
        (" , ", "not of the form"),
        ("title QQ==,", "not of the form"),
        (",title QQ==", "not of the form"),
        ("t\u00e9 QQ==", "not of the form"),
        ("a\x00b QQ==", "not of the form"),
        ("title ===", "not base64"),
        ("title Q", "not base64"),
        ("title Q*Q=", "not base64"),
        ("title Q\u00e9==", "not base64"),
        ("a" * (METADATA_CHARS_MAX + 1), "longer than"),
    ],
)
def test_a_malformed_field_is_refused(value, reason):
    with pytest.raises(InvalidHeader, match=reason):
        parse_metadata(value)


@given(
    st.text(max_size=100)
    | st.text("ab ,=QZ+/\t\x00\u00e9\u2028", max_size=60)
    | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
)
@example("filename \xe9")
def test_whatever_comes_it_is_pairs_or_a_refusal(value):
    try:
        pairs = parse_metadata(value)
    except InvalidHeader:
        return
    assert all(isinstance(text, str) for text in pairs.values())


# --- what it amounts to -------------------------------------------------------------------


def understand(pairs, length=1000):
    return make_announcement(pairs, upload_name="tus-1", length_bytes=length)


def test_footage_without_metadata_is_taken_and_flagged():
    announcement, flags = understand({})

    assert (announcement.device_serial, announcement.recording_id) == ("unknown", "tus-1")
    assert flags == ["device_serial_missing", "recording_id_missing"]


def test_known_members_are_understood():
    announcement, flags = understand(
        {
            "device_serial": "BWC-1",
            "recording_id": "r-1",
            "segment_no": "3",
            "filetype": "video/mp4",
            "started_at": "2026-11-21T22:14:05Z",
        }
    )

    assert (announcement.segment_no, announcement.content_type) == (3, "video/mp4")
    assert flags == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("segment_no", "many"),
        ("started_at", "yesterday"),
        ("started_at", "2026-11-21T22:14:05"),
        ("evidential_state", "interesting"),
        ("sha256_device", "abc"),
        ("clock_offset_ms", "9" * 30),
        ("start_location", "here"),
        ("device_serial", "x" * 500),
        ("recording_id", "x" * 500),
    ],
)
def test_an_unreadable_member_is_flagged_not_refused(name, value):
    announcement, flags = understand({"device_serial": "BWC-1", "recording_id": "r-1", name: value})

    assert f"unreadable:{name}" in flags
    assert announcement.size_bytes == 1000


def test_the_announced_length_is_the_headers_not_the_metadatas():
    announcement, _ = understand({"size_bytes": "7"})

    assert announcement.size_bytes == 1000


@given(
    st.dictionaries(
        st.sampled_from(FIELDS) | KEYS, st.text(max_size=40) | st.just("9" * 400), max_size=8
    ),
    st.integers(0, 2**53 - 1),
)
def test_no_metadata_keeps_footage_out(pairs, length):
    announcement, _ = understand(pairs, length)

    assert announcement.size_bytes == length
    assert announcement.device_serial
    assert announcement.recording_id
