"""GET /v1/events and its stream: nothing is missed, repeats are known, nobody sees too much."""

import asyncio
import json
import re
import secrets
import time
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from ingest_service.actions.read_feed import FeedTail, follow_feed, read_feed
from ingest_service.domain.event_types import EVENT_TYPES, VERB_OF, VERBS
from ingest_service.domain.feed import FeedFilter
from ingest_service.ledger.connection import reading
from ingest_service.ledger.feed import scan_feed
from tests.api.served import assert_problem
from tests.docs.documents import ROOT

PREFIX = "local.ingest."


@pytest.fixture
async def consumer(served):
    async with served.client(served.token("events:read")) as client:
        yield client


@pytest.fixture
async def start(served, consumer) -> int:
    """The newest index before the test's own events."""
    await served.publish_log()
    response = await consumer.get("/v1/events", params={"limit": 1})
    return int(response.headers["ingest-log-size"]) - 1


async def page(client, after, **query):
    response = await client.get("/v1/events", params={"after": after, **query})
    assert response.status_code == 200, response.text
    return response.json(), int(response.headers["ingest-next-after"])


async def read_all(client, after, **query):
    found = []
    while True:
        events, next_after = await page(client, after, **query)
        if next_after == after:
            return found
        found += events
        after = next_after


# --- order, and what an event is -----------------------------------------------------------


async def test_events_come_in_log_order_without_gaps(served, dock, consumer, start):
    for _ in range(3):
        await dock.bring_in(b"x")
    await served.publish_log()

    events = await read_all(consumer, start, limit=2)
    indices = [int(event["logindex"]) for event in events]
    assert indices == list(range(start + 1, start + 1 + len(events)))
    assert len(events) >= 6
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)


async def test_an_event_is_a_cloud_event(served, dock, consumer, reader, start):
    clip_id = await dock.bring_in(b"x", device_serial="BWC-CE")
    await served.publish_log()

    response = await consumer.get("/v1/events", params={"after": start, "clip": clip_id})
    event = response.json()[-1]
    trail = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    leaf = trail[-1]["leaf"]
    assert response.headers["content-type"] == "application/cloudevents-batch+json"
    assert event["specversion"] == "1.0"
    assert event["id"] == leaf["event_id"]
    assert event["source"] == served.resources.signer.name
    assert event["type"] == PREFIX + leaf["type"]
    assert event["subject"] == clip_id
    assert event["time"] == leaf["occurred_at"]
    assert event["data"] == leaf["facts"]
    assert event["leafhash"] == trail[-1]["leaf_hash"]
    assert event["deviceserial"] == "BWC-CE"
    assert event["borough"] == dock.station.borough
    # CloudEvents knows no null, and no names but of lower-case letters and digits.
    assert None not in event.values()
    assert all(name.isalnum() and name == name.lower() for name in event)


async def test_what_is_not_published_outside_is_not_shown(served, dock, consumer, start):
    await dock.announce()
    await served.sequence_log()

    assert await page(consumer, start) == ([], start)


async def test_an_event_of_the_feed_can_be_proved_at_once(served, dock, consumer, start):
    await dock.announce()
    await served.publish_log()
    events, _ = await page(consumer, start)

    async with served.client(served.token("audit:read")) as auditor:
        proof = (await auditor.get(f"/v1/events/{events[0]['logindex']}/proof")).json()
    assert json.loads(proof["leaf"])["event_id"] == events[0]["id"]


async def test_the_link_leads_to_the_next_page(served, dock, consumer, start):
    await dock.bring_in(b"x")
    await served.publish_log()
    query = {"after": start, "limit": 1, "type": "clip.announced"}

    first = await consumer.get("/v1/events", params=query)
    link = first.headers["link"].partition(">")[0].lstrip("<")
    second = await consumer.get(link)
    assert int(second.headers["ingest-next-after"]) > int(first.headers["ingest-next-after"])


# --- filters -------------------------------------------------------------------------------


async def test_each_filter_finds_its_events_and_no_others(served, make_dock, consumer, start):
    mark = secrets.token_hex(4)
    here, there = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    clip = await here.bring_in(b"x", device_serial=f"BWC-{mark}")
    other = await there.bring_in(b"y")
    await here.http.post(f"/v1/devices/BWC-{mark}/manifest", json={})
    await served.publish_log()

    def subjects(events):
        return {event.get("subject") for event in events}

    of_clip = await read_all(consumer, start, clip=clip)
    of_device = await read_all(consumer, start, device=f"BWC-{mark}")
    of_borough = await read_all(consumer, start, borough=f"A-{mark}")
    both = await read_all(consumer, start, borough=[f"A-{mark}", f"B-{mark}"])
    sealed = await read_all(consumer, start, type=["clip.sealed", PREFIX + "clip.announced"])
    assert subjects(of_clip) == {clip}
    assert subjects(of_device) == subjects(of_borough) == {clip, None}
    assert subjects(both) == {clip, other, None}
    assert {event["type"] for event in sealed} == {
        PREFIX + "clip.sealed",
        PREFIX + "clip.announced",
    }
    assert subjects(sealed) == {clip, other}


async def test_a_filter_that_matches_nothing_says_how_far_was_looked(served, dock, consumer, start):
    await dock.bring_in(b"x")
    await served.publish_log()

    events, next_after = await page(consumer, start, borough="Nowhere")
    assert events == []
    assert next_after > start


async def test_a_scan_of_a_long_log_is_bounded(served, dock, monkeypatch, start):
    for _ in range(4):
        await dock.announce()
    await served.publish_log()
    monkeypatch.setattr("ingest_service.actions.read_feed.WINDOW", 2)
    pool = served.resources.pool

    async def run():
        # Nothing is kept: every window is read from the ledger. And there is no time.
        tail = FeedTail(pool=pool, seats_max=1, kept_max=0)
        ticks = iter(range(1000))
        return await read_feed(
            FeedFilter(types=frozenset({"sar.received"})),
            after=start,
            limit=10,
            tail=tail,
            monotonic=lambda: float(next(ticks)),
        )

    found = await served.call(run())
    assert found.events == []
    assert found.scanned_to == start + 2
    assert not found.is_at_end


@pytest.mark.parametrize("seed", range(4))
async def test_the_tail_and_the_ledger_agree_on_every_filter(served, make_dock, start, seed):
    mark = secrets.token_hex(4)
    docks = [await make_dock(borough=f"{name}-{mark}") for name in "AB"]
    clips = [
        await dock.bring_in(b"x", device_serial=f"BWC-{mark}") for dock in docks for _ in range(2)
    ]
    await docks[0].http.post(f"/v1/devices/BWC-{mark}/manifest", json={})
    await served.publish_log()
    asked = [
        FeedFilter(types=frozenset({"clip.sealed"}), boroughs=frozenset({f"A-{mark}"})),
        FeedFilter(device=f"BWC-{mark}", limits=frozenset({f"B-{mark}"})),
        FeedFilter(device=f"BWC-{mark}"),
        FeedFilter(limits=frozenset({f"A-{mark}"}), hidden=frozenset({"clip.announced"})),
    ][seed]
    pool = served.resources.pool

    async def run():
        kept = FeedTail(pool=pool, seats_max=1)
        by_tail = await read_feed(asked, after=start, limit=1000, tail=kept)
        async with reading(pool) as connection:
            by_ledger = await scan_feed(
                connection, asked, after=start, stop=by_tail.log_size, limit=1000
            )
        return by_tail.events, by_ledger

    by_tail, by_ledger = await served.call(run())
    assert by_tail == by_ledger
    assert by_tail
    assert clips


async def test_who_fell_behind_the_tail_reads_the_same(served, dock, start):
    for _ in range(5):
        await dock.announce()
    await served.publish_log()
    pool = served.resources.pool

    async def run(kept_max):
        tail = FeedTail(pool=pool, seats_max=1, kept_max=kept_max)
        found = []
        after = start
        while not (
            page := await read_feed(FeedFilter(), after=after, limit=2, tail=tail)
        ).is_at_end:
            found += page.events
            after = page.scanned_to
        return [*found, *page.events]

    behind, at_the_end = await served.call(run(3)), await served.call(run(2000))
    assert behind == at_the_end
    assert len(behind) >= 5


# --- who sees what -------------------------------------------------------------------------


async def test_other_boroughs_are_not_shown_and_the_cursor_goes_on(served, make_dock, start):
    mark = secrets.token_hex(4)
    mine, theirs = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    own = await mine.bring_in(b"x")
    await theirs.bring_in(b"y")
    await theirs.http.post(f"/v1/devices/BWC-{mark}/manifest", json={})
    await served.publish_log()
    token = served.token("events:read", boroughs=[f"A-{mark}"])

    async with served.client(token) as limited:
        events, next_after = await page(limited, start)
        asked, _ = await page(limited, start, borough=f"B-{mark}")
    assert {event["subject"] for event in events} == {own}
    assert next_after > max(int(event["logindex"]) for event in events)
    assert asked == []


async def test_events_of_no_borough_are_not_for_who_is_limited(served, make_dock, start):
    filters = FeedFilter(limits=frozenset({"Camden"}), types=frozenset({"key.rotated"}))

    async def run():
        async with reading(served.resources.pool) as connection:
            return await scan_feed(connection, filters, after=-1, stop=start + 1, limit=10)

    assert await served.call(run()) == []


# --- waiting -------------------------------------------------------------------------------


async def test_a_long_poll_is_woken_by_an_event(served, dock, consumer, start):
    waiting = asyncio.create_task(page(consumer, start, wait_s=20))
    await asyncio.sleep(0.3)
    clip = (await dock.announce())["clip_id"]
    began = time.monotonic()
    await served.publish_log()

    events, _ = await waiting
    assert [event["subject"] for event in events] == [clip]
    assert time.monotonic() - began < 3


async def test_a_long_poll_goes_on_over_what_is_of_no_interest(served, dock, consumer, start):
    waiting = asyncio.create_task(page(consumer, start, wait_s=20, type="clip.sealed"))
    await asyncio.sleep(0.2)
    await dock.announce()
    await served.publish_log()
    await asyncio.sleep(0.3)
    assert not waiting.done()
    clip = await dock.bring_in(b"x")
    await served.publish_log()

    events, _ = await waiting
    assert [event["subject"] for event in events] == [clip]


async def test_a_long_poll_without_events_ends_in_time(consumer, start):
    began = time.monotonic()

    assert await page(consumer, start, wait_s=0.5) == ([], start)
    assert 0.4 < time.monotonic() - began < 3


async def test_who_waits_takes_no_place_in_the_house(served, consumer, start):
    door = served.resources.door
    before = door.in_work
    waiting = asyncio.create_task(page(consumer, start, wait_s=1))
    await asyncio.sleep(0.4)

    assert door.in_work == before
    await waiting
    assert door.in_work == before


async def test_who_hangs_up_leaves_the_seat(served, start):
    tail = served.resources.feed

    async def hang_up():
        async with served.client(served.token("events:read")) as client:
            with suppress(httpx.ReadTimeout):
                await client.get("/v1/events", params={"after": start, "wait_s": 60}, timeout=0.5)

    await hang_up()
    async with asyncio.timeout(5):
        while tail.seats:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    assert tail.seats == 0


async def test_no_more_wait_than_may(served, consumer, start):
    full = FeedTail(pool=served.resources.pool, seats_max=0)

    with served.changed(feed=full):
        polled = await consumer.get("/v1/events", params={"after": start, "wait_s": 1})
        streamed = await consumer.get("/v1/events/stream", params={"after": start})
        plain = await consumer.get("/v1/events", params={"after": start})
    for response in (polled, streamed):
        assert response.status_code == 503
        assert response.json()["type"] == "urn:ingest:problem:feed-full"
        assert int(response.headers["retry-after"]) >= 5
    assert plain.status_code == 200


# --- the stream ----------------------------------------------------------------------------


class Stream:
    """Reads server-sent events as a browser does: id and data."""

    def __init__(self, response):
        self.response = response
        self.lines = response.aiter_lines()
        self.last_id = None

    async def next_event(self, within_s=10):
        data = []
        async with asyncio.timeout(within_s):
            async for line in self.lines:
                if line.startswith("id: "):
                    self.last_id = int(line[4:])
                elif line.startswith("data: "):
                    data.append(line[6:])
                elif not line and data:
                    return json.loads("\n".join(data))
        return None


@asynccontextmanager
async def streaming(client, *, last_id=None, **query):
    headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
    async with client.stream("GET", "/v1/events/stream", params=query, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)


async def test_a_stream_brings_what_was_and_what_comes(served, dock, consumer, start):
    first = (await dock.announce())["clip_id"]
    await served.publish_log()

    async with streaming(consumer, after=start) as stream:
        assert (await stream.next_event())["subject"] == first
        second = (await dock.announce())["clip_id"]
        await served.publish_log()
        assert (await stream.next_event())["subject"] == second
    assert stream.last_id > start


async def test_a_stream_resumes_after_its_last_id(served, dock, consumer, start):
    clips = [(await dock.announce())["clip_id"] for _ in range(3)]
    await served.publish_log()
    async with streaming(consumer, after=start) as stream:
        await stream.next_event()
        last_id = stream.last_id

    # The header is the newer word than the query of the first connection.
    async with streaming(consumer, last_id=last_id, after=start) as stream:
        assert [(await stream.next_event())["subject"] for _ in range(2)] == clips[1:]


async def test_a_silent_stream_moves_the_cursor_on(served, dock, consumer, start, monkeypatch):
    monkeypatch.setattr("ingest_service.api.feed.BEAT_S", 0.2)
    await dock.announce()
    await served.publish_log()

    async with streaming(consumer, after=start, type="sar.received") as stream:
        with suppress(TimeoutError):
            await stream.next_event(within_s=1)
        assert stream.last_id > start


async def test_a_stream_takes_no_place_in_the_house(served, consumer, start):
    door = served.resources.door
    before = door.in_work

    async with streaming(consumer, after=start):
        await asyncio.sleep(0.2)
        assert door.in_work == before
    await asyncio.sleep(0.2)
    assert door.in_work == before


async def test_a_stream_ends_as_it_should_when_the_process_drains(served, consumer, start):
    async with streaming(consumer, after=start) as stream:
        await asyncio.sleep(0.2)
        connections = list(served._server.server_state.connections)

        async def drain():
            for connection in connections:
                connection.shutdown()

        await served.call(drain())
        # Whole: a torn answer would be a RemoteProtocolError.
        assert await stream.next_event(within_s=5) is None


async def test_a_stream_has_its_time(served, consumer, start, monkeypatch):
    monkeypatch.setattr("ingest_service.api.feed.STREAM_MAX_S", 0.5)

    async with streaming(consumer, after=start) as stream:
        assert await stream.next_event(within_s=5) is None


async def test_who_takes_nothing_is_cut_off(served, dock, start, monkeypatch):
    """A consumer that never reads holds a seat and some buffers, and not for long."""
    monkeypatch.setattr("ingest_service.api.feed.STALL_MAX_S", 0.5)
    tail = served.resources.feed
    token = served.token("events:read")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    try:
        request = (
            f"GET /v1/events/stream HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        writer.write(request.encode())
        async with asyncio.timeout(5):
            while not tail.seats:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        monkeypatch.setattr("ingest_service.api.feed._format", lambda *_: b"x" * 2_000_000)
        for _ in range(8):
            await dock.announce()
            await served.publish_log()
        async with asyncio.timeout(10):
            while tail.seats:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
    finally:
        writer.close()
    assert tail.seats == 0
    assert reader is not None


async def test_a_hundred_who_follow_cost_one_reading_of_the_ledger(
    served, dock, start, monkeypatch
):
    pool = served.resources.pool
    counted = []
    real = scan_feed

    async def counting(*args, **options):
        counted.append(options)
        return await real(*args, **options)

    monkeypatch.setattr("ingest_service.actions.read_feed.scan_feed", counting)
    tail = FeedTail(pool=pool, seats_max=100)

    async def follow():
        async for page in follow_feed(
            FeedFilter(),
            after=start,
            limit=10,
            beat_s=60,
            last_s=20,
            tail=tail,
            ending=asyncio.Event(),
        ):
            return page.events
        return []

    async def run():
        await tail.look()
        followers = [asyncio.create_task(follow()) for _ in range(100)]
        await asyncio.sleep(0.2)
        return followers

    followers = await served.call(run())
    await dock.announce()
    await served.publish_log()

    async def finish():
        await tail.look()
        return await asyncio.gather(*followers)

    found = await served.call(finish())
    assert all(events == found[0] for events in found)
    assert len(found[0]) >= 1
    # One for what stood there before, one for the new.
    assert len(counted) <= 2


# --- a consumer that is killed -------------------------------------------------------------


class Consumer:
    """Keeps its cursor with what it made of the events: both or none survive a kill."""

    def __init__(self, after):
        self.after = after
        self.seen = []
        self.repeats = 0
        self.applied = set()

    def apply(self, events, next_after, *, dies_before_commit):
        if dies_before_commit:
            return
        for event in events:
            key = (event["source"], event["id"])
            self.repeats += key in self.applied
            self.applied.add(key)
            self.seen.append(event["subject"])
        self.after = next_after


async def test_a_consumer_killed_at_any_point_misses_nothing(served, dock, start):
    """It is cut off before the answer, in it, and after it before its own commit."""
    clips = []
    state = Consumer(start)
    for turn in range(12):
        clips.append((await dock.announce())["clip_id"])
        await served.publish_log()
        async with served.client(served.token("events:read")) as client:
            if turn % 4 == 0:
                with suppress(httpx.HTTPError):
                    await client.get("/v1/events", params={"after": state.after}, timeout=0.001)
                continue
            if turn % 4 == 1:
                async with client.stream("GET", "/v1/events", params={"after": state.after}):
                    pass
                continue
            events, next_after = await page(client, state.after, limit=2)
            state.apply(events, next_after, dies_before_commit=turn % 4 == 2)
    async with served.client(served.token("events:read")) as client:
        while state.after < start + len(clips):
            events, next_after = await page(client, state.after, limit=2)
            state.apply(events, next_after, dies_before_commit=False)

    assert state.seen == clips
    assert state.repeats == 0


async def test_a_consumer_that_kept_an_old_cursor_can_tell_repeats(served, dock, consumer, start):
    await dock.bring_in(b"x")
    await served.publish_log()

    once, _ = await page(consumer, start)
    again, _ = await page(consumer, start)
    assert [(event["source"], event["id"]) for event in once] == [
        (event["source"], event["id"]) for event in again
    ]


# --- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"after": "-2"},
        {"after": "x"},
        {"after": "1.5"},
        {"after": "9" * 19},
        {"limit": "0"},
        {"limit": "1001"},
        {"wait_s": "61"},
        {"wait_s": "-1"},
        {"wait_s": "nan"},
        {"type": "clip.eaten"},
        {"type": ""},
        {"type": "x" * 101},
        {"clip": "not-one"},
        {"device": ""},
        {"device": "a\x00b"},
        {"borough": ""},
        {"borough": "x" * 201},
        {"colour": "red"},
        {"type": ["clip.sealed"] * 51},
    ],
    ids=repr,
)
async def test_a_query_that_cannot_be_read_is_refused(consumer, query):
    problem = assert_problem(await consumer.get("/v1/events", params=query), 422, "invalid-request")

    assert next(iter(query)) in problem["detail"]


@pytest.mark.parametrize("path", ["/v1/events", "/v1/events/stream"])
@pytest.mark.parametrize("ahead", [1, 10**9, 2**62])
async def test_a_cursor_beyond_the_log_is_refused(consumer, start, path, ahead):
    response = await consumer.get(path, params={"after": start + ahead})

    problem = assert_problem(response, 400, "cursor-beyond-log")
    assert problem["action"] == "stop"
    assert problem["log_size"] == start + 1


@pytest.mark.parametrize("value", ["x", "1.5", "--1", "\u0663".encode(), "9" * 30, "1 2"])
async def test_a_last_event_id_that_is_none_is_refused(consumer, value):
    response = await consumer.get("/v1/events/stream", headers={"Last-Event-ID": value})

    assert_problem(response, 400, "invalid-header")


# --- the types -----------------------------------------------------------------------------


def test_every_type_that_the_source_writes_is_known():
    groups = "|".join(sorted({name.partition(".")[0] for name in EVENT_TYPES}))
    pattern = re.compile(rf'"((?:{groups})\.(?!csv|js|css|html)[a-z_]+)"')
    written = {
        name
        for path in (ROOT / "ingest_service").rglob("*.py")
        for name in pattern.findall(path.read_text())
    }

    assert written - EVENT_TYPES == set()
    assert len(written) > 10


def test_every_verb_has_types_and_no_type_has_two():
    assert len(VERBS) == 6
    assert sum(map(len, VERBS.values())) == len(VERB_OF)
