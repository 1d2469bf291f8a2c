"""A server of the service that kills itself at a step of its work; only tests start it.

Production code has no fault points. Here the vault and the pool that the application gets are
wrapped: before and after each of their awaits, and half-way through every stream of bytes, is a
numbered step; at the step that the test names the process sends itself SIGKILL.

Run as a module it is a nursery: it imports everything once, then forks a process per line on
its standard input, so that a start takes some 50 ms. A line is a JSON object:

    role      "serve" (the API), "work" (one round of finishing and reading back) or "sequence"
              (leads the log until every event has its place and is published);
              "ingest serve" and "ingest work" are those commands, as they are
    die_at    number of the step to die at, from 1, or its name; 0 = never
    report    file for what the process has to say, one JSON object per line
    settings  of the service
    rules     constants of the service to set otherwise, {"module:NAME": value}
"""

import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from aiobotocore.session import get_session

from ingest_service.api.wire import GuardedProtocol
from ingest_service.app import create_app
from ingest_service.cli.serve import serve as serve_command
from ingest_service.cli.work import work as work_command
from ingest_service.jobs.finish_uploads import finish_uploads
from ingest_service.jobs.read_back import read_back_next
from ingest_service.jobs.sequence_log import lead_log
from ingest_service.ledger import clips, custody, log, stations, uploads
from ingest_service.ledger.connection import reading
from ingest_service.resources import Resources, open_resources
from ingest_service.settings import Settings
from ingest_service.telemetry import configure_logging
from ingest_service.vault import s3

_PR_SET_PDEATHSIG: Final = 1
_STATEMENTS: Final = {
    statement: name
    for module in (uploads, clips, custody, stations, log)
    for name, statement in vars(module).items()
    if name.isupper() and isinstance(statement, str)
}

Step = Callable[[str], None]


@dataclass
class Fate:
    """Counts the steps of this process, and ends it at one of them.

    answers  how many steps had been made when each request was answered
    """

    report: Path
    die_at: int | str
    steps: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def watch(self, app: Any) -> Any:
        """Return the application, with a note made of every answer."""

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            await app(scope, receive, send)
            self.answers.append(len(self.steps))

        return watched

    def step(self, name: str) -> None:
        self.steps.append(name)
        if self.die_at in (len(self.steps), name):
            self.tell(died=name)
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(self, **facts: object) -> None:
        with self.report.open("a") as report:
            report.write(json.dumps(facts) + "\n")


class MortalConnection:
    """A connection to Postgres whose every statement is two steps: before and after."""

    def __init__(self, connection: Any, step: Step) -> None:
        self._connection = connection
        self._step = step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name not in {"execute", "fetch", "fetchrow", "fetchval"}:
            return found

        async def run(statement: str, *values: object) -> Any:
            shown = _STATEMENTS.get(statement, " ".join(statement.split())[:40])
            self._step(f"before {shown}")
            answer = await found(statement, *values)
            self._step(f"after {shown}")
            return answer

        return run

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        async with self._connection.transaction():
            yield
            self._step("before COMMIT")
        self._step("after COMMIT")


class MortalPool:
    """A pool that lends such connections."""

    def __init__(self, pool: Any, step: Step) -> None:
        self._pool = pool
        self._step = step

    def get_idle_size(self) -> int:
        return int(self._pool.get_idle_size())

    @asynccontextmanager
    async def acquire(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
        **turn: Any,
    ) -> AsyncIterator[MortalConnection]:
        async with self._pool.acquire(timeout=timeout, **turn) as connection:
            yield MortalConnection(connection, self._step)


class MortalBody:
    """A body on its way to the store; when half of it has been handed over is a step."""

    def __init__(self, body: Any, step: Step, name: str) -> None:
        self._body = body
        self._step = step
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def blocks(self) -> AsyncIterator[bytes]:
        length_bytes, passed_bytes = self._body.length_bytes, 0
        async with aclosing(self._body.blocks()) as blocks:
            async for block in blocks:
                yield block
                if passed_bytes * 2 < length_bytes <= (passed_bytes + len(block)) * 2:
                    # Once around the loop, so that the socket has taken what was written.
                    await asyncio.sleep(0)
                    self._step(f"half-way through {self._name}")
                passed_bytes += len(block)


class MortalVault:
    """A vault whose every call is two steps, and three where bytes stream."""

    def __init__(self, vault: Any, step: Step) -> None:
        self._vault = vault
        self._step = step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._vault, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*values: Any, **named: Any) -> Any:
            *others, last = values
            if name in {"put_object", "put_part"}:
                last = MortalBody(last, self._step, name)
            # What is published differs by what it is: leaves, a tile, a checkpoint.
            shown = f"{name} {others[0].split('/')[1]}" if name == "put_new" else name
            self._step(f"before {shown}")
            answer = await found(*others, last, **named)
            self._step(f"after {shown}")
            return answer

        return call

    async def read(self, key: str, version: str | None, *span: int) -> AsyncIterator[bytes]:
        self._step("before read")
        blocks = [block async for block in self._vault.read(key, version, *span)]
        for number, block in enumerate(blocks):
            yield block
            if number == len(blocks) // 2:
                self._step("half-way through read")
        self._step("after read")


def make_mortal(opened: Resources, step: Step) -> Resources:
    return replace(
        opened, pool=MortalPool(opened.pool, step), vault=MortalVault(opened.vault, step)
    )


async def serve(fate: Fate, settings: dict[str, Any]) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    wired = Settings(**{"base_url": base_url, **settings})
    async with open_resources(wired) as opened:
        config = uvicorn.Config(
            fate.watch(create_app(wired, make_mortal(opened, fate.step))),
            loop="none",
            http=GuardedProtocol,
            lifespan="on",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn's only sign
            await asyncio.sleep(0.002)
        # uvicorn ends by the signal that stopped it; this one is ours, so the steps can be told.
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, lambda: setattr(server, "should_exit", True)
        )
        fate.tell(pid=os.getpid(), base_url=wired.base_url, listens_at=base_url)
        await serving


async def work(fate: Fate, settings: dict[str, Any]) -> None:
    fate.tell(pid=os.getpid(), base_url="")
    async with open_resources(Settings(**settings)) as opened:
        mortal = make_mortal(opened, fate.step)
        await finish_uploads(mortal)
        await read_back_next(mortal)


async def sequence(fate: Fate, settings: dict[str, Any]) -> None:
    fate.tell(pid=os.getpid(), base_url="")
    async with open_resources(Settings(**settings)) as opened:
        is_leading = False

        def step(name: str) -> None:
            nonlocal is_leading
            is_leading = is_leading or "TAKE_QUEUED" in name
            # Asked over and over while nothing waits; what follows is a step of its own.
            if "HAS_QUEUED" not in name:
                fate.step(name if is_leading else f"taking the lead, {name}")

        mortal = make_mortal(opened, step)

        async def lead() -> None:
            while True:
                await lead_log(mortal)

        leading = asyncio.create_task(lead())
        while await is_log_behind(opened) and not leading.done():  # noqa: ASYNC110 - Postgres sets no event
            await asyncio.sleep(0.01)
        steps = list(fate.steps)
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        # Those of giving up the lead are no steps of the work.
        fate.steps = steps


async def is_log_behind(opened: Resources) -> bool:
    async with reading(opened.pool) as connection:
        return bool(
            await log.has_queued(connection) or await log.list_unpublished(connection, limit=1)
        )


def live(order: dict[str, Any]) -> None:
    """The whole life of a forked process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if order["role"].startswith("ingest "):
        set_rules(order["rules"])
        obey(order)
        return
    configure_logging(form="json", level="warning")
    fate = Fate(Path(order["report"]), order["die_at"])
    set_rules(order["rules"])
    run = {"serve": serve, "work": work, "sequence": sequence}[order["role"]]
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run(fate, order["settings"]))
    fate.tell(steps=fate.steps, answers=fate.answers)


def set_rules(rules: dict[str, Any]) -> None:
    for place, value in rules.items():
        module, _, name = place.partition(":")
        setattr(importlib.import_module(module), name, value)


def obey(order: dict[str, Any]) -> None:
    """Be a command of the service: what it logs goes to `<report>.log`."""
    log = os.open(f"{order['report']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ |= {
        f"INGEST_{name.upper()}": str(value) for name, value in order["settings"].items()
    }
    with Path(order["report"]).open("a") as report:
        report.write(json.dumps({"pid": os.getpid()}) + "\n")
    command = {"ingest serve": serve_command, "ingest work": work_command}[order["role"]]
    command()


def nurse() -> None:
    """Fork for every order, and report how each of the forked ended; until the input ends."""
    warm_up()
    awake, wake = socket.socketpair()
    for end in (awake, wake):
        os.set_blocking(end.fileno(), False)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, str] = {}
    orders = b""
    while True:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            awake.recv(4096)
            bury(reports)
        if 0 not in ready:
            continue
        received = os.read(0, 65536)
        if not received:
            return
        *lines, orders = (orders + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                be_born(order)
            reports[pid] = order["report"]


def warm_up() -> None:
    """Let all forked processes share what botocore reads from its files: most of a start."""
    session = get_session()
    s3.get_session = lambda: session

    async def open_once() -> None:
        async with session.create_client("s3", region_name="us-east-1"):
            pass

    asyncio.run(open_once())


def be_born(order: dict[str, Any]) -> None:
    status = 1
    try:
        live(order)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever ends a fork, its parent's stack is not run
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def bury(reports: dict[int, str]) -> None:
    while reports:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with Path(reports.pop(pid)).open("a") as report:
            report.write(json.dumps({"ended": os.waitstatus_to_exitcode(status)}) + "\n")


if __name__ == "__main__":
    nurse()
