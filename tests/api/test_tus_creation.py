"""tus creation and creation-with-upload: lines B1 to B15 and D1 to D8 of the checklist."""

import asyncio
import base64
import os
from uuid import UUID

import httpx
import pytest

from tests.api.served import (
    APPEND,
    CLIP_BYTES_MAX,
    PART_BYTES,
    TUS,
    assert_problem,
    open_wire,
)


def metadata(**pairs: str | bytes) -> str:
    encoded = {
        key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode()
        for key, value in pairs.items()
    }
    return ",".join(f"{key} {value}".strip() for key, value in encoded.items())


async def clip_of(served, reader, response_or_path) -> dict:
    path = response_or_path
    if isinstance(path, httpx.Response):
        path = httpx.URL(path.headers["location"]).path
    (row,) = await served.sql(
        "SELECT clip_id FROM clips WHERE upload_id = $1", UUID(path.rsplit("/", 1)[1])
    )
    return (await reader.get(f"/v1/clips/{row['clip_id']}")).json()


async def test_b01_creation_is_served(stranger):
    assert "creation" in (await stranger.options("/files")).headers["tus-extension"].split(",")


async def test_b02_a_new_upload_has_an_absolute_location(served, dock):
    response = await dock.create(10)

    assert response.status_code == 201
    assert response.headers["location"].startswith(f"{served.base_url}/files/")
    assert response.content == b""


async def test_b03_a_length_is_needed(served, dock):
    async with served.nothing_changes():
        response = await dock.http.post("/files", headers=TUS)

    assert_problem(response, 400, "invalid-header")


async def test_b04_both_a_length_and_none_are_refused(served, dock):
    async with served.nothing_changes():
        response = await dock.create(10, **{"Upload-Defer-Length": "1"})

    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize("length", ["-1", "abc", "1.5", "+3", "", str(10**30), "1,2", "0x10"])
async def test_b05_a_malformed_length_is_refused(served, dock, length):
    async with served.nothing_changes():
        response = await dock.http.post("/files", headers={**TUS, "Upload-Length": length})

    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize("length", [CLIP_BYTES_MAX + 1, 10**17])
async def test_b06_a_length_beyond_the_limit_is_refused(served, dock, length):
    async with served.nothing_changes():
        response = await dock.create(length)

    problem = assert_problem(response, 413, "clip-too-large")
    assert problem["size_bytes_max"] == CLIP_BYTES_MAX


async def test_b07_an_empty_upload_is_complete_at_once(served, dock, reader):
    response = await dock.create(0)

    head = await dock.head(httpx.URL(response.headers["location"]).path)
    clip = await clip_of(served, reader, response)
    assert response.status_code == 201
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("0", "0")
    assert clip["state"] == "sealed"
    assert served.vault.content(clip["object_key"]) == b""


async def test_b08_a_new_upload_starts_at_zero(dock):
    assert await dock.offset(await dock.open(10)) == 0


@pytest.mark.parametrize(
    "value",
    [
        "filename Y2xpcC5tcDQ=,filetype dmlkZW8vbXA0",
        "b Yg==,a YQ==",
        "alone",
        "key Yg==,is_confidential",
        "empty ,next Yg==",
        "x-z/!#$ Yg==",
    ],
)
async def test_b09_metadata_comes_back_as_it_was_sent(dock, value):
    head = await dock.head(await dock.open(10, value))

    assert head.headers["upload-metadata"].strip() == value.strip()


async def test_b09_metadata_of_our_names_describes_the_clip(served, dock, reader):
    path = await dock.open(
        10,
        metadata(
            device_serial="BWC-7",
            recording_id=f"rec-{os.urandom(4).hex()}",
            segment_no="3",
            officer_id="P1",
            started_at="2026-11-20T10:00:00Z",
            filename="clip.mp4",
        ),
    )

    clip = await clip_of(served, reader, path)
    assert (clip["device_serial"], clip["segment_no"]) == ("BWC-7", 3)
    assert (clip["officer_id"], clip["station_id"]) == ("P1", dock.station.station_id)
    assert clip["started_at"] == "2026-11-20T10:00:00Z"


async def test_b10_no_metadata_comes_back_as_none(dock):
    assert "upload-metadata" not in (await dock.head(await dock.open(10))).headers


@pytest.mark.parametrize(
    "value",
    [
        ",a Yg==",
        ",",
        "a Yg==,",
        "a Yg==,,b Yg==",
        "a Yg== Yg==",
        "a %%%",
        "a Yg",
        "a Yg==,a Yw==",
        "a,a",
        "ż Yg==".encode(),
        "a" + " Yg==" * 3,
        "k " + "A" * 20_000,
    ],
)
async def test_b11_malformed_metadata_is_refused(served, dock, value):
    headers = {**TUS, "Upload-Length": "10", "Upload-Metadata": value}

    async with served.nothing_changes():
        response = await dock.http.post("/files", headers=headers)
    assert_problem(response, 400, "invalid-header")


async def test_b12_an_empty_metadata_field_is_none(dock):
    path = await dock.open(10, "")

    assert "upload-metadata" not in (await dock.head(path)).headers


@pytest.mark.parametrize(
    "name",
    [
        "słońce.mp4",
        "../../etc/passwd",
        "a\r\nSet-Cookie: x=1",
        "a\x00b",
        b"\xff\xfe\x00",
        "\u202egpj.exe",
        "",
        "x" * 1000,
    ],
)
async def test_b13_no_name_is_a_surprise(served, dock, reader, name):
    """Footage is taken whatever it is called; what is handed out is harmless."""
    response = await dock.create(
        4, metadata(filename=name, recording_id=name, device_serial=name), **APPEND
    )
    path = httpx.URL(response.headers["location"]).path
    assert (await dock.append(path, 0, b"1234")).status_code == 204

    clip = await clip_of(served, reader, path)
    content = await reader.get(f"/v1/clips/{clip['clip_id']}/content")
    disposition = content.headers["content-disposition"]
    assert content.content == b"1234"
    assert disposition.startswith("attachment; filename=")
    assert not any(part in disposition for part in ("\r", "\n", "\x00", "/", "\\"))
    assert clip["clip_id"] in clip["object_key"]
    assert (await reader.get(f"/v1/clips/{clip['clip_id']}/events")).status_code == 200


async def test_b13_metadata_that_cannot_be_read_is_kept_and_flagged(served, dock, reader):
    path = await dock.open(
        10, metadata(started_at="yesterday", segment_no="many", sha256_device="xyz", mood="odd")
    )

    clip = await clip_of(served, reader, path)
    for name in ("started_at", "segment_no", "sha256_device"):
        assert f"unreadable:{name}" in clip["flags"]
        assert clip["announcement"][name]
    assert "unknown_member:mood" in clip["flags"]


async def test_b14_a_body_of_another_type_is_ignored(dock):
    response = await dock.http.post(
        "/files", headers={**TUS, "Upload-Length": "10", "Content-Type": "text/plain"}, content=b"x"
    )

    assert response.status_code == 201
    assert "upload-offset" not in response.headers
    assert await dock.offset(httpx.URL(response.headers["location"]).path) == 0


async def test_b15_every_upload_has_a_url_of_its_own(served, dock, reader):
    named = metadata(device_serial="BWC-8", recording_id=f"rec-{os.urandom(4).hex()}")
    first, second = await dock.open(10, named), await dock.open(10, named)

    assert first != second
    assert (await clip_of(served, reader, first))["duplicate_of"] is None
    twin = await clip_of(served, reader, second)
    assert twin["duplicate_of"] == (await clip_of(served, reader, first))["clip_id"]
    assert "duplicate_identity" in twin["flags"]


# --- creation-with-upload ----------------------------------------------------------------


async def test_d01_it_comes_with_creation(stranger):
    named = (await stranger.options("/files")).headers["tus-extension"].split(",")

    assert {"creation", "creation-with-upload"} <= set(named)


@pytest.mark.parametrize("length_bytes", [10, PART_BYTES, 2 * PART_BYTES + 3])
async def test_d02_a_clip_in_one_request(served, dock, reader, length_bytes):
    data = os.urandom(length_bytes)

    response = await dock.http.post(
        "/files", headers={**APPEND, "Upload-Length": str(length_bytes)}, content=data
    )
    assert (response.status_code, response.headers["upload-offset"]) == (201, str(length_bytes))
    clip = await clip_of(served, reader, response)
    assert clip["state"] == "sealed"
    assert served.vault.content(clip["object_key"]) == data


async def test_d03_an_empty_body_of_the_type_still_tells_the_offset(dock):
    response = await dock.http.post("/files", headers={**APPEND, "Upload-Length": "10"})

    assert (response.status_code, response.headers["upload-offset"]) == (201, "0")


async def test_d03_the_offset_of_an_empty_upload_is_told(dock):
    response = await dock.http.post("/files", headers={**APPEND, "Upload-Length": "0"})

    assert (response.status_code, response.headers["upload-offset"]) == (201, "0")


async def test_d04_a_shorter_body_goes_on_by_patch(dock):
    response = await dock.http.post(
        "/files", headers={**APPEND, "Upload-Length": "10"}, content=b"1234"
    )
    path = httpx.URL(response.headers["location"]).path

    assert response.headers["upload-offset"] == "4"
    assert (await dock.append(path, 4, b"567890")).headers["upload-offset"] == "10"


async def test_a_creation_names_the_clip_whose_receipt_is_to_be_asked_for(served, dock):
    response = await dock.http.post(
        "/files", headers={**APPEND, "Upload-Length": "4"}, content=b"1234"
    )
    clip_id = response.headers["ingest-clip-id"]

    assert await served.read_back(clip_id) == "secured"
    pending = await dock.http.get(f"/v1/clips/{clip_id}/receipt")
    assert (pending.status_code, pending.json()["state"]) == (202, "secured")


async def test_a_body_without_lengths_opens_an_upload_that_goes_on(dock):
    """Nothing says how long it is: it is not taken for a whole clip."""

    async def body():
        yield b"1234"

    headers = {**APPEND, "Upload-Defer-Length": "1"}
    response = await dock.http.post("/files", headers=headers, content=body())

    assert response.headers["upload-offset"] == "4"
    path = httpx.URL(response.headers["location"]).path
    assert (await dock.append(path, 4, b"56")).headers["upload-offset"] == "6"


async def test_d04_a_cut_in_the_body_keeps_the_prefix(served, dock):
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Length": "1000",
        "Content-Length": "1000",
    }
    async with open_wire(served) as wire:
        await wire.ask("POST", "/files", headers, b"12345")
        await asyncio.sleep(0.4)
    await asyncio.sleep(0.2)

    (row,) = await served.sql(
        "SELECT offset_bytes, leased_by FROM uploads WHERE station_id = $1",
        dock.station.station_id,
    )
    assert (row["offset_bytes"], row["leased_by"]) == (5, None)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Upload-Length": str(CLIP_BYTES_MAX + 1)}, 413),
        ({"Upload-Length": "3"}, 413),
        ({"Upload-Length": "x"}, 400),
        ({"Authorization": "Bearer x"}, 401),
        ({"Tus-Resumable": "2"}, 412),
        ({"Upload-Metadata": "a %%%"}, 400),
    ],
)
async def test_d05_a_refusal_comes_before_the_body(served, dock, wire, change, status):
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Length": "10",
        "Content-Length": "5",
        "Expect": "100-continue",
    }

    async with served.nothing_changes():
        await wire.ask("POST", "/files", headers | change)
        assert (await wire.answer()).status == status


async def test_d05_a_good_request_is_asked_for_its_body(dock, wire):
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Length": "5",
        "Content-Length": "5",
        "Expect": "100-continue",
    }
    await wire.ask("POST", "/files", headers)
    first = await wire.answer()
    await wire.send(b"12345")

    assert first.status == 100
    assert (await wire.answer()).headers["upload-offset"] == "5"


async def test_a_body_longer_than_the_length_opens_nothing(served, dock):
    async with served.nothing_changes():
        response = await dock.http.post(
            "/files", headers={**APPEND, "Upload-Length": "4"}, content=b"12345"
        )

    assert_problem(response, 413, "length-exceeded")
