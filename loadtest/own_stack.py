"""The service on this machine, measured from outside: `ingest dev`, on a null S3 or its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import psutil

from loadtest.dock_wire import Wire

_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1
_ERROR_LINES_MAX: Final = 3


class StackFailed(Exception):
    """The service could not be started for the measurement."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: the wire to it, the processes of each role, what dev.json says, and the logs."""

    wire: Wire
    pids: dict[str, int]
    facts: dict[str, Any] = field(default_factory=dict)
    logs: Path = Path()

    def cpu_s(self, role: str) -> float:
        """Return the CPU time, user and system, that a role's processes have used."""
        used_s = 0.0
        for process in self._processes(role):
            times = process.cpu_times()
            used_s += times.user + times.system
            if role == "postgres":
                # A backend that ended has been added to its parent.
                used_s += times.children_user + times.children_system
        return used_s

    def rss_bytes(self, role: str) -> int:
        """Return the memory that a role's processes hold now."""
        return sum(process.memory_info().rss for process in self._processes(role))

    def last_errors(self) -> list[str]:
        """Return the ends of the logs: what the service said when something failed."""
        told = []
        for log in sorted(self.logs.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            marked = [line for line in lines if '"error"' in line or '"warning"' in line]
            told += [f"{log.name}: {line[:2000]}" for line in marked[-_ERROR_LINES_MAX:]]
        return told

    def _processes(self, role: str) -> list[psutil.Process]:
        parent = psutil.Process(self.pids[role])
        return [parent, *parent.children(recursive=True)]


@contextmanager
def running_stack(
    folder: Path,
    *,
    store: Literal["null", "embedded"] = "null",
    knobs: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Stack]:
    """Start `ingest dev` in a folder, with a null S3 unless told otherwise; stop it afterwards.

    knobs    INGEST_* variables of the service
    options  more of `ingest dev`'s

    Raises:
        StackFailed: with the end of what they said.
    """
    log_file, data = folder / "dev.log", folder / "data"
    command = [sys.executable, "-m", "ingest_service", "dev", "--data", str(data), "--port=0"]
    command += options
    with ExitStack() as started:
        extra_pids = {}
        if store == "null":
            port_file = folder / "null-s3.port"
            null_command = [sys.executable, "-m", "loadtest.null_s3", "--port-file", str(port_file)]
            null = started.enter_context(_child(null_command))
            _wait_for(port_file, null, log_file)
            port = port_file.read_text().strip()
            command.append(f"--s3=http://null:null@127.0.0.1:{port}/evidence")
            extra_pids["null_s3"] = null.pid
        log = started.enter_context(log_file.open("wb"))
        dev = started.enter_context(_child(command, log, {**os.environ, **(knobs or {})}))
        _wait_for(data / "dev.json", dev, log_file)
        facts: dict[str, Any] = json.loads((data / "dev.json").read_text())
        pids = {role: pid for role, pid in facts["pids"].items() if pid is not None}
        yield Stack(wire_of(facts), pids | extra_pids, facts, data / "logs")


def wire_of(facts: Mapping[str, Any]) -> Wire:
    """Return the way to a service that dev.json, or a file of the same form, tells of."""
    url = urlsplit(facts["base_url"])
    return Wire(url.hostname or "", url.port or 80, facts["tokens"]["station"])


@contextmanager
def _child(
    command: list[str],
    log: Any = None,  # noqa: ANN401 - what Popen takes
    environment: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        # Whoever must be killed cannot stop what it has started: that would live on without it.
        family = _find_family(process)
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()


def _find_family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _wait_for(file: Path, process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log_file.read_text(errors="replace")[-3000:] if log_file.exists() else ""
            message = f"{' '.join(map(str, process.args))} did not start\n{said}"  # type: ignore[arg-type]
            raise StackFailed(message)
        time.sleep(_POLL_S)
