"""tus concatenation: lines H1 to H15 of the checklist."""

import asyncio

import httpx
import pytest

from ingest_service.actions.take_upload import JOINS_MAX
from tests.api.served import APPEND, PART_BYTES, TUS, assert_problem

FOOTAGE = bytes(range(256)) * (PART_BYTES * 5 // 512)


async def open_partial(dock, data: bytes | None = None, length: int | None = None) -> str:
    """Open a partial upload and fill it; returns its URL."""
    length = len(data or b"") if length is None else length
    headers = {**TUS, "Upload-Concat": "partial", "Upload-Length": str(length)}
    response = await dock.http.post("/files", headers=headers)
    assert response.status_code == 201, response.text
    url = response.headers["location"]
    if data:
        sent = await dock.append(httpx.URL(url).path, 0, data)
        assert sent.status_code == 204, sent.text
    return url


async def join(dock, *urls: str, **headers: str) -> httpx.Response:
    concat = f"final;{' '.join(urls)}"
    return await dock.http.post("/files", headers={**TUS, "Upload-Concat": concat, **headers})


async def content(served, response) -> bytes | None:
    upload_id = response.headers["location"].rsplit("/", 1)[1]
    (row,) = await served.sql("SELECT object_key FROM clips WHERE upload_id = $1", upload_id)
    return served.vault.content(row["object_key"])


async def test_h01_concatenation_is_served(stranger):
    response = await stranger.options("/files")

    assert "concatenation" in response.headers["tus-extension"].split(",")


async def test_h02_a_partial_says_that_it_is_one(dock):
    url = await open_partial(dock, length=10)
    await dock.append(httpx.URL(url).path, 0, b"123")

    response = await dock.head(httpx.URL(url).path)

    assert response.headers["upload-concat"] == "partial"
    assert response.headers["upload-offset"] == "3"
    assert response.headers["upload-length"] == "10"


async def test_h03_a_final_joins_its_partials(served, dock):
    urls = [await open_partial(dock, FOOTAGE), await open_partial(dock, b"second")]

    response = await join(dock, *urls)

    assert response.status_code == 201
    assert await content(served, response) == FOOTAGE + b"second"


async def test_h04_order_and_repetition_are_the_clients(served, dock):
    first, second = await open_partial(dock, b"first "), await open_partial(dock, b"second ")
    once = await join(dock, second, first, second)
    again = await join(dock, first, second)

    assert await content(served, once) == b"second first second "
    assert await content(served, again) == b"first second "


@pytest.mark.parametrize(
    "headers", [{"Upload-Length": "6"}, {"Upload-Defer-Length": "1"}, {"Upload-Length": "x"}]
)
async def test_h05_a_final_has_no_length_of_its_own(served, dock, headers):
    url = await open_partial(dock, b"first ")
    async with served.nothing_changes():
        response = await join(dock, url, **headers)

    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Upload-Offset": "x"}])
async def test_h06_a_final_takes_no_bytes(served, dock, headers):
    final = await join(dock, await open_partial(dock, b"first "))
    path = httpx.URL(final.headers["location"]).path
    async with served.nothing_changes():
        response = await dock.append(path, 6, b"more", **headers)

    assert_problem(response, 403, "append-to-final")


async def test_h07_a_final_says_what_it_was_joined_from(dock):
    first, second = await open_partial(dock, b"first "), await open_partial(dock, b"second")
    final = await join(dock, first, httpx.URL(second).path)

    response = await dock.head(httpx.URL(final.headers["location"]).path)

    assert response.headers["upload-concat"] == f"final;{first} {httpx.URL(second).path}"
    assert response.headers["upload-offset"] == response.headers["upload-length"] == "12"


@pytest.mark.parametrize("failing", ["read", "put_part", "complete_multipart"])
async def test_h07_a_final_that_is_not_joined_yet_has_no_offset(served, dock, failing):
    url = await open_partial(dock, FOOTAGE)
    served.vault.fail_next(failing, "lost")
    final = await join(dock, url)

    response = await dock.head(httpx.URL(final.headers["location"]).path)

    assert final.status_code == 201
    assert response.headers["upload-length"] == str(len(FOOTAGE))
    assert "upload-offset" not in response.headers


async def test_h08_urls_with_and_without_a_host_are_taken(served, dock):
    url = await open_partial(dock, b"first ")

    response = await join(dock, url, httpx.URL(url).path)

    assert await content(served, response) == b"first first "


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.test/files/01a3c0de-0000-7000-8000-000000000000",
        "/files/01a3c0de-0000-7000-8000-000000000000",
        "/files/nonsense",
        "/other/01a3c0de-0000-7000-8000-000000000000",
        "01a3c0de-0000-7000-8000-000000000000",
        "http://[",
    ],
)
async def test_h08_what_is_no_upload_of_this_service_is_refused(served, dock, url):
    first = await open_partial(dock, b"first ")
    async with served.nothing_changes():
        response = await join(dock, first, url)

    assert response.status_code == 400


async def test_h08_only_partials_of_the_same_station_are_joined(served, dock, other_dock):
    whole = await dock.open(5)
    theirs = await open_partial(other_dock, b"theirs")
    async with served.nothing_changes():
        refused = [await join(dock, whole), await join(dock, theirs)]

    for response in refused:
        assert_problem(response, 400, "partial-unusable")


async def test_h09_the_finals_metadata_is_its_own(served, dock, reader):
    headers = {**TUS, "Upload-Concat": "partial", "Upload-Length": "0"}
    headers["Upload-Metadata"] = "title cGFydGlhbA=="
    partial = await dock.http.post("/files", headers=headers)
    final = await join(dock, partial.headers["location"], **{"Upload-Metadata": "title ZmluYWw="})
    head = await dock.head(httpx.URL(final.headers["location"]).path)
    (clip,) = await served.sql(
        "SELECT title FROM clips WHERE upload_id = $1", final.headers["location"].rsplit("/", 1)[1]
    )

    assert head.headers["upload-metadata"] == "title ZmluYWw="
    assert clip["title"] == "final"


async def test_h10_an_unfinished_partial_is_refused(served, dock):
    url = await open_partial(dock, length=10)
    async with served.nothing_changes():
        response = await join(dock, url)

    assert_problem(response, 400, "partial-unusable")


@pytest.mark.parametrize("value", ["final;", "final", "whole", "", "partial;x", "Final;/"])
async def test_h11_a_malformed_field_is_refused(served, dock, value):
    headers = {**TUS, "Upload-Concat": value, "Upload-Length": "1"}
    async with served.nothing_changes():
        response = await dock.http.post("/files", headers=headers)

    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize(
    "lengths",
    [[0], [0, 0], [1], [1, 0, 1], [1, PART_BYTES, 1], [PART_BYTES] * 2, [PART_BYTES + 1] * 3],
)
async def test_h12_partials_of_every_length_are_joined(served, dock, lengths):
    pieces = [FOOTAGE[index : index + length] for index, length in enumerate(lengths)]
    final = await join(dock, *[await open_partial(dock, piece) for piece in pieces])

    assert await content(served, final) == b"".join(pieces)


async def test_h13_a_partial_is_no_clip(served, dock):
    before = await served.sql("SELECT count(*) FROM clips")
    await open_partial(dock, FOOTAGE)

    assert await served.sql("SELECT count(*) FROM clips") == before


async def test_h14_partials_may_go_once_they_are_joined(served, dock):
    url = await open_partial(dock, FOOTAGE)
    final = await join(dock, url)
    gone = await dock.delete(httpx.URL(url).path)

    assert gone.status_code == 204
    assert await content(served, final) == FOOTAGE
    assert (await dock.head(httpx.URL(url).path)).status_code == 410
    assert not [key for key in list(served.vault.keys()) if url.rsplit("/", 1)[1] in key]


async def test_h14_a_partial_stays_while_it_is_joined(served, dock):
    url = await open_partial(dock, FOOTAGE)
    served.vault.fail_next("read", "lost")
    await join(dock, url)

    response = await dock.delete(httpx.URL(url).path)

    assert_problem(response, 423, "upload-busy")


async def test_h15_the_same_final_again_is_the_same_upload(served, dock):
    url = await open_partial(dock, b"first ")
    first = await join(dock, url)
    async with served.nothing_changes():
        second = await join(dock, url)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.headers["location"] == second.headers["location"]
    assert await content(served, second) == b"first "


async def test_h15_of_the_same_final_twice_at_once_there_is_one(served, dock):
    url = await open_partial(dock, b"first ")
    answers = await asyncio.gather(*(join(dock, url) for _ in range(5)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.headers["location"] for answer in answers}) == 1


async def test_h15_a_final_of_other_metadata_is_another_clip(served, dock):
    url = await open_partial(dock, b"first ")
    first = await join(dock, url)
    second = await join(dock, url, **{"Upload-Metadata": "device_serial QldDLTE="})

    assert first.headers["location"] != second.headers["location"]
    assert await content(served, first) == await content(served, second) == b"first "


async def test_more_joins_than_a_process_makes_at_once_wait_for_each_other(served, dock):
    url = await open_partial(dock, b"first ")
    holders = served.resources.holders
    turns = [await served.call(holders.joins.acquire()) for _ in range(JOINS_MAX)]
    with served.changed(rules={"finish_wait_s": 0.2}):
        waiting = await join(dock, url)
        path = httpx.URL(waiting.headers["location"]).path
        state = await dock.head(path)
    for _ in turns:
        served.loop.call_soon_threadsafe(holders.joins.release)

    assert waiting.status_code == 201
    assert "upload-offset" not in state.headers
    async with asyncio.timeout(10):
        while "upload-offset" not in (await dock.head(path)).headers:  # noqa: ASYNC110 - a client
            await asyncio.sleep(0.05)
    assert await content(served, waiting) == b"first "


async def test_d08_a_final_has_no_bytes_of_its_own(served, dock):
    url = await open_partial(dock, b"first ")
    headers = {**APPEND, "Upload-Concat": f"final;{url}"}
    async with served.nothing_changes():
        response = await dock.http.post("/files", content=b"more", headers=headers)

    assert_problem(response, 400, "invalid-header")


async def test_a_partial_that_changed_in_the_store_makes_no_clip(served, dock):
    """The join reads partials back: what it reads is not by itself what was received."""
    before = set(served.vault.keys())
    url = await open_partial(dock, b"what the camera recorded")
    (stored,) = set(served.vault.keys()) - before
    served.vault.tamper(stored, b"what somebody else wrote")

    response = await join(dock, url)

    rows = await served.sql(
        "SELECT clips.state FROM clips JOIN uploads USING (upload_id) WHERE uploads.kind = 'final'"
        " ORDER BY clips.announced_at DESC LIMIT 1"
    )
    assert rows[0]["state"] == "quarantined"
    assert response.status_code in (201, 500)
