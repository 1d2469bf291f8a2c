"""`ingest serve`: the HTTP API."""

import os
import signal
import socket
import tempfile
from pathlib import Path
from types import FrameType
from typing import Final, cast

import typer
import uvicorn

from ingest_service.api.draining import SIGNALS
from ingest_service.api.workers import Workers
from ingest_service.cli.startup import EXIT_FAILED, require_settings
from ingest_service.domain.draining import plan_drain

# The API by name: with several workers each process imports it for itself.
_APP: Final = "ingest_service.app:make_app"
_PROTOCOL: Final = "ingest_service.api.wire:GuardedProtocol"
# uvicorn kills a worker that does not answer its parent for 5 s, and with it every connection. On a
# machine that is short of CPU a worker with 11,000 docks is that silent and not dead.
_HUNG_AFTER_S: Final = 60
# libuv accepts one connection per listener in each turn of the loop (its pull request 3696). A loop
# that is busy turns some twenty times a second: a thousand docks that come back together would wait
# for a minute; so the socket is listened on so many times.
_LISTENERS: Final = 16
# Read by prometheus_client when it is imported; the API's processes are new interpreters.
_METRICS_DIR_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


def serve() -> None:
    """Serve the HTTP API until SIGTERM; uploads in flight may then still finish.

    SIGTERM or SIGINT ends it in good order within INGEST_DRAIN_TIMEOUT_S, with exit code 0: nothing
    new is taken, what runs may finish, what is cut keeps its prefix. A second signal ends it at
    once. Settings come from INGEST_* variables. Example:

        INGEST_PORT=8080 INGEST_WORKERS=4 ingest serve
    """
    settings = require_settings()
    if settings.workers > 1:
        _share_metrics(settings.metrics_dir)
    times = plan_drain(
        notice_s=settings.drain_notice_s,
        timeout_s=settings.drain_timeout_s,
        workers=settings.workers,
    )
    config = uvicorn.Config(
        _APP,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=_PROTOCOL,
        ws="none",
        lifespan="on",
        backlog=settings.backlog,
        timeout_keep_alive=settings.keep_alive_s,
        # uvicorn hands it to asyncio, which takes fractions.
        timeout_graceful_shutdown=cast("int", times.server_patience_s),
        timeout_worker_healthcheck=_HUNG_AFTER_S,
        # The application writes its own line per request, and says itself where it is reached.
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    sockets = multiply(config.bind_socket())
    # At its end uvicorn sends the signal again that ended it; by then it has done its work.
    for number in SIGNALS:
        signal.signal(number, _hear_echo)
    if settings.workers > 1:
        Workers(config, sockets).run()
        return
    server = uvicorn.Server(config)
    server.run(sockets)
    if not server.started:
        raise typer.Exit(EXIT_FAILED)


def _hear_echo(_number: int, _frame: FrameType | None) -> None:
    pass


def multiply(listener: socket.socket) -> list[socket.socket]:
    """Return a listening socket so many times that an event loop accepts a crowd in some turns."""
    return [listener, *(listener.dup() for _ in range(_LISTENERS - 1))]


def _share_metrics(folder: Path | None) -> None:
    """Let all workers keep their metrics in one folder, so that any of them can add them up."""
    if _METRICS_DIR_VARIABLE in os.environ:
        return  # whoever started us has made and emptied it
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="ingest-metrics-"))
    folder.mkdir(parents=True, exist_ok=True)
    # Process ids are given out again: files of an earlier run would be added to.
    for file in folder.glob("*.db"):
        file.unlink()
    os.environ[_METRICS_DIR_VARIABLE] = str(folder)
