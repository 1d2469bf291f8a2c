"""The processes of `ingest serve`: watched without waiting, and never without their parent."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait
from socket import socket
from types import FrameType
from typing import Final

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from ingest_service.api.draining import EXIT_SIGNALLED, SIGNALS

_PING: Final = b"ping"

logger = logging.getLogger("uvicorn.error")


class Worker(Process):
    """One process of the API.

    uvicorn asks a worker whether it lives and waits for the answer, here up to a minute: one that
    is killed meanwhile, or only stopped, would keep the parent from replacing it and all others,
    and deaf to SIGTERM. This one is asked, and its answer looked for at the next round.
    """

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._asked_at: float | None = None

    def is_alive(self, timeout: float = 5) -> bool:
        """Tell at once whether the process runs and has not been silent for `timeout` seconds."""
        if not self.process.is_alive():
            return False
        try:
            while self.parent_conn.poll():
                self.parent_conn.recv()
                self._asked_at = None
            if self._asked_at is None:
                self._asked_at = time.monotonic()
                self.parent_conn.send(_PING)
        except (OSError, EOFError):
            return False
        return time.monotonic() - self._asked_at < timeout

    def target(self, sockets: list[socket] | None = None) -> None:
        """Serve until SIGTERM, or until the parent is gone."""
        threading.Thread(target=_end_with_parent, daemon=True).start()
        super().target(sockets)


def _end_with_parent() -> None:
    """End in good order when the parent has died: its successor needs the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


class Workers(Multiprocess):
    """Several processes of the API on the same sockets.

    A first signal is handed on, and they drain; a second one ends them, and this one, at once.
    """

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._is_told = False
        for number in SIGNALS:
            signal.signal(number, self._hear)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self._is_told:
            for each in self.processes:
                each.process.kill()
            os._exit(EXIT_SIGNALLED + number)
        self._is_told = True
        self.signal_queue.append(number)

    def init_processes(self) -> None:
        """Start them."""
        self.processes += [self._start_one() for _ in range(self.processes_num)]

    def keep_subprocess_alive(self) -> None:
        """Replace those that have died or are silent for too long.

        A worker that fails before it serves ends the parent: it would fail again and again.
        """
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                continue
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                logger.error("worker %s failed to start", process.pid)
                self.should_exit.set()
                return
            logger.warning("worker %s died", process.pid)
            self.processes[index] = self._start_one()

    def _start_one(self) -> Worker:
        worker = Worker(self.config, self.sockets)
        worker.start()
        return worker
