"""Every job in one process, until it is told to stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog

from ingest_service.domain.draining import DrainTimes
from ingest_service.jobs.beat import beat_once
from ingest_service.jobs.check_fixity import check_next_fixity
from ingest_service.jobs.compute_retention import compute_retention
from ingest_service.jobs.count_completeness import count_completeness, measure_at_risk
from ingest_service.jobs.deliver_webhooks import deliver_webhooks, measure_lag
from ingest_service.jobs.enforce_retention import enforce_retention, sync_holds
from ingest_service.jobs.every import repeat
from ingest_service.jobs.expire_uploads import expire_uploads
from ingest_service.jobs.finish_uploads import finish_uploads
from ingest_service.jobs.fold_counts import fold_counts
from ingest_service.jobs.join_partials import join_due_partials
from ingest_service.jobs.measure_queues import measure_queues
from ingest_service.jobs.probe_media import probe_next_media
from ingest_service.jobs.read_back import read_back_next
from ingest_service.jobs.sample_backlog import EVERY_S, sample_backlog
from ingest_service.jobs.sequence_log import lead_log
from ingest_service.jobs.settle_disclosures import settle_disclosures
from ingest_service.jobs.stamp_checkpoint import stamp_when_due
from ingest_service.jobs.sweep_leftovers import sweep_leftovers
from ingest_service.jobs.write_manifests import write_manifests
from ingest_service.resources import Resources

log = structlog.get_logger()
# Expiry and sweeping wait for minutes and days anyway.
_SLOW: Final = 10
# Where footage always comes in one clip per rest is probed: enough for a day's clips in a day.
_PROBE_REST: Final = 3
_A_MINUTE_S: Final = 60.0
_A_QUARTER_MINUTE_S: Final = 15.0
_EXIT_SIGNALLED: Final = 128
# Who leads the log does so for days: its batches are what is traced.
_OWN_TRACES: Final = frozenset({"sequence_log"})
# A webhook that does not answer holds up one of them for some seconds, and rests then.
_WEBHOOKS_AT_ONCE: Final = 4


async def run_jobs(opened: Resources) -> None:
    """Run until SIGTERM or SIGINT: then each job ends the step that it is at, and the process.

    It is gone within the drain time: a step that takes longer is broken off, in a state that
    another process resumes. A second signal ends it at once.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear(number: int) -> None:
        if stop.is_set():
            os._exit(_EXIT_SIGNALLED + number)
        stop.set()
        # Whatever hangs: nothing that was done needs this process to end well.
        last = threading.Timer(opened.jobs.drain_timeout_s, os._exit, (0,))
        last.daemon = True
        last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear, number)
    await run_until(opened, stop)


async def run_until(opened: Resources, stop: asyncio.Event) -> None:
    """Run the jobs until the event is set, and each of them to the end of its step."""
    pause_s = opened.jobs.interval_s
    plan: dict[str, tuple[Callable[[Resources], Awaitable[int]], float]] = {
        "sequence_log": (partial(lead_log, stop=stop), 0.5),
        "beat": (beat_once, pause_s),
        "finish_uploads": (finish_uploads, pause_s),
        "join_partials": (join_due_partials, pause_s),
        "expire_uploads": (expire_uploads, pause_s * _SLOW),
        "sweep_leftovers": (sweep_leftovers, pause_s * _SLOW),
        "stamp_checkpoint": (stamp_when_due, pause_s * _SLOW),
        "write_manifests": (write_manifests, pause_s * _SLOW),
        "fold_counts": (fold_counts, pause_s * _SLOW),
        "count_completeness": (count_completeness, pause_s * _SLOW),
        "measure_at_risk": (measure_at_risk, _A_MINUTE_S),
        "measure_queues": (measure_queues, _A_QUARTER_MINUTE_S),
        "sample_backlog": (sample_backlog, EVERY_S),
        "measure_webhooks": (measure_lag, pause_s * _SLOW),
        "check_fixity": (check_next_fixity, pause_s * _SLOW),
        "probe_media": (probe_next_media, pause_s * _PROBE_REST),
        "compute_retention": (compute_retention, pause_s * _SLOW),
        "enforce_retention": (enforce_retention, pause_s * _SLOW),
        "sync_holds": (sync_holds, pause_s * _SLOW),
        "settle_disclosures": (settle_disclosures, pause_s * _SLOW),
    }
    tasks = [
        asyncio.create_task(
            repeat(
                name,
                partial(run_once, opened),
                interval_s=interval_s,
                stop=stop,
                is_traced=name not in _OWN_TRACES,
            )
        )
        for name, (run_once, interval_s) in plan.items()
    ]
    tasks += [
        asyncio.create_task(
            repeat("read_back", partial(read_back_next, opened), interval_s=pause_s, stop=stop)
        )
        for _ in range(opened.jobs.read_back_concurrency)
    ]
    tasks += [
        asyncio.create_task(
            repeat(
                "deliver_webhooks", partial(deliver_webhooks, opened), interval_s=pause_s, stop=stop
            )
        )
        for _ in range(_WEBHOOKS_AT_ONCE)
    ]
    log.info("jobs_started", worker=opened.holders.name)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        log.info("jobs_stopping", worker=opened.holders.name)
        # The rest is for closing the pool and the store.
        times = DrainTimes.plan(notice_s=0, timeout_s=opened.jobs.drain_timeout_s)
        _, late = await asyncio.wait(tasks, timeout=times.cut_at)
        if late:
            log.warning("jobs_broken_off", worker=opened.holders.name, count=len(late))
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
    log.info("jobs_stopped", worker=opened.holders.name)
