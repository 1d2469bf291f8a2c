"""The service on this machine, measured from outside: `ingest dev` on a null S3."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from loadtest.dock_wire import Wire

_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1


class StackFailed(Exception):
    """The service could not be started for the measurement."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: the wire to it, and the processes of each role."""

    wire: Wire
    pids: dict[str, int]

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

    def _processes(self, role: str) -> list[psutil.Process]:
        parent = psutil.Process(self.pids[role])
        return [parent, *parent.children(recursive=True)]


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Start null S3 and `ingest dev` in a folder; stop both afterwards.

    Raises:
        StackFailed: with the end of what they said.
    """
    port_file, log_file = folder / "null-s3.port", folder / "dev.log"
    with _child([sys.executable, "-m", "loadtest.null_s3", "--port-file", str(port_file)]) as null:
        _wait_for(port_file, null, log_file)
        s3 = f"http://null:null@127.0.0.1:{port_file.read_text().strip()}/evidence"
        data = folder / "data"
        command = [sys.executable, "-m", "ingest_service", "dev", "--data", str(data)]
        with log_file.open("wb") as log, _child([*command, "--port=0", f"--s3={s3}"], log) as dev:
            _wait_for(data / "dev.json", dev, log_file)
            told: dict[str, Any] = json.loads((data / "dev.json").read_text())
            url = urlsplit(told["base_url"])
            wire = Wire(url.hostname or "", url.port or 80, told["tokens"]["station"])
            yield Stack(wire, {**told["pids"], "null_s3": null.pid})


@contextmanager
def _child(command: list[str], log: Any = None) -> Iterator[subprocess.Popen[bytes]]:  # noqa: ANN401 - what Popen takes
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(file: Path, process: subprocess.Popen[bytes], log_file: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = log_file.read_text(errors="replace")[-3000:] if log_file.exists() else ""
            message = f"{' '.join(map(str, process.args))} did not start\n{said}"  # type: ignore[arg-type]
            raise StackFailed(message)
        time.sleep(_POLL_S)
