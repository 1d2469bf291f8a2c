"""tus checksum and checksum-trailer: lines F1 to F11 of the checklist, and D7."""

import asyncio
import base64
import hashlib
import zlib

import httpx
import pytest

from tests.api.served import APPEND, PART_BYTES, TUS, assert_problem

FOOTAGE = bytes(range(256)) * (PART_BYTES * 5 // 512)
DIGESTS = {
    "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    return f"{algorithm} {base64.b64encode(DIGESTS[algorithm](data)).decode()}"


async def content(served, path) -> bytes | None:
    (row,) = await served.sql(
        "SELECT object_key FROM clips WHERE upload_id = $1", path.rsplit("/", 1)[1]
    )
    return served.vault.content(row["object_key"])


async def send_trailer(wire, dock, path, offset, data, *, trailer, fields):
    headers = {
        **APPEND,
        **dock.authorization,
        "Upload-Offset": str(offset),
        "Transfer-Encoding": "chunked",
    }
    if trailer:
        headers["Trailer"] = trailer
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(data), data, lines.encode())
    await wire.ask("PATCH", path, headers, body)
    return await wire.answer(method="PATCH")


async def test_f01_checksums_are_served(stranger):
    response = await stranger.options("/files")

    assert "checksum" in response.headers["tus-extension"].split(",")
    algorithms = response.headers["tus-checksum-algorithm"].split(",")
    assert algorithms == ["sha1", "sha256", "md5", "crc32"]


@pytest.mark.parametrize("algorithm", DIGESTS)
async def test_f02_a_right_checksum_is_accepted(served, dock, algorithm):
    path = await dock.open(len(FOOTAGE))

    response = await dock.append(
        path, 0, FOOTAGE, **{"Upload-Checksum": checksum(FOOTAGE, algorithm)}
    )

    assert response.status_code == 204
    assert await content(served, path) == FOOTAGE


@pytest.mark.parametrize("algorithm", DIGESTS)
@pytest.mark.parametrize("length", [1, PART_BYTES, len(FOOTAGE)])
async def test_f03_a_wrong_checksum_moves_nothing(dock, algorithm, length):
    path = await dock.open(len(FOOTAGE))
    await dock.append(path, 0, b"first")
    wrong = {"Upload-Checksum": checksum(b"other", algorithm)}

    response = await dock.append(path, 5, FOOTAGE[5 : 5 + length], **wrong)

    assert_problem(response, 460, "checksum-mismatch")
    assert await dock.offset(path) == 5


@pytest.mark.parametrize("value", ["sha3 AAAA", "blake2 AAAA", "none AAAA"])
async def test_f04_an_unknown_algorithm_is_refused_before_the_body(served, dock, wire, value):
    path = await dock.open(10)
    headers = {**APPEND, **dock.authorization, "Upload-Offset": "0", "Content-Length": "10"}
    async with served.nothing_changes():
        await wire.ask("PATCH", path, {**headers, "Upload-Checksum": value})
        answer = await wire.answer(method="PATCH")

    assert (answer.status, answer.problem) == (400, "unknown-digest-algorithm")


@pytest.mark.parametrize("value", ["sha1", "sha1 !!", "sha1 AAAA", "", "sha1 AAAA AAAA"])
async def test_f05_a_malformed_checksum_is_refused(served, dock, value):
    path = await dock.open(10)
    async with served.nothing_changes():
        response = await dock.append(path, 0, b"0123456789", **{"Upload-Checksum": value})

    assert_problem(response, 400, "invalid-header")


async def test_f06_a_checksum_is_that_of_its_request(served, dock):
    path = await dock.open(len(FOOTAGE))
    for start in range(0, len(FOOTAGE), 50_000):
        chunk = FOOTAGE[start : start + 50_000]
        response = await dock.append(path, start, chunk, **{"Upload-Checksum": checksum(chunk)})
        assert response.status_code == 204

    assert await content(served, path) == FOOTAGE


async def test_f07_a_cut_body_that_cannot_be_verified_does_not_count(served, dock, wire):
    path = await dock.open(len(FOOTAGE))
    headers = {
        **APPEND,
        **dock.authorization,
        "Upload-Offset": "0",
        "Content-Length": str(len(FOOTAGE)),
        "Upload-Checksum": checksum(FOOTAGE),
    }
    await wire.ask("PATCH", path, headers, FOOTAGE[: PART_BYTES + 100])
    await served.leased(path)
    await wire.hang_up()
    await asyncio.sleep(0.1)

    assert await dock.offset(path) == 0


@pytest.mark.parametrize("length", [100, len(FOOTAGE)])
async def test_f08_the_right_bytes_succeed_after_a_mismatch(served, dock, length):
    path = await dock.open(len(FOOTAGE))
    sum_of_first = {"Upload-Checksum": checksum(FOOTAGE[:length])}
    refused = await dock.append(path, 0, bytes(length), **sum_of_first)
    accepted = await dock.append(path, 0, FOOTAGE[:length], **sum_of_first)
    if length < len(FOOTAGE):
        await dock.append(path, length, FOOTAGE[length:])

    assert (refused.status_code, accepted.status_code) == (460, 204)
    assert await content(served, path) == FOOTAGE


async def test_f09_trailers_are_served(stranger):
    response = await stranger.options("/files")

    assert "checksum-trailer" in response.headers["tus-extension"].split(",")


@pytest.mark.parametrize("algorithm", DIGESTS)
async def test_f09_a_checksum_in_the_trailer_is_verified(dock, wire, algorithm):
    path = await dock.open(2 * len(FOOTAGE))
    right = {"Upload-Checksum": checksum(FOOTAGE, algorithm)}
    wrong = {"Upload-Checksum": checksum(b"other", algorithm)}
    first = await send_trailer(
        wire, dock, path, 0, FOOTAGE, trailer="Upload-Checksum", fields=right
    )
    second = await send_trailer(
        wire, dock, path, len(FOOTAGE), FOOTAGE, trailer="upload-checksum", fields=wrong
    )

    assert (first.status, second.status) == (204, 460)
    assert await dock.offset(path) == len(FOOTAGE)


@pytest.mark.parametrize("fields", [{}, {"Upload-Checksum": "sha1 !"}, {"X-Other": "1"}])
async def test_f10_an_announced_checksum_must_come(dock, wire, fields):
    path = await dock.open(100)

    answer = await send_trailer(
        wire, dock, path, 0, b"bytes", trailer="Upload-Checksum", fields=fields
    )

    assert (answer.status, answer.problem) == (400, "invalid-header")
    assert await dock.offset(path) == 0


async def test_f10_no_field_of_a_trailer_passes_for_a_header(dock, wire):
    path = await dock.open(100)
    smuggled = {"Upload-Offset": "7", "Authorization": "Bearer x", "Upload-Length": "3"}

    answer = await send_trailer(wire, dock, path, 0, b"bytes", trailer="", fields=smuggled)

    assert answer.status == 204
    assert await dock.offset(path) == 5


async def test_d07_a_checksum_on_creation_is_verified(served, dock):
    headers = {**APPEND, "Upload-Length": "5", "Upload-Checksum": checksum(b"other")}
    refused = await dock.http.post("/files", content=b"bytes", headers=headers)
    headers["Upload-Checksum"] = checksum(b"bytes")
    accepted = await dock.http.post("/files", content=b"bytes", headers=headers)

    assert_problem(refused, 460, "checksum-mismatch")
    assert accepted.status_code == 201
    assert await content(served, httpx.URL(accepted.headers["location"]).path) == b"bytes"


async def test_a_checked_body_is_counted_once_the_vault_has_all_of_it(served, dock):
    path = await dock.open(len(FOOTAGE))
    served.vault.fail_next("put_part", "stored")
    sums = {"Upload-Checksum": checksum(FOOTAGE)}
    failed = await dock.append(path, 0, FOOTAGE, **sums)
    offset = await dock.offset(path)
    again = await dock.append(path, offset, FOOTAGE, **sums)

    assert (failed.status_code, offset, again.status_code) == (503, 0, 204)
    assert await content(served, path) == FOOTAGE


async def test_options_without_a_token_still_tell(stranger):
    assert (await stranger.options("/files", headers=TUS)).status_code == 204
