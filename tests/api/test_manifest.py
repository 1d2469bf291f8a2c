"""POST /v1/devices/{serial}/manifest and GET /v1/time: what else a dock says and asks."""

import json
import secrets
from datetime import UTC, datetime

import pytest

from tests.api.served import announcement, assert_problem


@pytest.fixture
def serial():
    return f"BWC-{secrets.token_hex(6)}"


async def device_events(served, serial):
    rows = await served.sql(
        "SELECT type, leaf FROM custody_events WHERE device_serial = $1 AND clip_id IS NULL"
        " ORDER BY event_id",
        serial,
    )
    return {row["type"]: json.loads(row["leaf"]) for row in rows}


async def test_what_was_never_announced_is_named(dock, serial):
    known = announcement(device_serial=serial)
    await dock.http.post("/v1/clips", json=known)
    held = [
        {"recording_id": known["recording_id"]},
        {"recording_id": known["recording_id"], "segment_no": 1},
        {"recording_id": "other", "size_bytes": 7, "mood": "odd"},
    ]

    response = await dock.http.post(f"/v1/devices/{serial}/manifest", json={"recordings": held})
    unknown = response.json()["unknown"]
    assert response.status_code == 201
    assert [(each["recording_id"], each["segment_no"]) for each in unknown] == [
        (known["recording_id"], 1),
        ("other", 0),
    ]


async def test_a_manifest_becomes_custody_events_of_the_device(served, dock, serial):
    manifest = {
        "docked_at": "2026-11-22T10:00:00+02:00",
        "bay_no": 4,
        "clock_offset_ms": -420,
        "clock_uncertainty_ms": 15,
        "first_recording_seq": 3,
        "last_recording_seq": 9,
    }
    await dock.http.post(f"/v1/devices/{serial}/manifest", json=manifest)

    events = await device_events(served, serial)
    assert set(events) == {"device.docked", "device.manifest_reported", "device.clock_measured"}
    assert events["device.docked"]["occurred_at"] == "2026-11-22T08:00:00.000000Z"
    assert events["device.docked"]["actor"]["id"] == dock.station.station_id
    assert events["device.clock_measured"]["facts"]["clock_offset_ms"] == -420
    assert events["device.manifest_reported"]["facts"]["last_recording_seq"] == 9


async def test_a_manifest_is_kept_as_received(served, dock, serial):
    manifest = {"recordings": [], "weather": {"rain": True}}
    await dock.http.post(f"/v1/devices/{serial}/manifest", json=manifest)

    (row,) = await served.sql(
        "SELECT manifest FROM device_manifests WHERE device_serial = $1", serial
    )
    assert row["manifest"] == manifest


@pytest.mark.parametrize(
    "manifest",
    [
        {"docked_at": "2026-11-22T10:00:00"},
        {"bay_no": -1},
        {"storage_used_pct": 101},
        {"recordings": "all"},
        {"recordings": [{"size_bytes": 1}]},
        {"recordings": [{"recording_id": "a\x00b"}]},
        {"note": "a\x00b"},
        [],
    ],
    ids=repr,
)
async def test_a_manifest_of_wrong_types_is_refused(served, dock, serial, manifest):
    async with served.nothing_changes():
        response = await dock.http.post(f"/v1/devices/{serial}/manifest", json=manifest)

    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_a_time_at_the_end_of_time_is_no_surprise(dock, serial, moment):
    response = await dock.http.post(f"/v1/devices/{serial}/manifest", json={"docked_at": moment})

    assert response.status_code in {201, 422}, response.text


@pytest.mark.parametrize("number", [2**53, 2**31, -1])
async def test_a_segment_number_of_any_size_is_no_surprise(dock, serial, number):
    held = [{"recording_id": "a", "segment_no": number}]
    response = await dock.http.post(f"/v1/devices/{serial}/manifest", json={"recordings": held})

    assert response.status_code in {201, 422}, response.text


@pytest.mark.parametrize("name", ["%00", "a%0d%0ab", "x" * 201])
async def test_a_serial_that_cannot_be_one_is_refused(served, dock, name):
    async with served.nothing_changes():
        response = await dock.http.post(f"/v1/devices/{name}/manifest", json={})

    assert_problem(response, 422, "invalid-request")


async def test_the_time_is_the_servers(dock):
    before = datetime.now(UTC)
    answer = (await dock.http.get("/v1/time")).json()
    after = datetime.now(UTC)

    now = datetime.fromisoformat(answer["now"])
    assert before <= now <= after
    assert answer["unix_ms"] == int(now.timestamp() * 1000)
