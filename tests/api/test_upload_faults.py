"""Storage that fails once, at every call: never a 2xx for bytes that are not there.

And lines A36, I1, L9 and M11 of the checklist.
"""

import httpx
import pytest

from ingest_service.errors import StoredBytesLost
from tests.api.ietf import append, create, head
from tests.api.served import PART_BYTES

FOOTAGE = bytes(range(256)) * (PART_BYTES * 7 // 512)  # three parts and a half


async def content(served, path) -> bytes | None:
    upload_id = path.rsplit("/", 1)[1]
    (row,) = await served.sql("SELECT object_key FROM clips WHERE upload_id = $1", upload_id)
    return None if row["object_key"] is None else served.vault.content(row["object_key"])


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("call", ["open_multipart", "put_part", "put_object", "complete_multipart"])
@pytest.mark.parametrize("healthy_bytes", [0, PART_BYTES // 2, 2 * PART_BYTES])
async def test_a_client_that_goes_on_from_the_offset_brings_all_in(
    served, dock, failure, call, healthy_bytes
):
    path = await dock.open(len(FOOTAGE))
    await dock.append(path, 0, FOOTAGE[:healthy_bytes])
    served.vault.fail_next(call, failure)
    statuses = []
    for _ in range(10):
        state = await dock.head(path)
        if state.status_code == 423:
            await served.sql("UPDATE uploads SET finish_after = now() WHERE state = 'finishing'")
            offset = len(FOOTAGE)
        else:
            offset = int(state.headers["upload-offset"])
        answer = await dock.append(path, offset, FOOTAGE[offset:][: PART_BYTES + 1000])
        statuses.append(answer.status_code)
        if answer.status_code == 204 and answer.headers["upload-offset"] == str(len(FOOTAGE)):
            break
    # One that the upload did not need is none for the next.
    served.vault._failures.clear()

    assert await content(served, path) == FOOTAGE, statuses


async def test_an_aborted_multipart_upload_is_no_success(served, dock):
    path = await dock.open(len(FOOTAGE))
    await dock.append(path, 0, FOOTAGE[: 2 * PART_BYTES])
    (row,) = await served.sql(
        "SELECT multipart_id FROM uploads WHERE upload_id = $1", path.rsplit("/", 1)[1]
    )
    del served.vault._multiparts[row["multipart_id"]]
    response = await dock.append(path, 2 * PART_BYTES, FOOTAGE[2 * PART_BYTES :])

    assert response.status_code == 500
    assert response.json()["type"] == "urn:ingest:problem:stored-bytes-lost"


async def test_parts_that_are_gone_at_the_end_are_no_success(served, dock):
    path = await dock.open(len(FOOTAGE))
    served.vault.fail_next("complete_multipart", "lost", error=StoredBytesLost("InvalidPart"))
    response = await dock.append(path, 0, FOOTAGE)
    state = await dock.head(path)

    assert response.status_code == 500
    assert (state.status_code, "upload-offset" in state.headers) == (410, False)


async def test_a36_a_browser_reads_location_offset_and_errors(dock):
    origin = {"Origin": "https://desk.example"}
    created = await dock.create(5, **origin)
    path = httpx.URL(created.headers["location"]).path
    for answer in (
        created,
        await dock.head(path, **origin),
        await dock.append(path, 9, b"", **origin),
    ):
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "Location" in answer.headers["access-control-expose-headers"]


async def test_i01_an_idle_upload_is_never_busy(dock):
    path = await dock.open(10)
    for offset in range(10):
        assert await dock.offset(path) == offset
        assert (await dock.append(path, offset, b"x")).status_code == 204


async def test_l09_a_refused_size_leaves_the_upload_resumable(served, dock):
    location = (await create(dock, b"123", complete=False)).headers["location"]
    with served.changed(rules={"clip_bytes_max": 5}):
        refused = await append(dock, location, 3, b"456789", complete=False)
        accepted = await append(dock, location, 3, b"45", complete=True)

    assert (refused.status_code, accepted.status_code) == (413, 204)
    assert (await head(dock, location)).headers["upload-offset"] == "5"


async def test_m11_what_the_service_does_not_take_is_refused_for_good(dock):
    response = await create(dock, b"bytes", complete=False, **{"Upload-Length": str(10**12)})

    assert response.status_code == 413
    assert response.headers["upload-complete"] == "?1"
