"""POST /v1/clips: what a dock says it will send."""

import asyncio
import hashlib
import json
import secrets
from uuid import UUID

import pytest

from ingest_service.actions.end_upload import expire_upload
from tests.api.served import (
    CLIP_BYTES_MAX,
    JSON_BYTES_MAX,
    PART_BYTES,
    announcement,
    assert_problem,
)

JSON = {"Content-Type": "application/json"}


async def post_raw(dock, body: bytes, **headers):
    return await dock.http.post("/v1/clips", content=body, headers={**JSON, **headers})


def raw(**members) -> str:
    """An announcement as text, without its closing brace: for what json.dumps will not write."""
    return json.dumps(announcement(**members))[:-1]


# --- as it should be ---------------------------------------------------------------------


async def test_a_new_clip_gets_its_plan(served, dock):
    response = await dock.http.post("/v1/clips", json=announcement(2 * PART_BYTES + 1))

    plan = response.json()
    assert response.status_code == 201
    assert (plan["state"], plan["size_bytes"]) == ("receiving", 2 * PART_BYTES + 1)
    assert (plan["chunk_bytes"], plan["chunk_count"]) == (PART_BYTES, 3)
    assert plan["chunks_url"] == f"{served.base_url}/v1/clips/{plan['clip_id']}/chunks"
    assert plan["tus_url"].startswith(f"{served.base_url}/files/")
    assert plan["expires_at"] is not None


async def test_announcing_stores_nothing_in_the_vault(served, dock):
    before = (await served.counted())["objects"]

    await dock.announce()
    assert (await served.counted())["objects"] == before


async def test_the_same_announcement_again_is_the_same_clip(served, dock):
    body = announcement()
    first = await dock.http.post("/v1/clips", json=body)

    async with served.nothing_changes():
        again = await dock.http.post("/v1/clips", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()


async def test_twenty_at_once_with_one_identity_are_one_clip(dock):
    body = announcement()

    answers = await asyncio.gather(*(dock.http.post("/v1/clips", json=body) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["clip_id"] for answer in answers}) == 1


@pytest.mark.parametrize("change", [{"size_bytes": 7}, {"sha256_device": "00" * 32}])
async def test_other_content_under_the_same_identity_is_a_conflict(served, dock, change):
    body = announcement(sha256_device="11" * 32)
    plan = (await dock.http.post("/v1/clips", json=body)).json()

    async with served.nothing_changes():
        response = await dock.http.post("/v1/clips", json=body | change)
    problem = assert_problem(response, 409, "announcement-conflict")
    assert (problem["clip_id"], problem["action"]) == (plan["clip_id"], "stop")
    assert next(iter(change)) in problem["differs_in"]


async def test_segments_of_one_recording_are_different_clips(dock):
    body = announcement()
    first = (await dock.http.post("/v1/clips", json=body | {"segment_no": 0})).json()
    second = (await dock.http.post("/v1/clips", json=body | {"segment_no": 1})).json()

    assert first["clip_id"] != second["clip_id"]


async def test_a_camera_that_moved_goes_on_at_its_new_dock(dock, other_dock):
    body = announcement(2 * PART_BYTES)
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await dock.send(plan["clip_id"], 0, b"a" * PART_BYTES)

    moved = await other_dock.http.post("/v1/clips", json=body)
    missing = await other_dock.http.get(f"/v1/clips/{plan['clip_id']}/chunks")
    assert (moved.status_code, moved.json()["clip_id"]) == (200, plan["clip_id"])
    assert missing.json()["missing"] == [[1, 1]]
    assert_problem(await dock.send(plan["clip_id"], 1, b"b" * PART_BYTES), 404, "clip-not-found")


async def test_a_move_is_a_custody_event(dock, other_dock, reader):
    body = announcement()
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await other_dock.http.post("/v1/clips", json=body)

    trail = (await reader.get(f"/v1/clips/{plan['clip_id']}/events")).json()["events"]
    assert [event["type"] for event in trail] == ["clip.announced", "upload.resumed"]
    assert trail[1]["leaf"]["actor"]["id"] == other_dock.station.station_id
    assert trail[1]["leaf"]["facts"]["from_station"] == dock.station.station_id


async def test_a_secured_clip_stays_with_the_dock_that_sent_it(dock, other_dock):
    body = announcement(10)
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await dock.send_all(plan["clip_id"], b"0123456789")
    await dock.seal(plan["clip_id"])

    again = await other_dock.http.post("/v1/clips", json=body)
    assert (again.status_code, again.json()["state"]) == (200, "sealed")
    assert again.json()["expires_at"] is None
    assert (await dock.seal(plan["clip_id"])).status_code == 200


async def test_a_sealed_clip_goes_with_its_camera_to_the_dock_that_knows_its_hash(dock, other_dock):
    footage = b"0123456789"
    body = announcement(10) | {"sha256_device": hashlib.sha256(footage).hexdigest()}
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await dock.send_all(plan["clip_id"], footage)
    await dock.seal(plan["clip_id"])

    again = await other_dock.http.post("/v1/clips", json=body)

    assert (again.status_code, again.json()["state"]) == (200, "sealed")
    assert (await other_dock.seal(plan["clip_id"])).status_code == 200
    assert (await dock.seal(plan["clip_id"])).status_code == 404


async def test_a_dock_does_not_take_back_what_another_has_sent(dock, other_dock):
    body = announcement(2 * PART_BYTES)
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await dock.send(plan["clip_id"], 0, b"a" * PART_BYTES)
    await other_dock.http.post("/v1/clips", json=body)
    upload = plan["tus_url"].rsplit("/", 1)[1]

    refused = await other_dock.http.delete(f"/files/{upload}", headers={"Tus-Resumable": "1.0.0"})

    assert_problem(refused, 403, "termination-refused")
    missing = (await other_dock.http.get(f"/v1/clips/{plan['clip_id']}/chunks")).json()
    assert missing["missing"] == [[1, 1]]


async def test_an_abandoned_clip_is_opened_afresh(served, dock):
    body = announcement(2 * PART_BYTES)
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await dock.send(plan["clip_id"], 0, b"a" * PART_BYTES)
    upload_id = UUID(plan["tus_url"].rsplit("/", 1)[1])
    await served.sql("UPDATE uploads SET expires_at = now() WHERE upload_id = $1", upload_id)
    opened = served.resources
    await served.call(
        expire_upload(upload_id, pool=opened.pool, vault=served.vault, now=opened.now)
    )

    again = (await dock.http.post("/v1/clips", json=body)).json()
    assert again["clip_id"] == plan["clip_id"]
    assert again["tus_url"] != plan["tus_url"]
    missing = (await dock.http.get(f"/v1/clips/{plan['clip_id']}/chunks")).json()
    assert missing["missing"] == [[0, 1]]
    await dock.send_all(plan["clip_id"], b"b" * 2 * PART_BYTES)
    assert (await dock.seal(plan["clip_id"])).json()["state"] == "sealed"


# --- odd, but taken ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "flag"),
    [
        ({"officer_id": "nobody"}, "officer_unknown"),
        ({}, "officer_missing"),
        ({"category": "parade"}, "category_unknown"),
        ({"started_at": "2004-01-01T00:00:00Z"}, "clock_implausible"),
        ({"started_at": "2999-01-01T00:00:00Z"}, "clock_implausible"),
        ({"started_at": "0001-01-01T00:00:00Z"}, "clock_implausible"),
        ({"clock_state": "not_set"}, "clock_not_set"),
        ({}, "started_at_missing"),
        ({}, "device_unknown"),
        ({}, "device_digest_missing"),
        (
            {"started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T09:00:00Z"},
            "ends_before_it_starts",
        ),
        ({"mood": "cheerful"}, "unknown_member:mood"),
        ({"łódź": {"a": [1, None, 2.5]}}, "unknown_member:łódź"),
    ],
)
async def test_odd_metadata_is_taken_and_flagged(dock, reader, members, flag):
    body = announcement(**members)
    response = await dock.http.post("/v1/clips", json=body)

    assert response.status_code == 201, response.text
    assert flag in response.json()["flags"]
    shown = (await reader.get(f"/v1/clips/{response.json()['clip_id']}")).json()
    assert shown["announcement"] == body
    assert flag in shown["flags"]


@pytest.mark.parametrize("offset_ms", [0, -420, 2**53 - 1, -(2**53) + 1])
async def test_any_clock_offset_is_taken(dock, reader, offset_ms):
    plan = await dock.announce(started_at="2026-11-20T10:00:00+05:30", clock_offset_ms=offset_ms)

    shown = (await reader.get(f"/v1/clips/{plan['clip_id']}")).json()
    assert shown["clock_offset_ms"] == offset_ms


@pytest.mark.parametrize("name", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
async def test_a_time_at_the_end_of_time_is_no_surprise(served, dock, name):
    response = await dock.http.post("/v1/clips", json=announcement(started_at=name))

    assert response.status_code == 201, response.text


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\boot.ini", "/dev/null", "clip\u202emp4.exe", "słońce.mp4"]
)
async def test_tricks_in_names_are_only_names(served, dock, name):
    unique = f"{name}{secrets.token_hex(8)}"
    plan = await dock.announce(10, recording_id=unique, device_serial=name, filename=name)
    await dock.send_all(plan["clip_id"], b"0123456789")
    assert (await dock.seal(plan["clip_id"])).status_code == 200

    keys = [key for key in list(served.vault.keys()) if plan["clip_id"] in key]
    assert len(keys) == 1
    assert not any(part in keys[0] for part in ("..", "etc", "boot", "\\", "mp4"))


# --- refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"size_bytes": -1},
        {"size_bytes": 2**53},
        {"size_bytes": 1.5},
        {"size_bytes": "many"},
        {"size_bytes": None},
        {"size_bytes": [1]},
        {"size_bytes": True},
        {"device_serial": None},
        {"device_serial": ""},
        {"device_serial": 17},
        {"device_serial": "x" * 201},
        {"device_serial": "BWC\x00"},
        {"device_serial": "BWC\r\nX: y"},
        {"recording_id": {"a": 1}},
        {"recording_id": "a\x00b"},
        {"segment_no": -1},
        {"segment_no": 10**9},
        {"segment_no": False},
        {"sha256_device": "xyz"},
        {"sha256_device": "AB" * 32},
        {"sha256_device": "ab" * 31},
        {"started_at": "yesterday"},
        {"started_at": "2026-11-20T10:00:00"},
        {"started_at": True},
        {"clock_offset_ms": 2**53},
        {"clock_state": "perfect"},
        {"evidential_state": "guilty"},
        {"title": "a\x00b"},
        {"title": ["a"]},
        {"filename": "\x00.mp4"},
        {"start_location": {"lat": 91, "lon": 0}},
        {"start_location": [51.5, 0]},
        {"note": "a\x00b"},
        {"a\x00b": "note"},
    ],
    ids=repr,
)
async def test_members_of_wrong_types_or_sizes_are_refused(served, dock, members):
    body = {**announcement(), **members}

    async with served.nothing_changes():
        response = await dock.http.post("/v1/clips", json=body)
    problem = assert_problem(response, 422, "invalid-request")
    assert problem["action"] == "fix"


async def test_a_missing_size_is_named(dock):
    body = announcement()
    del body["size_bytes"]

    problem = assert_problem(await dock.http.post("/v1/clips", json=body), 422, "invalid-request")
    assert "size_bytes" in problem["detail"]


async def test_a_clip_beyond_the_limit_is_refused_with_the_limit(served, dock):
    async with served.nothing_changes():
        response = await dock.http.post("/v1/clips", json=announcement(CLIP_BYTES_MAX + 1))

    problem = assert_problem(response, 413, "clip-too-large")
    assert problem["size_bytes_max"] == CLIP_BYTES_MAX


@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"", 422, "invalid-request"),
        (b"null", 422, "invalid-request"),
        (b"[]", 422, "invalid-request"),
        (b"{", 400, "malformed-body"),
        (b"device_serial=1", 400, "malformed-body"),
        (b'{"device_serial": "\xff\xfe"}', 400, "malformed-body"),
        (b"[" * 100_000, 400, "malformed-body"),
        (b'{"size_bytes": ' + b"9" * 5000 + b"}", 400, "malformed-body"),
        (raw().encode() + b', "size_bytes": NaN}', 422, "invalid-request"),
        (raw().encode() + b', "note": NaN}', 422, "invalid-request"),
        (raw().encode() + b', "note": -Infinity}', 422, "invalid-request"),
        (raw().encode() + b', "note": 1e999}', 422, "invalid-request"),
        (raw().encode() + b', "note": "\\ud800"}', 422, "invalid-request"),
        (raw().encode() + b', "title": "\\udfff"}', 422, "invalid-request"),
        (raw().encode() + b', "\\ud800": 1}', 422, "invalid-request"),
        (raw().encode() + b', "note": "\\u0000"}', 422, "invalid-request"),
        (raw().encode() + b', "size_bytes": 1}', 422, "invalid-request"),
        (raw().encode() + b', "note": {"a": 1, "a": 2}}', 422, "invalid-request"),
        (raw().encode() + b', "note": ' + b"[" * 200 + b"]" * 200 + b"}", 422, "invalid-request"),
        (
            raw().encode() + b', "note": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
            422,
            "invalid-request",
        ),
    ],
    ids=[
        "nothing", "null", "list", "torn", "form", "not UTF-8", "deep", "endless number",
        "size NaN", "NaN", "Infinity", "1e999", "surrogate", "surrogate in title",
        "surrogate in name", "NUL", "twice", "twice inside", "200 deep", "900 deep",
    ],
)  # fmt: skip
async def test_json_that_cannot_be_kept_is_refused(served, dock, body, status, name):
    async with served.nothing_changes():
        response = await post_raw(dock, body)

    assert_problem(response, status, name)


async def test_a_backslash_before_u0000_is_only_text(dock, reader):
    plan = await dock.announce(note="C:\\u0000 and \\\\u0000")

    shown = (await reader.get(f"/v1/clips/{plan['clip_id']}")).json()
    assert shown["announcement"]["note"] == "C:\\u0000 and \\\\u0000"


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "chunked"])
async def test_a_body_of_ten_megabytes_is_refused_unread(served, dock, is_announced):
    body = b'{"note": "' + b"x" * 10_000_000 + b'"}'

    async def blocks():
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    async with served.nothing_changes():
        response = await dock.http.post(
            "/v1/clips", content=body if is_announced else blocks(), headers=JSON
        )
    assert assert_problem(response, 413, "body-too-large")["bytes_max"] == JSON_BYTES_MAX


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"],
)
async def test_another_content_type_is_refused(served, dock, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    async with served.nothing_changes():
        response = await dock.http.post(
            "/v1/clips", content=json.dumps(announcement()).encode(), headers=headers
        )
    assert_problem(response, 415, "unsupported-content-type")
