"""What comes over a raw connection: floods, silence, tricks with framing and with URLs."""

import asyncio
import contextlib
import json
import os
from uuid import UUID

import httpx
import pytest
from prometheus_client import REGISTRY

from ingest_service.api import wire as limits
from tests.api.served import (
    APPEND,
    PART_BYTES,
    TUS,
    announcement,
    assert_problem,
    digest_of,
    open_wire,
)

OCTETS = {"Content-Type": "application/octet-stream"}


async def is_alive(served) -> bool:
    async with served.client() as client:
        return (await client.get("/livez")).status_code == 200


async def pour(wire, piece: bytes, *, times: int) -> None:
    for _ in range(times):
        await wire.send(piece)
        # Lets the other side's hanging up be noticed.
        await asyncio.sleep(0.001)


async def trickle(wire, *, times: int) -> None:
    for _ in range(times):
        await wire.send(b"x")
        await asyncio.sleep(0.05)


# --- floods ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"".join(b"X-Flood-%d: 1\r\n" % number for number in range(limits.HEADERS_MAX + 1)),
        b"".join(b"X-%d: " % number + b"f" * 8000 + b"\r\n" for number in range(20)),
        b"X-Flood: " + b"f" * (limits.HEAD_BYTES_MAX + 1) + b"\r\n",
    ],
    ids=["many", "many and long", "one long"],
)
async def test_a_flood_of_headers_is_refused_and_the_server_stays_up(served, wire, head):
    # Hanging up while it still comes may reset the connection, and the answer is lost with it.
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await wire.send(b"GET /livez HTTP/1.1\r\nHost: test\r\n" + head + b"\r\n")
        answer = await wire.answer()
        assert (answer.status, answer.problem) == (431, "head-too-large")
        assert answer.headers["content-type"] == "application/problem+json"

    assert await wire.is_closed()
    assert await is_alive(served)


async def test_one_header_too_many_is_told_so(wire):
    head = b"".join(b"X-%d: 1\r\n" % number for number in range(limits.HEADERS_MAX + 1))

    await wire.send(b"GET /livez HTTP/1.1\r\nHost: test\r\n" + head + b"\r\n")
    answer = await wire.answer()
    assert (answer.status, answer.problem) == (431, "head-too-large")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_head_without_an_end_is_cut(served, wire):
    await wire.send(b"GET /livez HTTP/1.1\r\nHost: test\r\nX-Endless: ")

    with pytest.raises(ConnectionError):
        await pour(wire, b"f" * 16 * 1024, times=10_000)
    assert await is_alive(served)


async def test_an_endless_path_is_refused(served, wire):
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await wire.send(b"GET /" + b"a" * (limits.HEAD_BYTES_MAX + 1) + b" HTTP/1.1\r\n\r\n")
        assert (await wire.answer()).status == 431

    assert await wire.is_closed()
    assert await is_alive(served)


async def test_a_flood_of_trailers_is_cut(served, dock, wire):
    path = await dock.open(10)
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Offset": "0",
        "Transfer-Encoding": "chunked",
    }
    await wire.ask("PATCH", path, headers)
    flood = b"".join(b"X-%d: " % number + b"t" * 8000 + b"\r\n" for number in range(20))

    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        await wire.send(b"1\r\na\r\n0\r\n" + flood)
        assert (await wire.answer()).status == 431
    assert await wire.is_closed()


async def test_a_head_as_large_as_honest_ones_get_is_read(stranger):
    padding = {f"X-{number}": "p" * 500 for number in range(60)}

    assert (await stranger.get("/livez", headers=padding)).status_code == 200


async def test_a_caller_that_never_ends_its_head_is_hung_up_on(served, monkeypatch):
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 0.2)
    async with open_wire(served) as silent, open_wire(served) as slow:
        await slow.send(b"GET /livez HTTP/1.1\r\nHost: ")

        assert await silent.is_closed(3)
        assert await slow.is_closed(3)


async def test_waiting_between_two_requests_is_no_silence(served, monkeypatch):
    monkeypatch.setattr(limits, "HEAD_TIMEOUT_S", 0.2)
    async with open_wire(served) as wire:
        for _ in range(2):
            await wire.ask("GET", "/livez", {})
            assert (await wire.answer()).status == 200
            await asyncio.sleep(0.4)


# --- framing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: test\r\n\r\n",
        b"POST /files HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /files HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /files HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"CONNECT files HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\r\nHost: other\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: test\n\n",
        b"GET /livez HTTP/1.1\r\nHost: test\nX: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\rX: y\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\r\nX: a\r\n folded\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: test\r\nX: a\x00b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n Host: test\r\n\r\n",
        *(
            b"POST /files HTTP/1.1\r\nHost: test\r\n" + framing + b"\r\n\r\n0\r\n\r\n"
            for framing in (
                b"Content-Length: 5\r\nContent-Length: 5",
                b"Content-Length: 5, 5",
                b"Content-Length: +5",
                b"Content-Length: 0x5",
                b"Content-Length: 99999999999999999999999",
                b"Content-Length: 5\r\nTransfer-Encoding: chunked",
                b"Transfer-Encoding : chunked",
                b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                b"Transfer-Encoding: chunked, identity",
                b"Transfer-Encoding: gzip, chunked",
            )
        ),
        b"POST /files HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_hung_up_on(served, wire, request_bytes):
    await wire.send(request_bytes)

    answer = await wire.answer()
    assert (answer.status, answer.problem) == (400, "malformed-request")
    assert await wire.is_closed()
    assert await is_alive(served)


@pytest.mark.parametrize(
    "chunk",
    [
        b"0x1\r\na\r\n", b"-1\r\na\r\n", b"1\na\n", b"1 \r\na\r\n", b"1\r\nab\r\n",
        b"fffffffffffffffff\r\na\r\n", b"1;a=b\nc\r\na\r\n",
    ],
)  # fmt: skip
async def test_a_chunk_that_could_be_read_in_two_ways_is_refused(dock, wire, chunk):
    path = await dock.open(1000)
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Offset": "0",
        "Transfer-Encoding": "chunked",
    }
    smuggled = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: test\r\n\r\n"
    await wire.ask("PATCH", path, headers, chunk + smuggled)

    assert (await wire.answer()).status == 400
    assert await wire.is_closed()


async def test_an_address_has_no_more_connections_than_it_may_have(served, monkeypatch):
    state = served._server.lifespan.state
    monkeypatch.setitem(state, limits.CONNECTIONS_MAX, 3)
    refused_before = REGISTRY.get_sample_value("ingest_connections_refused_total")
    async with open_wire(served) as first, open_wire(served), open_wire(served):
        await asyncio.sleep(0.1)
        async with open_wire(served) as fourth:
            assert await fourth.is_closed()
        await first.ask("GET", "/livez", {})
        assert (await first.answer()).status == 200
    await asyncio.sleep(0.1)

    # Who has gone leaves room.
    async with open_wire(served) as again:
        await again.ask("GET", "/livez", {})
        assert (await again.answer()).status == 200
    assert REGISTRY.get_sample_value("ingest_connections_refused_total") == refused_before + 1


async def test_broken_chunked_coding_is_refused_and_what_came_before_is_kept(served, dock, wire):
    path = await dock.open(1000)
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Offset": "0",
        "Transfer-Encoding": "chunked",
    }
    await wire.ask("PATCH", path, headers, b"5\r\nhello\r\n")
    await served.leased(path)

    await wire.send(b"zz\r\n")
    assert (await wire.answer()).status == 400
    assert await dock.offset(path) == 5


async def test_pipelined_requests_are_answered_in_order(dock, wire):
    path = await dock.open(20)
    for offset in (0, 5, 10):
        headers = {
            **dock.authorization,
            **APPEND,
            "Upload-Offset": str(offset),
            "Content-Length": "5",
        }
        await wire.ask("PATCH", path, headers, b"12345")

    answers = [await wire.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [204, 204, 204]
    assert [answer.headers["upload-offset"] for answer in answers] == ["5", "10", "15"]


async def send_cut(wire, request_bytes: bytes, sizes: list[int]) -> None:
    """Send bytes in pieces of these sizes, each on its own; the rest in one."""
    for size in sizes:
        await wire.send(request_bytes[:size])
        request_bytes = request_bytes[size:]
        await asyncio.sleep(0.002)
    await wire.send(request_bytes)


@pytest.mark.parametrize("way", ["past the parser", "into the intake"])
@pytest.mark.parametrize("is_closing", [False, True])
@pytest.mark.parametrize("shift", [-1, 0, 1, 40])
@pytest.mark.parametrize("first", [0, 1, 100])
async def test_bodies_are_told_apart_wherever_the_network_cuts(
    dock, wire, monkeypatch, first, shift, is_closing, way
):
    """A long body goes past the parser: what follows it must begin where it ends."""
    if way == "into the intake":
        monkeypatch.setattr(limits, "INTAKE_BYTES_MIN", 1)
    plans = [await dock.announce(size) for size in (300, 7)]
    bodies = [bytes(range(100)) * 3, b"GET / H"]
    requests = []
    for plan, body in zip(plans, bodies, strict=True):
        is_last = body is bodies[-1]
        lines = [
            f"POST /v1/clips/{plan['clip_id']}/chunks/0?seal=true HTTP/1.1",
            "Host: test",
            f"Authorization: {dock.authorization['Authorization']}",
            f"Content-Length: {len(body)}",
            f"Content-Digest: {digest_of(body)}",
            *(["Connection: close"] if is_closing and is_last else []),
        ]
        requests.append(("\r\n".join([*lines, "", ""]).encode(), body))
    (head, body), (next_head, next_body) = requests
    # The head and a little of the body, then up to about its end, then what follows.
    sizes = [len(head) + first, len(body) - first + shift]

    await send_cut(wire, head + body + next_head + next_body, sizes)

    # A chunk counts only with its own digest, so these are the very bodies.
    for _ in bodies:
        answer = await wire.answer()
        assert (answer.status, json.loads(answer.body)["sealed"]["state"]) == (201, "sealed")
    assert await wire.is_closed(within_s=0.1) is is_closing


async def test_what_the_intake_has_of_a_cut_body_is_kept(served, dock, wire):
    data = os.urandom(3 * limits.INTAKE_BYTES_MIN)
    path = await dock.open(len(data))
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Offset": "0",
        "Content-Length": str(len(data)),
    }
    await wire.ask("PATCH", path, headers, data[:-PART_BYTES])
    await wire.hang_up()

    async with asyncio.timeout(30):
        while await find_offset(served, path) != len(data) - PART_BYTES:  # noqa: ASYNC110 - Postgres cannot set an event
            await asyncio.sleep(0.02)


async def find_offset(served, path: str) -> int:
    """What is counted; asking the service would interrupt the request that still writes."""
    upload_id = UUID(path.rpartition("/")[2])
    [row] = await served.sql("SELECT offset_bytes FROM uploads WHERE upload_id = $1", upload_id)
    return row["offset_bytes"]


async def test_an_early_refusal_leaves_the_connection_in_step(dock, wire):
    """The body of the refused request is still on its way when the answer comes (A31)."""
    path = await dock.open(1_000_000)
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Offset": "7",
        "Content-Length": "900000",
    }
    await wire.ask("PATCH", path, headers, b"x" * 1000)
    early = await wire.answer()

    await wire.send(b"x" * 899_000)
    await wire.ask("HEAD", path, {**dock.authorization, **TUS})
    later = await wire.answer(method="HEAD")
    assert (early.status, early.problem) == (409, "offset-mismatch")
    assert (later.status, later.headers["upload-offset"]) == (200, "0")


async def test_a_refused_body_is_not_drained_for_ever(served, dock, wire, monkeypatch):
    monkeypatch.setattr(limits, "DRAIN_BYTES_MAX", 1024 * 1024)
    path = await dock.open(10_000_000)
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Offset": "7",
        "Content-Length": "9000000",
    }
    await wire.ask("PATCH", path, headers)
    assert (await wire.answer()).status == 409

    with pytest.raises(ConnectionError):
        await pour(wire, b"x" * 100_000, times=80)


async def test_a_refused_body_may_not_trickle_for_ever(stranger, wire, monkeypatch):
    monkeypatch.setattr(limits, "DRAIN_TIMEOUT_S", 0.3)
    await wire.ask("POST", "/v1/clips", {"Content-Length": "9000000"}, b"x")
    assert (await wire.answer()).status == 401

    with pytest.raises(ConnectionError):
        await trickle(wire, times=50)


async def test_expect_is_answered_only_when_the_headers_are_good(dock, wire):
    data = b"x" * 100
    plan = await dock.announce(len(data))
    headers = {
        **dock.authorization,
        **OCTETS,
        "Content-Digest": digest_of(data),
        "Content-Length": "100",
        "Expect": "100-continue",
    }
    await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers)
    first = await wire.answer()
    await wire.send(data)

    assert first.status == 100
    assert (await wire.answer()).status == 201


async def test_expect_of_a_bad_request_ends_in_its_refusal_and_a_closed_connection(dock, wire):
    """Whether the body still comes is the caller's choice, so nothing can follow it."""
    plan = await dock.announce(100)
    headers = {
        **dock.authorization,
        **OCTETS,
        "Content-Length": "100",
        "Expect": "100-continue",
    }
    await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers)

    answer = await wire.answer()
    assert (answer.status, answer.problem) == (400, "invalid-header")
    assert answer.headers["connection"] == "close"
    assert await wire.is_closed()


# --- URLs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/clips/../../etc/passwd",
        "/v1/clips/..%2f..%2fetc%2fpasswd",
        "/v1/clips/%00",
        "/v1/clips/%ff%fe",
        "/v1/clips/%ed%a0%80/content",
        "/v1/clips/%252e%252e/content",
        "/files/..%2f..",
        "/files/%00",
        "/files/%ff",
        "//files//",
        "/v1/clips/",
        "/files/",
        "/v1\\clips",
        "/v1/clips/0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e;x=1",
    ],
)
async def test_tricks_in_a_path_lead_nowhere(served, dock, wire, path):
    async with served.nothing_changes():
        await wire.ask("GET", path, {**dock.authorization, **TUS})
        answer = await wire.answer()

    assert answer.status in {403, 404, 405, 422}, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"\x00" not in answer.body


@pytest.mark.parametrize("path", ["/", "/v2/clips", "/admin", "/docs", "/redoc", "/v1/clips/x/y/z"])
async def test_an_unknown_path_is_a_problem(dock, path):
    assert_problem(await dock.http.get(path), 404, "route-not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/clips", {"GET", "POST"}),
        ("PUT", "/v1/clips/0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e", {"GET"}),
        ("GET", "/v1/clips/0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e/seal", {"POST"}),
        ("POST", "/livez", {"GET"}),
        ("DELETE", "/files", {"OPTIONS", "PATCH", "POST", "PUT"}),
    ],
)
async def test_a_wrong_method_names_the_right_ones(dock, method, path, allowed):
    response = await dock.http.request(method, path)

    assert_problem(response, 405, "method-not-allowed")
    named = {name.strip() for name in response.headers["allow"].split(",")}
    assert named == allowed


async def test_a_connection_cut_in_a_json_body_announces_nothing(served, dock, wire):
    body = httpx.Request("POST", "http://x/", json=announcement()).content
    headers = {
        **dock.authorization,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }

    async with served.nothing_changes():
        await wire.ask("POST", "/v1/clips", headers, body[:-5])
        await wire.hang_up()
        await asyncio.sleep(0.1)
    assert await is_alive(served)


async def test_a_silent_json_body_is_cut(served, dock, wire):
    headers = {
        **dock.authorization,
        "Content-Type": "application/json",
        "Content-Length": str(PART_BYTES),
    }
    with served.changed(rules={"body_stall_timeout_s": 0.2}):
        async with served.nothing_changes():
            await wire.ask("POST", "/v1/clips", headers, b'{"device_serial":')
            answer = await wire.answer(within_s=3)

    assert (answer.status, answer.problem) == (408, "body-stalled")
