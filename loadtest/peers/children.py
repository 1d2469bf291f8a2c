"""Server processes of a comparison: started, awaited, stopped again; never anybody else's."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_START_TIMEOUT_S: Final = 120.0
_STOP_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.1
_LOG_TAIL: Final = 2000


class StartFailed(Exception):
    """A server did not start; the message holds the end of what it said."""


@contextmanager
def running(
    command: Sequence[str],
    *,
    log_file: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a session of its own; end it, the hard way if need be, afterwards."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=None if environment is None else {**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_file(file: Path, process: subprocess.Popen[bytes], log_file: Path) -> None:
    """Return when a server has written the file that says it is ready.

    Raises:
        StartFailed: it ended, or took too long.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not file.exists():
        _check(process, log_file, deadline)


def wait_for_http(port: int, process: subprocess.Popen[bytes], log_file: Path) -> None:
    """Return when a server answers HTTP requests, whatever it answers.

    Raises:
        StartFailed: it ended, or took too long.
    """
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
        try:
            connection.request("OPTIONS", "/files")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            _check(process, log_file, deadline)
        else:
            return
        finally:
            connection.close()


def _check(process: subprocess.Popen[bytes], log_file: Path, deadline: float) -> None:
    if process.poll() is not None or time.monotonic() > deadline:
        said = log_file.read_text(errors="replace")[-_LOG_TAIL:]
        message = f"{Path(str(process.args[0])).name} did not start: {said}"  # type: ignore[index]
        raise StartFailed(message)
    time.sleep(_POLL_S)


def pick_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
