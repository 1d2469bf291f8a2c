"""The manifest object: what is read from it is what the clip was, and nothing else passes."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from ingest_service.domain.clip import Clip
from ingest_service.domain.manifest import (
    ManifestInvalid,
    ManifestName,
    make_manifest,
    name_manifest,
    parse_manifest,
    parse_manifest_key,
)

CLIP_ID = UUID("01890000-0000-7000-8000-000000000001")
MOMENT = datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)
DIGEST = hashlib.sha256(b"footage").digest()
CLIP = Clip(
    clip_id=CLIP_ID,
    state="sealed",
    upload_id=UUID("01890000-0000-7000-8000-000000000002"),
    device_serial="BWC-1",
    recording_id="rec-ä",
    segment_no=2,
    device_recording_seq=7,
    announcement={"device_serial": "BWC-1", "odd": 10**40, "half": 0.5, "text": "ä\u2028"},
    size_bytes=7,
    sha256_device=DIGEST,
    station_id="dock-1",
    site_id="site-1",
    borough="Croydon",
    started_at=datetime(1, 1, 1, tzinfo=UTC),
    ended_at=None,
    clock_offset_ms=-5,
    clock_uncertainty_ms=1,
    duplicate_of=None,
    flags=["clock_implausible"],
    clock_state="implausible",
    started_at_corrected=None,
    announced_at=MOMENT,
    sealed_at=MOMENT + timedelta(seconds=3),
    secured_at=None,
    released_at=None,
    officer_id="P-1",
    incident_id=None,
    crime_ref=None,
    category=None,
    evidential_state="unclassified",
    title="Title",
    sha256=None,
    sha256_readback=None,
    quarantine_reason=None,
    bucket="evidence",
    object_key="clips/a/b",
    object_version="v1",
    manifest={"parts": [{"length_bytes": 7, "sha256": DIGEST.hex()}]},
    is_held=False,
    erase_due_at=None,
    event_count=2,
    last_leaf_hash=DIGEST,
)


def make(clip: Clip = CLIP) -> bytes:
    return make_manifest(clip, sha256=DIGEST, sha256_readback=DIGEST)


def test_a_manifest_gives_back_every_member_of_the_clip():
    data = make()
    found = parse_manifest(name_manifest(CLIP_ID, data), data)

    expected = replace(CLIP, sha256=DIGEST, sha256_readback=DIGEST)
    assert {name: getattr(expected, name) for name in found if name != "manifest_sha256"} == {
        name: value for name, value in found.items() if name != "manifest_sha256"
    }
    left_to_events = {
        *("state", "secured_at", "released_at", "quarantine_reason", "is_held"),
        *("erase_due_at", "event_count", "last_leaf_hash"),
    }
    assert left_to_events.isdisjoint(found)


def test_what_happens_later_does_not_change_the_manifest():
    later = replace(
        CLIP, state="secured", secured_at=MOMENT, released_at=MOMENT, event_count=9, is_held=True
    )

    assert make(later) == make()


def test_a_key_says_the_clip_and_the_hash():
    name = name_manifest(CLIP_ID, make())

    assert parse_manifest_key(name.key) == name


@pytest.mark.parametrize(
    "key", ["manifests/x.json", f"manifests/{CLIP_ID}/12.json", f"clips/{CLIP_ID}/{'0' * 64}.json"]
)
def test_other_keys_are_no_manifests(key):
    with pytest.raises(ManifestInvalid):
        parse_manifest_key(key)


def test_changed_bytes_are_refused():
    data = make()

    with pytest.raises(ManifestInvalid, match="SHA-256"):
        parse_manifest(name_manifest(CLIP_ID, data), data.replace(b"BWC-1", b"BWC-2"))


def test_the_manifest_of_another_clip_is_refused():
    data = make()
    other = ManifestName(UUID(int=7), hashlib.sha256(data).digest())

    with pytest.raises(ManifestInvalid, match="manifest of clip"):
        parse_manifest(other, data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":"other/9"}', b"\xff"])
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(ManifestInvalid):
        parse_manifest(name_manifest(CLIP_ID, data), data)


# --- golden ----------------------------------------------------------------------------------

VECTORS = Path(__file__).parent.parent / "vectors" / "manifest"


def test_a_manifest_is_written_byte_for_byte_as_ever():
    """Those in buckets are read for as long as footage is kept."""
    (file,) = VECTORS.glob("*.json")

    assert make() == file.read_bytes()
    # What an outsider does: the name is the hash of the bytes.
    assert hashlib.sha256(file.read_bytes()).hexdigest() == file.stem
    assert name_manifest(CLIP_ID, file.read_bytes()).key == f"manifests/{CLIP_ID}/{file.name}"


def test_a_manifest_that_was_written_long_ago_is_read():
    (file,) = VECTORS.glob("*.json")

    found = parse_manifest(ManifestName(CLIP_ID, bytes.fromhex(file.stem)), file.read_bytes())

    assert (found["sha256"], found["title"], found["announcement"]["odd"]) == (
        DIGEST,
        "Title",
        10**40,
    )
