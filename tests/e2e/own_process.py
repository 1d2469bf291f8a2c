"""`ingest serve` and `ingest work` as operators start them, ended by signals."""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stage import Process, Stage

STARTED_WITHIN_S = 90


@dataclass
class OwnProcess:
    """One of them, and what it wrote.

    base_url  of the API; '' for a worker
    """

    process: Process
    pid: int
    base_url: str
    log_file: Path

    def tell(self, number: int) -> None:
        os.kill(self.pid, number)

    def is_there(self) -> bool:
        return "ended" not in self.process.said()

    async def ended(self, within_s: float) -> int:
        """Wait for its end; its exit code, negative when a signal ended it."""
        try:
            return int(await self.process.hear("ended", within_s))
        except AssertionError:
            message = f"still there after {within_s} s:\n{self.log_file.read_text()[-3000:]}"
            raise AssertionError(message) from None

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What it logged under this name; lines of other libraries are left out."""
        found = []
        for line in self.log_file.read_text().splitlines() if self.log_file.exists() else ():
            with suppress(ValueError):
                found.append(json.loads(line))
        return [each for each in found if each.get("event") == event]

    async def until_logged(self, event: str, within_s: float = STARTED_WITHIN_S) -> None:
        deadline = asyncio.get_running_loop().time() + within_s
        while not self.logged(event):
            if asyncio.get_running_loop().time() > deadline or not self.is_there():
                message = f"{event} was not logged:\n{self.log_file.read_text()[-3000:]}"
                raise AssertionError(message)
            await asyncio.sleep(0.02)


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def run_process(
    role: str, stage: Stage, *, port: int = 0, rules: dict | None = None, **settings: Any
) -> AsyncIterator[OwnProcess]:
    """Start one, wait until it answers, and end it the hard way if it is still there at the end."""
    made = stage.settings | settings
    base_url = ""
    if role == "serve":
        made |= {"port": port or find_port()}
        base_url = f"http://127.0.0.1:{made['port']}"
        made = {"base_url": base_url} | made
    process = stage.nursery.order(f"ingest {role}", 0, made, rules or {})
    pid = await process.hear("pid", STARTED_WITHIN_S)
    started = OwnProcess(process, pid, base_url, Path(f"{process.report}.log"))
    stage.pids.append(started.pid)
    try:
        if role == "serve":
            await _until_alive(started)
        else:
            await started.until_logged("jobs_started")
        yield started
    finally:
        if started.is_there():
            with suppress(ProcessLookupError):
                started.tell(signal.SIGKILL)


@asynccontextmanager
async def run_release(
    role: str, stage: Stage, code: Path, **settings: Any
) -> AsyncIterator[OwnProcess]:
    """Run another release of the service: an interpreter of its own, with that tree's code."""
    made = stage.settings | settings
    base_url = ""
    if role == "serve":
        made |= {"port": find_port()}
        base_url = f"http://127.0.0.1:{made['port']}"
        made = {"base_url": base_url} | made
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    wiring = {f"INGEST_{name.upper()}": str(value) for name, value in made.items()}
    report = code / f"{role}-{secrets.token_hex(4)}"
    report.touch()
    log_file = Path(f"{report}.log")
    with log_file.open("ab") as log:  # noqa: ASYNC230 - of a test
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ingest_service",
            role,
            # Before the installed package, which is this tree.
            cwd=code,
            env=kept | wiring | {"PYTHONPATH": str(code)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started = OwnProcess(Process(report, log_file), child.pid, base_url, log_file)
    try:
        if role == "serve":
            await _until_alive(started)
        else:
            await started.until_logged("jobs_started")
        yield started
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def dial(server: OwnProcess, stage: Stage, base_url: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url or server.base_url,
        headers={"Authorization": f"Bearer {stage.token}"},
        timeout=60,
        trust_env=False,
    )


async def make_bucket(stage: Stage) -> str:
    """Make a bucket, for a log of its own: the one that a worker publishes is its bucket's."""
    name = f"own-{secrets.token_hex(6)}"
    await stage.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


async def _until_alive(started: OwnProcess) -> None:
    async with httpx.AsyncClient(base_url=started.base_url, trust_env=False) as http:
        deadline = asyncio.get_running_loop().time() + STARTED_WITHIN_S
        while started.is_there() and asyncio.get_running_loop().time() < deadline:
            with suppress(httpx.TransportError):
                if (await http.get("/livez")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    message = f"it does not answer:\n{started.log_file.read_text()[-3000:]}"
    raise AssertionError(message)
