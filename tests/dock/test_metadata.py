import json
import os
from pathlib import Path

import pytest

from ingest_service.dock.metadata import describe_recording
from ingest_service.dock.recording import FileIdentity
from schemas.announcement import Announcement

SHA256 = bytes(range(32))


def describe(path: Path, **options) -> dict:
    members = describe_recording(path, FileIdentity(10, 0), SHA256, options=options)
    # Whatever it is, it is a valid announcement that JSON can carry.
    Announcement.model_validate_json(json.dumps(members, allow_nan=False).encode())
    return members


@pytest.fixture
def path(tmp_path) -> Path:
    folder = tmp_path / "BWC-000001"
    folder.mkdir()
    return folder / "clip.mp4"


def tell(path: Path, told: object) -> None:
    path.with_name(path.name + ".json").write_text(json.dumps(told))


def test_a_bare_file_is_described_by_its_folder_name_and_hash(path):
    assert describe(path) == {
        "device_serial": "BWC-000001",
        "recording_id": "clip-000102030405",
        "segment_no": 0,
        "size_bytes": 10,
        "sha256_device": SHA256.hex(),
        "filename": "clip.mp4",
        "container": "mp4",
        "content_type": "video/mp4",
    }


def test_options_win_over_the_companion_and_the_companion_over_the_file(path):
    tell(path, {"device_serial": "BWC-2", "recording_id": "r-7", "officer_id": "P1"})

    members = describe(path, officer_id="P2")

    told = (members["device_serial"], members["recording_id"], members["officer_id"])
    assert told == ("BWC-2", "r-7", "P2")


def test_the_cameras_own_hash_is_passed_on_even_if_the_file_differs(path):
    tell(path, {"sha256_device": "ff" * 32})

    assert describe(path)["sha256_device"] == "ff" * 32


def test_the_size_is_the_files_own(path):
    tell(path, {"size_bytes": 11})

    assert describe(path)["size_bytes"] == 10


def test_members_that_do_not_fit_are_set_aside_not_lost(path):
    tell(path, {"officer_id": "x" * 999, "segment_no": "two", "category": "c", "odd": 1})

    members = describe(path)

    assert members["unreadable_metadata"] == {"officer_id": "x" * 999, "segment_no": "two"}
    assert (members["category"], members["odd"], members["segment_no"]) == ("c", 1, 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\u0000"}',
        b"\xff",
        b"1" * 200_000,
    ],
)
def test_a_companion_that_cannot_be_read_does_not_hold_up_the_footage(path, content):
    path.with_name(path.name + ".json").write_bytes(content)

    members = describe(path)

    assert members["metadata_error"]
    assert members["device_serial"] == "BWC-000001"


@pytest.mark.parametrize(
    "name", [b"caf\xff\xe9.mp4", b"line\nbreak.mp4", b"n" * 251 + b".mp4", "é€𝄞.mp4".encode()]
)
def test_any_file_name_makes_an_announcement(tmp_path, name):
    members = describe(tmp_path / os.fsdecode(name))

    assert members["recording_id"].endswith("-000102030405")
