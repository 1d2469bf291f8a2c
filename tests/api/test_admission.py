"""At the door of an overloaded service: who is refused, how cheaply, and what it leaves behind."""

import asyncio
import json
import os
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import structlog
from prometheus_client import REGISTRY

from ingest_service.api.admission import Admission, classify
from ingest_service.domain.admission import Door
from ingest_service.domain.draining import Drain
from ingest_service.domain.read_back_lag import ReadBackLag
from ingest_service.errors import LedgerBusy
from tests.api.served import APPEND, PART_BYTES, TUS, announcement, digest_of

DATA = b"d" * (PART_BYTES + 9)


@asynccontextmanager
async def house(served, share, in_work_max=10):
    """The service while so much of it is in use."""
    door = Door(in_work_max)
    door.in_work = int(share * in_work_max)
    with served.changed(door=door):
        yield door


class NoLedger:
    """A pool that must not be asked."""

    def get_idle_size(self):
        return 1

    def acquire(self, **_options):
        message = "the ledger was asked"
        raise AssertionError(message)


# --- who ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize("tail", ["chunks/0", "chunks", "seal", "receipt"])
async def test_a_full_house_refuses_every_step_of_a_clip(served, dock, method, tail):
    plan = await dock.announce()

    async with house(served, 1), served.nothing_changes():
        path = f"/v1/clips/{plan['clip_id']}/{tail}"
        response = await dock.http.request(method, path, content=b"")
        problem = assert_problem_without_detail(response)
    assert problem["action"] == "retry"
    assert 1 <= int(response.headers["retry-after"]) <= 120


def assert_problem_without_detail(response):
    """An Unavailable says nothing of why."""
    assert response.status_code == 503, response.text
    body = response.json()
    assert body["type"] == "urn:ingest:problem:overloaded"
    assert body["request_id"] == response.headers["x-request-id"]
    return body


async def test_a_house_that_is_filling_takes_chunks_and_no_announcements(served, dock):
    plan = await dock.announce(len(DATA))

    async with house(served, 0.4):
        refused = await dock.http.post("/v1/clips", json=announcement())
        await dock.send_all(plan["clip_id"], DATA)
        sealed = await dock.seal(plan["clip_id"])
        pending = await dock.http.get(f"/v1/clips/{plan['clip_id']}/receipt")
    assert_problem_without_detail(refused)
    assert (sealed.status_code, pending.status_code) == (200, 202)


async def test_a_nearly_full_house_takes_chunks_and_no_questions_for_receipts(served, dock):
    plan = await dock.announce(len(DATA))

    async with house(served, 0.8):
        refused = await dock.http.get(f"/v1/clips/{plan['clip_id']}/receipt")
        await dock.send_all(plan["clip_id"], DATA)
    assert_problem_without_detail(refused)


async def test_downstream_queries_yield_to_footage(served, dock, reader):
    plan = await dock.announce(len(DATA))

    async with house(served, 0.4):
        refused = [await reader.get(path) for path in ("/v1/clips", "/log/checkpoint")]
        await dock.send_all(plan["clip_id"], DATA)
    for response in refused:
        assert_problem_without_detail(response)


async def test_probes_and_metrics_are_answered_in_a_full_house(served, stranger):
    await served.sql("DELETE FROM worker_beats")
    await served.sql("INSERT INTO worker_beats VALUES ('w1', now())")

    async with house(served, 1):
        alive = await stranger.get("/livez")
        ready = await stranger.get("/readyz")
        async with served.client(served.token("operate")) as operator:
            metrics = await operator.get("/metrics")
    assert (alive.status_code, ready.status_code, metrics.status_code) == (200, 200, 200)


async def test_readiness_does_not_stand_in_line_with_docks(served, stranger):
    """Every connection is lent and the line is full: the next one that is free is the probe's."""
    await served.sql("DELETE FROM worker_beats")
    await served.sql("INSERT INTO worker_beats VALUES ('w1', now())")
    pool = served.resources.pool
    line = pool.line

    async def crowd():
        # One of the twelve listens for interruptions.
        held = [pool.acquire() for _ in range(11)]
        for each in held:
            await each.__aenter__()
        waiting = [asyncio.create_task(take()) for _ in range(line.waiting_max)]
        await asyncio.sleep(0.05)
        with pytest.raises(LedgerBusy):
            await take()
        return held, waiting

    async def take():
        async with pool.acquire(timeout=30):
            pass

    async def release(held):
        await asyncio.sleep(0.2)
        for each in held[:1]:
            await each.__aexit__(None, None, None)

    async def disperse(held, waiting):
        for each in held[1:]:
            await each.__aexit__(None, None, None)
        await asyncio.gather(*waiting)

    held, waiting = await served.call(crowd())
    with served.changed():
        releasing = asyncio.create_task(served.call(release(held)))
        response = await stranger.get("/readyz")
        await releasing
    await served.call(disperse(held, waiting))

    assert response.status_code == 200, response.text


def test_only_what_costs_no_ledger_passes_by_the_door(served):
    free = {
        (path, method)
        for path, operations in served.app.openapi()["paths"].items()
        for method in map(str.upper, operations)
        # The pages come from memory; what /upload sends goes by the door as from any dock.
        if classify(path, method) is None and not path.startswith(("/upload", "/ops"))
    }

    assert free == {
        ("/livez", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
        ("/openapi.json", "GET"),
        ("/v1/time", "GET"),
        # Measured once in two seconds, however many ask.
        ("/v1/ops", "GET"),
        ("/files", "OPTIONS"),
        ("/files/{upload_id}", "OPTIONS"),
    }


# --- how cheaply -------------------------------------------------------------------------


async def test_a_refusal_asks_no_ledger_and_reads_no_token(served, stranger):
    async with house(served, 1):
        with served.changed(pool=NoLedger()):
            response = await stranger.post("/v1/clips", json=announcement())

    assert_problem_without_detail(response)


async def test_a_chunk_is_refused_before_its_body_is_sent(served, dock, wire):
    plan = await dock.announce()
    headers = {
        **dock.authorization,
        "Content-Length": str(PART_BYTES),
        "Content-Digest": digest_of(b"x" * PART_BYTES),
        "Expect": "100-continue",
    }

    async with house(served, 1):
        await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers)
        answer = await wire.answer()
    assert (answer.status, answer.problem) == (503, "overloaded")


async def test_a_thousand_refusals_are_one_line_and_a_thousand_in_the_metrics(
    served, stranger, monkeypatch
):
    # A line so often: on a busy machine a thousand requests take longer than the usual time. And
    # what earlier tests were refused is told first, however long ago it was.
    monkeypatch.setattr("ingest_service.api.middleware._SHED_LINE_EVERY_S", 0)
    async with house(served, 1):
        await stranger.post("/v1/clips", content=b"")
    monkeypatch.setattr("ingest_service.api.middleware._SHED_LINE_EVERY_S", 3600)
    labels = {"kind": "new"}
    before = REGISTRY.get_sample_value("ingest_requests_shed_total", labels) or 0
    counted = {"surface": "native", "method": "POST", "route": "/v1/clips", "status": "503"}
    counted_before = REGISTRY.get_sample_value("ingest_requests_total", counted) or 0

    with structlog.testing.capture_logs() as lines:
        async with house(served, 1):
            for _ in range(1000):
                await stranger.post("/v1/clips", content=b"")
    after = REGISTRY.get_sample_value("ingest_requests_shed_total", labels)
    counted_after = REGISTRY.get_sample_value("ingest_requests_total", counted)

    assert after - before == 1000
    assert counted_after - counted_before == 1000
    assert not [line for line in lines if line["event"] in {"request", "requests_shed"}]
    # What else the service has to say does not grow with the refusals.
    assert len(lines) < 20

    monkeypatch.setattr("ingest_service.api.middleware._SHED_LINE_EVERY_S", 0)
    with structlog.testing.capture_logs() as lines:
        async with house(served, 1):
            await stranger.post("/v1/clips", content=b"")
    (line,) = [line for line in lines if line["event"] == "requests_shed"]
    assert line["count"] == 1001


# --- what it leaves behind ---------------------------------------------------------------


async def test_refused_requests_leave_nothing_behind(served, dock):
    plan = await dock.announce(len(DATA))
    path = await dock.open(len(DATA))

    async with house(served, 1) as door, served.nothing_changes():
        refused = [
            await dock.http.post("/v1/clips", json=announcement()),
            await dock.send(plan["clip_id"], 0, DATA[:PART_BYTES]),
            await dock.seal(plan["clip_id"]),
            await dock.create(7),
            await dock.append(path, 0, DATA),
            await dock.delete(path),
        ]
        in_work = door.in_work
    assert {response.status_code for response in refused} == {503}
    assert in_work == 10


async def test_who_was_refused_goes_on_where_he_was(served, dock):
    plan = await dock.announce(len(DATA))
    async with house(served, 1):
        refused = await dock.send(plan["clip_id"], 0, DATA[:PART_BYTES])

    await dock.send_all(plan["clip_id"], DATA)
    assert refused.status_code == 503
    assert (await dock.seal(plan["clip_id"])).json()["state"] == "sealed"


@pytest.mark.parametrize("path", ["/v1/clips", "/v1/nothing", "/files"])
async def test_every_request_leaves_the_house_however_it_ends(served, dock, path):
    async with house(served, 0) as door:
        await dock.http.post(path, content=b"?")
        # The answer may be here before its request has left.
        for _ in range(100):
            in_work = door.in_work
            if not in_work:
                break
            await asyncio.sleep(0.02)
    assert in_work == 0


async def test_a_dock_that_sends_slowly_takes_no_place(served, dock, wire):
    plan = await dock.announce()
    headers = {
        **dock.authorization,
        "Content-Length": str(PART_BYTES),
        "Content-Digest": digest_of(b"x" * PART_BYTES),
    }

    async with house(served, 0) as door:
        await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers, b"x" * 1000)
        await until_a_chunk_is_claimed(served, plan)
        await asyncio.sleep(0.05)
        in_work = door.in_work
        await wire.send(b"x" * (PART_BYTES - 1000))
        answer = await wire.answer()
    assert in_work == 0
    assert answer.status == 201


async def until_a_chunk_is_claimed(served, plan):
    upload_id = UUID(plan["tus_url"].rsplit("/", 1)[1])
    async with asyncio.timeout(5):
        while not await served.sql("SELECT FROM parts WHERE upload_id = $1", upload_id):  # noqa: ASYNC110 - Postgres cannot set an event
            await asyncio.sleep(0.01)


async def test_a_caller_that_reads_slowly_takes_no_place(served, dock, reader):
    """The content of a clip is a stream: whoever fetches it is served as fast as he reads."""
    clip_id = await dock.secure(os.urandom(40 * PART_BYTES))

    async with house(served, 0) as door:
        path = f"/v1/clips/{clip_id}/content?purpose=review"
        async with reader.stream("GET", path) as response:
            blocks = response.aiter_raw(PART_BYTES)
            await anext(blocks)
            in_work = door.in_work
    assert response.status_code == 200
    assert in_work == 0


async def test_an_answer_that_is_streamed_takes_no_place():
    """Also where the framework does not listen for the caller meanwhile."""
    door = Door(8)
    in_work = []

    async def stream(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        in_work.append(door.in_work)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        in_work.append(door.in_work)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def send(_message):
        in_work.append(door.in_work)

    app = SimpleNamespace(
        state=SimpleNamespace(resources=SimpleNamespace(door=door, drain=Drain()))
    )
    scope = {"type": "http", "app": app, "path": "/v1/clips", "method": "GET"}
    await Admission(stream)(scope, send, send)
    # Head sent, head sent (seen by us), a block on its way, sent, the last one.
    assert in_work == [1, 1, 0, 0, 0]


# --- the other protocols -----------------------------------------------------------------


async def test_tus_is_shed_with_423_on_head_and_503_on_patch_and_post(served, dock):
    """tus-js-client takes an upload whose HEAD answers 503 for lost, and opens another."""
    path = await dock.open(len(DATA))

    async with house(served, 1):
        head = await dock.head(path)
        patch = await dock.append(path, 0, DATA)
        post = await dock.create(7)
    assert [each.status_code for each in (head, patch, post)] == [423, 503, 503]
    assert {each.headers["tus-resumable"] for each in (head, patch, post)} == {"1.0.0"}


async def test_a_browser_may_read_that_it_was_refused(served, dock):
    path = await dock.open(len(DATA))

    async with house(served, 1):
        headers = {**APPEND, "Upload-Offset": "0", "Origin": "https://dock.test"}
        response = await dock.http.patch(path, content=b"x", headers=headers)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "Retry-After" in response.headers["access-control-expose-headers"]


async def test_ietf_uploads_are_shed_with_503(served, dock):
    created = await dock.http.post(
        "/files", headers={"Upload-Complete": "?0", "Upload-Length": "9"}
    )
    path = created.headers["location"]

    async with house(served, 1):
        response = await dock.http.head(path, headers={"Upload-Draft-Interop-Version": "8"})
    assert created.status_code == 201
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


async def test_an_overriding_method_is_shed_as_what_it_is(served, dock):
    path = await dock.open(len(DATA))

    async with house(served, 0.4):
        headers = {**APPEND, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
        response = await dock.http.post(path, content=DATA, headers=headers)
    assert response.status_code == 204


# --- a line for the ledger that is full ----------------------------------------------------


class BusyLedger:
    """A pool whose line is full."""

    def get_idle_size(self):
        return 0

    def acquire(self, **_options):
        raise LedgerBusy(retry_after_s=17)


async def test_a_full_line_is_a_busy_answer_that_says_when_to_come_back(served, dock):
    plan = await dock.announce()

    with served.changed(pool=BusyLedger()):
        response = await dock.seal(plan["clip_id"])
    assert response.status_code == 503
    assert response.json()["type"] == "urn:ingest:problem:ledger-busy"
    assert response.headers["retry-after"] == "17"


async def test_a_full_line_does_not_make_a_tus_client_abandon_its_upload(served, dock):
    path = await dock.open(len(DATA))

    with served.changed(pool=BusyLedger()):
        response = await dock.http.head(path, headers=TUS)
    assert response.status_code == 423


# --- receipts ----------------------------------------------------------------------------


async def test_a_pending_receipt_is_asked_for_again_when_it_may_be_there(served, dock):
    """Clips sealed a while ago are not read back yet: a new one need not ask every second."""
    clip_id = await dock.bring_in(DATA)
    waiting = await dock.bring_in(DATA + b"!")
    sealed_at = datetime.now(UTC) - timedelta(seconds=24)
    await served.sql("UPDATE clips SET sealed_at = $2 WHERE clip_id = $1", UUID(waiting), sealed_at)

    with served.changed(lag=ReadBackLag(chance=lambda: 0.0)):
        first = await dock.http.get(f"/v1/clips/{clip_id}/receipt")
        await dock.http.get(f"/v1/clips/{waiting}/receipt")
        second = await dock.http.get(f"/v1/clips/{clip_id}/receipt")
    assert (first.status_code, first.headers["retry-after"]) == (202, "1")
    assert 20 <= int(second.headers["retry-after"]) <= 25


async def test_receipts_that_come_fast_again_make_docks_ask_sooner(served, dock):
    clip_ids = [await dock.secure(os.urandom(9)) for _ in range(3)]
    pending = await dock.bring_in(DATA)
    lag = ReadBackLag(chance=lambda: 0.0)
    lag.choose_wait(timedelta(seconds=30))

    with served.changed(lag=lag):
        for clip_id in clip_ids * 10:
            await dock.http.get(f"/v1/clips/{clip_id}/receipt")
        response = await dock.http.get(f"/v1/clips/{pending}/receipt")
    assert int(response.headers["retry-after"]) <= 3


async def test_unknown_clips_are_refused_at_the_door_as_all_others(served, dock):
    async with house(served, 1):
        response = await dock.http.get(f"/v1/clips/{uuid4()}/receipt")

    assert json.loads(response.text)["status"] == 503
