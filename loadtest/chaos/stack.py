"""The whole service behind three relays, with a standby of its Postgres; and how its parts die."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import psutil

from loadtest.chaos.clock import JumpingClock
from loadtest.chaos.relay import LOOPBACK, Relay
from loadtest.chaos.s3_relay import S3Relay
from loadtest.dock_wire import Wire
from loadtest.own_stack import Stack, StackFailed, running_stack

# Faults last for seconds here, not for hours: so do the service's patience and its claims.
KNOBS: Final[Mapping[str, str]] = {
    "INGEST_WORKERS": "2",
    "INGEST_LOG_LEVEL": "warning",
    "INGEST_VAULT_TIMEOUT_S": "10",
    "INGEST_LEDGER_STATEMENT_TIMEOUT_S": "5",
    "INGEST_BODY_STALL_TIMEOUT_S": "10",
    "INGEST_READ_BACK_YIELD_S": "2",
    "INGEST_READ_BACK_CONCURRENCY": "4",
    "INGEST_JOB_INTERVAL_S": "0.2",
    # Dead docks are learnt of by silence.
    "INGEST_KEEP_ALIVE_S": "30",
}
_REPLICA_WITHIN_S: Final = 60.0
_PROMOTED_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.1
_STOP_S: Final = 20.0


@dataclass(slots=True)
class ChaosStack:
    """What runs, and what may be done to it.

    folder    of `ingest dev`; dev.json in it always tells the present processes
    relays    by link: docks, s3, postgres
    standby   folder of the standby; None: there is none
    clock     of the service's processes
    """

    stack: Stack
    folder: Path
    docks: Relay
    s3: S3Relay
    postgres: Relay
    clock: JumpingClock
    seeded: random.Random
    standby: Path | None = None
    has_failed_over: bool = False
    stopped: set[int] = field(default_factory=set)

    @property
    def wire(self) -> Wire:
        """The way of a dock to the service."""
        return Wire(LOOPBACK, self.docks.port, self.stack.wire.token)

    @property
    def relays(self) -> dict[str, Relay]:
        """The links by name."""
        return {"docks": self.docks, "s3": self.s3, "postgres": self.postgres}

    @property
    def facts(self) -> dict[str, Any]:
        """What dev.json tells now."""
        told: dict[str, Any] = json.loads((self.folder / "dev.json").read_text())
        return told

    def ledger_port(self) -> int:
        """Return the port of the Postgres that counts now."""
        if self.has_failed_over and self.standby is not None:
            return int(json.loads((self.standby / "replica.json").read_text())["port"])
        return int(json.loads((self.folder / "postgres" / "postgres.json").read_text())["port"])

    def ledger_owner_dsn(self) -> str:
        """Return the address of the ledger as its owner, past the relay."""
        url = urlsplit(str(self.facts["database_owner_url"]))
        login = url.netloc.rpartition("@")[0]
        return url._replace(netloc=f"{login}@{LOOPBACK}:{self.ledger_port()}").geturl()

    def environment_of(self, role: str) -> dict[str, str]:
        """Return the environment that a role runs in: the settings of the service."""
        return psutil.Process(self.facts["pids"][role]).environ()

    def find(self, process: str) -> list[psutil.Process]:
        """Return the processes of a name of `timetable.PROCESSES`, as they are now."""
        # Who is just being started again has none; and psutil takes none for ourselves.
        pids = {role: pid for role, pid in self.facts["pids"].items() if pid is not None}
        role = "serve" if process.startswith("api ") else process.rpartition(" ")[2]
        if role not in pids:
            return []
        if process in {"api parent", "api worker"}:
            parent = psutil.Process(pids["serve"])
            if process == "api parent":
                return [parent]
            return [each for each in parent.children() if "spawn_main" in " ".join(each.cmdline())]
        if process in {"postgres", "one backend of postgres"}:
            main = psutil.Process(self._postgres_pid(pids))
            if process == "postgres":
                return [main]
            return [each for each in main.children() if "ingest ingest" in " ".join(each.cmdline())]
        return [psutil.Process(pids[process])]

    def _postgres_pid(self, pids: Mapping[str, int]) -> int:
        if self.has_failed_over and self.standby is not None:
            return int(json.loads((self.standby / "replica.json").read_text())["pid"])
        return pids["postgres"]

    def signal(self, process: str, number: signal.Signals) -> str:
        """Send a signal to one of the processes of a name; tell which."""
        with suppress(psutil.Error):
            found = self.find(process)
            if found:
                victim = self.seeded.choice(found)
                victim.send_signal(number)
                return f"process {victim.pid}"
        return "nobody was there"

    def stop(self, process: str) -> list[psutil.Process]:
        """SIGSTOP a process with all its children; return them."""
        with suppress(psutil.Error):
            found = self.find(process)
            if not found:
                return []
            victim = self.seeded.choice(found)
            family = [victim, *victim.children(recursive=True)]
            for each in family:
                with suppress(psutil.Error):
                    each.suspend()
            return family
        return []

    @staticmethod
    def resume(family: list[psutil.Process]) -> None:
        """SIGCONT."""
        for each in family:
            with suppress(psutil.Error):
                each.resume()

    async def fail_over(self) -> None:
        """Kill the primary, make the standby the primary, and lead everybody there.

        Raises:
            StackFailed: the standby was not promoted.
        """
        if self.standby is None or self.has_failed_over:
            return
        # First nobody may write to the old one any more.
        self.postgres.weather.is_closed = True
        self.postgres.hang_up()
        self.signal("postgres", signal.SIGKILL)
        facts = json.loads((self.standby / "replica.json").read_text())
        connection = await asyncpg.connect(facts["database_owner_url"])
        try:
            promoted = await connection.fetchval(
                "SELECT pg_promote(true, $1)", int(_PROMOTED_WITHIN_S)
            )
            if not promoted:
                message = "the standby was not promoted"
                raise StackFailed(message)
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()
        self.has_failed_over = True
        self.postgres.weather.is_closed = False


@asynccontextmanager
async def open_chaos_stack(
    folder: Path, *, seeded: random.Random, has_replica: bool
) -> AsyncIterator[ChaosStack]:
    """Start everything; stop it afterwards.

    Raises:
        StackFailed: something did not start.
    """
    data = folder / "data"
    opened: list[ChaosStack] = []

    def find_ledger_port() -> int:
        # The service comes up through the relay, before anybody tells where anything is.
        if opened:
            return opened[0].ledger_port()
        return int(json.loads((data / "postgres" / "postgres.json").read_text())["port"])

    def find_vault_port() -> int:
        return int(json.loads((data / "seaweed" / "seaweed.json").read_text())["ports"]["s3"])

    def find_api_port() -> int:
        return opened[0].stack.wire.port

    docks = Relay("docks", find_api_port, random.Random(f"{seeded.random()}"))
    s3 = S3Relay("s3", find_vault_port, random.Random(f"{seeded.random()}"))
    postgres = Relay("postgres", find_ledger_port, random.Random(f"{seeded.random()}"))
    replicas: list[subprocess.Popen[bytes]] = []
    async with AsyncExitStack() as started:
        # Ends last: a primary acknowledges nothing without its standby.
        started.push_async_callback(_end_all, replicas)
        for relay in (docks, s3, postgres):
            await relay.open()
            started.push_async_callback(relay.close)
        clock = JumpingClock(folder / "clock")
        running = running_stack(
            folder,
            store="embedded",
            knobs={**KNOBS, **clock.environment()},
            options=["--detour", str(postgres.port), str(s3.port)],
        )
        stack = await asyncio.to_thread(running.__enter__)
        started.push_async_callback(asyncio.to_thread, running.__exit__, None, None, None)
        chaos = ChaosStack(stack, data, docks, s3, postgres, clock, seeded)
        opened.append(chaos)
        if has_replica:
            chaos.standby = folder / "standby"
            replicas.append(await _start_replica(chaos, folder))
        yield chaos


async def _start_replica(chaos: ChaosStack, folder: Path) -> "subprocess.Popen[bytes]":
    standby = folder / "standby"
    log_file = folder / "standby.log"
    process = await asyncio.to_thread(_spawn_replica, chaos.folder / "postgres", standby, log_file)
    deadline = time.monotonic() + _REPLICA_WITHIN_S
    while not (standby / "replica.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            message = f"the standby did not start\n{log_file.read_text(errors='replace')[-3000:]}"
            raise StackFailed(message)
        await asyncio.sleep(_POLL_S)
    return process


def _spawn_replica(primary: Path, standby: Path, log_file: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "ingest_service.dev.replica", str(primary), str(standby)]
    with log_file.open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=dict(os.environ), start_new_session=True
        )


async def _end_all(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
