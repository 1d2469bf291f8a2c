"""A process is told to end: what it still does, what it leaves, and when it is gone."""

import asyncio
import signal
import time
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from tests.e2e.honest_dock import NativeDock, Patience, TusDock, make_recording
from tests.e2e.own_process import dial, make_bucket, run_process
from tests.e2e.stage import PART_BYTES

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

PREFIX_BYTES = 300_000
CLIP_BYTES = PART_BYTES + 600_000
REFUSING_MAX = "ingest_service.domain.draining:_REFUSING_MAX_S"
# For a machine that does other things beside.
SLACK_S = 10


@asynccontextmanager
async def sending(stage, server, dock):
    """An upload of which some bytes have come, and no more come by themselves."""
    async with dial(server, stage) as http:
        await dock.open(http)
        await dock.send_piece(http)
        before = dock.acknowledged
        reader, writer = await dock.stall(http, dock.next_piece(), PREFIX_BYTES)
        await until_leased(stage, dock)
        assert dock.acknowledged == before
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


async def until_leased(stage, dock):
    async with asyncio.timeout(10):
        while not any(row["leased_by"] for row in await stage.uploads_of(dock)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    # What was sent is in the process by now.
    await asyncio.sleep(0.2)


async def read_head(reader, within_s=20):
    async with asyncio.timeout(within_s):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    fields = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}


def make_dock():
    return TusDock(make_recording(CLIP_BYTES), [PART_BYTES], patience=Patience(wait_s=0.2, tries=9))


async def bring_in_elsewhere(stage, dock):
    """Another process takes the upload to its end, and everything is judged."""
    async with (
        run_process("serve", stage) as second,
        dial(second, stage) as http,
    ):
        await dock.bring_in(http)
        await stage.secure(dock)
        await stage.judge(dock, http)


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)]
)
async def test_an_idle_process_ends_at_once_and_well(stage, workers, number):
    async with run_process("serve", stage, workers=workers) as server:
        server.tell(number)

        assert await server.ended(SLACK_S + 2) == 0


async def test_readyz_turns_first_while_everything_is_still_taken(stage):
    settings = {"drain_timeout_s": 30, "drain_notice_s": 15}
    dock = NativeDock(make_recording(1000))
    async with (
        run_process("serve", stage, **settings) as server,
        dial(server, stage) as http,
    ):
        server.tell(signal.SIGTERM)
        await server.until_logged("drain_begun")
        ready = await http.get("/readyz")
        alive = await http.get("/livez")
        await dock.bring_in(http)
        last = await http.get(f"/v1/clips/{dock.clip_id}/chunks")
        await stage.secure(dock)

    assert (ready.status_code, list(ready.json()["checks"])) == (503, ["process"])
    assert alive.status_code == 200
    assert last.headers["connection"] == "close"


async def test_who_comes_during_the_drain_is_sent_elsewhere_and_who_was_there_is_served(
    stage,
):
    # The port is open for longer than a busy machine takes to come back to us.
    settings = {"drain_timeout_s": 80, "rules": {REFUSING_MAX: 10}}
    dock = make_dock()
    async with (
        run_process("serve", stage, **settings) as server,
        dial(server, stage) as newcomer,
        sending(stage, server, dock) as (reader, writer),
    ):
        await newcomer.get("/livez")
        server.tell(signal.SIGTERM)
        await server.until_logged("drain_begun")
        refused = await newcomer.post("/v1/clips", json={})
        not_ready = await newcomer.get("/readyz")
        writer.write(dock.next_piece()[PREFIX_BYTES:])
        await writer.drain()
        status, headers = await read_head(reader)

        assert await server.ended(30) == 0
    assert (status, headers["connection"]) == (204, "close")
    assert int(headers["upload-offset"]) == CLIP_BYTES
    assert refused.status_code == 503
    assert refused.json()["type"] == "urn:ingest:problem:shutting-down"
    assert refused.headers["connection"] == "close"
    assert int(refused.headers["retry-after"]) > 0
    assert not_ready.status_code == 503
    dock.acknowledged = CLIP_BYTES
    await bring_in_elsewhere(stage, dock)


async def test_a_body_that_takes_too_long_is_cut_and_all_that_came_is_kept(stage):
    settings = {"drain_timeout_s": 4}
    dock = make_dock()
    async with (
        run_process("serve", stage, **settings) as server,
        sending(stage, server, dock) as (reader, _),
    ):
        told_at = time.monotonic()
        server.tell(signal.SIGTERM)
        status, headers = await read_head(reader)

        assert await server.ended(4 + SLACK_S) == 0
        took_s = time.monotonic() - told_at
    assert (status, headers["connection"]) == (503, "close")
    assert took_s < 4 + SLACK_S
    (upload,) = await stage.uploads_of(dock)
    assert upload["offset_bytes"] == PART_BYTES + PREFIX_BYTES
    assert upload["leased_by"] is None
    await bring_in_elsewhere(stage, dock)


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_second_signal_ends_it_at_once(stage, workers):
    settings = {"drain_timeout_s": 60, "workers": workers}
    dock = make_dock()
    async with (
        run_process("serve", stage, **settings) as server,
        sending(stage, server, dock),
    ):
        server.tell(signal.SIGTERM)
        await server.until_logged("drain_begun")
        assert server.is_there()
        server.tell(signal.SIGTERM)

        assert await server.ended(SLACK_S) == 128 + signal.SIGTERM
    await bring_in_elsewhere(stage, dock)


# Of 6 s: nothing is taken from 1 s on, the port is closed at 1.6 s, bodies are cut at 5 s.
PHASES = {"notice": 0.5, "refusing": 1.3, "closed": 3.0, "cut": 5.05}


@pytest.mark.parametrize("phase", PHASES)
async def test_whoever_is_killed_while_it_drains_loses_nothing(stage, phase):
    settings = {"drain_timeout_s": 6, "drain_notice_s": 1}
    dock = make_dock()
    async with (
        run_process("serve", stage, **settings) as server,
        sending(stage, server, dock),
    ):
        server.tell(signal.SIGTERM)
        await asyncio.sleep(PHASES[phase])
        server.tell(signal.SIGKILL)
        await server.ended(SLACK_S)

    await bring_in_elsewhere(stage, dock)


# --- ingest work -------------------------------------------------------------------------


@pytest.fixture
async def own_bucket(stage):
    return {"vault_bucket": await make_bucket(stage)}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_idle_worker_ends_at_once_and_well(stage, own_bucket, number):
    async with run_process("work", stage, **own_bucket) as worker:
        worker.tell(number)

        assert await worker.ended(SLACK_S + 2) == 0
        assert worker.logged("jobs_stopped")
        assert not worker.logged("jobs_broken_off")


async def test_a_worker_that_is_told_to_end_over_and_over_secures_every_clip(stage, own_bucket):
    settings = own_bucket | {"drain_timeout_s": 10, "job_interval_s": 0.05}
    docks = [NativeDock(make_recording(PART_BYTES + 1000 + n)) for n in range(8)]
    async with (
        run_process("serve", stage, **settings) as server,
        dial(server, stage) as http,
    ):
        await asyncio.gather(*(dock.bring_in_unsealed(http) for dock in docks))
        for _ in range(4):
            async with run_process("work", stage, **settings) as worker:
                for dock in docks:
                    with suppress(httpx.TransportError):
                        await http.post(f"/v1/clips/{dock.clip_id}/seal")
                worker.tell(signal.SIGTERM)
                assert await worker.ended(10 + SLACK_S) == 0
        async with run_process("work", stage, **settings), asyncio.timeout(30):
            while await unsecured(stage):  # noqa: ASYNC110 - Postgres sets no event
                await asyncio.sleep(0.1)

    assert not worker.logged("job_failed")


async def unsecured(stage) -> int:
    return await stage.owner.fetchval("SELECT count(*) FROM clips WHERE state <> 'secured'")
