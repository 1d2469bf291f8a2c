"""Assertions: what was said of a clip is never overwritten, and who may say it."""

import asyncio
import json
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from ingest_service.domain.assertion import announced_id, hash_value
from tests.api.served import assert_problem
from tests.api.test_show_clip import trail_of, verify_chain

SCOPES = ("clips:read", "assertions:write")


@pytest.fixture
async def custodian(served):
    async with served.client(served.token(*SCOPES, sub="P9001", kind="person")) as client:
        yield client


@pytest.fixture
def mark():
    return secrets.token_hex(8)


async def say(client, clip_id, corrects=(), source=None, **fields):
    body = {"fields": fields, "corrects": list(corrects)}
    if source:
        body["source"] = source
    return await client.post(f"/v1/clips/{clip_id}/assertions", json=body)


async def said(client, clip_id, **query):
    response = await say(client, clip_id, **query)
    assert response.status_code == 201, response.text
    return response.json()


async def show(client, clip_id, **query):
    response = await client.get(f"/v1/clips/{clip_id}", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def history_of(client, clip_id):
    return (await client.get(f"/v1/clips/{clip_id}/assertions")).json()["assertions"]


VALUES = {
    "officer_id": "P2",
    "category": "arrest",
    "evidential_state": "evidential",
    "incident_id": "CAD-1",
    "crime_ref": "CR/1/26",
    "exhibit_ref": "JS/1",
    "title": "słońce",
    "tags": ["b", "a", "b"],
}


async def test_what_is_asserted_is_what_the_clip_shows(dock, custodian):
    clip_id = (await dock.announce())["clip_id"]

    await said(custodian, clip_id, **VALUES)
    clip = await show(custodian, clip_id)
    assert {name: clip[name] for name in VALUES} == {**VALUES, "tags": ["a", "b"]}


async def test_a_field_that_is_not_named_stays(dock, custodian):
    clip_id = (await dock.announce(officer_id="P1", category="arrest"))["clip_id"]

    await said(custodian, clip_id, title="t")
    clip = await show(custodian, clip_id)
    assert (clip["officer_id"], clip["category"]) == ("P1", "arrest")


async def test_null_withdraws_a_value_and_keeps_it_in_the_history(dock, custodian):
    clip_id = (await dock.announce(officer_id="P1"))["clip_id"]

    await said(custodian, clip_id, officer_id=None)
    assert (await show(custodian, clip_id))["officer_id"] is None
    history = await history_of(custodian, clip_id)
    assert [each["value"] for each in history if each["field"] == "officer_id"] == ["P1", None]


async def test_what_the_dock_announced_is_the_first_assertion(dock, custodian):
    plan = await dock.announce(officer_id="P1")
    clip_id = plan["clip_id"]
    before = await history_of(custodian, clip_id)
    await said(custodian, clip_id, officer_id="P2")
    after = await history_of(custodian, clip_id)

    first = next(each for each in before if each["field"] == "officer_id")
    assert (first["value"], first["source"]) == ("P1", "dock")
    assert (first["asserted_by_kind"], first["asserted_by_id"]) == (
        "station",
        dock.station.station_id,
    )
    assert first["asserted_at"] == (await show(custodian, clip_id))["announced_at"]
    assert after[: len(before)] == before


async def test_the_raw_announcement_never_changes(dock, custodian):
    clip_id = (await dock.announce(officer_id="P1", title="then"))["clip_id"]
    before = (await show(custodian, clip_id))["announcement"]

    await said(custodian, clip_id, officer_id="P2", title="now")
    assert (await show(custodian, clip_id))["announcement"] == before


async def test_as_of_answers_what_was_believed_then(dock, custodian):
    clip_id = (await dock.announce(officer_id="P1", title="first"))["clip_id"]
    start = (await show(custodian, clip_id))["announced_at"]
    second = await said(custodian, clip_id, officer_id="P2", tags=["x"])
    third = await said(custodian, clip_id, officer_id="P3", title="third")

    def at(moment):
        return show(custodian, clip_id, as_of=moment)

    moments = [start] + [each["assertions"][0]["asserted_at"] for each in (second, third)]
    believed = [await at(moment) for moment in moments]
    assert [each["officer_id"] for each in believed] == ["P1", "P2", "P3"]
    assert [each["title"] for each in believed] == ["first", "first", "third"]
    assert [each["tags"] for each in believed] == [None, ["x"], ["x"]]
    assert datetime.fromisoformat(believed[1]["as_of"]) == datetime.fromisoformat(moments[1])


async def test_as_of_before_the_announcement_is_a_problem(dock, custodian):
    clip_id = (await dock.announce())["clip_id"]

    response = await custodian.get(f"/v1/clips/{clip_id}", params={"as_of": "2020-01-01T00:00:00Z"})
    assert_problem(response, 404, "not-yet-known")


@pytest.mark.parametrize("as_of", ["9999-01-01T00:00:00Z", "yesterday", "2026-11-20T10:00:00", ""])
async def test_an_as_of_that_is_no_past_is_refused(dock, custodian, as_of):
    clip_id = (await dock.announce())["clip_id"]

    response = await custodian.get(f"/v1/clips/{clip_id}", params={"as_of": as_of})
    assert_problem(response, 422, "invalid-request")


async def test_history_comes_with_the_clip_on_request(dock, custodian):
    clip_id = (await dock.announce(title="t"))["clip_id"]

    assert (await show(custodian, clip_id))["history"] is None
    shown = await show(custodian, clip_id, history="true")
    assert shown["history"] == await history_of(custodian, clip_id)


async def test_a_correction_refers_to_the_original(dock, custodian):
    clip_id = (await dock.announce())["clip_id"]
    wrong = (await said(custodian, clip_id, crime_ref="CR/1"))["assertions"][0]["assertion_id"]

    await said(custodian, clip_id, crime_ref="CR/2", corrects=[wrong])
    history = [each for each in await history_of(custodian, clip_id) if each["clip_seq"]]
    assert [(each["value"], each["corrects"]) for each in history] == [
        ("CR/1", None),
        ("CR/2", wrong),
    ]


async def test_what_the_dock_announced_can_be_corrected(dock, custodian):
    clip_id = (await dock.announce(officer_id="P1"))["clip_id"]
    first = str(announced_id(UUID(clip_id), "officer_id"))

    answer = await said(custodian, clip_id, officer_id="P2", corrects=[first])
    assert answer["assertions"][0]["corrects"] == first


@pytest.mark.parametrize("wrong", ["another field", "another clip", "unknown", "twice"])
async def test_a_correction_of_something_else_is_refused_and_leaves_nothing(
    served, dock, custodian, wrong
):
    clip_id = (await dock.announce())["clip_id"]
    other_id = (await dock.announce())["clip_id"]
    title = (await said(custodian, clip_id, title="t"))["assertions"][0]["assertion_id"]
    elsewhere = (await said(custodian, other_id, crime_ref="x"))["assertions"][0]["assertion_id"]
    crime = (await said(custodian, clip_id, crime_ref="x"))["assertions"][0]["assertion_id"]
    corrects = {
        "another field": [title],
        "another clip": [elsewhere],
        "unknown": [str(uuid4())],
        "twice": [crime, crime],
    }[wrong]

    async with served.nothing_changes():
        response = await say(custodian, clip_id, crime_ref="CR/2", corrects=corrects)
    assert_problem(response, 409, "correction-mismatch")


async def test_a_corrected_clock_moves_the_interval_and_keeps_the_raw_one(dock, custodian):
    raw = {"started_at": "2026-11-20T10:00:00Z", "ended_at": "2026-11-20T10:30:00Z"}
    clip_id = (await dock.announce(**raw, clock_offset_ms=1000))["clip_id"]

    await said(custodian, clip_id, clock_offset_ms=3_600_000)
    clip = await show(custodian, clip_id)
    assert (clip["started_at"], clip["ended_at"]) == (raw["started_at"], raw["ended_at"])
    assert clip["clock_offset_ms"] == 1000
    assert clip["started_at_corrected"] == "2026-11-20T11:00:00Z"
    assert clip["ended_at_corrected"] == "2026-11-20T11:30:00Z"
    then = await show(custodian, clip_id, as_of=clip["announced_at"])
    assert then["started_at_corrected"] == "2026-11-20T10:00:01Z"


# --- custody -----------------------------------------------------------------------------


async def events_after(client, clip_id, **fields):
    await said(client, clip_id, **fields)
    return (await trail_of(client, clip_id))["events"]


@pytest.mark.parametrize(
    ("fields", "types"),
    [
        ({"officer_id": "P2"}, ["officer.reattributed"]),
        ({"category": "arrest"}, ["category.changed"]),
        ({"evidential_state": "evidential"}, ["evidential_state.changed"]),
        ({"evidential_state": "unclassified"}, ["metadata.asserted"]),
        ({"title": "t"}, ["metadata.asserted"]),
        ({"title": "t", "category": "arrest"}, ["category.changed", "metadata.asserted"]),
    ],
    ids=repr,
)
async def test_each_assertion_is_a_custody_event(dock, custodian, fields, types):
    clip_id = (await dock.announce())["clip_id"]

    events = await events_after(custodian, clip_id, **fields)
    verify_chain(events, clip_id)
    assert [event["type"] for event in events[1:]] == types
    history = await history_of(custodian, clip_id)
    by_seq = {each["clip_seq"]: each["assertion_id"] for each in history}
    assert [by_seq[event["clip_seq"]] for event in events[1:]] == [
        event["leaf"]["facts"]["assertion_id"] for event in events[1:]
    ]


async def test_a_correction_is_its_own_kind_of_event(dock, custodian):
    clip_id = (await dock.announce(title="t"))["clip_id"]
    first = str(announced_id(UUID(clip_id), "title"))

    await said(custodian, clip_id, title="u", corrects=[first])
    event = (await trail_of(custodian, clip_id))["events"][-1]
    assert (event["type"], event["leaf"]["facts"]["corrects"]) == ("metadata.corrected", first)


async def test_the_leaf_says_who_and_from_where(dock, custodian):
    clip_id = (await dock.announce(officer_id="P1"))["clip_id"]

    events = await events_after(custodian, clip_id, officer_id="P2", source="cad")
    leaf = events[-1]["leaf"]
    assert (leaf["actor"]["kind"], leaf["actor"]["id"]) == ("person", "P9001")
    facts = leaf["facts"]
    assert (facts["value"], facts["before"], facts["source"]) == ("P2", "P1", "cad")
    assert leaf["request_id"] is not None


async def test_no_free_text_stands_in_a_leaf(dock, custodian):
    clip_id = (await dock.announce(title="Jane announced", category="Jane's"))["clip_id"]

    events = await events_after(
        custodian,
        clip_id,
        title="Jane titled",
        tags=["Jane tagged"],
        incident_id="Jane's incident",
        crime_ref="Jane's crime",
        exhibit_ref="Jane/1",
        category="Jane's category",
        officer_id="Jane Smith",
    )
    assert len(events) == 8
    assert not [event for event in events if "Jane" in event["leaf_text"]]


async def test_the_hash_in_a_leaf_can_be_checked_with_its_salt(served, dock, custodian):
    clip_id = (await dock.announce())["clip_id"]

    answer = await said(custodian, clip_id, title="słońce")
    (row,) = await served.sql(
        "SELECT salt FROM assertions WHERE assertion_id = $1",
        UUID(answer["assertions"][0]["assertion_id"]),
    )
    facts = (await trail_of(custodian, clip_id))["events"][-1]["leaf"]["facts"]
    assert facts["value_sha256"] == hash_value(row["salt"], "słońce")


async def test_assertions_at_once_are_all_recorded_in_one_chain(dock, custodian):
    clip_id = (await dock.announce())["clip_id"]

    answers = await asyncio.gather(*(say(custodian, clip_id, title=f"t{n}") for n in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    events = (await trail_of(custodian, clip_id))["events"]
    verify_chain(events, clip_id)
    assert len(events) == 9
    values = [each["value"] for each in await history_of(custodian, clip_id)][1:]
    assert sorted(values) == [f"t{n}" for n in range(8)]
    assert (await show(custodian, clip_id))["title"] == values[-1]


# --- the directory -----------------------------------------------------------------------


async def test_an_unknown_officer_or_category_is_flagged_and_a_known_one_is_not(
    served, dock, custodian, mark
):
    await served.sql(
        "INSERT INTO directory_entries (kind, entry_id) VALUES ('officer', $1), ('category', $1)",
        mark,
    )
    clip_id = (await dock.announce(officer_id=f"{mark}-x"))["clip_id"]

    unknown = await said(custodian, clip_id, officer_id="nobody", category="nothing")
    known = await said(custodian, clip_id, officer_id=mark, category=mark)
    missing = await said(custodian, clip_id, officer_id=None)
    flags = [
        sorted(flag for flag in each["flags"] if flag.startswith(("officer", "category")))
        for each in (unknown, known, missing)
    ]
    assert flags == [["category_unknown", "officer_unknown"], [], ["officer_missing"]]
    assert (await show(custodian, clip_id))["flags"] == missing["flags"]


# --- who may -----------------------------------------------------------------------------


async def test_reading_is_not_asserting(served, dock, reader):
    clip_id = (await dock.announce())["clip_id"]

    async with served.nothing_changes():
        for client in (reader, dock.http):
            one = await say(client, clip_id, title="t")
            many = await client.post(
                "/v1/assertions",
                json={"key": "k", "items": [{"clip_id": clip_id, "fields": {"title": "t"}}]},
            )
            for response in (one, many):
                problem = assert_problem(response, 403, "forbidden")
                assert problem["scope"] == "assertions:write"


async def test_asserting_is_not_reading(served, dock):
    clip_id = (await dock.announce())["clip_id"]

    async with served.client(served.token("assertions:write")) as writer:
        assert (await say(writer, clip_id, title="t")).status_code == 201
        refused = await writer.get(f"/v1/clips/{clip_id}/assertions")
    assert assert_problem(refused, 403, "forbidden")["scope"] == "clips:read"


async def test_a_clip_of_another_borough_does_not_exist(served, make_dock, mark):
    here, there = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    serial = f"BWC-{mark}"
    clip = await there.announce(device_serial=serial, started_at="2026-11-20T10:00:00Z")
    own = await here.announce()
    token = served.token(*SCOPES, boroughs=[f"A-{mark}"])

    async with served.client(token) as limited:
        async with served.nothing_changes():
            for response in (
                await say(limited, clip["clip_id"], title="t"),
                await limited.get(f"/v1/clips/{clip['clip_id']}/assertions"),
            ):
                assert_problem(response, 404, "clip-not-found")
            batch = await send_batch(
                limited,
                mark,
                [
                    {"clip_id": clip["clip_id"], "fields": {"title": "t"}},
                    interval(serial, "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", title="t"),
                ],
            )
        assert [each["outcome"] for each in batch["outcomes"]] == ["clip_not_found", "no_clip"]
        assert (await say(limited, own["clip_id"], title="t")).status_code == 201


# --- bad input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"fields": {}},
        {"fields": {"colour": "red"}},
        {"fields": {"title": "t"}, "colour": "red"},
        {"fields": {"title": "x" * 201}},
        {"fields": {"title": ""}},
        {"fields": {"title": "a\nb"}},
        {"fields": {"title": "\x00"}},
        {"fields": {"title": "\ud800"}},
        {"fields": {"title": 7}},
        {"fields": {"officer_id": ["P1"]}},
        {"fields": {"evidential_state": "guilty"}},
        {"fields": {"evidential_state": None}},
        {"fields": {"tags": None}},
        {"fields": {"tags": "one"}},
        {"fields": {"tags": [""]}},
        {"fields": {"tags": ["x" * 65]}},
        {"fields": {"tags": [f"t{n}" for n in range(51)]}},
        {"fields": {"clock_offset_ms": True}},
        {"fields": {"clock_offset_ms": 2**60}},
        {"fields": {"title": "t"}, "source": "C A D"},
        {"fields": {"title": "t"}, "source": "x" * 60},
        {"fields": {"title": "t"}, "corrects": ["x"]},
        {"fields": {"title": "t"}, "corrects": "x"},
        [],
    ],
    ids=lambda body: json.dumps(body)[:60],
)
async def test_what_cannot_be_asserted_is_refused_and_leaves_nothing(served, dock, custodian, body):
    clip_id = (await dock.announce())["clip_id"]

    async with served.nothing_changes():
        response = await custodian.post(
            f"/v1/clips/{clip_id}/assertions",
            content=json.dumps(body),
            headers={"Content-Type": "application/json"},
        )
    assert_problem(response, 422, "invalid-request")


async def test_a_field_that_is_named_twice_is_refused(served, dock, custodian):
    clip_id = (await dock.announce())["clip_id"]

    async with served.nothing_changes():
        response = await custodian.post(
            f"/v1/clips/{clip_id}/assertions",
            content=b'{"fields": {"title": "a", "title": "b"}}',
            headers={"Content-Type": "application/json"},
        )
    assert_problem(response, 422, "invalid-request")


async def test_an_unknown_clip_is_not_asserted(custodian):
    assert_problem(await say(custodian, uuid4(), title="t"), 404, "clip-not-found")


# --- batches -----------------------------------------------------------------------------


def interval(serial, start, stop, **fields):
    return {
        "device_serial": serial,
        "recorded_from": start,
        "recorded_to": stop,
        "fields": fields,
    }


async def send_batch(client, key, items, **more):
    response = await client.post("/v1/assertions", json={"key": key, "items": items, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_shift_is_asserted_in_one_call(dock, custodian, mark):
    serial = f"BWC-{mark}"

    async def record(start, end):
        plan = await dock.announce(
            device_serial=serial,
            started_at=f"2026-11-20T{start}:00Z",
            ended_at=f"2026-11-20T{end}:00Z",
        )
        return plan["clip_id"]

    before = await record("09:00", "09:59")
    over_start = await record("09:30", "10:10")
    inside = await record("10:20", "10:30")
    after = await record("11:00", "11:10")
    other = (await dock.announce())["clip_id"]

    answer = await send_batch(
        custodian,
        mark,
        [
            interval(serial, "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", incident_id=mark),
            {"clip_id": other, "fields": {"category": "arrest"}},
            {"clip_id": str(uuid4()), "fields": {"category": "arrest"}},
        ],
        source="cad",
    )
    assert [(each["item"], each["clip_id"], each["outcome"]) for each in answer["outcomes"]][
        :3
    ] == [(0, over_start, "asserted"), (0, inside, "asserted"), (1, other, "asserted")]
    assert answer["outcomes"][3]["outcome"] == "clip_not_found"
    assert (answer["asserted_count"], answer["refused_count"]) == (3, 1)
    found = [(await show(custodian, each))["incident_id"] for each in (before, inside, after)]
    assert found == [None, mark, None]
    assert (await history_of(custodian, inside))[-1]["source"] == "cad"


async def test_an_interval_is_of_corrected_time(dock, custodian, mark):
    serial = f"BWC-{mark}"
    await dock.announce(
        device_serial=serial, started_at="2026-11-20T10:00:00Z", clock_offset_ms=3_600_000
    )

    def asked(hour):
        item = interval(serial, f"2026-11-20T{hour}:00:00Z", f"2026-11-20T{hour}:30:00Z", title="t")
        return send_batch(custodian, f"{mark}-{hour}", [item])

    assert (await asked(10))["outcomes"][0]["outcome"] == "no_clip"
    assert (await asked(11))["outcomes"][0]["outcome"] == "asserted"


async def test_a_batch_that_is_sent_again_changes_nothing(served, dock, custodian, mark):
    clip_id = (await dock.announce())["clip_id"]
    items = [{"clip_id": clip_id, "fields": {"title": "t", "category": "c"}}]
    first = await send_batch(custodian, mark, items)

    async with served.nothing_changes():
        again = await send_batch(custodian, mark, items)
    assert [each["outcome"] for each in again["outcomes"]] == ["repeated"]
    assert again["outcomes"][0]["assertion_ids"] == first["outcomes"][0]["assertion_ids"]


async def test_a_batch_that_is_sent_twice_at_once_is_asserted_once(dock, custodian, mark):
    clip_id = (await dock.announce())["clip_id"]
    items = [{"clip_id": clip_id, "fields": {"title": "t"}}]

    answers = await asyncio.gather(*(send_batch(custodian, mark, items) for _ in range(6)))
    outcomes = sorted(answer["outcomes"][0]["outcome"] for answer in answers)
    assert outcomes == ["asserted"] + ["repeated"] * 5
    assert len(await history_of(custodian, clip_id)) == 2


async def test_a_batch_that_broke_off_is_completed(dock, custodian, mark):
    """As after a crash: the clip that was missing when it was sent has come."""
    serial = f"BWC-{mark}"
    item = interval(serial, "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", title="t")
    members = {"device_serial": serial, "started_at": "2026-11-20T10:05:00Z"}
    await dock.announce(**members)
    first = await send_batch(custodian, mark, [item])
    await dock.announce(**members)

    again = await send_batch(custodian, mark, [item])
    assert [each["outcome"] for each in first["outcomes"]] == ["asserted"]
    assert [each["outcome"] for each in again["outcomes"]] == ["repeated", "asserted"]


async def test_a_key_stands_for_one_content(served, dock, custodian, mark):
    clip_id = (await dock.announce())["clip_id"]
    await send_batch(custodian, mark, [{"clip_id": clip_id, "fields": {"title": "t"}}])

    async with served.nothing_changes():
        response = await custodian.post(
            "/v1/assertions",
            json={"key": mark, "items": [{"clip_id": clip_id, "fields": {"title": "u"}}]},
        )
    assert_problem(response, 409, "batch-key-reused")


async def test_a_key_belongs_to_who_brings_it(served, dock, custodian, mark):
    clip_id = (await dock.announce())["clip_id"]
    await send_batch(custodian, mark, [{"clip_id": clip_id, "fields": {"title": "t"}}])

    async with served.client(served.token(*SCOPES, sub="another")) as other:
        answer = await send_batch(other, mark, [{"clip_id": clip_id, "fields": {"title": "u"}}])
    assert answer["outcomes"][0]["outcome"] == "asserted"


async def test_an_interval_with_too_many_clips_asserts_none(served, dock, custodian, mark):
    serial = f"BWC-{mark}"
    for _ in range(101):
        await dock.announce(device_serial=serial, started_at="2026-11-20T10:05:00Z")
    item = interval(serial, "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", title="t")

    async with served.nothing_changes():
        answer = await send_batch(custodian, mark, [item])
    assert [each["outcome"] for each in answer["outcomes"]] == ["too_many"]


ITEM = {"clip_id": "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e", "fields": {"title": "t"}}
HOUR = interval("BWC-1", "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z", title="t")


@pytest.mark.parametrize(
    "body",
    [
        {"items": [ITEM]},
        {"key": "", "items": [ITEM]},
        {"key": "k" * 101, "items": [ITEM]},
        {"key": "k", "items": []},
        {"key": "k", "items": [ITEM] * 501},
        {"key": "k", "items": [{"fields": {"title": "t"}}]},
        {"key": "k", "items": [{**ITEM, **HOUR}]},
        {"key": "k", "items": [{**HOUR, "recorded_to": HOUR["recorded_from"]}]},
        {"key": "k", "items": [{**HOUR, "recorded_from": "2026-11-20T10:00:00"}]},
        {"key": "k", "items": [{**HOUR, "recorded_to": None}]},
        {"key": "k", "items": [{**ITEM, "corrects": []}]},
        {"key": "k", "items": [{**ITEM, "fields": {}}]},
        {"key": "k", "items": [ITEM], "colour": "red"},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
async def test_a_batch_that_cannot_be_read_is_refused(served, custodian, body):
    async with served.nothing_changes():
        response = await custodian.post("/v1/assertions", json=body)
    assert_problem(response, 422, "invalid-request")


async def test_an_assertion_after_the_clip_was_secured_leaves_it_secured(dock, custodian):
    clip_id = await dock.secure(b"footage")

    await said(custodian, clip_id, evidential_state="evidential")
    clip = await show(custodian, clip_id)
    assert (clip["state"], clip["evidential_state"]) == ("secured", "evidential")
    assert datetime.fromisoformat(clip["secured_at"]) > datetime.now(UTC) - timedelta(minutes=5)
