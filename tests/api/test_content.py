"""GET /v1/clips/{clip_id}/content: footage is handed out, and it is written down first."""

import asyncio
import os
from urllib.parse import unquote

import pytest

from tests.api.served import PART_BYTES, assert_problem

DATA = os.urandom(3 * PART_BYTES + 123)
SIZE = len(DATA)


@pytest.fixture
async def clip_id(dock):
    return await dock.bring_in(DATA)


async def read(client, clip_id, *, purpose=None, **headers):
    params = {} if purpose is None else {"purpose": purpose}
    return await client.get(f"/v1/clips/{clip_id}/content", params=params, headers=headers)


async def accesses_of(reader, clip_id) -> list[dict]:
    events = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    return [event["leaf"] for event in events if event["type"].startswith("footage.")]


async def test_the_whole_clip(clip_id, reader):
    response = await read(reader, clip_id)

    assert (response.status_code, response.content) == (200, DATA)
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["cache-control"] == "private, no-store"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_an_empty_clip(dock, reader):
    response = await read(reader, await dock.bring_in(b""))

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        (f"bytes={PART_BYTES - 1}-{PART_BYTES}", PART_BYTES - 1, PART_BYTES + 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=5-", 5, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=-{SIZE * 2}", 0, SIZE),
        (f"bytes=5-{SIZE * 10}", 5, SIZE),
    ],
)
async def test_a_range(clip_id, reader, asked, start, stop):
    response = await read(reader, clip_id, Range=asked)

    assert (response.status_code, response.content) == (206, DATA[start:stop])
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert response.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={10**17}-", "bytes=-0", "bytes=9-5"])
async def test_a_range_outside_of_the_clip_is_refused(clip_id, reader, asked):
    response = await read(reader, clip_id, Range=asked)

    assert assert_problem(response, 416, "range-unsatisfiable")["size_bytes"] == SIZE
    assert response.headers["content-range"] == f"bytes */{SIZE}"
    assert await accesses_of(reader, clip_id) == []


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "lines=1-2", "bytes", "bytes=a-b", "bytes=-", "bytes=1-2-3"]
)
async def test_a_range_that_is_not_served_gets_everything(clip_id, reader, asked):
    assert (await read(reader, clip_id, Range=asked)).content == DATA


async def test_what_the_caller_has_is_not_sent_again(clip_id, reader):
    etag = (await read(reader, clip_id)).headers["etag"]
    response = await read(reader, clip_id, **{"If-None-Match": f'"other", W/{etag}'})

    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag
    assert len(await accesses_of(reader, clip_id)) == 1


async def test_another_tag_gets_everything(clip_id, reader):
    assert (await read(reader, clip_id, **{"If-None-Match": '"other"'})).content == DATA


async def test_a_range_of_the_same_content_goes_on(clip_id, reader):
    etag = (await read(reader, clip_id)).headers["etag"]

    same = await read(reader, clip_id, Range="bytes=5-9", **{"If-Range": etag})
    changed = await read(reader, clip_id, Range="bytes=5-9", **{"If-Range": '"other"'})
    assert (same.status_code, same.content) == (206, DATA[5:10])
    assert (changed.status_code, changed.content) == (200, DATA)


# --- custody -----------------------------------------------------------------------------


async def test_every_access_is_in_the_chain(clip_id, reader):
    await read(reader, clip_id, purpose="court bundle 7")
    await read(reader, clip_id, Range="bytes=5-9")

    downloaded, streamed = await accesses_of(reader, clip_id)
    assert (downloaded["type"], downloaded["purpose"]) == ("footage.downloaded", "court bundle 7")
    assert downloaded["facts"] == {"start": 0, "stop": SIZE}
    assert downloaded["actor"] == {"kind": "service", "id": "svc-test", "role": None}
    assert (streamed["type"], streamed["facts"]) == ("footage.streamed", {"start": 5, "stop": 10})


async def test_a_person_is_named_by_pseudonym_and_role(served, clip_id, reader):
    token = served.token("content:read", sub="u-17", kind="person", role="investigator")
    async with served.client(token) as person:
        await read(person, clip_id)

    (access,) = await accesses_of(reader, clip_id)
    assert access["actor"] == {"kind": "person", "id": "u-17", "role": "investigator"}


async def test_the_access_is_written_before_the_first_byte_is_read(served, clip_id, reader):
    barrier = asyncio.Barrier(2)  # of the service's loop
    served.vault.meet_at("read", barrier, moment="asked")
    reading = asyncio.create_task(read(reader, clip_id))
    accesses = []
    async with asyncio.timeout(5):
        while not accesses:
            accesses = await accesses_of(reader, clip_id)
    try:
        assert not reading.done()
    finally:
        await served.call(barrier.wait())
        served.vault.stop_meeting()
    assert len(accesses) == 1
    assert (await reading).content == DATA


async def test_many_accesses_at_once_are_all_in_the_chain(clip_id, reader):
    answers = await asyncio.gather(*(read(reader, clip_id, Range="bytes=0-9") for _ in range(15)))

    assert {answer.status_code for answer in answers} == {206}
    assert len(await accesses_of(reader, clip_id)) == 15


@pytest.mark.parametrize("purpose", ["a\nb", "\x00", "x" * 201, "\x7f"])
async def test_a_purpose_that_cannot_be_kept_is_refused(clip_id, reader, purpose):
    assert_problem(await read(reader, clip_id, purpose=purpose), 422, "invalid-request")
    assert await accesses_of(reader, clip_id) == []


# --- what cannot be read -----------------------------------------------------------------


async def test_a_clip_on_its_way_has_no_content_yet(dock, reader):
    plan = await dock.announce(100)

    problem = assert_problem(await read(reader, plan["clip_id"]), 410, "content-gone")
    assert problem["state"] == "receiving"


async def test_a_quarantined_clip_can_be_looked_at(served, dock, reader):
    plan = await dock.announce(10, sha256_device="00" * 32)
    await dock.send_all(plan["clip_id"], b"0123456789")
    assert (await dock.seal(plan["clip_id"])).json()["state"] == "quarantined"

    response = await read(reader, plan["clip_id"])
    assert (response.status_code, response.content) == (200, b"0123456789")


async def test_a_store_that_is_away_is_a_problem(served, clip_id, reader):
    key = (await reader.get(f"/v1/clips/{clip_id}")).json()["object_key"]
    stored = served.vault._versions.pop(key)

    response = await read(reader, clip_id)
    served.vault._versions[key] = stored
    assert response.status_code == 500
    assert response.json()["type"] == "urn:ingest:problem:stored-bytes-lost"
    assert response.json()["action"] == "stop"


async def test_an_answer_that_breaks_off_is_not_taken_for_the_whole(served, clip_id, reader):
    served.vault.fail_next("read", "lost")

    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|disconnect"):
        await read(reader, clip_id)


# --- names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "clip.mp4",
        "../../etc/passwd",
        "..\\..\\boot.ini",
        'a"; filename="b.exe',
        "słońce 2026.mp4",
        "a\r\nSet-Cookie: x=1",
        "\u202egpj.exe",
        "...",
        "%2e%2e%2f",
        ";",
    ],
)
async def test_no_name_leaves_its_quotes_or_its_folder(dock, reader, name):
    clip_id = await dock.bring_in(b"x", filename=name)

    disposition = (await read(reader, clip_id)).headers["content-disposition"]
    plain, extended = disposition.removeprefix('attachment; filename="').split(
        "\"; filename*=UTF-8''"
    )
    for shown in (plain, unquote(extended)):
        assert shown
        assert not any(mark in shown for mark in ("/", "\\", "\r", "\n", "\x00", "\u202e"))
        assert shown not in {".", ".."}
    assert '"' not in plain
    assert not any(mark in extended for mark in ('"', ";", " ", "/"))


async def test_an_honest_name_comes_back(dock, reader):
    clip_id = await dock.bring_in(b"x", filename="słońce 2026.mp4")

    disposition = (await read(reader, clip_id)).headers["content-disposition"]
    assert unquote(disposition.rpartition("''")[2]) == "słońce 2026.mp4"


@pytest.mark.parametrize(
    ("declared", "served_as"),
    [
        ("video/mp4", "video/mp4"),
        ("text/html", "application/octet-stream"),
        ("video/mp4\r\nX: y", "application/octet-stream"),
        ("video/słońce", "application/octet-stream"),
        (None, "application/octet-stream"),
    ],
)
async def test_only_video_is_called_so(dock, reader, declared, served_as):
    clip_id = await dock.bring_in(b"x", content_type=declared)

    assert (await read(reader, clip_id)).headers["content-type"] == served_as
