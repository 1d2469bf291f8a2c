"""What is away is not waited for, and no byte that has come is lost by that."""

import asyncio
from uuid import UUID

import pytest

from ingest_service.domain.breaker import Breaker
from tests.api.served import PART_BYTES, announcement, digest_of

DATA = b"d" * PART_BYTES


def make_open() -> Breaker:
    breaker = Breaker(1, rest_s=60)
    breaker.fail()
    assert not breaker.is_closed
    return breaker


@pytest.fixture
def ledger(served):
    """Lets a breaker take the place of the pool's; the old one is there again afterwards."""
    pool = served.resources.pool
    before = pool.breaker

    def put(breaker: Breaker) -> Breaker:
        pool.breaker = breaker
        return breaker

    yield put
    pool.breaker = before


async def test_who_needs_the_ledger_is_refused_at_once_and_told_when_to_come_back(
    served, dock, ledger
):
    plan = await dock.announce(len(DATA))
    ledger(make_open())
    answers = [
        await dock.http.post("/v1/clips", json=announcement()),
        await dock.seal(plan["clip_id"]),
        await dock.send(plan["clip_id"], 0, DATA),
    ]

    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:ingest:problem:ledger-unavailable"
        assert 1 <= int(answer.headers["retry-after"]) <= 5


async def test_a_tus_client_does_not_abandon_its_upload_meanwhile(dock, ledger):
    path = await dock.open(len(DATA))
    ledger(make_open())

    assert (await dock.head(path)).status_code == 423


async def test_a_chunk_that_was_on_its_way_is_counted(served, dock, wire, ledger):
    plan = await dock.announce(len(DATA))
    headers = {
        **dock.authorization,
        "Content-Length": str(len(DATA)),
        "Content-Digest": digest_of(DATA),
    }
    path = f"/v1/clips/{plan['clip_id']}/chunks/0"
    await wire.ask("POST", path, headers, DATA[:1000])
    await until_claimed(served, plan)
    breaker = ledger(make_open())
    await wire.send(DATA[1000:])

    assert (await wire.answer()).status == 201
    # That Postgres has answered is told to all.
    assert breaker.is_closed


async def test_the_prefix_of_a_body_that_was_cut_is_kept(served, dock, wire, ledger):
    path = await dock.open(len(DATA))
    headers = {
        **dock.authorization,
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(len(DATA)),
    }
    await wire.ask("PATCH", path, headers, DATA[:1000])
    await served.leased(path)
    breaker = ledger(make_open())
    await wire.hang_up()
    await until_closed(breaker)

    assert (await dock.head(path)).headers["upload-offset"] == "1000"


async def until_closed(breaker):
    async with asyncio.timeout(5):
        while not breaker.is_closed:  # noqa: ASYNC110 - in another thread
            await asyncio.sleep(0.01)


async def until_claimed(served, plan):
    upload_id = UUID(plan["tus_url"].rsplit("/", 1)[1])
    for _ in range(500):
        if await served.sql("SELECT FROM parts WHERE upload_id = $1", upload_id):
            return
    message = "the chunk was never claimed"
    raise AssertionError(message)
