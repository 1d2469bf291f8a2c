"""GET /v1/clips/export and /v1/stats: all of a list, and how many there are."""

import csv
import io
import json
import secrets

import pytest

from ingest_service.actions import find_clips
from ingest_service.jobs.fold_counts import fold_counts
from tests.api.served import assert_problem


@pytest.fixture
def marked():
    return secrets.token_hex(8)


async def export(client, how=None, **query):
    headers = {} if how is None else {"Accept": how}
    response = await client.get("/v1/clips/export", params=query, headers=headers)
    assert response.status_code == 200, response.text
    return response


def read_lines(response):
    return [json.loads(line) for line in response.text.splitlines()]


def read_csv(response):
    return list(csv.DictReader(io.StringIO(response.text)))


async def test_an_export_has_every_clip_of_the_list(dock, reader, marked, monkeypatch):
    monkeypatch.setattr(find_clips, "_EXPORT_PAGE", 3)
    ids = [(await dock.announce(officer_id=marked))["clip_id"] for _ in range(7)][::-1]

    lines = read_lines(await export(reader, officer=marked))
    rows = read_csv(await export(reader, officer=marked, format="csv"))
    assert [line["clip_id"] for line in lines] == ids
    assert [row["clip_id"] for row in rows] == ids


async def test_a_line_is_the_clip_as_the_list_shows_it(dock, reader, marked):
    await dock.announce(officer_id=marked, title="słońce")

    listed = (await reader.get("/v1/clips", params={"officer": marked})).json()["clips"]
    assert read_lines(await export(reader, officer=marked)) == listed


@pytest.mark.parametrize(
    ("how", "query", "media_type"),
    [
        (None, {}, "application/jsonl"),
        ("text/csv", {}, "text/csv"),
        ("application/jsonl", {}, "application/jsonl"),
        ("text/csv", {"format": "jsonl"}, "application/jsonl"),
        (None, {"format": "csv"}, "text/csv"),
    ],
)
async def test_the_form_is_asked_for_by_name_or_by_accept(reader, marked, how, query, media_type):
    response = await export(reader, how, officer=marked, **query)

    assert response.headers["content-type"].startswith(media_type)
    assert response.headers["content-disposition"].startswith("attachment")


async def test_no_clip_is_a_header_alone(reader, marked):
    text = (await export(reader, officer=marked, format="csv")).text

    assert text.count("\n") == 1
    assert text.startswith("clip_id,state,")


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", '=HYPERLINK("x")'])
async def test_no_cell_of_a_csv_is_a_formula(dock, reader, marked, title):
    await dock.announce(officer_id=marked, title=title)

    [row] = read_csv(await export(reader, officer=marked, format="csv"))
    assert row["title"] == f"'{title}"


async def test_commas_quotes_and_lines_stay_in_their_cell(dock, reader, marked):
    title = 'a, "b"\nc'
    await dock.announce(officer_id=marked, title=title, clock_offset_ms=-420)

    [row] = read_csv(await export(reader, officer=marked, format="csv"))
    assert (row["title"], row["clock_offset_ms"]) == (title, "-420")


@pytest.mark.parametrize("query", [{"format": "xls"}, {"cursor": "x"}, {"limit": "1"}, {"x": "y"}])
async def test_an_export_that_cannot_be_made_is_refused(reader, query):
    assert_problem(await reader.get("/v1/clips/export", params=query), 422, "invalid-request")


async def test_an_export_keeps_to_the_boroughs_of_the_token(served, make_dock, marked):
    docks = [await make_dock(borough=f"{name}-{marked}") for name in "AB"]
    ids = [(await dock.announce(officer_id=marked))["clip_id"] for dock in docks]

    async with served.client(served.token("clips:read", boroughs=[f"A-{marked}"])) as limited:
        lines = read_lines(await export(limited, officer=marked))
    assert [line["clip_id"] for line in lines] == ids[:1]


# --- counts -------------------------------------------------------------------------------


async def stats(client, **query):
    response = await client.get("/v1/stats", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_counts_by_borough_and_state_are_exact_at_any_time(served, make_dock, reader, marked):
    dock = await make_dock(borough=marked)
    await dock.announce(10)
    for size in (20, 30):
        await dock.secure(b"x" * size, category="arrest")

    before = await stats(reader, borough=marked, by=["state", "category"])
    folded = await served.call(fold_counts(served.resources))
    after = await stats(reader, borough=marked, by=["state", "category"])
    assert folded > 0
    assert before == after
    assert [
        (each["state"], each["category"], each["clip_count"], each["total_bytes"])
        for each in after["counts"]
    ] == [("receiving", None, 1, 10), ("secured", "arrest", 2, 50)]
    assert (after["clip_count"], after["total_bytes"]) == (3, 60)


async def test_a_clip_that_changes_is_counted_once(served, make_dock, reader, marked):
    dock = await make_dock(borough=marked)
    clip_id = await dock.secure(b"x" * 20)
    async with served.client(served.token("assertions:write")) as custodian:
        for state in ("evidential", "non_evidential", "evidential"):
            body = {"fields": {"evidential_state": state, "category": state}}
            await custodian.post(f"/v1/clips/{clip_id}/assertions", json=body)

    counted = await stats(reader, borough=marked, by=["evidential_state", "category"])
    assert [
        (each["evidential_state"], each["category"], each["clip_count"])
        for each in counted["counts"]
    ] == [("evidential", "evidential", 1)]


async def test_counts_by_day(make_dock, reader, marked):
    dock = await make_dock(borough=marked)
    clip_id = await dock.secure(b"x")
    day = (await reader.get(f"/v1/clips/{clip_id}")).json()["announced_at"][:10]

    counted = await stats(reader, borough=marked, by="day")
    assert [(each["day"], each["clip_count"]) for each in counted["counts"]] == [(day, 1)]
    assert (await stats(reader, borough=marked, day_before=day))["clip_count"] == 0
    assert (await stats(reader, borough=marked, day_from=day))["clip_count"] == 1


async def test_counts_keep_to_the_boroughs_of_the_token(served, make_dock, marked):
    for name in "AB":
        await (await make_dock(borough=f"{name}-{marked}")).announce()

    async with served.client(served.token("clips:read", boroughs=[f"A-{marked}"])) as limited:
        counted = await stats(limited, by="borough")
        foreign = await stats(limited, borough=f"B-{marked}")
    assert [(each["borough"], each["clip_count"]) for each in counted["counts"]] == [
        (f"A-{marked}", 1)
    ]
    assert foreign["clip_count"] == 0


@pytest.mark.parametrize(
    "query",
    [
        {"by": "colour"},
        {"by": ["day"] * 6},
        {"day_from": "yesterday"},
        {"day_from": "2026-01-02", "day_before": "2026-01-01"},
        {"state": "lost"},
        {"colour": "red"},
    ],
    ids=repr,
)
async def test_counts_that_cannot_be_made_are_refused(reader, query):
    assert_problem(await reader.get("/v1/stats", params=query), 422, "invalid-request")
