"""The parts of a chaos run: proxies that break on demand, and a timetable that can be had again."""

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from loadtest.chaos.clock import JumpingClock
from loadtest.chaos.docks import draw_size
from loadtest.chaos.moved_clock import sitecustomize
from loadtest.chaos.relay import Relay
from loadtest.chaos.s3_relay import S3Relay, Temper
from loadtest.chaos.timetable import draw_timetable, list_kinds
from loadtest.link import LinkBroken, open_link

ROOT = Path(__file__).parents[2]
PUT = b"PUT /evidence/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nbytes"
JOIN = b"POST /evidence/a?uploadId=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n<>"
STORED = b"HTTP/1.1 200 OK\r\nETag: e\r\nContent-Length: 2\r\n\r\nok"
SILENT_S = 0.2


@pytest.fixture
async def store():
    """A server that keeps the request lines it has seen, and answers each with STORED."""
    seen = []

    async def serve(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                seen.append(head.split(b" HTTP", 1)[0].decode())
                writer.write(STORED)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.fixture(params=[Relay, S3Relay])
async def relay(request, store):
    made = request.param("s3", lambda: store[0], random.Random(1))
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def s3_relay(store):
    made = S3Relay("s3", lambda: store[0], random.Random(1))
    await made.open()
    yield made
    await made.close()


async def ask(relay, *requests):
    link = await open_link("127.0.0.1", relay.port)
    try:
        async with asyncio.timeout(5):
            return [await link.ask(request) for request in requests]
    finally:
        link.close()


async def test_in_fair_weather_everything_gets_through(relay, store):
    answers = await ask(relay, PUT, JOIN, PUT)

    assert [(each.status, each.body) for each in answers] == [(200, b"ok")] * 3
    assert store[1] == ["PUT /evidence/a", "POST /evidence/a?uploadId=1", "PUT /evidence/a"]


@pytest.mark.parametrize("harm", [{"reset_bytes": 40}, {"cut_bytes": 20}])
async def test_a_connection_ends_in_the_middle(relay, harm):
    for name, value in harm.items():
        setattr(relay.weather, name, value)

    with pytest.raises(LinkBroken):
        await ask(relay, PUT)
    assert relay.counts.keys() & {"resets", "cuts"}


async def test_a_half_open_connection_stays_so_when_the_weather_has_cleared(relay, store):
    link = await open_link("127.0.0.1", relay.port)
    await link.ask(PUT)
    relay.weather.is_hole = True
    asking = asyncio.ensure_future(link.ask(PUT))
    await asyncio.sleep(SILENT_S)
    relay.weather.is_hole = False
    await asyncio.sleep(SILENT_S)

    assert not asking.done()
    assert (await ask(relay, PUT))[0].status == 200
    link.close()
    with pytest.raises(LinkBroken):
        await asking
    assert len(store[1]) == 2


async def test_nobody_is_let_in_while_it_is_closed(relay):
    relay.weather.is_closed = True

    with pytest.raises((LinkBroken, OSError)):
        await ask(relay, PUT)


@pytest.mark.parametrize(
    ("fault", "request_bytes", "status", "may_be_stored"),
    [
        ("refused", PUT, {500, 503}, {False}),
        ("slow_down", PUT, {503}, {False}),
        ("stored_refused", PUT, {500, 503}, {True}),
        ("error_in_200", JOIN, {200}, {True, False}),
    ],
)
async def test_the_store_answers_by_an_error(
    s3_relay, store, fault, request_bytes, status, may_be_stored
):
    s3_relay.temper = Temper(1.0, (fault,))

    (answer,) = await ask(s3_relay, request_bytes)

    assert answer.status in status
    assert b"<Error><Code>" in answer.body
    assert bool(store[1]) in may_be_stored


@pytest.mark.parametrize("fault", ["stored_lost", "truncated"])
async def test_the_store_has_done_it_and_does_not_say_so(s3_relay, store, fault):
    s3_relay.temper = Temper(1.0, (fault,))

    with pytest.raises(LinkBroken):
        await ask(s3_relay, PUT)
    assert store[1] == ["PUT /evidence/a"]


async def test_only_a_join_is_answered_by_200_and_an_error(s3_relay):
    s3_relay.temper = Temper(1.0, ("error_in_200",))

    assert [answer.body for answer in await ask(s3_relay, PUT)] == [b"ok"]


def draw(seed, last_s=600.0):
    kinds = list_kinds(has_replica=True, has_herd=True)
    return kinds, draw_timetable(
        kinds, first_s=10, last_s=last_s, every_s=6, seeded=random.Random(seed)
    )


def test_a_seed_draws_the_same_timetable_again():
    assert draw("a") == draw("a")
    assert draw("a") != draw("b")


def test_ten_minutes_hold_every_kind_and_a_failover_only_once():
    kinds, faults = draw("a")
    times = [fault.at_s for fault in faults]

    assert {fault.kind for fault in faults} == set(kinds)
    assert [sum(fault.kind == kind for fault in faults) for kind in kinds if kind.once] == [1, 1]
    assert times == sorted(times)
    assert all(10 <= at_s <= 600 for at_s in times)


def test_clips_are_small_and_large():
    sizes = [draw_size(random.Random(number)) for number in range(300)]

    assert min(sizes) < 100_000
    assert max(sizes) > 16 * 1024 * 1024


# --- a clock that jumps --------------------------------------------------------------------

TELL = "import sys; from ingest_service.domain.clock import utc_now; print(utc_now().timestamp())"


@pytest.mark.parametrize("offset_s", [7200, -600])
def test_a_service_under_the_clock_takes_the_moved_time(tmp_path, offset_s):
    clock = JumpingClock(tmp_path / "clock")
    environment = {**os.environ, **clock.environment()}
    clock.jump(offset_s)

    told = subprocess.run(
        [sys.executable, "-c", TELL], env=environment, capture_output=True, text=True, check=True
    )

    assert float(told.stdout) - time.time() == pytest.approx(offset_s, abs=30)


def test_the_clock_goes_right_until_it_is_told_to_jump(tmp_path):
    environment = {**os.environ, **JumpingClock(tmp_path / "clock").environment()}

    told = subprocess.run(
        [sys.executable, "-c", TELL], env=environment, capture_output=True, text=True, check=True
    )

    assert float(told.stdout) - time.time() == pytest.approx(0, abs=30)


def test_the_service_reads_the_time_of_day_only_where_the_clock_is_moved():
    """Else a jump in chaos would be half a jump."""
    rooms = ("actions", "api", "domain", "jobs", "ledger", "vault", "courier", "notary")
    reading = {
        f"{path.relative_to(ROOT).with_suffix('')}".replace("/", ".")
        for room in rooms
        for path in (ROOT / "ingest_service" / room).rglob("*.py")
        if re.search(r"datetime\.now\(|time\.time\(\)|utcnow\(", path.read_text())
    }

    assert reading == sitecustomize.CLOCKS
