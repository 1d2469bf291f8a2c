"""The one loop of every job: run, rest, never die of one bad round."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from ingest_service import telemetry
from ingest_service.errors import Unavailable
from ingest_service.tracing import spans

log = structlog.get_logger()


async def repeat(
    name: str,
    run_once: Callable[[], Awaitable[int]],
    *,
    interval_s: float,
    stop: asyncio.Event,
    is_traced: bool = True,
) -> None:
    """Run a job until told to stop: at once again while it finds work, else after interval_s.

    run_once   does a bounded amount of work and returns how much it found
    stop       what is being done is done to its end, and nothing after it
    is_traced  each round is a trace, where tracing is on; a long one begins its own
    """
    while not stop.is_set():
        found = 0
        failure: Exception | None = None
        started = time.perf_counter()
        round_ = spans.tracer.begin_job(name) if spans.tracer is not None and is_traced else None
        try:
            found = await run_once()
            telemetry.JOB_RUNS.labels(name, "ok").inc()
        except Unavailable as error:
            failure = error
            # Postgres or S3 is away: the state in the ledger waits.
            telemetry.JOB_RUNS.labels(name, "unavailable").inc()
            log.warning("job_unavailable", job=name, reason=str(error.facts()))
        except Exception as error:
            failure = error
            # The broad except lives here alone: a job outlives whatever one round meets.
            telemetry.JOB_RUNS.labels(name, "failed").inc()
            log.exception("job_failed", job=name)
        if round_ is not None:
            round_.settle(found=found, error=failure)
        telemetry.JOB_SECONDS.labels(name).observe(time.perf_counter() - started)
        if not found:
            await rest(interval_s, stop)


async def rest(pause_s: float, stop: asyncio.Event) -> None:
    """Wait so long, or until told to stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(pause_s):
            await stop.wait()
