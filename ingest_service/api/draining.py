"""Between SIGTERM and the end of a server process: who is warned, refused, waited for, cut.

uvicorn alone closes its port, waits, and then cancels what still runs while the pool is closed
already: the prefix of a body that is cut so is lost.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from types import FrameType
from typing import Final

import structlog

from ingest_service.domain.draining import Drain, DrainTimes
from ingest_service.errors import ShuttingDown

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# As a shell reports who was ended by a signal.
EXIT_SIGNALLED: Final = 128

_LOG: Final = structlog.get_logger("ingest.drain")
_POLL_S: Final = 0.05


@contextmanager
def draining(drain: Drain, times: DrainTimes) -> Iterator[None]:
    """Let SIGTERM and SIGINT drain this process first, and only then end its server.

    A second signal ends the process at once, as a crash would: what was acknowledged is kept.
    Those that another process started leave that to it, for a terminal or an init system may
    send them the same signal that it hands on.
    """
    loop = asyncio.get_running_loop()
    ends_server = {number: signal.getsignal(number) for number in SIGNALS}
    told: list[int] = []
    tasks: list[asyncio.Task[None]] = []

    def begin(number: int, frame: FrameType | None) -> None:
        ends = ends_server[signal.Signals(number)]
        if callable(ends):
            tasks.append(asyncio.create_task(_run(drain, times, lambda: ends(number, frame))))

    def hear(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if len(told) == 1:
            end_after(times.end_at)
            loop.call_soon_threadsafe(begin, number, frame)
        elif parent_process() is None:
            os._exit(EXIT_SIGNALLED + number)

    for number in SIGNALS:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if not told:
            for number, handler in ends_server.items():
                signal.signal(number, handler)


def end_after(timeout_s: float) -> None:
    """End this process by then, whatever hangs: nothing that was acknowledged needs its end."""
    timer = threading.Timer(timeout_s, os._exit, (0,))
    timer.daemon = True
    timer.start()


async def _run(drain: Drain, times: DrainTimes, end_server: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    told_at = loop.time()

    async def until(moment: float) -> None:
        await asyncio.sleep(told_at + moment - loop.time())

    drain.leave()
    _LOG.info("drain_begun", requests=drain.in_flight)
    await until(times.refuse_at)
    drain.refuse()
    while drain.in_flight and loop.time() < told_at + times.close_at:  # noqa: ASYNC110 - a count
        await asyncio.sleep(_POLL_S)
    end_server()
    await until(times.cut_at)
    cut = drain.cut(ShuttingDown())
    _LOG.warning("drain_cut", bodies=cut, requests=drain.in_flight)
