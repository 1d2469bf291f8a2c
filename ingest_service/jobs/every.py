"""The one loop of every job: run, rest, never die of one bad round."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ingest_service import telemetry
from ingest_service.errors import Unavailable

log = structlog.get_logger()


async def repeat(
    name: str,
    run_once: Callable[[], Awaitable[int]],
    *,
    interval_s: float,
    stop: asyncio.Event,
) -> None:
    """Run a job until told to stop: at once again while it finds work, else after interval_s.

    run_once  does a bounded amount of work and returns how much it found
    stop      what is being done is done to its end, and nothing after it
    """
    while not stop.is_set():
        found = 0
        started = time.perf_counter()
        try:
            found = await run_once()
            telemetry.JOB_RUNS.labels(name, "ok").inc()
        except Unavailable as error:
            # Postgres or S3 is away: the state in the ledger waits.
            telemetry.JOB_RUNS.labels(name, "unavailable").inc()
            log.warning("job_unavailable", job=name, reason=str(error.facts()))
        except Exception:
            # The broad except lives here alone: a job outlives whatever one round meets.
            telemetry.JOB_RUNS.labels(name, "failed").inc()
            log.exception("job_failed", job=name)
        telemetry.JOB_SECONDS.labels(name).observe(time.perf_counter() - started)
        if not found:
            await rest(interval_s, stop)


async def rest(pause_s: float, stop: asyncio.Event) -> None:
    """Wait so long, or until told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await stop.wait()
