"""Postgres or SeaweedFS dies by SIGKILL while docks upload: the service stays up and says 503."""

import asyncio
import json
import tempfile
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from ingest_service.actions.publish_checkpoint import is_deletion_safe
from ingest_service.dev.postgres import DATABASE, EmbeddedPostgres
from ingest_service.dev.seaweed import EmbeddedSeaweed
from ingest_service.jobs.run import run_until
from ingest_service.ledger.migrations import migrate
from ingest_service.signer import make_signing_key
from tests.e2e.conftest import end_processes
from tests.e2e.honest_dock import Dock, NativeDock, Patience, TusDock, make_recording
from tests.e2e.stage import PART_BYTES, Stage, open_stage

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

CRASH_AT = (0.2, 0.6)
DOWN_S = 1.0
SECURED_WITHIN_S = 120


@pytest.fixture(scope="module")
def servers():
    """A Postgres and a SeaweedFS that a test may kill; Postgres as durable as in production."""
    with tempfile.TemporaryDirectory(prefix="ingest-test-crash-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        postgres.start()
        postgres.make_database()
        migrate(postgres.owner_dsn())
        postgres.make_service_login()
        seaweed = EmbeddedSeaweed(Path(folder) / "seaweed")
        seaweed.start()
        make_signing_key(signing_key_of(postgres))
        yield postgres, seaweed
        seaweed.kill()
        postgres.stop()


def signing_key_of(postgres: EmbeddedPostgres) -> Path:
    """One ledger and one bucket have one log, so one key: with another one it would stand still."""
    return postgres.folder.parent / "custody.pem"


@pytest.fixture
async def mortal_stage(tmp_path, nursery, servers):
    postgres, seaweed = servers
    async with open_stage(
        tmp_path,
        nursery,
        postgres=postgres,
        database=DATABASE,
        seaweed=seaweed,
        signing_key_file=str(signing_key_of(postgres)),
    ) as opened:
        yield opened
        end_processes(opened)


@pytest.mark.parametrize("victim", ["Postgres", "SeaweedFS"])
async def test_docks_finish_although_a_server_was_killed_twice(mortal_stage, servers, victim):
    stage: Stage = mortal_stage
    server = servers[["Postgres", "SeaweedFS"].index(victim)]
    process = await stage.start()
    docks = make_docks()
    async with stage.dial(process) as http, jobs_of(stage):
        probes = [make_probe(native=True), make_probe(native=False)]
        for probe in probes:
            await probe.prepare(http)
        uploads = [asyncio.create_task(dock.bring_in(http)) for dock in docks]

        for share in CRASH_AT:
            await until_acknowledged(docks, uploads, share)
            server.kill()
            outage = asyncio.create_task(asyncio.sleep(DOWN_S))
            for probe in probes:
                await probe.ask(http)
            await outage
            # Not in a thread: the server would die with it.
            server.start()
        await asyncio.gather(*uploads)

        assert "ended" not in process.said()
        for probe in probes:
            await probe.dock.bring_in(http)
        every = [*docks, *(probe.dock for probe in probes)]
        for dock in every:
            await until_secured(stage, dock)
        # Before anybody is judged: for that the log is published where no bucket has it.
        await until_published(stage)
        for dock in every:
            await stage.judge(dock, http)
        for refused in (each for probe in probes for each in probe.refused):
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["action"] == "retry"
            assert int(refused.headers["retry-after"]) > 0


def make_docks() -> list[Dock]:
    def patience() -> Patience:
        return Patience(wait_s=0.2, tries=600, pace_s=0.15)

    cuts = range(600_000, 4 * PART_BYTES, 600_000)
    return [
        NativeDock(make_recording(7 * PART_BYTES + 12_345), patience=patience()),
        NativeDock(make_recording(5 * PART_BYTES + 1), reversed, patience=patience()),
        TusDock(make_recording(4 * PART_BYTES + 500_000), cuts, patience=patience()),
        TusDock(make_recording(2 * PART_BYTES), cuts, is_chunked=True, patience=patience()),
    ]


@dataclass
class Probe:
    """A dock that asks in the middle of an outage, and keeps what it was told."""

    dock: Dock
    prepare: Callable
    send: Callable
    refused: list[httpx.Response] = field(default_factory=list)

    async def ask(self, http: httpx.AsyncClient) -> None:
        self.refused.append(await self.send(http))


def make_probe(*, native: bool) -> Probe:
    recording = make_recording(200_000)
    patience = Patience(wait_s=0.2, tries=100)
    if native:
        dock = NativeDock(recording, patience=patience)
        return Probe(dock, dock.announce, lambda http: http.post(**dock.make_chunk(0)))
    tus = TusDock(recording, patience=patience)
    return Probe(tus, tus.open, lambda http: http.patch(**tus.make_patch(recording.content)))


@asynccontextmanager
async def jobs_of(stage: Stage):
    """Run the jobs of a worker as in production; they outlive both servers."""
    stop = asyncio.Event()
    running = asyncio.create_task(run_until(stage.opened, stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def until_acknowledged(docks: list[Dock], uploads: list[asyncio.Task], share: float) -> None:
    total = sum(len(dock.recording.content) for dock in docks)
    while sum(dock.acknowledged_bytes for dock in docks) < share * total:
        for task in uploads:
            if task.done():
                task.result()
        await asyncio.sleep(0.01)


async def until_secured(stage: Stage, dock: Dock) -> None:
    async with asyncio.timeout(SECURED_WITHIN_S):
        while (clip := await stage.find_clip(dock))["state"] != "secured":
            assert clip["state"] in {"finishing", "sealed"}, json.dumps(dict(clip), default=str)
            await asyncio.sleep(0.1)


async def until_published(stage: Stage) -> None:
    """Wait for the worker's own log: it goes on, and the bucket holds all of it."""
    async with asyncio.timeout(SECURED_WITHIN_S):
        while await stage.owner.fetchval(
            "SELECT EXISTS (SELECT FROM log_queue)"
            " OR EXISTS (SELECT FROM log_checkpoints WHERE published_at IS NULL)"
        ):
            assert await stage.owner.fetchval("SELECT halted_reason FROM log_state") is None
            await asyncio.sleep(0.1)
    assert await is_deletion_safe(
        pool=stage.opened.pool, vault=stage.opened.vault, signer=stage.opened.signer
    )
