"""tus creation-defer-length: lines C1 to C9 of the checklist, and D6."""

import httpx
import pytest

from tests.api.served import APPEND, PART_BYTES, TUS, assert_problem
from tests.fakes import MemoryVault

FOOTAGE = bytes(range(256)) * (PART_BYTES * 5 // 512)  # two parts and a half


async def open_unknown(dock, **headers):
    response = await dock.http.post(
        "/files", headers={**TUS, "Upload-Defer-Length": "1", **headers}
    )
    assert response.status_code == 201, response.text
    return httpx.URL(response.headers["location"]).path


async def stored(served, path) -> bytes:
    (row,) = await served.sql(
        "SELECT object_key FROM clips WHERE upload_id = $1", path.rsplit("/", 1)[1]
    )
    vault: MemoryVault = served.vault
    return vault.content(row["object_key"])


async def test_c01_deferred_lengths_are_served(stranger):
    response = await stranger.options("/files")

    assert "creation-defer-length" in response.headers["tus-extension"].split(",")


async def test_c02_an_upload_of_unknown_length_opens(dock):
    assert await dock.offset(await open_unknown(dock)) == 0


@pytest.mark.parametrize("value", ["0", "2", "true", "", "-1", "1 "[:1] + "1"])
async def test_c03_the_only_value_is_1(served, dock, value):
    async with served.nothing_changes():
        response = await dock.http.post("/files", headers={**TUS, "Upload-Defer-Length": value})

    assert_problem(response, 400, "invalid-header")


async def test_c04_head_says_that_the_length_is_unknown(dock):
    response = await dock.head(await open_unknown(dock))

    assert response.headers["upload-defer-length"] == "1"
    assert "upload-length" not in response.headers


async def test_c05_head_says_the_length_once_it_is_told(dock):
    path = await open_unknown(dock)
    await dock.append(path, 0, b"x", **{"Upload-Length": "10"})

    response = await dock.head(path)

    assert response.headers["upload-length"] == "10"
    assert "upload-defer-length" not in response.headers


async def test_c06_a_length_is_told_once(served, dock):
    path = await open_unknown(dock)
    await dock.append(path, 0, b"x", **{"Upload-Length": "10"})
    again = await dock.append(path, 1, b"y", **{"Upload-Length": "10"})
    async with served.nothing_changes():
        other = await dock.append(path, 2, b"z", **{"Upload-Length": "11"})

    assert again.status_code == 204
    assert_problem(other, 400, "inconsistent-length")


async def test_c07_a_length_below_the_offset_is_refused(served, dock):
    path = await open_unknown(dock)
    await dock.append(path, 0, b"12345")
    async with served.nothing_changes():
        response = await dock.append(path, 5, b"", **{"Upload-Length": "4"})

    assert_problem(response, 400, "inconsistent-length")


async def test_c07_a_length_beyond_the_limit_is_refused(served, dock):
    path = await open_unknown(dock)
    async with served.nothing_changes():
        response = await dock.append(path, 0, b"", **{"Upload-Length": str(10**12)})

    assert_problem(response, 413, "clip-too-large")


@pytest.mark.parametrize("length", [0, 1, PART_BYTES, PART_BYTES + 1, len(FOOTAGE)])
@pytest.mark.parametrize("is_told_late", [True, False])
async def test_c08_the_length_completes_the_upload(served, dock, length, is_told_late):
    data = FOOTAGE[:length]
    path = await open_unknown(dock)
    if is_told_late:
        await dock.append(path, 0, data[:7])
        await dock.append(path, len(data[:7]), data[7:])
        response = await dock.append(path, length, b"", **{"Upload-Length": str(length)})
    else:
        response = await dock.append(path, 0, data, **{"Upload-Length": str(length)})

    assert response.status_code == 204, response.text
    assert (await dock.head(path)).headers["upload-offset"] == str(length)
    assert await stored(served, path) == data


async def test_c09_more_than_the_limit_is_refused_while_the_length_is_unknown(served, dock):
    path = await open_unknown(dock)
    with served.changed(rules={"clip_bytes_max": 5}):
        response = await dock.append(path, 0, b"123456")

    assert_problem(response, 413, "clip-too-large")
    assert await dock.offset(path) == 0


async def test_c09_a_chunked_body_beyond_the_limit_is_cut_there(served, dock):
    async def body():
        yield b"123456"

    path = await open_unknown(dock)
    headers = {**APPEND, "Upload-Offset": "0"}
    with served.changed(rules={"clip_bytes_max": 5}):
        response = await dock.http.patch(path, content=body(), headers=headers)

    assert_problem(response, 413, "clip-too-large")
    assert await dock.offset(path) == 5


async def test_d06_bytes_may_come_with_an_unknown_length(dock):
    response = await dock.http.post(
        "/files", content=b"first", headers={**APPEND, "Upload-Defer-Length": "1"}
    )

    assert response.status_code == 201
    assert response.headers["upload-offset"] == "5"
