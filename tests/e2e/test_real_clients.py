"""Programs that others wrote, as they are: tus-js-client, tuspy, aiotus and curl."""

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from loadtest.peers.installs import NotInstalled, install_npm
from tests.e2e.honest_dock import Recording, make_recording
from tests.e2e.relay import Relay, open_relay
from tests.e2e.stage import Stage

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

HERE = Path(__file__).parent / "real_clients"
CLIENTS = ("tus-js-client", "tuspy", "aiotus", "curl")
# What the others cannot: tuspy knows no concatenation, aiotus and tus-js-client no checksums, and
# the Python libraries no termination.
WITH_CONCATENATION = ("tus-js-client", "aiotus", "curl")
WITH_CHECKSUM = ("tuspy", "curl")
WITH_TERMINATION = ("tus-js-client", "curl")
DRAFTS = ("ietf-draft-03", "ietf-draft-05")
CLIP_BYTES = 12_345_678
CHUNK_BYTES = 1_000_000
MID_BYTES = 7_000_000
DONE_WITHIN_S = 60
PARALLEL = 3


@dataclass
class Sent:
    """What a client is asked to bring in, in the shape that the judge knows."""

    recording: Recording
    file: Path
    path: str | None = None
    clip_id: str | None = None


@dataclass
class Client:
    """One kind of client in front of a running service; each `start` is a process of its own."""

    stage: Stage
    relay: Relay
    command: list[str]
    sent: Sent
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(self, **order: object) -> asyncio.subprocess.Process:
        told = {
            "endpoint": f"{self.relay.url}/files",
            "token": self.stage.token,
            "file": str(self.sent.file),
            "metadata": {"device_serial": self.sent.recording.serial, "filename": "słońce.mp4"},
            **order,
        }
        process = await asyncio.create_subprocess_exec(
            *self.command,
            json.dumps(told),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # curl runs below a script: signals are for both.
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    async def wait(self, process: asyncio.subprocess.Process) -> None:
        async with asyncio.timeout(DONE_WITHIN_S):
            _, told = await process.communicate()
        assert process.returncode == 0, told.decode()

    async def run(self, **order: object) -> None:
        await self.wait(await self.start(**order))

    async def start_and_break(self, fault: str, **order: object) -> asyncio.subprocess.Process:
        """Start a client and break its connection in the middle of a body."""
        self.relay.break_after(MID_BYTES, fault)
        process = await self.start(**order)
        async with asyncio.timeout(DONE_WITHIN_S):
            await self.relay.broken.wait()
        return process

    async def find_url(self) -> str:
        """Return the URL of the clip's upload, as the client was told it."""
        (upload,) = await self.stage.uploads_of(self.sent)
        return f"{self.relay.url}/files/{upload['upload_id']}"

    async def judge(self) -> None:
        """Assert that the clip is secured, whole, exactly once, and that nothing is left over."""
        (upload,) = await self.stage.uploads_of(self.sent)
        self.sent.path = f"/files/{upload['upload_id']}"
        await self.stage.secure(self.sent)
        async with httpx.AsyncClient(
            base_url=self.relay.url, headers={"Authorization": f"Bearer {self.stage.token}"}
        ) as http:
            await self.stage.judge(self.sent, http)

    def signal(self, process: asyncio.subprocess.Process, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    async def close(self) -> None:
        for process in self.processes:
            self.signal(process, signal.SIGKILL)
            await process.wait()


def find_command(name: str) -> list[str]:
    """Return how a client is started; skips the test where it cannot be."""
    if name == "tus-js-client":
        try:
            folder = install_npm("test-clients", HERE / "node")
        except NotInstalled as reason:
            pytest.skip(f"tus-js-client cannot run here: {reason}")
        shutil.copy(HERE / "node" / "send.mjs", folder)
        return ["node", str(folder / "send.mjs")]
    if name == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not on PATH")
    return [sys.executable, str(HERE / f"{name}_send.py")]


@asynccontextmanager
async def open_client(name: str, stage: Stage, relay: Relay, folder: Path):
    recording = make_recording(CLIP_BYTES)
    file = folder / "clip.mp4"
    file.write_bytes(recording.content)
    opened = Client(stage, relay, find_command(name), Sent(recording, file))
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def relay():
    async with open_relay() as opened:
        yield opened


@pytest.fixture
async def server(stage, relay):
    process = await stage.start(base_url=relay.url)
    relay.lead_to(await process.hear("listens_at", 10))
    return process


@pytest.fixture
async def client(request, stage, relay, server, tmp_path):
    async with open_client(request.param, stage, relay, tmp_path) as opened:
        yield opened


def each(*names: str):
    return pytest.mark.parametrize("client", names, indirect=True)


@each(*CLIENTS)
async def test_a_clip_comes_in(client):
    await client.run()

    await client.judge()


@each(*CLIENTS)
async def test_a_clip_comes_in_by_chunks(client):
    await client.run(chunk_bytes=CHUNK_BYTES)

    await client.judge()


@each("tus-js-client")
async def test_a_clip_comes_in_with_its_creation(client):
    await client.run(with_creation=True)

    await client.judge()


@each(*CLIENTS)
@pytest.mark.parametrize("chunk_bytes", [None, CHUNK_BYTES])
async def test_a_client_goes_on_by_itself_after_a_cut_connection(client, chunk_bytes):
    await client.wait(await client.start_and_break("cut", chunk_bytes=chunk_bytes))

    await client.judge()


@each(*CLIENTS)
async def test_another_process_goes_on_where_a_killed_one_stopped(client):
    process = await client.start_and_break("hold")
    client.signal(process, signal.SIGKILL)
    client.relay.hang_up_held()
    await client.run(upload_url=await client.find_url())

    await client.judge()


@each(*CLIENTS)
async def test_a_stale_connection_is_taken_over(client):
    stale = await client.start_and_break("hold")
    client.signal(stale, signal.SIGSTOP)
    await client.run(upload_url=await client.find_url())

    # It wakes up, finds everything in place, and changes nothing.
    client.relay.hang_up_held()
    client.signal(stale, signal.SIGCONT)
    await client.wait(stale)
    await client.judge()


@each(*CLIENTS)
async def test_a_client_goes_on_after_the_service_was_killed(client, server):
    process = await client.start_and_break("hold")
    os.kill(server.said()["pid"], signal.SIGKILL)
    client.relay.hang_up_held()
    await restart(client)
    await client.wait(process)

    await client.judge()


@each(*CLIENTS)
async def test_a_client_goes_on_after_a_restart_that_drains(client, server):
    process = await client.start_and_break("hold")
    os.kill(server.said()["pid"], signal.SIGUSR1)
    client.relay.hang_up_held()
    await server.hear("ended", DONE_WITHIN_S)
    await restart(client)
    await client.wait(process)

    await client.judge()


async def restart(client: Client) -> None:
    process = await client.stage.start(base_url=client.relay.url)
    client.relay.lead_to(await process.hear("listens_at", 10))


@each(*WITH_CONCATENATION)
async def test_partials_are_joined(client):
    await client.run(parallel=PARALLEL)

    (upload,) = await client.stage.uploads_of(client.sent)
    assert len(upload["partial_ids"]) == PARALLEL
    await client.judge()


@each(*WITH_CONCATENATION)
async def test_partials_go_on_after_a_cut_connection(client):
    client.relay.break_after(CLIP_BYTES // PARALLEL // 2, "cut")
    await client.run(parallel=PARALLEL)

    assert client.relay.broken.is_set()
    await client.judge()


@each(*WITH_CHECKSUM)
@pytest.mark.parametrize("chunk_bytes", [None, CHUNK_BYTES])
async def test_checksums_are_understood(client, chunk_bytes):
    await client.run(checksum=True, chunk_bytes=chunk_bytes)

    await client.judge()


@each(*WITH_CHECKSUM)
async def test_bytes_that_changed_on_the_way_are_sent_again(client):
    client.relay.break_after(MID_BYTES, "garble")
    await client.run(checksum=True)

    await client.judge()


@each(*WITH_TERMINATION)
async def test_an_upload_is_taken_back(client):
    await client.run(terminate=True, chunk_bytes=CHUNK_BYTES)

    (upload,) = await client.stage.uploads_of(client.sent)
    assert upload["state"] == "terminated"
    await client.stage.sweep(client.sent)
    assert await client.stage.list_vault(upload["clip_id"], upload["upload_id"]) == []


@each("tus-js-client")
@pytest.mark.parametrize("protocol", DRAFTS)
@pytest.mark.parametrize("chunk_bytes", [None, CHUNK_BYTES])
@pytest.mark.parametrize("fault", [None, "cut"])
async def test_tus_js_client_speaks_drafts_of_the_ietf(client, protocol, chunk_bytes, fault):
    if fault:
        client.relay.break_after(MID_BYTES, "cut")
    await client.run(protocol=protocol, chunk_bytes=chunk_bytes)

    assert client.relay.broken.is_set() == bool(fault)
    await client.judge()
