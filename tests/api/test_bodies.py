"""JSON bodies: no honest one is longer, none may stall."""

import asyncio
from types import SimpleNamespace

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from ingest_service.actions.record_traffic import TrafficMeter
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.middleware import ObserveRequests
from ingest_service.api.problems import add_problem_handlers

BYTES_MAX = 1000
JSON = {"Content-Type": "application/json"}
router = APIRouter(route_class=JsonRoute)


class Sent(BaseModel):
    text: str


@router.post("/things")
async def post_thing(sent: Sent, request: Request) -> list[str]:
    return [sent.text, (await request.body()).decode()]


@router.post("/stream")
async def post_stream(request: Request) -> int:
    return sum([len(block) async for block in request.stream()])


@pytest.fixture
def app():
    app = FastAPI()
    app.state.resources = SimpleNamespace(
        json_bytes_max=BYTES_MAX,
        rules=SimpleNamespace(body_stall_timeout_s=0.05),
        traffic=TrafficMeter(),
    )
    add_problem_handlers(app)
    app.include_router(router)
    app.add_middleware(ObserveRequests)
    return app


@pytest.fixture
async def client(app):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest.test") as client:
        yield client


async def call(app, blocks, *, headers=(), then_silence=False):
    """Send blocks one by one and return (status, how many were taken)."""
    taken = 0
    answers = []

    async def receive():
        nonlocal taken
        if taken == len(blocks):
            if then_silence:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        taken += 1
        more = then_silence or taken < len(blocks)
        return {"type": "http.request", "body": blocks[taken - 1], "more_body": more}

    async def send(message):
        answers.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/things",
        "raw_path": b"/things",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json"), *headers],
        "app": app,
    }
    await app(scope, receive, send)
    return (answers[0]["status"] if answers else None), taken


async def test_a_body_is_read_once_and_can_be_read_again(client):
    answer = await client.post("/things", content=b'{"text": "x"}', headers=JSON)

    assert answer.json() == ["x", '{"text": "x"}']


async def test_a_body_in_pieces_is_one_body(app):
    status, _ = await call(app, [b'{"te', b'xt":', b' "x"}'])

    assert status == 200


async def test_a_body_that_says_it_is_too_long_is_not_read(app):
    status, taken = await call(app, [b" " * 10], headers=[(b"content-length", b"1001")])

    assert (status, taken) == (413, 0)


async def test_a_body_that_turns_out_too_long_is_not_read_to_its_end(app):
    status, taken = await call(app, [b" " * 400] * 100)

    assert (status, taken) == (413, 3)


async def test_the_longest_body_is_taken(client):
    content = b'{"text": "' + b"x" * (BYTES_MAX - 12) + b'"}'
    answer = await client.post("/things", content=content, headers=JSON)

    assert (len(content), answer.status_code) == (BYTES_MAX, 200)


async def test_a_body_that_stalls_is_given_up(app):
    status, _ = await call(app, [b'{"te'], then_silence=True)

    assert status == 408


async def test_a_body_cut_short_is_no_error_of_ours(app):
    status, _ = await call(app, [])

    assert status is None


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/octet-stream", "application/jsonx", "json"]
)
async def test_a_body_of_another_type_is_refused(client, content_type):
    headers = {} if content_type is None else {"Content-Type": content_type}

    answer = await client.post("/things", content=b'{"text": "x"}', headers=headers)
    assert (answer.status_code, answer.json()["expected"]) == (415, "application/json")


@pytest.mark.parametrize("value", ["-1", "x", "1e3", "\u0661".encode(), "9" * 5000])
async def test_a_length_that_is_no_length_is_refused(app, value):
    raw = value if isinstance(value, bytes) else value.encode()
    status, taken = await call(app, [b"{}"], headers=[(b"content-length", raw)])

    assert (status in {400, 413}, taken) == (True, 0)


async def test_streams_of_footage_are_not_bounded(client):
    answer = await client.post("/stream", content=b"x" * 100_000)

    assert answer.json() == 100_000
