"""Webhooks: managed by their owners, signed, in order, at least once, never into our network."""

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY

from ingest_service.actions.deliver_webhook import DeliveryRules, deliver_next_webhook
from ingest_service.actions.reseal_webhooks import reseal_webhooks
from ingest_service.courier.webhooks import Courier
from ingest_service.domain.secret_box import SecretBox
from ingest_service.domain.webhook import (
    choose_rest,
    find_fault,
    format_secret,
    is_public,
    parse_retry_after,
    sign_message,
)
from ingest_service.jobs.deliver_webhooks import measure_lag
from tests.api.served import assert_problem

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Receiver:
    """A real HTTP server that takes notes and does as it is told."""

    def __init__(self):
        self.requests = []
        self.held, self.answered_first = asyncio.Event(), 0
        self.answers = []
        self.hangs = asyncio.Event()
        self.gate = None
        self.before_answer = None

    def hold_after(self, answered):
        """Answer so many requests, and then none until the gate is opened."""
        self.gate, self.held, self.answered_first = asyncio.Event(), asyncio.Event(), answered

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = {
                    name.lower(): value.strip()
                    for name, _, value in (line.partition(":") for line in lines[1:] if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((lines[0], headers, body))
                if self.gate is not None and len(self.requests) > self.answered_first:
                    self.held.set()
                    await self.gate.wait()
                status, more = self.answers.pop(0) if self.answers else (204, {})
                fields = "".join(f"{name}: {value}\r\n" for name, value in more.items())
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{fields}\r\n".encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def indices(self):
        return [int(json.loads(body)["logindex"]) for _, _, body in self.requests]

    @property
    def ids(self):
        return [headers["webhook-id"] for _, headers, _ in self.requests]


@pytest.fixture
async def receiver():
    started = await Receiver().start()
    yield started
    started.server.close()


@pytest.fixture
async def inside(served):
    """The service may send into this network: the receiver is in it."""
    courier = Courier(may_be_private=True, timeout_s=2)
    with served.changed(courier=courier):
        yield courier
    await served.call(courier.close())


@pytest.fixture
async def owner(served, inside):
    token = served.token("webhooks:write", "events:read", sub=f"svc-{uuid4().hex}")
    async with served.client(token) as client:
        yield client


@pytest.fixture
async def make_webhook(served, owner, receiver):
    made = []

    async def make(**members):
        await served.publish_log()
        response = await owner.post("/v1/webhooks", json={"url": receiver.url, **members})
        assert response.status_code == 201, response.text
        made.append(response.json()["webhook_id"])
        return response.json()

    yield make
    for webhook_id in made:
        await owner.delete(f"/v1/webhooks/{webhook_id}")


async def deliver(served, *, attempts_max=3, chance=0.5, rounds=1):
    """Do the job of `ingest work`, now: nobody rests."""
    opened = served.resources
    for _ in range(rounds):
        await served.sql("UPDATE webhooks SET next_attempt_at = now() WHERE state = 'active'")
        await served.call(
            deliver_next_webhook(
                pool=opened.pool,
                tail=opened.feed,
                courier=opened.courier,
                source=opened.signer.name,
                rules=DeliveryRules(attempts_max),
                box=opened.box,
                now=opened.now,
                chance=lambda: chance,
            )
        )


async def show(owner, made):
    return (await owner.get(f"/v1/webhooks/{made['webhook_id']}")).json()


def check_signature(secret, headers, body):
    """As a receiver does, without our code (standard-webhooks, symmetric signatures)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in headers["webhook-signature"].split(" ")


# --- secrets -------------------------------------------------------------------------------

BOX = SecretBox((b"k" * 32,))
NEWER_BOX = SecretBox((b"n" * 32, b"k" * 32))


async def kept_secret(served, made):
    [row] = await served.sql(
        "SELECT secret FROM webhooks WHERE webhook_id = $1", UUID(made["webhook_id"])
    )
    return row["secret"]


def plain(made):
    return base64.b64decode(made["secret"].removeprefix("whsec_"))


async def test_who_reads_the_ledger_does_not_have_the_secrets(served, dock, make_webhook, receiver):
    with served.changed(box=BOX):
        made = await make_webhook()
        await dock.announce()
        await served.publish_log()
        await deliver(served)

    assert plain(made) not in await kept_secret(served, made)
    _, headers, body = receiver.requests[0]
    assert check_signature(made["secret"], headers, body)


async def test_secrets_that_stood_in_clear_are_sealed_by_the_job(served, make_webhook):
    made = await make_webhook()
    assert await kept_secret(served, made) == plain(made)

    await served.call(reseal_webhooks(pool=served.resources.pool, box=BOX))

    kept = await kept_secret(served, made)
    assert BOX.open(kept, UUID(made["webhook_id"]).bytes) == plain(made)
    assert plain(made) not in kept


async def test_after_a_change_of_keys_secrets_are_sealed_by_the_new_one(served, make_webhook):
    with served.changed(box=BOX):
        made = await make_webhook()

    await served.call(reseal_webhooks(pool=served.resources.pool, box=NEWER_BOX))

    kept = await kept_secret(served, made)
    assert NEWER_BOX.is_current(kept)
    assert NEWER_BOX.open(kept, UUID(made["webhook_id"]).bytes) == plain(made)


async def test_without_its_key_nothing_is_sent_and_nothing_given_up(
    served, dock, make_webhook, owner, receiver
):
    with served.changed(box=BOX):
        made = await make_webhook()
    await dock.announce()
    await served.publish_log()

    await deliver(served, rounds=3)
    shown = await show(owner, made)
    sent = len(receiver.requests)
    with served.changed(box=BOX):
        await deliver(served)

    assert (sent, shown["attempts"], shown["next_index"]) == (0, 0, made["next_index"])
    assert "key" in shown["last_failure"]
    assert receiver.indices[0] == made["next_index"]


# --- delivery ------------------------------------------------------------------------------


async def test_events_come_in_log_order_one_a_request_and_signed(
    served, dock, make_webhook, receiver
):
    made = await make_webhook()
    clip = await dock.bring_in(b"x")
    await served.publish_log()

    await deliver(served)
    line, headers, body = receiver.requests[0]
    events = [json.loads(body) for _, _, body in receiver.requests]
    assert line == "POST /hook HTTP/1.1"
    assert headers["content-type"] == "application/cloudevents+json"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["webhook-id"] == events[0]["id"]
    assert check_signature(made["secret"], headers, body)
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert receiver.indices == list(range(made["next_index"], made["next_index"] + len(events)))
    assert {event["subject"] for event in events} == {clip}


async def test_filters_hold_and_the_cursor_goes_over_the_rest(
    served, make_dock, make_webhook, owner, receiver
):
    mark = uuid4().hex[:8]
    here, there = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    made = await make_webhook(types=["local.ingest.clip.sealed"], boroughs=[f"A-{mark}"])
    clip = await here.bring_in(b"x")
    await there.bring_in(b"y")
    await served.publish_log()

    await deliver(served)
    assert [json.loads(body)["subject"] for _, _, body in receiver.requests] == [clip]
    assert (await show(owner, made))["lag_events"] == 0


async def test_a_webhook_shows_no_more_than_its_owner_may_see(served, make_dock, inside, receiver):
    mark = uuid4().hex[:8]
    here, there = await make_dock(borough=f"A-{mark}"), await make_dock(borough=f"B-{mark}")
    await served.publish_log()
    token = served.token("webhooks:write", "events:read", sub=mark, boroughs=[f"A-{mark}"])
    async with served.client(token) as limited:
        body = {"url": receiver.url, "boroughs": [f"A-{mark}", f"B-{mark}"]}
        made = (await limited.post("/v1/webhooks", json=body)).json()
        clip = await here.bring_in(b"x")
        await there.bring_in(b"y")
        await served.publish_log()

        await deliver(served)
        assert {json.loads(body)["subject"] for _, _, body in receiver.requests} == {clip}
        await limited.delete(f"/v1/webhooks/{made['webhook_id']}")


async def test_what_was_not_taken_comes_again_before_anything_newer(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    await dock.bring_in(b"x")
    await served.publish_log()
    receiver.answers = [(204, {}), (500, {})]

    await deliver(served)
    failing = await show(owner, made)
    await deliver(served)
    first = made["next_index"]
    assert receiver.indices[:3] == [first, first + 1, first + 1]
    assert receiver.ids[1] == receiver.ids[2]
    assert (failing["attempts"], failing["last_failure"]) == (1, "HTTP 500")
    assert (await show(owner, made))["attempts"] == 0


async def test_a_webhook_that_failed_rests(served, dock, make_webhook, owner, receiver):
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    receiver.answers = [(503, {"Retry-After": "900"})]

    await deliver(served)
    rests_until = datetime.fromisoformat((await show(owner, made))["next_attempt_at"])
    assert timedelta(seconds=850) < rests_until - datetime.now(UTC) <= timedelta(seconds=900)


async def test_a_redirect_is_not_followed(served, dock, make_webhook, owner, receiver):
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    receiver.answers = [(307, {"Location": receiver.url})]

    await deliver(served)
    assert len(receiver.requests) == 1
    assert (await show(owner, made))["last_failure"] == "HTTP 307"


async def test_one_that_does_not_answer_is_given_up(
    served, dock, make_webhook, owner, receiver, inside
):
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    receiver.gate = asyncio.Event()

    await deliver(served)
    receiver.gate.set()
    assert (await show(owner, made))["last_failure"] == "no answer within 2 s"


async def test_gone_is_told_nothing_more_until_somebody_looks(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    receiver.answers = [(410, {})]

    await deliver(served, rounds=3)
    gone = await show(owner, made)
    path = f"/v1/webhooks/{made['webhook_id']}"
    awake = (await owner.patch(path, json={"state": "active"})).json()
    await deliver(served)
    assert (gone["state"], gone["state_reason"]) == ("disabled", "the receiver answered 410 Gone")
    assert (awake["state"], awake["state_reason"]) == ("active", None)
    assert receiver.indices == [made["next_index"]] * 2


async def test_an_event_that_is_never_taken_is_a_dead_letter_and_the_next_one_comes(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    await dock.bring_in(b"x")
    await served.publish_log()
    receiver.answers = [(500, {})] * 3

    await deliver(served, attempts_max=3, rounds=4)
    first = made["next_index"]
    path = f"/v1/webhooks/{made['webhook_id']}/deliveries"
    (letter,) = (await owner.get(path)).json()["deliveries"]
    assert receiver.indices[:4] == [first, first, first, first + 1]
    assert (letter["log_index"], letter["state"], letter["attempts"]) == (first, "dead", 3)
    assert letter["event_id"] == receiver.ids[0]


async def test_a_dead_letter_is_sent_again_when_asked_for(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    receiver.answers = [(500, {})]
    await deliver(served, attempts_max=1)
    path = f"/v1/webhooks/{made['webhook_id']}/deliveries"

    asked = await owner.post(f"{path}/{made['next_index']}/redeliver")
    await deliver(served)
    (letter,) = (await owner.get(path)).json()["deliveries"]
    assert asked.status_code == 202
    assert asked.json()["state"] == "requested"
    assert receiver.ids == [letter["event_id"]] * 2
    assert (letter["state"], letter["attempts"]) == ("delivered", 2)
    assert (await owner.get(path, params={"state": "dead"})).json()["deliveries"] == []


async def test_both_secrets_sign_while_they_are_changed(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    path = f"/v1/webhooks/{made['webhook_id']}/secret"
    new = (await owner.post(path)).json()
    await dock.announce()
    await served.publish_log()
    await deliver(served)
    _, headers, body = receiver.requests[0]
    assert check_signature(made["secret"], headers, body)
    assert check_signature(new["secret"], headers, body)

    await served.sql(
        "UPDATE webhooks SET old_secret_until = now() WHERE webhook_id = $1",
        UUID(made["webhook_id"]),
    )
    await dock.announce()
    await served.publish_log()
    await deliver(served)
    _, headers, body = receiver.requests[-1]
    assert not check_signature(made["secret"], headers, body)
    assert check_signature(new["secret"], headers, body)


async def test_a_paused_webhook_is_sent_nothing_and_misses_nothing(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    path = f"/v1/webhooks/{made['webhook_id']}"
    await owner.patch(path, json={"state": "paused"})
    await dock.announce()
    await served.publish_log()
    await deliver(served, rounds=2)
    assert receiver.requests == []

    await owner.patch(path, json={"state": "active"})
    await deliver(served)
    assert receiver.indices[0] == made["next_index"]


async def test_a_deleted_webhook_is_sent_nothing_and_its_secret_is_forgotten(
    served, dock, make_webhook, owner, receiver
):
    made = await make_webhook()
    path = f"/v1/webhooks/{made['webhook_id']}"
    await dock.announce()
    await served.publish_log()

    assert (await owner.delete(path)).status_code == 204
    await deliver(served)
    (row,) = await served.sql(
        "SELECT secret FROM webhooks WHERE webhook_id = $1", UUID(made["webhook_id"])
    )
    assert receiver.requests == []
    assert row["secret"] == b""
    assert_problem(await owner.get(path), 404, "webhook-not-found")


# --- workers that die ----------------------------------------------------------------------


WORKER = """
import asyncio, sys
from ingest_service.actions.deliver_webhook import DeliveryRules, deliver_next_webhook
from ingest_service.actions.read_feed import FeedTail
from ingest_service.courier.webhooks import Courier
from ingest_service.domain.clock import utc_now
from ingest_service.domain.secret_box import SecretBox
from ingest_service.ledger.connection import open_pool

async def work(dsn, source):
    pool = await open_pool(dsn, connections_max=2, statement_timeout_s=10)
    while True:
        await deliver_next_webhook(
            pool=pool,
            tail=FeedTail(pool=pool, seats_max=1),
            courier=Courier(may_be_private=True, timeout_s=30),
            source=source,
            rules=DeliveryRules(),
            box=SecretBox(),
            now=utc_now,
        )

asyncio.run(work(*sys.argv[1:]))
"""


@pytest.mark.parametrize("answered", [0, 1])
async def test_no_event_is_missed_when_a_worker_is_killed(
    served, dock, make_webhook, receiver, answered
):
    """SIGKILL, while the receiver has an event in hand: it comes again, under the same id."""
    made = await make_webhook()
    await dock.bring_in(b"x")
    await served.publish_log()
    await served.sql("UPDATE webhooks SET next_attempt_at = now() WHERE state = 'active'")
    receiver.hold_after(answered)

    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, served.dsn, served.resources.signer.name
    )
    try:
        await asyncio.wait_for(receiver.held.wait(), 60)
    finally:
        worker.kill()
        await worker.wait()
    before = list(receiver.ids)
    receiver.gate.set()
    receiver.gate = None
    await served.sql("UPDATE webhooks SET leased_until = now()")
    await deliver(served)

    assert worker.returncode == -signal.SIGKILL
    assert len(before) == answered + 1
    first, last = made["next_index"], max(receiver.indices)
    assert sorted(set(receiver.indices)) == list(range(first, last + 1))
    again = dict(zip(receiver.ids, receiver.indices, strict=True))
    # Nothing of the dead worker's was recorded: all that it had sent comes again, as itself.
    assert receiver.ids[answered + 1 : 2 * answered + 2] == before
    assert len(again) == last - first + 1


@pytest.mark.parametrize("point", ["before", "in", "after"])
async def test_no_event_is_missed_when_a_worker_dies(
    served, dock, make_webhook, receiver, monkeypatch, point
):
    """Killed before a request, while one is under way, and after all, before the cursor moves."""
    made = await make_webhook()
    await dock.bring_in(b"x")
    await served.publish_log()
    opened = served.resources
    died = asyncio.Event()

    async def hang(*_args, **_options):
        served.loop.call_soon_threadsafe(lambda: None)
        died.set()
        await asyncio.Event().wait()

    if point == "before":
        monkeypatch.setattr("ingest_service.actions.deliver_webhook._redeliver", hang)
    elif point == "in":
        receiver.gate = asyncio.Event()
    else:
        monkeypatch.setattr("ingest_service.ledger.webhooks.record_progress", hang)

    async def start():
        return asyncio.create_task(
            deliver_next_webhook(
                pool=opened.pool,
                tail=opened.feed,
                courier=opened.courier,
                source=opened.signer.name,
                rules=DeliveryRules(),
                box=opened.box,
                now=opened.now,
            )
        )

    worker = await served.call(start())
    await asyncio.sleep(0.5)

    async def kill():
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)

    await served.call(kill())
    monkeypatch.undo()
    if receiver.gate is not None:
        receiver.gate.set()
        receiver.gate = None
    first_time = list(receiver.ids)
    # The lease of the dead worker holds: nobody else sends meanwhile.
    await deliver(served)
    assert receiver.ids == first_time
    await served.sql("UPDATE webhooks SET leased_until = now()")
    await deliver(served)

    (row,) = await served.sql(
        "SELECT next_index FROM webhooks WHERE webhook_id = $1", UUID(made["webhook_id"])
    )
    wanted = list(range(made["next_index"], row["next_index"]))
    assert len(wanted) >= 2
    assert list(dict.fromkeys(receiver.indices)) == wanted
    assert len(set(receiver.ids)) == len(wanted)


async def test_a_worker_that_was_away_too_long_moves_nothing(
    served, dock, make_webhook, owner, receiver
):
    """Its lease has run out and another has dealt with the batch: its late word does not count."""
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    gate = receiver.gate = asyncio.Event()
    slow = asyncio.create_task(deliver(served))
    async with asyncio.timeout(5):
        while not receiver.requests:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    receiver.gate = None
    await served.sql("UPDATE webhooks SET leased_until = now()")
    await deliver(served)
    before = await show(owner, made)
    receiver.answers = [(500, {})]
    gate.set()
    await slow

    after = await show(owner, made)
    assert before["next_index"] > made["next_index"]
    assert (after["next_index"], after["attempts"]) == (before["next_index"], 0)


async def test_two_workers_do_not_send_to_one_webhook_at_once(served, dock, make_webhook, receiver):
    await make_webhook()
    await dock.bring_in(b"x")
    await served.publish_log()

    await asyncio.gather(*(deliver(served) for _ in range(4)))
    assert receiver.indices == sorted(set(receiver.indices))


async def test_the_lag_is_measured(served, dock, make_webhook):
    await make_webhook()
    await dock.announce()
    await served.publish_log()
    await served.call(measure_lag(served.resources))

    assert REGISTRY.get_sample_value("ingest_webhook_lag_events") >= 1


# --- management ----------------------------------------------------------------------------


async def test_a_secret_is_shown_once_and_never_logged(served, make_webhook, owner, capfd):
    made = await make_webhook()
    answers = [
        await owner.get("/v1/webhooks"),
        await owner.get(f"/v1/webhooks/{made['webhook_id']}"),
        await owner.patch(f"/v1/webhooks/{made['webhook_id']}", json={"description": "x"}),
    ]

    told = made["secret"].removeprefix("whsec_")
    assert len(base64.b64decode(told)) == 32
    assert not any(told in answer.text or "whsec_" in answer.text for answer in answers)
    printed = capfd.readouterr()
    assert "webhook_created" in printed.out
    assert told not in printed.out + printed.err


async def test_webhooks_of_others_do_not_exist(served, make_webhook, owner):
    made = await make_webhook()
    path = f"/v1/webhooks/{made['webhook_id']}"
    other = served.token("webhooks:write", "events:read", sub="somebody-else")
    boss = served.token("webhooks:write", "operate", sub="boss")

    async with served.client(other) as stranger, served.client(boss) as operator:
        refused = [
            await stranger.get(path),
            await stranger.patch(path, json={}),
            await stranger.delete(path),
            await stranger.post(f"{path}/secret"),
            await stranger.get(f"{path}/deliveries"),
            await stranger.post(f"{path}/deliveries/0/redeliver"),
        ]
        listed = (await stranger.get("/v1/webhooks")).json()["webhooks"]
        seen = await operator.get(path)
    for response in refused:
        assert_problem(response, 404, "webhook-not-found")
    assert made["webhook_id"] not in {each["webhook_id"] for each in listed}
    assert seen.status_code == 200


async def test_a_webhook_needs_the_right_to_read_events(served, inside, receiver):
    async with served.client(served.token("webhooks:write")) as client:
        response = await client.post("/v1/webhooks", json={"url": receiver.url})

    assert assert_problem(response, 403, "forbidden")["scope"] == "events:read"


async def test_members_that_are_not_given_stay(make_webhook, owner):
    made = await make_webhook(types=["clip.sealed"], description="one")
    path = f"/v1/webhooks/{made['webhook_id']}"

    same = (await owner.patch(path, json={"description": "two"})).json()
    open_ = (await owner.patch(path, json={"types": None})).json()
    assert (same["description"], same["types"]) == ("two", ["clip.sealed"])
    assert (open_["description"], open_["types"]) == ("two", None)


async def test_a_webhook_may_begin_anywhere_in_the_log(make_webhook):
    assert (await make_webhook(after=-1))["next_index"] == 0
    assert (await make_webhook(after=0))["next_index"] == 1


async def test_a_webhook_may_not_begin_beyond_the_log(owner, receiver):
    response = await owner.post("/v1/webhooks", json={"url": receiver.url, "after": 2**40})

    assert_problem(response, 400, "cursor-beyond-log")


async def test_there_is_an_end_to_webhooks(served, owner, receiver, monkeypatch):
    monkeypatch.setattr("ingest_service.actions.manage_webhooks.WEBHOOKS_MAX", 0)

    response = await owner.post("/v1/webhooks", json={"url": receiver.url})
    assert_problem(response, 409, "too-many-webhooks")


@pytest.mark.parametrize(
    "change",
    [
        {"url": ""},
        {"url": 7},
        {"url": "x" * 2001},
        {"types": []},
        {"types": ["clip.eaten"]},
        {"types": ["audit.viewed"]},
        {"boroughs": [""]},
        {"colour": "red"},
        {"state": "deleted"},
        {"description": "a\x00b"},
    ],
    ids=repr,
)
async def test_a_change_that_cannot_be_read_is_refused(make_webhook, owner, change):
    made = await make_webhook()
    before = await show(owner, made)

    response = await owner.patch(f"/v1/webhooks/{made['webhook_id']}", json=change)
    assert_problem(response, 422, "invalid-request")
    assert await show(owner, made) == before


# --- where nothing is sent -----------------------------------------------------------------

INSIDE = [
    "http://example.org/",
    "ftp://example.org/",
    "https://localhost/",
    "https://db.internal/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0x7f000001/",
    "https://10.0.0.8:9000/",
    "https://169.254.169.254/latest/meta-data",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://224.0.0.1/",
    "https://0.0.0.0/",
    "https://user:secret@example.org/",
    "https://user@example.org/",
    "https://example.org/#x",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https:///x",
    "https://exa mple.org/",
    "https://example.org/\r\nHost: x",
    "//example.org/",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("url", INSIDE)
async def test_nothing_is_sent_into_our_network(served, url):
    token = served.token("webhooks:write", "events:read")

    async with served.client(token) as client:
        response = await client.post("/v1/webhooks", json={"url": url})
    assert_problem(response, 422, "webhook-url-refused")


@pytest.mark.parametrize("url", ["https://example.org/hook", "https://8.8.8.8:8443/a?b=c"])
def test_what_is_public_may_be_named(url):
    assert find_fault(url, may_be_private=False) is None


async def test_a_public_name_that_leads_into_our_network_is_sent_nothing(receiver, monkeypatch):
    """The name is resolved when something is sent, and every address of it is judged."""
    loop = asyncio.get_running_loop()

    async def resolve(*_args, **_options):
        return [(2, 1, 6, "", (address, 443)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr(loop, "getaddrinfo", resolve, raising=False)
    courier = Courier()

    answer = await courier.send(f"https://example.org:{receiver.port}/", b"{}", {})
    await courier.close()
    assert answer.failure == "nothing is sent there: it leads into this network"
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("172.16.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("2002:7f00:1::", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address, expected):
    assert is_public(address) is expected


# --- the rules -----------------------------------------------------------------------------


def test_the_signature_is_that_of_the_specification():
    """The example of the Standard Webhooks libraries."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    moment = datetime.fromtimestamp(1614265330, UTC)

    signed = sign_message("msg_p5jXN8AQM9LWM0D4loKWxJek", moment, b'{"test": 2432232314}', [secret])
    assert format_secret(secret) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_rests_grow_to_an_hour_and_are_never_in_step():
    rests = [choose_rest(attempts, 0.5) for attempts in range(1, 100)]

    assert rests[:3] == [2.0, 4.0, 8.0]
    assert max(rests) == 3600.0
    assert choose_rest(5, 0.0) < choose_rest(5, 0.9)
    assert choose_rest(1, 0.5, 100.0) == 100.0
    assert choose_rest(1, 0.5, 1e9) == 86400.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("120", 120.0),
        ("9" * 400, 86400.0),
        ("Sun, 22 Nov 2026 12:01:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 99 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_how_retry_after_is_read(value, expected):
    assert parse_retry_after(value, NOW) == expected


async def test_a_dead_letter_that_its_owner_may_no_longer_see_is_not_sent(
    served, make_dock, make_webhook, owner, receiver
):
    mark = uuid4().hex[:8]
    dock = await make_dock(borough=f"A-{mark}")
    made = await make_webhook()
    await dock.announce()
    await served.publish_log()
    receiver.answers = [(500, {})]
    await deliver(served, attempts_max=1)
    sent = len(receiver.requests)
    webhook_id = UUID(made["webhook_id"])
    await served.sql("UPDATE webhooks SET limits = '{Elsewhere}' WHERE webhook_id = $1", webhook_id)
    path = f"/v1/webhooks/{webhook_id}/deliveries"

    await owner.post(f"{path}/{made['next_index']}/redeliver")
    await deliver(served)
    (letter,) = (await owner.get(path)).json()["deliveries"]
    assert len(receiver.requests) == sent
    assert letter["last_failure"] == "the webhook's owner may not see that event"
