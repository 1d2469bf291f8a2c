"""The log tells one upload's story by its id, and tells no secret."""

import base64
import json
import os

import pytest
import structlog

from ingest_service.jobs.expire_uploads import expire_uploads
from ingest_service.jobs.read_back import read_back_next
from tests.api.served import APPEND, PART_BYTES, TUS, cut, open_wire, serve_apart

SECRET = "hunter2-SECRET-token-0123456789abcdef"  # noqa: S105 - nobody's


@pytest.fixture(scope="module")
def served_process(postgres, ledger_template):
    with serve_apart(postgres, ledger_template, "ledger_story") as service:
        yield service


@pytest.fixture
def lines(served):
    with structlog.testing.capture_logs() as captured:
        yield captured


def told_of(lines, *ids):
    """The lines that name one of these ids, as (what happened, outcome)."""
    return [
        (line.get("route", line["event"]), line.get("method"))
        for line in lines
        if {line.get("clip_id"), line.get("upload_id")} & set(ids)
    ]


async def work_off(served):
    """Read back whatever is sealed, as `ingest work` does."""
    while await served.call(read_back_next(served.resources)):
        pass


async def test_a_native_clip_is_followed_by_its_id_from_announcement_to_receipt(
    served, dock, lines
):
    data = os.urandom(2 * PART_BYTES)
    plan = await dock.announce(len(data))
    clip_id = plan["clip_id"]
    for index, piece in enumerate(cut(data)):
        await dock.send(clip_id, index, piece)
    await dock.http.get(f"/v1/clips/{clip_id}/chunks")
    await dock.seal(clip_id)
    await work_off(served)
    await dock.http.get(f"/v1/clips/{clip_id}/receipt")

    assert told_of(lines, clip_id) == [
        ("/v1/clips", "POST"),
        ("/v1/clips/{clip_id}/chunks/{index}", "POST"),
        ("/v1/clips/{clip_id}/chunks/{index}", "POST"),
        ("/v1/clips/{clip_id}/chunks", "GET"),
        ("/v1/clips/{clip_id}/seal", "POST"),
        ("clip_secured", None),
        ("/v1/clips/{clip_id}/receipt", "GET"),
    ]


async def test_a_tus_upload_is_followed_by_its_id_through_a_cut_and_a_refusal(served, dock, lines):
    data = os.urandom(PART_BYTES)
    path = await dock.open(len(data))
    upload_id = path.rsplit("/", 1)[1]
    async with open_wire(served) as wire:
        headers = {**dock.authorization, **APPEND, "Upload-Offset": "0"}
        await wire.ask("PATCH", path, {**headers, "Content-Length": "9000"}, data[:3000])
        await wire.hang_up()
    offset = await dock.offset(path)
    await dock.append(path, offset + 1, data[offset + 1 :])
    await dock.append(path, offset, data[offset:])
    await dock.delete(path)
    await work_off(served)

    steps = told_of(lines, upload_id)
    methods = [method for route, method in steps if route.startswith("/files")]
    assert sorted(methods) == sorted(["POST", "PATCH", "HEAD", "PATCH", "PATCH", "DELETE"])
    # Which clip it is: with this its later lines are found.
    [clip_id] = {
        line["clip_id"]
        for line in lines
        if line.get("upload_id") == upload_id and "clip_id" in line
    }
    assert told_of(lines, clip_id)[-1] == ("clip_secured", None)


async def test_an_upload_that_expires_is_told_by_both_ids(served, dock, lines):
    path = await dock.open(100)
    upload_id = path.rsplit("/", 1)[1]
    await served.sql("UPDATE uploads SET expires_at = now() WHERE upload_id = $1", upload_id)
    while await served.call(expire_uploads(served.resources)):
        pass

    [told] = [line for line in lines if line["event"] == "upload_expired"]
    assert (told["upload_id"], len(told["clip_id"])) == (upload_id, 36)


async def test_every_line_of_a_request_bears_the_callers_own_id(dock, lines):
    plan = await dock.announce(10)
    await dock.http.get(f"/v1/clips/{plan['clip_id']}/chunks", headers={"X-Request-Id": "dock-7"})

    assert [line["route"] for line in lines if line.get("request_id") == "dock-7"] == [
        "/v1/clips/{clip_id}/chunks"
    ]


async def try_every_place(dock, stranger, owner):
    """Put a secret where somebody may put one, rightly or wrongly; return the answers."""
    answers = []
    metadata = "filename " + base64.b64encode(SECRET.encode()).decode()
    signed = dock.token
    for scheme in ("Bearer", "Basic", "bearer x", "Token"):
        headers = {"Authorization": f"{scheme} {SECRET}"}
        answers.append(await stranger.get("/v1/clips", headers=headers))
        headers |= {**TUS, "Upload-Length": "1"}
        answers.append(await stranger.post("/files", headers=headers))
    tampered = {"Authorization": f"Bearer {signed[:-4]}AAAA"}
    answers.append(await stranger.get("/v1/clips", headers=tampered))
    answers += [
        await dock.http.get(f"/v1/clips{query}")
        for query in (f"?access_token={SECRET}", f"?cursor={SECRET}", f"?{SECRET}=1")
    ]
    answers.append(await dock.http.get("/v1/time", headers={"Cookie": f"session={SECRET}"}))
    answers.append(await dock.http.get("/v1/time", headers={"X-Request-Id": SECRET + "!"}))
    answers += [
        await stranger.get(f"/d/{SECRET}{way}") for way in ("", "/pack", "/clips/x", "/nothing")
    ]
    answers.append(await stranger.put(f"/d/{SECRET}"))
    answers.append(await stranger.post(f"/d/{SECRET}/accept", json={"name": "x"}))
    answers.append(await dock.create(10, metadata))
    answers.append(await dock.create(10, f"{SECRET} {SECRET}"))
    answers.append(await dock.http.post("/v1/clips", json={"password": SECRET}))
    answers.append(await dock.http.post("/v1/clips", content=json.dumps(SECRET) + "{"))
    for url in (f"https://user:{SECRET}@example.com/", f"http://127.0.0.1/?key={SECRET}"):
        answers.append(await owner.post("/v1/webhooks", json={"url": url}))
    answers.append(await dock.http.get(f"/{SECRET}"))
    return answers


@pytest.fixture
async def owner(served):
    """Somebody who may have webhooks."""
    async with served.client(served.token("webhooks:write", "events:read")) as client:
        yield client


def is_told(dock, told: str) -> bool:
    signed = dock.token
    hidden = base64.b64encode(SECRET.encode()).decode()
    return any(each in told for each in (SECRET, hidden, signed, signed[:-4] + "AAAA"))


async def test_no_secret_is_in_any_line(dock, stranger, owner, lines):
    await try_every_place(dock, stranger, owner)

    assert len(lines) > 10
    assert not is_told(dock, repr(lines))


async def test_no_secret_is_in_any_answer(dock, stranger, owner):
    *answers, no_route = await try_every_place(dock, stranger, owner)

    assert {response.status_code for response in answers} >= {400, 401, 403, 404, 405, 415}
    told = [
        str(response.request.url)
        for response in answers
        if is_told(dock, response.text + repr(response.headers.multi_items()))
    ]
    assert told == []
    # The path of a route that there is not is told to who asked for it; it is no place for secrets.
    assert no_route.status_code == 404
