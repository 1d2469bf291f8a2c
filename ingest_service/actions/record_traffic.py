"""Record: what this process does, in samples to which every process adds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from random import random
from typing import Final

import structlog
from prometheus_client import Counter

from ingest_service import telemetry
from ingest_service.errors import Unavailable
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.operations import (
    SAMPLE_S,
    StationTraffic,
    Traffic,
    add_stations,
    add_traffic,
)

# Processes add so long after a sample's end, and not all at once.
_AFTER_S: Final = 0.2
_SPREAD_S: Final = 1.0
# Stations are known by their tokens, so there are no more of them than were registered; a bound all
# the same, for a process that cannot write for hours.
_STATIONS_MAX: Final = 5000
_REFUSED_FROM: Final = 400
_FAILED_FROM: Final = 500

_LOG: Final = structlog.get_logger("ingest.traffic")


@dataclass(slots=True)
class _Tally:
    """A station's requests that were not written yet."""

    request_count: int = 0
    failed_count: int = 0
    received_bytes: int = 0
    receiving_s: float = 0.0


class TrafficMeter:
    """Adds what this process did to the ledger's samples, every five seconds.

    Bytes and clips are the process's own metrics, so whatever counts for Prometheus counts here.
    Figures for people, not evidence: a process that is killed takes up to five seconds of them
    along, and when the answer of a write is lost they may be counted twice. A process that did
    nothing writes nothing.

    Concurrency: any number of tasks of one event loop.
    """

    def __init__(self, *, spread: Callable[[], float] = random) -> None:
        self._shed_count = 0
        self._failed_count = 0
        self._before = self._read()
        self._stations: dict[str, _Tally] = {}
        self._after_s = _AFTER_S + spread() * _SPREAD_S

    def note(
        self,
        station_id: str | None,
        *,
        status: int,
        is_shed: bool,
        received_bytes: int,
        seconds: float,
    ) -> None:
        """Note a request that ended; writes nothing.

        station_id      None: of somebody else
        is_shed         refused because too much was in work
        received_bytes  of its body, 0 = it had none
        """
        if is_shed:
            self._shed_count += 1
        elif status >= _FAILED_FROM:
            self._failed_count += 1
        if station_id is None:
            return
        tally = self._stations.get(station_id)
        if tally is None:
            if len(self._stations) >= _STATIONS_MAX:
                return
            tally = self._stations[station_id] = _Tally()
        tally.request_count += 1
        if status >= _REFUSED_FROM:
            tally.failed_count += 1
        if received_bytes:
            tally.received_bytes += received_bytes
            tally.receiving_s += seconds

    async def flush(self, pool: Pool) -> float:
        """Write what was done since the last time; return after how many seconds it is due again.

        Raises:
            LedgerUnavailable: it is kept, and written the next time.
        """
        present = self._read()
        done = present.minus(self._before)
        stations, self._stations = self._stations, {}
        rest_s = float(SAMPLE_S)
        try:
            if done != Traffic():
                async with reading(pool) as connection:
                    age_s = await add_traffic(connection, done)
                self._before = present
                rest_s = SAMPLE_S - age_s + self._after_s
            if stations:
                async with writing(pool) as connection:
                    await add_stations(connection, _list_stations(stations))
        except BaseException:
            self._keep(stations)
            raise
        return rest_s

    def _read(self) -> Traffic:
        """Return what this process has done since it started."""
        return replace(
            read_counters(), shed_count=self._shed_count, failed_count=self._failed_count
        )

    def _keep(self, stations: dict[str, _Tally]) -> None:
        for station_id, older in stations.items():
            tally = self._stations.setdefault(station_id, _Tally())
            tally.request_count += older.request_count
            tally.failed_count += older.failed_count
            tally.received_bytes += older.received_bytes
            tally.receiving_s += older.receiving_s

    @asynccontextmanager
    async def running(self, pool: Pool) -> AsyncIterator[None]:
        """Write every five seconds while the block runs, and the rest at its end."""
        task = asyncio.create_task(self._run(pool))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            with suppress(Unavailable):
                await self.flush(pool)

    async def _run(self, pool: Pool) -> None:
        rest_s = float(SAMPLE_S)
        while True:
            await asyncio.sleep(rest_s)
            rest_s = float(SAMPLE_S)
            try:
                started = time.monotonic()
                rest_s = await self.flush(pool)
                rest_s = max(1.0, rest_s - (time.monotonic() - started))
            except Unavailable:
                # Everybody else says so already; what was done is written the next time.
                continue
            except Exception:  # noqa: BLE001 - this loop is one of a job's kind
                # Whatever one round meets, the next is tried.
                telemetry.JOB_RUNS.labels("traffic", "failed").inc()
                _LOG.exception("traffic_failed")


def read_counters() -> Traffic:
    """Return bytes and clips of this process since it started."""
    return Traffic(
        received_bytes=_sum(telemetry.CHUNK_BYTES),
        received_count=_sum(telemetry.CLIPS_RECEIVED),
        secured_bytes=_sum(telemetry.SECURED_BYTES),
        secured_count=_sum(telemetry.CLIPS_SECURED),
        quarantined_count=_sum(telemetry.CLIPS_QUARANTINED),
    )


def _sum(counter: Counter) -> int:
    return int(
        sum(
            sample.value
            for metric in counter.collect()
            for sample in metric.samples
            if sample.name.endswith("_total")
        )
    )


def _list_stations(stations: dict[str, _Tally]) -> list[StationTraffic]:
    return [
        StationTraffic(
            station_id,
            each.request_count,
            each.failed_count,
            each.received_bytes,
            each.receiving_s,
        )
        for station_id, each in stations.items()
    ]
