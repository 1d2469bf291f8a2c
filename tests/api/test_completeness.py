"""GET /v1/completeness and /v1/at-risk: cameras' own counters against what came in."""

import asyncio
import json
import secrets
from datetime import timedelta

import pytest
from prometheus_client import REGISTRY

from ingest_service.actions.count_completeness import count_next
from ingest_service.actions.end_upload import expire_upload
from ingest_service.domain.clock import utc_now
from ingest_service.jobs.count_completeness import measure_at_risk
from tests.api.served import assert_problem


@pytest.fixture
def serial():
    return f"BWC-{secrets.token_hex(6)}"


async def count(served):
    """Do the job of `ingest work`, until it has read the whole log."""
    await served.publish_log()
    opened = served.resources
    while await served.call(count_next(pool=opened.pool, tail=opened.feed, now=opened.now)):
        pass


async def report(dock, serial, *recordings, **members):
    response = await dock.http.post(
        f"/v1/devices/{serial}/manifest", json={"recordings": list(recordings), **members}
    )
    assert response.status_code == 201, response.text


async def ask(reader, **query):
    response = await reader.get("/v1/completeness", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def device_of(reader, serial):
    (device,) = (await ask(reader, device=serial))["devices"]
    return device


async def gap_events(served, serial):
    rows = await served.sql(
        "SELECT leaf FROM custody_events WHERE device_serial = $1"
        " AND type = 'device.sequence_gap_detected' ORDER BY event_id",
        serial,
    )
    return [json.loads(row["leaf"])["facts"] for row in rows]


async def test_received_pending_and_unaccounted_for(served, dock, reader, serial):
    """The camera recorded 1 to 47; 46 is held; 31 is unaccounted for."""
    for number in (1, 2):
        await dock.secure(b"x", device_serial=serial, device_recording_seq=number)
    held = [
        {"recording_id": f"r-{number}", "device_recording_seq": number, "size_bytes": 10}
        for number in range(3, 48)
        if number != 31
    ]
    await report(dock, serial, *held, first_recording_seq=1, last_recording_seq=47)
    await count(served)

    device = await device_of(reader, serial)
    assert (device["first_seq"], device["last_seq"]) == (1, 47)
    assert device["received_count"] == 2
    assert (device["pending_count"], device["pending_bytes"]) == (44, 440)
    assert device["unaccounted_count"] == 1
    assert device["gaps"] == [{"first_seq": 31, "last_seq": 31}]
    assert device["unsecured_bytes"] == 440
    assert device["station_id"] == dock.station.station_id
    assert device["manifest_reported_at"] is not None


async def test_a_gap_is_told_once_and_a_new_one_is_told(served, dock, serial):
    await dock.announce(device_serial=serial, device_recording_seq=1)
    await dock.announce(device_serial=serial, device_recording_seq=4)
    for _ in range(2):
        await report(dock, serial, last_recording_seq=4)
        await count(served)
    await report(dock, serial, last_recording_seq=6)
    await count(served)

    first, second = await gap_events(served, serial)
    assert first["ranges"] == [[2, 3]]
    assert first["recording_count"] == 2
    assert second["ranges"] == [[5, 6]]


async def test_a_gap_event_is_in_the_feed_of_its_borough(served, make_dock, serial):
    mark = secrets.token_hex(4)
    dock = await make_dock(borough=f"A-{mark}")
    await report(dock, serial, first_recording_seq=1, last_recording_seq=3)
    await count(served)
    await served.publish_log()
    token = served.token("events:read", boroughs=[f"A-{mark}"])

    async with served.client(token) as limited:
        events = (await limited.get("/v1/events", params={"device": serial})).json()
    assert "local.ingest.device.sequence_gap_detected" in {event["type"] for event in events}


async def test_clips_out_of_order_are_no_gap_until_a_manifest_says_so(served, dock, reader, serial):
    await dock.announce(device_serial=serial, device_recording_seq=9)
    await dock.announce(device_serial=serial, device_recording_seq=5)
    await count(served)

    assert (await device_of(reader, serial))["unaccounted_count"] == 3
    assert await gap_events(served, serial) == []


async def test_a_late_recording_closes_its_gap(served, dock, reader, serial):
    await report(dock, serial, first_recording_seq=1, last_recording_seq=2)
    await dock.announce(device_serial=serial, device_recording_seq=1)
    await count(served)
    assert (await device_of(reader, serial))["unaccounted_count"] == 1
    await dock.announce(device_serial=serial, device_recording_seq=2)
    await count(served)

    device = await device_of(reader, serial)
    assert (device["unaccounted_count"], device["gaps"]) == (0, [])


async def test_an_expired_upload_is_not_received_and_the_camera_has_it_still(
    served, dock, reader, serial
):
    plan = await dock.announce(100, device_serial=serial, recording_id="r", device_recording_seq=1)
    await report(dock, serial, {"recording_id": "r", "device_recording_seq": 1, "size_bytes": 100})
    await served.sql("UPDATE uploads SET expires_at = now() WHERE clip_id = $1", plan["clip_id"])
    (upload,) = await served.sql(
        "SELECT upload_id FROM uploads WHERE clip_id = $1", plan["clip_id"]
    )
    opened = served.resources
    await served.call(
        expire_upload(upload["upload_id"], pool=opened.pool, vault=opened.vault, now=opened.now)
    )
    await count(served)

    device = await device_of(reader, serial)
    assert (device["received_count"], device["pending_count"]) == (0, 1)
    assert (device["unsecured_bytes"], device["unaccounted_count"]) == (100, 0)


async def test_what_is_sealed_is_not_safe_before_it_is_read_back(served, dock, reader, serial):
    clip_id = await dock.bring_in(b"12345", device_serial=serial)
    await count(served)
    before = await device_of(reader, serial)
    await served.read_back(clip_id)
    await count(served)
    after = await device_of(reader, serial)

    assert (before["pending_count"], before["unsecured_bytes"]) == (0, 5)
    assert (after["unsecured_bytes"], after["unsecured_since"]) == (0, None)
    assert after["received_count"] == 1


@pytest.mark.parametrize(
    "members",
    [
        {"first_recording_seq": 9, "last_recording_seq": 3},
        {"first_recording_seq": 2**53 - 1, "last_recording_seq": 2**53 - 1},
        {"first_recording_seq": 0},
        {"last_recording_seq": 2**53 - 1},
        {"recordings": [{"recording_id": "a", "device_recording_seq": "7"}]},
        {"recordings": [{"recording_id": "a", "device_recording_seq": 7.0}] * 2},
    ],
    ids=repr,
)
async def test_odd_counters_do_not_stop_the_counting(served, dock, reader, serial, members):
    await dock.http.post(f"/v1/devices/{serial}/manifest", json=members)
    await dock.announce(device_serial=serial, device_recording_seq=5)
    await count(served)

    assert (await device_of(reader, serial))["last_seq"] >= 5


async def test_a_gap_as_wide_as_numbers_are_is_told(served, dock, reader, serial):
    await report(dock, serial, first_recording_seq=0, last_recording_seq=2**53 - 1)
    await count(served)

    (event,) = await gap_events(served, serial)
    assert event["ranges"] == [[0, 2**53 - 1]]
    assert (await device_of(reader, serial))["unaccounted_count"] == 2**53


async def test_many_gaps_are_a_bounded_answer(served, dock, reader, serial):
    held = [{"recording_id": f"r-{n}", "device_recording_seq": 2 * n} for n in range(300)]
    await report(dock, serial, *held, last_recording_seq=598)
    await count(served)

    device = await device_of(reader, serial)
    (event,) = await gap_events(served, serial)
    assert (device["gap_count"], len(device["gaps"])) == (299, 100)
    assert (event["range_count"], len(event["ranges"])) == (299, 100)


async def test_two_workers_tell_a_gap_once(served, dock, serial):
    await report(dock, serial, first_recording_seq=1, last_recording_seq=3)
    await served.publish_log()

    await asyncio.gather(*(count(served) for _ in range(4)))
    assert len(await gap_events(served, serial)) == 1


async def test_cameras_of_a_station_and_a_borough_page_by_page(served, make_dock, reader):
    mark = secrets.token_hex(4)
    dock, other = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    serials = sorted(f"BWC-{mark}-{number}" for number in range(5))
    for serial in serials:
        await dock.announce(100, device_serial=serial, device_recording_seq=1)
    await dock.secure(b"x", device_serial=f"BWC-{mark}-z", device_recording_seq=1)
    await other.announce(device_serial=f"BWC-{mark}-other")
    await count(served)

    seen, after = [], ""
    while after is not None:
        page = await ask(reader, station=dock.station.station_id, limit=2, after=after)
        seen += [device["device_serial"] for device in page["devices"]]
        after = page["next_after"]
    borough = await ask(reader, borough=f"A-{mark}", incomplete=True)
    assert seen == [*serials, f"BWC-{mark}-z"]
    assert [device["device_serial"] for device in borough["devices"]] == serials
    assert borough["totals"] == {
        "device_count": 6,
        "received_count": 1,
        "pending_count": 5,
        "pending_bytes": 500,
        "unaccounted_count": 0,
    }


async def test_other_boroughs_are_not_counted(served, make_dock):
    mark = secrets.token_hex(4)
    mine, theirs = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    await mine.announce(100, device_serial=f"BWC-{mark}-a")
    await theirs.announce(100, device_serial=f"BWC-{mark}-b")
    await count(served)

    async with served.client(served.token("clips:read", boroughs=[f"A-{mark}"])) as limited:
        page = await ask(limited)
        hidden = await ask(limited, device=f"BWC-{mark}-b")
        risk = (await limited.get("/v1/at-risk")).json()
    assert [device["device_serial"] for device in page["devices"]] == [f"BWC-{mark}-a"]
    assert page["totals"]["device_count"] == 1
    assert (hidden["devices"], hidden["totals"]["device_count"]) == ([], 0)
    assert {station["borough"] for station in risk["stations"]} == {f"A-{mark}"}
    assert risk["unsecured_bytes"] == 100


# --- at risk -------------------------------------------------------------------------------


async def at_risk(reader, dock):
    response = await reader.get("/v1/at-risk", params={"station": dock.station.station_id})
    assert response.status_code == 200, response.text
    return response.json()


async def test_what_is_on_cameras_and_not_safe(served, dock, reader, serial):
    plan = await dock.announce(100, device_serial=serial)
    await report(dock, serial, {"recording_id": "more", "size_bytes": 50})
    await count(served)

    risk = await at_risk(reader, dock)
    (station,) = risk["stations"]
    clip = (await reader.get(f"/v1/clips/{plan['clip_id']}")).json()
    assert (risk["unsecured_count"], risk["unsecured_bytes"]) == (2, 150)
    assert risk["unsecured_since"] == clip["announced_at"]
    assert station["station_id"] == dock.station.station_id
    assert (station["is_stalled"], risk["stalled_count"]) == (False, 0)


async def test_a_camera_that_says_the_same_every_day_has_held_it_since_the_first(
    served, dock, reader, serial
):
    await report(dock, serial, {"recording_id": "old", "size_bytes": 50})
    await count(served)
    first = (await at_risk(reader, dock))["unsecured_since"]
    await report(dock, serial, {"recording_id": "old", "size_bytes": 50})
    await count(served)

    assert (await at_risk(reader, dock))["unsecured_since"] == first


async def test_a_station_from_which_nothing_comes_is_stalled(served, dock, reader, serial):
    await report(dock, serial, {"recording_id": "r", "size_bytes": 50})
    await count(served)
    later = utc_now() + timedelta(minutes=31)

    with served.changed(now=lambda: later):
        stalled = await at_risk(reader, dock)
    assert stalled["stalled_count"] == 1
    assert stalled["stations"][0]["is_stalled"]


async def test_a_station_that_sends_a_long_clip_is_not_stalled(served, dock, reader, serial):
    """Its upload has moved a moment ago, though it was announced an hour before."""
    plan = await dock.announce(device_serial=serial)
    await dock.send(plan["clip_id"], 0, b"x" * 65536)
    await count(served)
    later = utc_now() + timedelta(minutes=40)
    await served.sql(
        "UPDATE uploads SET expires_at = $2 WHERE clip_id = $1",
        plan["clip_id"],
        later - timedelta(minutes=2) + served.resources.rules.expires_after,
    )

    with served.changed(now=lambda: later):
        assert (await at_risk(reader, dock))["stalled_count"] == 0


async def test_what_is_at_risk_is_in_the_metrics(served, dock, serial):
    await report(dock, serial, {"recording_id": "r", "size_bytes": 7}, last_recording_seq=4)
    await count(served)
    await served.call(measure_at_risk(served.resources))

    assert REGISTRY.get_sample_value("ingest_at_risk_bytes") >= 7
    assert REGISTRY.get_sample_value("ingest_at_risk_recordings") >= 1
    assert REGISTRY.get_sample_value("ingest_at_risk_oldest_seconds") >= 0
    assert REGISTRY.get_sample_value("ingest_stalled_stations") is not None
    assert REGISTRY.get_sample_value("ingest_unaccounted_recordings") >= 0


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/completeness", {"limit": "0"}),
        ("/v1/completeness", {"limit": "501"}),
        ("/v1/completeness", {"device": ""}),
        ("/v1/completeness", {"after": "a\x00"}),
        ("/v1/completeness", {"incomplete": "perhaps"}),
        ("/v1/completeness", {"colour": "red"}),
        ("/v1/at-risk", {"station": "x" * 201}),
        ("/v1/at-risk", {"colour": "red"}),
    ],
    ids=repr,
)
async def test_a_query_that_cannot_be_read_is_refused(reader, path, query):
    assert_problem(await reader.get(path, params=query), 422, "invalid-request")
