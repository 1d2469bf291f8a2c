"""GET /v1/clips: filters, pages, and whose clips are seen."""

import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.api.served import assert_problem


@pytest.fixture
async def marked(dock):
    """A mark that no other test's clips bear: officer, crime, incident."""
    return secrets.token_hex(8)


async def listed(client, **query) -> list[str]:
    response = await client.get("/v1/clips", params=query)
    assert response.status_code == 200, response.text
    return [clip["clip_id"] for clip in response.json()["clips"]]


@pytest.mark.parametrize(
    ("query", "member"),
    [
        ("device", "device_serial"),
        ("officer", "officer_id"),
        ("category", "category"),
        ("crime_ref", "crime_ref"),
        ("incident", "incident_id"),
    ],
)
async def test_a_filter_finds_its_clips_and_no_others(dock, reader, marked, query, member):
    other = await dock.announce(**{member: f"{marked}-other"})
    first = await dock.announce(**{member: marked})
    second = await dock.announce(**{member: marked})

    found = await listed(reader, **{query: marked})
    assert found == [second["clip_id"], first["clip_id"]]
    assert other["clip_id"] not in found


async def test_clips_of_a_station_a_site_and_a_borough(make_dock, reader, marked):
    here, there = await make_dock(borough=f"B-{marked}"), await make_dock(borough=f"C-{marked}")
    clip = (await here.announce())["clip_id"]
    await there.announce()

    assert await listed(reader, station=here.station.station_id) == [clip]
    assert await listed(reader, site=here.station.site_id) == [clip]
    assert await listed(reader, borough=here.station.borough) == [clip]


async def test_clips_in_a_state(dock, reader, marked):
    receiving = (await dock.announce(officer_id=marked))["clip_id"]
    sealed = await dock.bring_in(b"sealed", officer_id=marked)
    secured = await dock.secure(b"secured", officer_id=marked)

    for state, clip in (("receiving", receiving), ("sealed", sealed), ("secured", secured)):
        assert await listed(reader, officer=marked, state=state) == [clip]
    assert await listed(reader, officer=marked, state="quarantined") == []


async def test_clips_of_an_evidential_state(dock, reader, marked):
    evidential = await dock.announce(officer_id=marked, evidential_state="evidential")
    plain = await dock.announce(officer_id=marked)

    assert await listed(reader, officer=marked, evidential_state="evidential") == [
        evidential["clip_id"]
    ]
    assert await listed(reader, officer=marked, evidential_state="unclassified") == [
        plain["clip_id"]
    ]


async def test_the_time_of_recording_is_the_corrected_one(dock, reader, marked):
    clip = await dock.announce(
        officer_id=marked, started_at="2026-11-20T10:00:00Z", clock_offset_ms=3_600_000
    )
    await dock.announce(officer_id=marked)

    def between(after, before):
        return listed(
            reader,
            officer=marked,
            recorded_after=f"2026-11-20T{after}:00:00Z",
            recorded_before=f"2026-11-20T{before}:00:00+00:00",
        )

    assert await between("11", "12") == [clip["clip_id"]]
    assert await between("10", "11") == []


async def test_the_time_of_recording_by_the_cameras_own_clock_can_be_asked_for(
    dock, reader, marked
):
    fast = {"started_at": "2026-11-20T12:00:00Z", "clock_offset_ms": 3_600_000}
    plan = await dock.announce(100, incident_id=marked, **fast)

    def between(after, before, clock):
        return listed(
            reader,
            incident=marked,
            recorded_after=f"2026-11-20T{after}:00:00Z",
            recorded_before=f"2026-11-20T{before}:00:00Z",
            clock=clock,
        )

    found = {
        clock: [hour for hour in (11, 12, 13) if await between(hour, hour + 1, clock)]
        for clock in ("raw", "corrected")
    }
    assert found == {"raw": [12], "corrected": [13]}
    assert await between(12, 13, "raw") == [plan["clip_id"]]


async def test_the_time_of_receipt_has_an_inclusive_start_and_an_exclusive_end(
    dock, reader, marked
):
    clip_id = (await dock.announce(officer_id=marked))["clip_id"]
    moment = (await reader.get(f"/v1/clips/{clip_id}")).json()["announced_at"]
    later = (datetime.fromisoformat(moment) + timedelta(milliseconds=1)).isoformat()

    assert await listed(reader, officer=marked, received_after=moment) == [clip_id]
    assert await listed(reader, officer=marked, received_after=later) == []
    assert await listed(reader, officer=marked, received_before=moment) == []
    assert await listed(reader, officer=marked, received_before=later) == [clip_id]


async def test_clips_that_are_held_or_due(served, dock, reader, marked):
    held, due, plain = [(await dock.announce(officer_id=marked))["clip_id"] for _ in range(3)]
    soon = datetime.now(UTC) + timedelta(days=1)
    await served.sql("UPDATE clips SET is_held = true WHERE clip_id = $1", UUID(held))
    await served.sql("UPDATE clips SET erase_due_at = $2 WHERE clip_id = $1", UUID(due), soon)

    assert await listed(reader, officer=marked, held="true") == [held]
    assert await listed(reader, officer=marked, held="false") == [plain, due]
    later = (soon + timedelta(seconds=1)).isoformat()
    assert await listed(reader, officer=marked, erase_due_before=later) == [due]
    assert await listed(reader, officer=marked, erase_due_before=soon.isoformat()) == []


async def test_filters_hold_together(dock, reader, marked):
    await dock.announce(officer_id=marked, category="arrest")
    await dock.announce(officer_id=f"{marked}-x", category="arrest", crime_ref=marked)
    wanted = await dock.announce(officer_id=marked, category="arrest", crime_ref=marked)

    found = await listed(
        reader, officer=marked, category="arrest", crime_ref=marked, state="receiving"
    )
    assert found == [wanted["clip_id"]]


# --- pages -------------------------------------------------------------------------------


async def test_pages_are_stable_while_clips_come_in(dock, reader, marked):
    before = [(await dock.announce(officer_id=marked))["clip_id"] for _ in range(7)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (
            await reader.get("/v1/clips", params={"officer": marked, "limit": 3, **cursor})
        ).json()
        seen += [clip["clip_id"] for clip in page["clips"]]
        await dock.announce(officer_id=marked)
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == before[::-1]


@pytest.mark.parametrize("count", [2, 4])
async def test_a_last_page_that_is_full_is_the_last(dock, reader, marked, count):
    for _ in range(count):
        await dock.announce(officer_id=marked)
    query = {"officer": marked, "limit": 2}
    page = (await reader.get("/v1/clips", params=query)).json()
    while page["next_cursor"] is not None:
        page = (
            await reader.get("/v1/clips", params={**query, "cursor": page["next_cursor"]})
        ).json()

    assert len(page["clips"]) == 2


async def test_no_clip_is_an_empty_page(reader, marked):
    page = (await reader.get("/v1/clips", params={"officer": marked})).json()

    assert page == {"clips": [], "next_cursor": None, "prev_cursor": None}


@pytest.mark.parametrize(
    "cursor", ["x", "", "AAAA", "%00", "café", "é" * 50, "YzE", "=" * 20, "-_-_"]
)
async def test_a_cursor_that_was_not_made_here_is_refused(reader, cursor):
    assert_problem(await reader.get("/v1/clips", params={"cursor": cursor}), 400, "invalid-cursor")


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "-1"},
        {"limit": "501"},
        {"limit": "9" * 30},
        {"limit": "many"},
        {"cursor": "x" * 101},
        {"colour": "red"},
        {"officer": ""},
        {"officer": "x" * 201},
        {"device": "a\x00b"},
        {"state": "lost"},
        {"evidential_state": "guilty"},
        {"held": "perhaps"},
        {"received_after": "yesterday"},
        {"received_after": "2026-11-20T10:00:00"},
        {"recorded_before": "99999-01-01T00:00:00Z"},
    ],
    ids=repr,
)
async def test_a_query_that_cannot_be_read_is_refused(reader, query):
    problem = assert_problem(await reader.get("/v1/clips", params=query), 422, "invalid-request")

    assert next(iter(query)) in problem["detail"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize("name", ["received_after", "recorded_before", "erase_due_before"])
async def test_the_ends_of_time_can_be_asked_for(reader, marked, name, moment):
    assert await listed(reader, officer=marked, **{name: moment}) == []


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%", "_", "\\", "ł" * 100, "\ud7ff"])
async def test_text_in_a_filter_is_only_text(reader, dock, marked, text):
    await dock.announce(officer_id=marked)

    assert await listed(reader, officer=text) == []


# --- who sees what -----------------------------------------------------------------------


async def test_a_token_limited_to_boroughs_sees_only_their_clips(served, make_dock, marked):
    docks = {name: await make_dock(borough=f"{name}-{marked}") for name in ("A", "B", "C")}
    clips = {
        name: (await dock.announce(officer_id=marked))["clip_id"] for name, dock in docks.items()
    }
    token = served.token("clips:read", "content:read", boroughs=[f"A-{marked}", f"B-{marked}"])

    async with served.client(token) as limited:
        assert await listed(limited, officer=marked) == [clips["B"], clips["A"]]
        assert await listed(limited, officer=marked, borough=f"C-{marked}") == []
        for path in ("", "/events", "/content"):
            foreign = await limited.get(f"/v1/clips/{clips['C']}{path}")
            assert_problem(foreign, 404, "clip-not-found")
            assert (await limited.get(f"/v1/clips/{clips['A']}{path}")).status_code in {200, 410}


async def test_no_borough_is_no_clip(served, dock, marked):
    await dock.announce(officer_id=marked)

    async with served.client(served.token("clips:read", boroughs=[])) as limited:
        assert await listed(limited, officer=marked) == []


async def test_clips_by_tag_and_exhibit(served, dock, reader, marked):
    first = (await dock.announce())["clip_id"]
    second = await dock.secure(b"secured")
    await dock.announce()
    async with served.client(served.token("assertions:write")) as custodian:
        for clip_id in (first, second):
            body = {"fields": {"tags": [marked, "other"], "exhibit_ref": f"EX-{marked}"}}
            await custodian.post(f"/v1/clips/{clip_id}/assertions", json=body)

    assert await listed(reader, tag=marked) == [second, first]
    assert await listed(reader, exhibit_ref=f"EX-{marked}") == [second, first]
    assert await listed(reader, tag=marked, state="secured") == [second]
    async with served.client(served.token("assertions:write")) as custodian:
        await custodian.post(f"/v1/clips/{first}/assertions", json={"fields": {"tags": ["other"]}})
    assert await listed(reader, tag=marked) == [second]


async def test_what_is_asserted_later_is_found_by_it(served, dock, reader, marked):
    clip_id = await dock.secure(b"secured", officer_id=f"{marked}-old")
    async with served.client(served.token("assertions:write")) as custodian:
        fields = {"officer_id": marked, "category": marked, "evidential_state": "evidential"}
        await custodian.post(f"/v1/clips/{clip_id}/assertions", json={"fields": fields})

    assert await listed(reader, officer=f"{marked}-old") == []
    assert await listed(reader, officer=marked) == [clip_id]
    assert await listed(reader, category=marked, evidential_state="evidential") == [clip_id]
    assert await listed(reader, category=marked, evidential_state="unclassified") == []


async def test_an_expired_clip_that_is_announced_again_is_coming_again(
    served, dock, reader, marked
):
    plan = await dock.announce(officer_id=marked, recording_id=marked, device_serial=marked)
    await served.sql("UPDATE clips SET state = 'expired' WHERE clip_id = $1", UUID(plan["clip_id"]))
    expired = await listed(reader, officer=marked, state="expired")
    await dock.announce(officer_id=marked, recording_id=marked, device_serial=marked)

    assert expired == [plan["clip_id"]]
    assert await listed(reader, officer=marked, state="expired") == []
    assert await listed(reader, officer=marked, state="receiving") == [plan["clip_id"]]


# --- orders ------------------------------------------------------------------------------


async def test_a_list_by_recording_goes_by_the_time_of_recording(dock, reader, marked):
    late, early = [
        (await dock.announce(officer_id=marked, started_at=f"2026-11-20T{hour}:00:00Z"))["clip_id"]
        for hour in ("12", "10")
    ]

    assert await listed(reader, officer=marked) == [early, late]
    assert await listed(reader, officer=marked, recorded_after="2026-11-20T09:00:00Z") == [
        late,
        early,
    ]


async def test_a_list_by_erasure_begins_with_the_soonest(served, dock, reader, marked):
    later, sooner = [(await dock.announce(officer_id=marked))["clip_id"] for _ in range(2)]
    now = datetime.now(UTC)
    for clip_id, days in ((later, 2), (sooner, 1)):
        await served.sql(
            "UPDATE clips SET erase_due_at = $2 WHERE clip_id = $1",
            UUID(clip_id),
            now + timedelta(days=days),
        )

    due = (now + timedelta(days=3)).isoformat()
    assert await listed(reader, officer=marked, erase_due_before=due) == [sooner, later]


# --- cursors -----------------------------------------------------------------------------


async def page_of(client, **query):
    response = await client.get("/v1/clips", params=query)
    assert response.status_code == 200, response.text
    body = response.json()
    return [clip["clip_id"] for clip in body["clips"]], body["next_cursor"], body["prev_cursor"]


@pytest.mark.parametrize("more", [{}, {"recorded_after": "2020-01-01T00:00:00Z"}])
async def test_pages_lead_forward_and_back(dock, reader, marked, more):
    ids = [
        (await dock.announce(officer_id=marked, started_at=f"2026-11-20T10:0{n}:00Z"))["clip_id"]
        for n in range(5)
    ][::-1]
    query = {"officer": marked, "limit": 2, **more}

    first, after_first, before_first = await page_of(reader, **query)
    second, after_second, before_second = await page_of(reader, **query, cursor=after_first)
    third, after_third, before_third = await page_of(reader, **query, cursor=after_second)
    back, after_back, before_back = await page_of(reader, **query, cursor=before_third)
    start, after_start, before_start = await page_of(reader, **query, cursor=before_back)
    assert (first, second, third) == (ids[:2], ids[2:4], ids[4:])
    assert (back, start) == (second, first)
    assert (before_first, after_third, before_start) == (None, None, None)
    assert (await page_of(reader, **query, cursor=after_back))[0] == third
    assert (await page_of(reader, **query, cursor=after_start))[0] == second
    assert before_second is not None


@pytest.mark.parametrize(
    "other",
    [
        {"officer": "another"},
        {"state": "secured"},
        {"recorded_after": "2026-01-01T00:00:00Z"},
        {"officer": None},
    ],
    ids=repr,
)
async def test_a_cursor_of_another_list_is_refused(dock, reader, marked, other):
    for _ in range(2):
        await dock.announce(officer_id=marked)
    _, cursor, _ = await page_of(reader, officer=marked, limit=1)
    query = {"officer": marked, "cursor": cursor, **other}

    response = await reader.get(
        "/v1/clips", params={name: value for name, value in query.items() if value is not None}
    )
    assert_problem(response, 400, "invalid-cursor")


async def test_a_changed_cursor_is_refused_or_only_a_place(dock, reader, marked):
    for _ in range(2):
        await dock.announce(officer_id=marked)
    _, cursor, _ = await page_of(reader, officer=marked, limit=1)

    for index in range(0, len(cursor), 3):
        changed = cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
        response = await reader.get("/v1/clips", params={"officer": marked, "cursor": changed})
        assert response.status_code in {200, 400}


@pytest.mark.parametrize(
    "query",
    [
        {"clock": "raw"},
        {"clock": "corrected", "received_after": "2026-01-01T00:00:00Z"},
        {"recorded_after": "2026-01-02T00:00:00Z", "recorded_before": "2026-01-01T00:00:00Z"},
        {"received_after": "2026-01-01T00:00:00Z", "received_before": "2026-01-01T00:00:00Z"},
    ],
    ids=repr,
)
async def test_filters_that_contradict_each_other_are_refused(reader, query):
    for path in ("/v1/clips", "/v1/clips/export"):
        assert_problem(await reader.get(path, params=query), 422, "invalid-request")


# --- conditional -------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/clips?officer={mark}", "/v1/clips/{clip_id}", "/v1/stats"])
async def test_who_has_the_answer_is_told_so(dock, reader, marked, path):
    clip_id = (await dock.announce(officer_id=marked))["clip_id"]
    address = path.format(mark=marked, clip_id=clip_id)
    etag = (await reader.get(address)).headers["etag"]

    again = await reader.get(address, headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = await reader.get(address, headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


async def test_a_changed_clip_has_another_etag(served, dock, reader):
    clip_id = (await dock.announce())["clip_id"]
    etag = (await reader.get(f"/v1/clips/{clip_id}")).headers["etag"]
    async with served.client(served.token("assertions:write")) as custodian:
        await custodian.post(f"/v1/clips/{clip_id}/assertions", json={"fields": {"title": "t"}})

    again = await reader.get(f"/v1/clips/{clip_id}", headers={"If-None-Match": etag})
    assert again.status_code == 200
    assert again.headers["etag"] != etag
