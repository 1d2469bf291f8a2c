"""What every request gets: an id, one line, its metrics, an answer to a surprise."""

import asyncio
import re

import httpx
import pytest
import structlog
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import REGISTRY
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from ingest_service import telemetry
from ingest_service.api.middleware import _LONG, _NATIVE, ObserveRequests, name_surface
from ingest_service.api.problems import add_problem_handlers
from ingest_service.app import _SURFACES
from ingest_service.errors import ClipNotFound, UploadBusy

ROUTE = "/v1/clips/{clip_id}"
router = APIRouter(prefix="/v1/clips")


@router.get("/{clip_id}")
async def get_clip(clip_id: str, request: Request) -> str:
    match clip_id:
        case "missing":
            raise ClipNotFound(clip_id)
        case "busy":
            raise UploadBusy(clip_id, "someone else sends")
        case "broken":
            message = "password=hunter2"
            raise RuntimeError(message)
        case "gone":
            raise ClientDisconnect
        case "cancelled":
            raise asyncio.CancelledError
        case "half":
            return StreamingResponse(half_an_answer())
    telemetry.add_fields(clip_id=clip_id, bytes=7)
    # Another task of the same request adds to the same line.
    await asyncio.create_task(add_upload())
    return str(telemetry.request_id())


async def half_an_answer():
    yield b"half"
    message = "the other half is lost"
    raise RuntimeError(message)


async def add_upload():
    telemetry.add_fields(upload_id="u1")


async def get_live() -> str:
    return "alive"


@pytest.fixture
async def client():
    app = FastAPI()
    add_problem_handlers(app)
    app.include_router(router)
    app.add_api_route("/livez", get_live)
    app.add_middleware(ObserveRequests)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest.test") as client:
        yield client


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


def request_lines(lines):
    return [line for line in lines if line["event"] == "request"]


async def test_a_request_is_one_line(client, lines):
    await client.get("/v1/clips/7?token=hunter2")

    [line] = request_lines(lines)
    expected = {
        "method": "GET",
        "route": ROUTE,
        "status": 200,
        "outcome": "ok",
        "clip_id": "7",
        "upload_id": "u1",
        "bytes": 7,
        "sent_bytes": 34,
    }
    assert expected.items() <= line.items()
    assert "hunter2" not in str(lines)


async def test_a_made_id_is_known_to_caller_handler_and_line(client, lines):
    answer = await client.get("/v1/clips/7")

    ids = {answer.headers["x-request-id"], answer.json(), request_lines(lines)[0]["request_id"]}
    assert len(ids) == 1
    assert re.fullmatch("[0-9a-f]{32}", ids.pop())


async def test_a_sane_id_of_the_caller_is_kept(client):
    answer = await client.get("/v1/clips/7", headers={"X-Request-ID": "dock-7:42_a.b"})

    assert answer.headers["x-request-id"] == "dock-7:42_a.b"


@pytest.mark.parametrize("value", ["", "a b", 'a"b', "a\tb", "é".encode(), "x" * 65, "{}"])
async def test_an_id_that_could_disturb_a_log_is_replaced(client, value):
    answer = await client.get("/v1/clips/7", headers={"X-Request-ID": value})

    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_a_refusal_names_its_problem_in_the_line(client, lines):
    answer = await client.get("/v1/clips/missing")

    [line] = request_lines(lines)
    assert (line["status"], line["outcome"]) == (404, "clip-not-found")
    assert answer.json()["request_id"] == line["request_id"] == answer.headers["x-request-id"]


async def test_a_surprise_is_answered_and_tells_nothing(client, lines):
    answer = await client.get("/v1/clips/broken")

    assert (answer.status_code, answer.json()["type"]) == (
        500,
        "urn:ingest:problem:internal-error",
    )
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "hunter2" not in answer.text
    assert [line["event"] for line in lines] == ["request_failed", "request"]


async def test_a_caller_that_hung_up_is_no_error(client, lines):
    with pytest.raises(AssertionError):  # the transport has no answer to hand over
        await client.get("/v1/clips/gone")

    [line] = lines
    assert (line["status"], line["outcome"], line["log_level"]) == (499, "caller-gone", "info")


async def test_a_cancelled_request_leaves_its_line_too(client, lines):
    with pytest.raises(asyncio.CancelledError):
        await client.get("/v1/clips/cancelled")

    [line] = lines
    assert line["outcome"] == "cancelled"


async def test_an_answer_that_breaks_off_cuts_the_connection(client, lines):
    with pytest.raises(RuntimeError):
        await client.get("/v1/clips/half")

    assert request_lines(lines)[0]["outcome"] == "broken-off"


async def test_an_unknown_path_is_one_route(client, lines):
    for number in range(5):
        await client.get(f"/invented-{number}")

    assert {line["route"] for line in request_lines(lines)} == {"unmatched"}


async def test_an_invented_method_makes_no_metric_of_its_own(client, lines):
    await client.request("BREW", "/v1/clips/7")

    assert request_lines(lines)[0]["method"] == "other"
    assert 'method="BREW"' not in telemetry.render_metrics()[0].decode()


async def test_probes_do_not_bury_the_log(client, lines):
    await client.get("/livez")

    assert request_lines(lines)[0]["log_level"] == "debug"


async def test_requests_are_counted_by_template(client):
    labels = {"surface": "queries", "method": "GET", "route": ROUTE, "status": "423"}
    before = REGISTRY.get_sample_value("ingest_requests_total", labels) or 0
    for _ in range(3):
        await client.get("/v1/clips/busy")

    assert REGISTRY.get_sample_value("ingest_requests_total", labels) == before + 3


async def test_their_time_is_told_by_surface(client):
    labels = {"surface": "queries", "method": "GET", "route": ROUTE}
    telemetry.sample()
    before = REGISTRY.get_sample_value("ingest_request_seconds_count", labels) or 0
    for _ in range(3):
        await client.get("/v1/clips/busy")
    telemetry.sample()

    assert REGISTRY.get_sample_value("ingest_request_seconds_count", labels) == before + 3


@pytest.mark.parametrize(
    ("method", "route", "surface"),
    [
        ("POST", "/v1/clips", "native"),
        ("GET", "/v1/clips", "queries"),
        ("GET", "/v1/clips/{clip_id}/receipt", "native"),
        ("GET", "/v1/events/stream", "feed"),
        ("GET", "/v1/clips/{clip_id}/content", "downloads"),
        ("PATCH", "/files/{upload_id}", "tus"),
        ("GET", "/log/checkpoint", "log"),
        ("GET", "/d/{token}", "links"),
        ("GET", "/livez", "ops"),
    ],
)
def test_every_route_has_the_surface_of_those_who_ask_there(method, route, surface):
    assert name_surface(method, route) == surface


def test_a_surface_names_only_routes_that_there_are():
    there_are = {
        (method, route.path)
        for module in _SURFACES
        for route in module.router.routes
        for method in route.methods
    }

    assert _NATIVE | {("GET", route) for route in _LONG} <= there_are


async def test_two_requests_at_once_do_not_share_their_lines(client, lines):
    await asyncio.gather(*(client.get(f"/v1/clips/{number}") for number in range(20)))

    found = request_lines(lines)
    assert {line["clip_id"] for line in found} == {str(number) for number in range(20)}
    assert len({line["request_id"] for line in found}) == 20


def test_outside_a_request_fields_go_nowhere():
    telemetry.add_fields(clip_id="7")

    assert telemetry.request_id() is None


async def test_what_is_no_http_passes_through():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    await ObserveRequests(app)({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]
