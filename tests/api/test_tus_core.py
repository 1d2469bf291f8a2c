"""tus 1.0.0, core protocol on /files: one test or more per line A1 to A35 of the checklist."""

import asyncio
import os
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from ingest_service.domain.read_back_lag import ReadBackLag
from tests.api.served import (
    APPEND,
    PART_BYTES,
    TUS,
    assert_problem,
    open_wire,
)
from tests.e2e.mortal_server import MortalPool

DATA = bytes(range(256)) * 8


def id_of(path: str) -> UUID:
    return UUID(path.rsplit("/", 1)[1])


async def content_of(served, path: str) -> bytes:
    """The stored bytes of a finished upload."""
    (row,) = await served.sql("SELECT object_key FROM clips WHERE upload_id = $1", id_of(path))
    return served.vault.content(row["object_key"])


def appending(dock, offset, **headers):
    return {**dock.authorization, **APPEND, "Upload-Offset": str(offset), **headers}


# --- A1 to A11: versions, OPTIONS, method override ---------------------------------------


async def test_a01_every_answer_carries_the_version(dock, stranger):
    path = await dock.open(10)
    answers = [
        await dock.create(10),
        await dock.create(-1),
        await dock.head(path),
        await dock.append(path, 0, b"12345"),
        await dock.append(path, 0, b"12345"),
        await dock.delete(path),
        await dock.head(f"/files/{uuid4()}"),
        await dock.http.get(path),
        await dock.http.put("/files"),
        await stranger.post("/files", headers=TUS),
    ]

    for response in answers:
        assert response.headers["tus-resumable"] == "1.0.0", response.status_code


@pytest.mark.parametrize("version", [None, "0.0.1", "1.0.1", "1.0", "", "1.0.0, 0.2.2"])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
async def test_a02_another_version_changes_nothing(served, dock, method, version):
    path = await dock.open(10)
    headers = {"Upload-Length": "10", **APPEND, "Upload-Offset": "0"}
    del headers["Tus-Resumable"]
    if version is not None:
        headers["Tus-Resumable"] = version

    async with served.nothing_changes():
        response = await dock.http.request(
            method, "/files" if method == "POST" else path, headers=headers, content=b"12345"
        )
    assert response.status_code == 412
    assert response.headers["tus-version"] == "1.0.0"
    if method != "HEAD":
        assert_problem(response, 412, "unsupported-protocol-version")


async def test_a03_a_412_names_the_served_versions(dock):
    response = await dock.http.post("/files", headers={"Upload-Length": "1"})

    assert response.headers["tus-version"] == "1.0.0"


async def test_a04_the_footage_is_not_read_here(dock):
    """Downloads are GET /v1/clips/{clip_id}/content, and custody events."""
    path = await dock.open(10)

    response = await dock.http.get(path)
    assert_problem(response, 405, "method-not-allowed")
    allowed = {name.strip() for name in response.headers["allow"].split(",")}
    assert allowed == {"DELETE", "HEAD", "OPTIONS", "PATCH"}


@pytest.mark.parametrize("path", ["/files", "/files/x"])
async def test_a05_options_names_the_version_without_a_token(stranger, path):
    response = await stranger.options(path)

    assert response.status_code == 204
    assert response.headers["tus-version"] == "1.0.0"


async def test_a06_options_ignores_the_version_of_the_request(stranger):
    assert (await stranger.options("/files", headers={"Tus-Resumable": "0.0.1"})).is_success


async def test_a07_options_names_extensions_and_the_largest_size(served, stranger):
    headers = (await stranger.options("/files")).headers

    assert set(headers["tus-extension"].split(",")) >= {
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
    }
    assert headers["tus-max-size"] == str(served.resources.rules.clip_bytes_max)


@pytest.mark.parametrize(
    ("extension", "header", "value"),
    [
        ("creation-defer-length", "Upload-Defer-Length", "1"),
        ("concatenation", "Upload-Concat", "partial"),
    ],
)
async def test_a08_an_extension_is_named_just_when_it_is_served(
    dock, stranger, extension, header, value
):
    named = (await stranger.options("/files")).headers["tus-extension"].split(",")
    length = {} if header == "Upload-Defer-Length" else {"Upload-Length": "10"}

    response = await dock.http.post("/files", headers={**TUS, **length, header: value})
    assert response.is_success is (extension in named)


async def test_a09_the_largest_size_is_a_number(stranger):
    assert (await stranger.options("/files")).headers["tus-max-size"].isdigit()


@pytest.mark.parametrize("actual", ["POST", "GET"])
async def test_a10_patch_by_override(dock, actual):
    path = await dock.open(10)
    headers = {**APPEND, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}

    response = await dock.http.request(actual, path, headers=headers, content=b"12345")
    assert (response.status_code, response.headers["upload-offset"]) == (204, "5")


async def test_a10_delete_by_override(dock):
    path = await dock.open(10)

    response = await dock.http.post(path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"})
    assert response.status_code == 204
    assert (await dock.head(path)).status_code == 410


@pytest.mark.parametrize("actual", ["POST", "GET"])
async def test_a10_head_by_override(dock, actual):
    path = await dock.open(10)

    response = await dock.http.request(
        actual, path, headers={**TUS, "X-HTTP-Method-Override": "HEAD"}
    )
    assert (response.status_code, response.headers["upload-offset"]) == (200, "0")
    assert response.content == b""


@pytest.mark.parametrize("actual", ["POST", "GET", "HEAD"])
async def test_a10_an_overridden_refusal_keeps_the_connection_in_step(dock, wire, actual):
    """Whoever sends GET waits for as many bytes as the answer says, whatever was overridden."""
    headers = {**dock.authorization, **TUS, "X-HTTP-Method-Override": "HEAD"}
    await wire.ask(actual, f"/files/{uuid4()}", headers)
    refused = await wire.answer(method=actual, within_s=3)

    await wire.ask("GET", "/livez", {})
    assert refused.status == 404
    assert refused.body == b""
    assert (await wire.answer(within_s=3)).body == b'{"status":"alive"}'


async def test_a10_head_overridden_to_something_with_a_body_keeps_in_step(dock, wire):
    headers = {**dock.authorization, **TUS, "X-HTTP-Method-Override": "DELETE"}
    await wire.ask("HEAD", f"/files/{uuid4()}", headers)
    refused = await wire.answer(method="HEAD", within_s=3)

    await wire.ask("GET", "/livez", {})
    assert refused.status == 404
    assert (await wire.answer(within_s=3)).body == b'{"status":"alive"}'


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "BREW", ""])
async def test_a10_only_known_methods_override(dock, method):
    path = await dock.open(10)

    response = await dock.http.post(path, headers={**TUS, "X-HTTP-Method-Override": method})
    assert_problem(response, 405, "method-not-allowed")


async def test_a11_the_override_comes_before_version_and_token(stranger):
    response = await stranger.post("/files", headers={"X-HTTP-Method-Override": "OPTIONS"})

    assert response.status_code == 204


# --- A12 to A17: HEAD --------------------------------------------------------------------


async def test_a12_head_tells_the_offset_at_the_start_on_the_way_and_at_the_end(dock):
    path = await dock.open(10)
    offsets = [await dock.offset(path)]
    for offset in (0, 5):
        await dock.append(path, offset, b"12345")
        offsets.append(await dock.offset(path))

    assert offsets == [0, 5, 10]


async def test_a12_head_is_one_row_read(served, dock):
    path = await dock.open(10)
    await dock.head(path)
    steps = []
    with served.changed(pool=MortalPool(served.resources.pool, steps.append)):
        await dock.head(path)

    assert steps == ["before FIND_UPLOAD", "after FIND_UPLOAD"]


async def test_a13_head_tells_the_length(dock):
    assert (await dock.head(await dock.open(10))).headers["upload-length"] == "10"


async def test_a14_head_is_a_200_without_a_body(dock):
    response = await dock.head(await dock.open(10))

    assert (response.status_code, response.content) == (200, b"")


async def test_a15_head_is_not_to_be_cached(dock):
    assert (await dock.head(await dock.open(10))).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "name", ["0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e", "x", "%00", "0" * 32 + "0", "..%2fx"]
)
async def test_a16_an_unknown_upload_has_no_offset(dock, name):
    response = await dock.head(f"/files/{name}")

    assert response.status_code == 404
    assert "upload-offset" not in response.headers


async def test_a17_head_of_a_clip_that_is_being_finished_is_423(served, dock):
    """Neither 429 nor 5xx: tus-js-client would start again from the first byte."""
    path = await dock.open(2 * PART_BYTES)
    served.vault.fail_next("complete_multipart", "lost")
    with served.changed(rules={"finish_wait_s": 0.1}):
        response = await dock.append(path, 0, b"x" * 2 * PART_BYTES)
    head = await dock.head(path)

    assert response.status_code == 423
    assert (head.status_code, head.headers["retry-after"]) == (423, "1")
    assert "upload-offset" not in head.headers


# --- A18 to A23, A26 to A28: PATCH and its headers ---------------------------------------


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/octet-stream", "application/offset"]
)
async def test_a18_another_content_type_is_refused(served, dock, content_type):
    path = await dock.open(10)

    async with served.nothing_changes():
        response = await dock.append(path, 0, b"12345", **{"Content-Type": content_type})
    assert_problem(response, 415, "unsupported-content-type")


async def test_a18_parameters_of_the_content_type_are_forgiven(dock):
    path = await dock.open(10)

    response = await dock.append(
        path, 0, b"12345", **{"Content-Type": "Application/Offset+Octet-Stream; charset=utf-8"}
    )
    assert response.status_code == 204


@pytest.mark.parametrize("offset", [0, 4, 6, 10, 11, 10**17])
async def test_a19_another_offset_is_refused_with_the_right_one(served, dock, offset):
    path = await dock.open(10)
    await dock.append(path, 0, b"12345")

    async with served.nothing_changes():
        response = await dock.append(path, offset, b"x")
    problem = assert_problem(response, 409, "offset-mismatch")
    assert (problem["expected_offset"], problem["provided_offset"]) == (5, offset)
    assert problem["action"] == "fix"


@pytest.mark.parametrize(
    "offset", [None, "", "-1", "+1", "1.0", "abc", "0x0", "1 2", "٣".encode(), 2**63, "9" * 400]
)
async def test_a20_a_malformed_offset_is_refused(served, dock, offset):
    path = await dock.open(10)
    headers = dict(APPEND)
    if offset is not None:
        headers["Upload-Offset"] = offset if isinstance(offset, bytes) else str(offset)

    async with served.nothing_changes():
        response = await dock.http.patch(path, content=b"12345", headers=headers)
    assert_problem(response, 400, "invalid-header")


async def test_a21_success_is_204_with_the_new_offset(dock):
    path = await dock.open(10)
    first = await dock.append(path, 0, b"123")
    second = await dock.append(path, 3, b"4567")

    assert [first.status_code, second.status_code] == [204, 204]
    assert [first.headers["upload-offset"], second.headers["upload-offset"]] == ["3", "7"]
    assert first.content == b""


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a22_only_durable_bytes_are_counted(served, dock, failure):
    path = await dock.open(10)
    served.vault.fail_next("put_object", failure)

    response = await dock.append(path, 0, b"12345")
    assert (response.status_code, response.json()["action"]) == (503, "retry")
    assert await dock.offset(path) == 0
    assert (await dock.append(path, 0, b"0123456789")).status_code == 204
    assert await content_of(served, path) == b"0123456789"


async def test_a23_an_unknown_upload_takes_nothing(served, dock):
    async with served.nothing_changes():
        response = await dock.append(f"/files/{uuid4()}", 0, b"12345")

    assert_problem(response, 404, "upload-not-found")


async def test_bytes_of_many_appends_are_the_clip(served, dock):
    data = os.urandom(3 * PART_BYTES + 777)
    path = await dock.open(len(data))
    offset = 0
    for length in (1, 10, 1000, PART_BYTES - 1011, 5, PART_BYTES, PART_BYTES + 700, 72):
        response = await dock.append(path, offset, data[offset : offset + length])
        assert response.status_code == 204, response.text
        offset += length

    assert offset == len(data)
    assert await content_of(served, path) == data


# --- A24, A25: what a cut leaves ---------------------------------------------------------


@pytest.mark.parametrize("sent_bytes", [1, 5000, PART_BYTES, 2 * PART_BYTES + 17])
async def test_a24_a_cut_keeps_the_received_prefix(served, dock, sent_bytes):
    data = os.urandom(3 * PART_BYTES)
    path = await dock.open(len(data))
    async with open_wire(served) as wire:
        await wire.ask("PATCH", path, appending(dock, 0, **{"Content-Length": str(len(data))}))
        await served.leased(path)
        await wire.send(data[:sent_bytes])
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.1)

    offset = await dock.offset(path)
    assert 0 < offset <= sent_bytes
    assert (await dock.append(path, offset, data[offset:])).status_code == 204
    assert await content_of(served, path) == data


async def test_a25_a_body_that_stalls_is_cut_and_its_prefix_kept(served, dock, wire):
    path = await dock.open(1000)
    with served.changed(rules={"body_stall_timeout_s": 0.3}):
        await wire.ask("PATCH", path, appending(dock, 0, **{"Content-Length": "1000"}), b"12345")
        answer = await wire.answer(within_s=5)

    assert (answer.status, answer.problem) == (408, "body-stalled")
    assert await dock.offset(path) == 5


# --- A26 to A29: lengths -----------------------------------------------------------------


@pytest.mark.parametrize(("bytes_s_min", "is_cut"), [(0, False), (10_000, True)])
async def test_a25_a_body_that_trickles_is_cut_and_its_prefix_kept(
    served, dock, wire, bytes_s_min, is_cut
):
    path = await dock.open(1000)
    headers = {**APPEND, **dock.authorization, "Upload-Offset": "0", "Content-Length": "1000"}
    with served.changed(rules={"body_stall_timeout_s": 0.3, "body_bytes_s_min": bytes_s_min}):
        await wire.ask("PATCH", path, headers)
        # Never silent for long, and never done.
        for _ in range(10):
            await wire.send(b"x" * 100)
            await asyncio.sleep(0.1)
            if wire.reader._buffer:
                break
        answer = await wire.answer()

    assert answer.status == (408 if is_cut else 204)
    assert (0 < await dock.offset(path) < 1000) is is_cut


async def test_a26_more_than_the_length_is_refused_before_it_is_read(served, dock):
    path = await dock.open(10)
    await dock.append(path, 0, b"12345")

    async with served.nothing_changes():
        response = await dock.append(path, 5, b"123456")
    assert assert_problem(response, 413, "length-exceeded")["length_bytes"] == 10


@pytest.mark.parametrize("length_bytes", [10, PART_BYTES, 2 * PART_BYTES + 1])
async def test_a26_of_a_chunked_body_nothing_beyond_the_length_is_stored(
    served, dock, length_bytes
):
    data = os.urandom(length_bytes)
    path = await dock.open(length_bytes)

    async def blocks():
        yield data
        yield b"beyond"

    response = await dock.http.patch(
        path, content=blocks(), headers={**APPEND, "Upload-Offset": "0"}
    )
    assert_problem(response, 413, "length-exceeded")
    await asyncio.sleep(0.1)
    (row,) = await served.sql(
        "SELECT offset_bytes, state FROM uploads WHERE upload_id = $1", id_of(path)
    )
    assert row["offset_bytes"] <= length_bytes
    if row["state"] != "open":
        assert await content_of(served, path) in {None, data}


async def test_a27_an_empty_append_moves_nothing(dock):
    path = await dock.open(10)
    await dock.append(path, 0, b"12345")

    response = await dock.append(path, 5, b"")
    assert (response.status_code, response.headers["upload-offset"]) == (204, "5")


async def test_a28_an_empty_append_at_the_end_is_a_repeat(served, dock):
    path = await dock.open(10)
    await dock.append(path, 0, b"0123456789")

    async with served.nothing_changes():
        response = await dock.append(path, 10, b"")
    assert (response.status_code, response.headers["upload-offset"]) == (204, "10")


async def test_a28_an_empty_append_at_the_end_drives_the_finishing_on(served, dock):
    data = os.urandom(2 * PART_BYTES)
    path = await dock.open(len(data))
    served.vault.fail_next("complete_multipart", "lost")
    with served.changed(rules={"finish_wait_s": 0.1}):
        assert (await dock.append(path, 0, data)).status_code == 423
    await served.sql("UPDATE uploads SET finish_after = now() WHERE upload_id = $1", id_of(path))

    response = await dock.append(path, len(data), b"")
    assert (response.status_code, response.headers["upload-offset"]) == (204, str(len(data)))
    assert await content_of(served, path) == data


async def test_a28_more_bytes_for_a_complete_upload_are_refused(served, dock):
    path = await dock.open(10)
    await dock.append(path, 0, b"0123456789")

    async with served.nothing_changes():
        beyond = await dock.append(path, 10, b"x")
        again = await dock.append(path, 0, b"0123456789")
    assert_problem(beyond, 413, "length-exceeded")
    assert_problem(again, 409, "offset-mismatch")


@pytest.mark.parametrize("length_bytes", [10, PART_BYTES, 3 * PART_BYTES + 5])
async def test_a29_chunked_coding_works(served, dock, length_bytes):
    data = os.urandom(length_bytes)
    path = await dock.open(length_bytes)

    async def blocks():
        for start in range(0, len(data), 20_000):
            yield data[start : start + 20_000]

    response = await dock.http.patch(
        path, content=blocks(), headers={**APPEND, "Upload-Offset": "0"}
    )
    assert (response.status_code, response.headers["upload-offset"]) == (204, str(length_bytes))
    assert await content_of(served, path) == data


# --- A30, A31: answers before the body ---------------------------------------------------


async def test_a30_expect_is_answered_after_the_headers_were_checked(dock, wire):
    path = await dock.open(10)
    headers = appending(dock, 0, **{"Content-Length": "5", "Expect": "100-continue"})
    await wire.ask("PATCH", path, headers)
    first = await wire.answer()
    await wire.send(b"12345")

    assert first.status == 100
    assert (await wire.answer()).headers["upload-offset"] == "5"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Upload-Offset": "3"}, 409),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": "11"}, 413),
        ({"Tus-Resumable": "0.1"}, 412),
        ({"Authorization": "Bearer nonsense"}, 401),
        ({"Upload-Offset": "x"}, 400),
    ],
)
async def test_a30_a_refusal_comes_instead_of_100(dock, wire, change, status):
    path = await dock.open(10)
    headers = appending(dock, 0, **{"Content-Length": "5", "Expect": "100-continue"})
    await wire.ask("PATCH", path, headers | change)

    answer = await wire.answer()
    assert answer.status == status
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Upload-Offset": "3"}, 409),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Length": "300000"}, 413),
    ],
)
async def test_a31_an_early_refusal_leaves_the_connection_in_step(dock, wire, change, status):
    path = await dock.open(200_000)
    headers = appending(dock, 0, **{"Content-Length": "200000"}) | change
    length_bytes = int(headers["Content-Length"])
    await wire.ask("PATCH", path, headers, b"x" * 1000)
    early = await wire.answer()

    await wire.send(b"x" * (length_bytes - 1000))
    await wire.ask("HEAD", path, {**dock.authorization, **TUS})
    assert early.status == status
    assert (await wire.answer(method="HEAD")).headers["upload-offset"] == "0"


# --- A32 to A34: more than one writer ----------------------------------------------------


async def test_a32_of_two_appends_at_one_offset_one_wins(served, dock):
    for _ in range(5):
        path = await dock.open(40_000)
        contents = [b"a" * 20_000, b"b" * 20_000]
        answers = await asyncio.gather(*(dock.append(path, 0, content) for content in contents))
        codes = [answer.status_code for answer in answers]
        assert codes.count(204) <= 1
        assert set(codes) <= {204, 409, 423}

        offset = await dock.offset(path)
        await dock.append(path, offset, b"c" * (40_000 - offset))
        stored = await content_of(served, path)
        prefix = stored[:offset]
        assert prefix in {b"a" * offset, b"b" * offset}


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_a33_a_stale_append_is_interrupted(dock, served, wire, method):
    path = await dock.open(100)
    await wire.ask("PATCH", path, appending(dock, 0, **{"Content-Length": "100"}), b"12345")
    await served.leased(path)

    async with asyncio.timeout(2):
        if method == "HEAD":
            offset = await dock.offset(path)
            response = await dock.append(path, offset, b"x" * (100 - offset))
        elif method == "PATCH":
            response = await dock.append(path, 5, b"x" * 95)
        else:
            response = await dock.delete(path)
    assert response.status_code == 204
    stale = await wire.answer()
    assert (stale.status, stale.problem) == (409, "taken-over")


async def test_a34_a_writer_that_was_fenced_off_changes_nothing(served, dock, wire):
    """It does not notice that it was interrupted, and wakes up after the take-over."""
    path = await dock.open(10)
    await wire.ask("PATCH", path, appending(dock, 0, **{"Content-Length": "10"}), b"zzzzz")
    await served.leased(path)
    zombie = served.resources.holders.bodies.pop(id_of(path))
    with served.changed(rules={"take_over_wait_s": 0.1}):
        taken = await dock.append(path, 0, b"aaaaa")

    await wire.send(b"zzzzz")
    late = await wire.answer()
    assert zombie is not None
    assert taken.status_code == 204
    assert (late.status, late.problem) == (409, "taken-over")
    await dock.append(path, 5, b"aaaaa")
    assert await content_of(served, path) == b"aaaaaaaaaa"


# --- A35, and who may --------------------------------------------------------------------


async def test_a35_refusals_of_head_have_no_body(dock, stranger, wire):
    path = await dock.open(10)
    for headers in (
        {**dock.authorization},
        {**TUS},
        {**dock.authorization, **TUS},
    ):
        asked = path if "Tus-Resumable" not in headers or len(headers) == 1 else "/files/x"
        await wire.ask("HEAD", asked, headers)
        assert (await wire.answer(method="HEAD")).status in {401, 404, 412}
    await wire.ask("GET", "/livez", {})

    assert (await wire.answer()).body == b'{"status":"alive"}'


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_another_stations_upload_does_not_exist_and_is_not_disturbed(
    served, dock, other_dock, wire, method
):
    path = await dock.open(100)
    await wire.ask("PATCH", path, appending(dock, 0, **{"Content-Length": "100"}), b"12345")
    await served.leased(path)

    headers = {**APPEND, "Upload-Offset": "0"}
    response = await other_dock.http.request(method, path, headers=headers, content=b"intruder")
    assert response.status_code == 404
    await wire.send(b"x" * 95)
    assert (await wire.answer()).status == 204
    assert await content_of(served, path) == b"12345" + b"x" * 95


async def test_a_service_may_not_upload(served):
    async with served.client(served.token("upload", "clips:read")) as service:
        response = await service.post("/files", headers={**TUS, "Upload-Length": "1"})

    assert_problem(response, 403, "forbidden")


# --- the receipt of what was sent by tus --------------------------------------------------


@pytest.mark.parametrize(("lag_s", "told"), [(0, None), (20, "25")])
async def test_the_last_bytes_are_answered_with_the_time_to_ask_for_the_receipt(
    served, dock, lag_s, told
):
    lag = ReadBackLag(chance=lambda: 0.0)
    for _ in range(100):
        lag.note_secured(timedelta(seconds=lag_s), since=timedelta(0))
    path = await dock.open(len(DATA))

    with served.changed(lag=lag):
        first = await dock.append(path, 0, DATA[:100])
        last = await dock.append(path, 100, DATA[100:])

    assert "ingest-receipt-after" not in first.headers
    assert last.headers.get("ingest-receipt-after") == told
