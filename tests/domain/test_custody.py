"""The chain of custody, checked by a verifier that knows only JSON and SHA-256."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.custody import (
    Actor,
    ChainHead,
    Happening,
    chain_events,
    format_time,
    hash_leaf,
    make_device_events,
)
from ingest_service.domain.principal import Principal

VECTORS = Path(__file__).parent.parent / "vectors" / "custody"
CLIP_ID = UUID("0199c0de-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
DOCK = Actor("station", "dock-1")

SMALL_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abcé€😀", max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
HAPPENINGS = st.builds(
    Happening,
    st.sampled_from(["clip.announced", "clip.sealed", "metadata.viewed"]),
    st.just(DOCK),
    st.dictionaries(st.text("abcé", min_size=1, max_size=3), SMALL_JSON, max_size=3),
)


def verify_chain(leaves, clip_id):
    """What an outsider does with an exported list of a clip's leaves; returns the last hash."""
    previous = None
    for number, leaf in enumerate(leaves):
        event = json.loads(leaf)
        assert event["clip_id"] == clip_id
        assert event["clip_seq"] == number
        assert event["prev"] == previous
        previous = hashlib.sha256(b"\x00" + leaf).hexdigest()
    return previous


def canonicalise(value):
    """RFC 8785 for what leaves hold: integers, text, no fractions; keys by UTF-16 units."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        members = (f"{canonicalise(key)}:{canonicalise(value[key])}" for key in keys)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonicalise, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(st.lists(HAPPENINGS, min_size=1, max_size=6), st.integers(1, 5))
def test_a_chain_grown_in_any_steps_is_verified_by_an_outsider(happenings, step):
    head, leaves = ChainHead(CLIP_ID), []
    for start in range(0, len(happenings), step):
        events = chain_events(head, happenings[start : start + step], now=NOW)
        leaves += [event.leaf for event in events]
        head = ChainHead(CLIP_ID, head.event_count + len(events), events[-1].leaf_hash)

    assert verify_chain(leaves, str(CLIP_ID)) == head.last_leaf_hash.hex()


@given(HAPPENINGS)
def test_a_leaf_is_canonical(happening):
    [event] = chain_events(ChainHead(CLIP_ID), [happening], now=NOW)

    assert canonicalise(json.loads(event.leaf)).encode() == event.leaf


@given(st.lists(HAPPENINGS, min_size=2, max_size=5), st.data())
def test_a_gap_or_an_exchange_shows(happenings, data):
    leaves = [event.leaf for event in chain_events(ChainHead(CLIP_ID), happenings, now=NOW)]
    one = data.draw(st.integers(0, len(leaves) - 2))
    broken = data.draw(
        st.sampled_from(
            [
                leaves[:one] + leaves[one + 1 :],
                [*leaves[:one], leaves[one + 1], leaves[one], *leaves[one + 2 :]],
                [*leaves[:one], leaves[one].replace(b"dock-1", b"dock-2"), *leaves[one + 1 :]],
            ]
        )
    )

    with pytest.raises(AssertionError):
        verify_chain(broken, str(CLIP_ID))


def test_the_row_says_what_the_leaf_says():
    viewer = Actor("person", "u-7", "custodian")
    happening = Happening(
        "metadata.viewed",
        viewer,
        {"fields": ["title"]},
        outcome="denied",
        reason="no scope",
        integrity="match",
        purpose="complaint",
        occurred_at=NOW - timedelta(hours=1),
        request_id="r-1",
    )

    [event] = chain_events(
        ChainHead(CLIP_ID, 4, bytes(32)), [happening], now=NOW, device_serial="BWC-1"
    )

    said = json.loads(event.leaf)
    assert {
        "event_id": str(event.event_id),
        "clip_id": str(event.clip_id),
        "clip_seq": event.clip_seq,
        "type": event.type,
        "recorded_at": "2026-11-22T12:00:00.123456Z",
        "occurred_at": "2026-11-22T11:00:00.123456Z",
        "actor": {"kind": "person", "id": "u-7", "role": "custodian"},
        "prev": "00" * 32,
        "outcome": "denied",
        "reason": "no scope",
        "integrity": "match",
        "purpose": "complaint",
        "device_serial": "BWC-1",
        "request_id": "r-1",
    }.items() <= said.items()
    assert (event.actor_kind, event.actor_id, event.clip_seq) == ("person", "u-7", 4)


def test_equal_happenings_have_different_hashes():
    """The salt: a public hash tells nobody what happened."""
    one, two = chain_events(ChainHead(CLIP_ID), [Happening("clip.sealed", DOCK)] * 2, now=NOW)

    salts = [base64.b64decode(json.loads(event.leaf)["salt"]) for event in (one, two)]
    assert salts[0] != salts[1]
    assert all(len(salt) == 16 for salt in salts)


def test_a_devices_events_belong_to_no_clip():
    [event] = make_device_events("BWC-1", [Happening("device.docked", DOCK)], now=NOW)

    assert (event.clip_id, event.clip_seq) == (None, None)
    assert json.loads(event.leaf)["device_serial"] == "BWC-1"


def test_times_in_leaves_are_utc_with_microseconds():
    moment = datetime(2026, 7, 1, 13, 30, tzinfo=timezone(timedelta(hours=1)))

    assert format_time(moment) == "2026-07-01T12:30:00.000000Z"


def test_the_actor_of_a_request_is_its_principal():
    principal = Principal("person", "u-7", frozenset(), role="auditor")

    assert Actor.of(principal) == Actor("person", "u-7", "auditor")


@pytest.mark.parametrize("number", [2**53, -(2**53)])
def test_a_number_that_json_readers_round_is_refused(number):
    happening = Happening("clip.sealed", DOCK, {"size_bytes": number})

    with pytest.raises(ValueError, match="integer"):
        chain_events(ChainHead(CLIP_ID), [happening], now=NOW)


def test_old_leaves_verify_for_ever():
    """A chain as the first release wrote it; the file is never made anew."""
    leaves = (VECTORS / "chain.jsonl").read_bytes().splitlines()

    assert verify_chain(leaves, "0199c0de-0000-7000-8000-000000000001") == (
        (VECTORS / "head.txt").read_text().strip()
    )
    assert hash_leaf(leaves[-1]).hex() == (VECTORS / "head.txt").read_text().strip()
    assert all(canonicalise(json.loads(leaf)).encode() == leaf for leaf in leaves)


def test_a_leaf_has_the_members_of_the_first_release():
    first = json.loads((VECTORS / "chain.jsonl").read_bytes().splitlines()[0])

    [event] = chain_events(ChainHead(CLIP_ID), [Happening("clip.announced", DOCK)], now=NOW)

    said = json.loads(event.leaf)
    assert said["schema_version"] == first["schema_version"]
    assert set(said) == set(first)
