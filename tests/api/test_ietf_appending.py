"""IETF resumable uploads: lines N, O, P and R of the checklist, and K8 and K9."""

import asyncio

import httpx
import pytest

from tests.api.ietf import append, create, head
from tests.api.served import PART_BYTES, TUS, assert_problem

FOOTAGE = bytes(range(256)) * (PART_BYTES * 5 // 512)
TYPES = "https://iana.org/assignments/http-problem-types#"


@pytest.fixture
async def location(dock) -> str:
    """An upload with five bytes of ten."""
    response = await create(dock, b"01234", complete=False, **{"Upload-Length": "10"})
    return response.headers["location"]


async def content(served, location) -> bytes | None:
    upload_id = location.rsplit("/", 1)[1]
    (row,) = await served.sql("SELECT object_key FROM clips WHERE upload_id = $1", upload_id)
    return served.vault.content(row["object_key"])


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_k09_only_durable_bytes_are_told(served, dock, location, failure):
    served.vault.fail_next("put_object", failure)
    failed = await append(dock, location, 5, b"567", complete=False)

    assert failed.status_code == 503
    assert (await head(dock, location)).headers["upload-offset"] == "5"


async def test_k08_the_offset_never_goes_back(served, dock, location):
    await append(dock, location, 5, b"56", complete=False)
    await append(dock, location, 0, b"other", complete=False)

    assert (await head(dock, location)).headers["upload-offset"] == "7"


async def test_n01_the_offset_is_told(dock, location):
    response = await head(dock, location)

    assert response.status_code == 204
    assert response.headers["upload-offset"] == "5"


async def test_n02_it_is_told_whether_the_upload_is_complete(dock, location):
    before = await head(dock, location)
    await append(dock, location, 5, b"56789", complete=True)
    after = await head(dock, location)

    assert [each.headers["upload-complete"] for each in (before, after)] == ["?0", "?1"]


async def test_n03_the_length_is_told(dock, location):
    assert (await head(dock, location)).headers["upload-length"] == "10"


async def test_n04_the_limits_are_told(dock, location):
    assert "upload-limit" in (await head(dock, location)).headers


async def test_n05_the_answer_is_not_to_be_cached(dock, location):
    assert (await head(dock, location)).headers["cache-control"] == "no-store"


async def test_n06_nobody_is_sent_elsewhere(dock, location):
    assert (await head(dock, f"{location}/")).status_code == 404


async def test_n07_the_offset_is_final_while_an_append_runs(served, dock, wire):
    location = (await create(dock, b"", complete=False)).headers["location"]
    path = httpx.URL(location).path
    headers = {
        **dock.authorization,
        "Upload-Complete": "?0",
        "Upload-Offset": "0",
        "Content-Type": "application/partial-upload",
        "Content-Length": str(len(FOOTAGE)),
    }
    await wire.ask("PATCH", path, headers, FOOTAGE[: PART_BYTES + 100])
    await served.leased(path)
    offset = int((await head(dock, location)).headers["upload-offset"])
    response = await append(dock, location, offset, FOOTAGE[offset:], complete=True)

    assert response.status_code == 204
    assert await content(served, location) == FOOTAGE


@pytest.mark.parametrize("name", ["01a3c0de-0000-7000-8000-000000000000", "nonsense"])
async def test_n09_an_unknown_upload_has_no_offset(dock, name):
    headers = {"Upload-Draft-Interop-Version": "9"}
    response = await dock.http.head(f"/files/{name}", headers=headers)

    assert response.status_code == 404
    assert "upload-offset" not in response.headers


@pytest.mark.parametrize("name", ["Upload-Offset", "Upload-Complete"])
async def test_n10_a_question_says_nothing(dock, location, name):
    response = await head(dock, location, **{name: "?0"})

    assert response.status_code == 400


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/offset+octet-stream"])
async def test_o01_the_media_type_is_needed(served, dock, location, kind):
    async with served.nothing_changes():
        response = await append(dock, location, 5, b"5", complete=False, **{"Content-Type": kind})

    assert_problem(response, 415, "unsupported-content-type")


@pytest.mark.parametrize("version", ["3", "5"])
async def test_o01_older_drafts_had_none(dock, version):
    field = "Upload-Incomplete" if version == "3" else "Upload-Complete"
    named = {"Upload-Draft-Interop-Version": version}
    more, last = ("?1", "?0") if version == "3" else ("?0", "?1")
    created = await dock.http.post("/files", headers={field: more, **named}, content=b"01")
    location = created.headers["location"]
    middle = {field: more, "Upload-Offset": "2", **named}
    appended = await dock.http.patch(location, headers=middle, content=b"23")
    end = {field: last, "Upload-Offset": "4", **named}
    completed = await dock.http.patch(location, headers=end, content=b"45")
    state = await head(dock, location, **named)

    assert created.headers[field.lower()] == more
    assert (appended.status_code, appended.headers[field.lower()]) == (201, more)
    assert (completed.status_code, completed.headers[field.lower()]) == (204, last)
    assert (state.headers["upload-offset"], state.headers[field.lower()]) == ("6", last)


@pytest.mark.parametrize("offset", ["", "abc", "-1", "1.0", "5, 5"])
async def test_o02_an_offset_is_needed(served, dock, location, offset):
    async with served.nothing_changes():
        response = await append(dock, location, offset, b"5", complete=False)

    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize("value", ["", "1", "true"])
async def test_o03_completeness_is_needed(served, dock, location, value):
    async with served.nothing_changes():
        response = await append(
            dock, location, 5, b"5", complete=False, **{"Upload-Complete": value}
        )

    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize("offset", [0, 4, 6, 100])
async def test_o04_another_offset_is_refused_with_the_right_one(served, dock, location, offset):
    async with served.nothing_changes():
        response = await append(dock, location, offset, b"5", complete=False)

    assert response.status_code == 409
    assert response.headers["upload-complete"] == "?0"
    assert response.headers["upload-offset"] == "5"


async def test_r01_a_mismatching_offset_has_a_name(dock, location):
    body = (await append(dock, location, 4, b"5", complete=False)).json()

    assert body["type"] == f"{TYPES}mismatching-upload-offset"
    assert (body["expected-offset"], body["provided-offset"]) == (5, 4)


async def test_r02_an_inconsistent_length_has_a_name(dock, location):
    response = await append(dock, location, 5, b"5", complete=True)

    assert response.status_code == 400
    assert response.json()["type"] == f"{TYPES}inconsistent-upload-length"


@pytest.mark.parametrize("version", ["6", "8"])
async def test_r03_older_drafts_name_a_completed_upload(dock, location, version):
    await append(dock, location, 5, b"56789", complete=True)
    named = {"Upload-Draft-Interop-Version": version}
    response = await append(dock, location, 10, b"", complete=False, **named)

    assert response.status_code == 400
    assert response.json()["type"] == f"{TYPES}completed-upload"


async def test_o05_an_append_that_is_not_the_last_is_a_204(dock, location):
    response = await append(dock, location, 5, b"567", complete=False)

    assert response.status_code == 204
    assert response.headers["upload-complete"] == "?0"
    assert response.headers["upload-offset"] == "8"


async def test_o06_the_last_append_completes(served, dock, location):
    response = await append(dock, location, 5, b"56789", complete=True)

    assert response.headers["upload-complete"] == "?1"
    assert await content(served, location) == b"0123456789"


async def test_o07_an_empty_append_may_be_the_last(served, dock, location):
    await append(dock, location, 5, b"56789", complete=False)
    response = await append(dock, location, 10, b"", complete=True)

    assert response.headers["upload-complete"] == "?1"
    assert await content(served, location) == b"0123456789"


@pytest.mark.parametrize("is_chunked", [True, False])
@pytest.mark.parametrize("complete", [True, False])
async def test_o08_nothing_beyond_the_length_is_stored(dock, location, is_chunked, complete):
    response = await append(dock, location, 5, b"567890", complete=complete, is_chunked=is_chunked)

    assert response.status_code == 400
    assert response.headers["upload-complete"] == "?0"
    assert int((await head(dock, location)).headers["upload-offset"]) <= 10


async def test_o09_a_cut_keeps_the_prefix(served, dock, wire, location):
    path = httpx.URL(location).path
    headers = {
        **dock.authorization,
        "Upload-Complete": "?1",
        "Upload-Offset": "5",
        "Content-Type": "application/partial-upload",
        "Content-Length": "5",
    }
    await wire.ask("PATCH", path, headers, b"56")
    await served.leased(path)
    await wire.hang_up()
    state = await head(dock, location)

    assert (state.headers["upload-offset"], state.headers["upload-complete"]) == ("7", "?0")


async def test_o10_a_long_append_tells_its_progress(served, dock, wire):
    location = (await create(dock, b"", complete=False)).headers["location"]
    headers = {
        **dock.authorization,
        "Upload-Complete": "?0",
        "Upload-Offset": "0",
        "Upload-Draft-Interop-Version": "9",
        "Content-Type": "application/partial-upload",
        "Content-Length": str(len(FOOTAGE)),
    }
    await wire.ask("PATCH", httpx.URL(location).path, headers, FOOTAGE[:100])
    await asyncio.sleep(1.1)
    await wire.send(FOOTAGE[100:])
    interim = await wire.answer(method="HEAD")

    assert interim.status == 104
    assert interim.headers["upload-offset"] == str(PART_BYTES)
    assert "location" not in interim.headers


async def test_o11_the_last_append_may_be_repeated(dock, location):
    await append(dock, location, 5, b"56789", complete=True)
    again = await append(dock, location, 10, b"", complete=True)
    more = await append(dock, location, 10, b"x", complete=True)

    assert (again.status_code, again.headers["upload-complete"]) == (204, "?1")
    assert 400 <= more.status_code < 500
    assert more.headers["upload-complete"] == "?0"


async def test_p01_a_cancelled_upload_is_gone(dock, location):
    response = await dock.http.delete(location)
    state = await head(dock, location)

    assert response.status_code == 204
    assert state.status_code == 410
    assert "upload-offset" not in state.headers


async def test_p02_of_two_appends_at_one_offset_one_counts(served, dock, location):
    answers = await asyncio.gather(
        append(dock, location, 5, b"AAAAA", complete=True),
        append(dock, location, 5, b"BBBBB", complete=True),
    )

    assert sorted(answer.status_code == 204 for answer in answers) == [False, True]
    assert await content(served, location) in {b"01234AAAAA", b"01234BBBBB"}


async def test_p03_a_newcomer_does_not_wait_for_a_stale_append(served, dock, wire, location):
    path = httpx.URL(location).path
    headers = {
        **dock.authorization,
        "Upload-Complete": "?0",
        "Upload-Offset": "5",
        "Content-Type": "application/partial-upload",
        "Content-Length": "5",
    }
    await wire.ask("PATCH", path, headers, b"5")
    await served.leased(path)
    async with asyncio.timeout(2):
        response = await dock.http.delete(location)

    assert response.status_code == 204


async def test_p04_another_stations_upload_does_not_exist(dock, other_dock, location):
    assert (await head(other_dock, location)).status_code in {404, 412}
    assert (await append(other_dock, location, 5, b"5", complete=False)).status_code == 404


async def test_a02_an_upload_of_tus_still_asks_for_the_version(dock):
    path = await dock.open(5)

    assert (await dock.http.head(path)).status_code == 412
    assert (await dock.http.head(path, headers=TUS)).status_code == 200
