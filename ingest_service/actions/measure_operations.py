"""Measure: what operators look at, once for however many of them look."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final

from ingest_service.actions.count_completeness import AtRisk, measure_risk
from ingest_service.domain.clock import Clock
from ingest_service.ledger import operations
from ingest_service.ledger.completeness import StationAtRisk
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.operations import (
    Backlog,
    BoroughUploads,
    LogState,
    Point,
    Queue,
    StationWork,
    Traffic,
)
from ingest_service.ledger.webhooks import measure_webhooks

# However many pages are open at a process, it measures so often at most. What is at risk reads a
# row per camera that has something, and changes slowly.
FRESH_S: Final = 2.0
RISK_FRESH_S: Final = 10.0
RATE_OVER_S: Final = 10
STATIONS_OVER_S: Final = 900.0
_WORST_MAX: Final = 5
# A station is slow when its streams run at less than half of the median, if there are some to
# compare with and if it sent enough to tell.
_SLOW_SHARE: Final = 0.5
_COMPARED_MIN: Final = 3
_SLOW_BYTES_MIN: Final = 1024 * 1024
# (step in seconds, steps) of a history of so many minutes.
WINDOWS: Final[dict[int, tuple[int, int]]] = {5: (5, 60), 15: (15, 60), 60: (30, 120)}


@dataclass(frozen=True, slots=True)
class Webhooks:
    """lag_events: what the one that is farthest behind was not told."""

    lag_events: int
    failing_count: int
    disabled_count: int


@dataclass(frozen=True, slots=True)
class WorstStation:
    """A station that somebody should look at.

    reasons    of stalled, failing, slow
    unsecured_bytes   known to be on cameras that were last there, and not safe
    stream_bytes_s    mean rate of a request with a body, lately; None: there was none
    """

    station_id: str
    site_id: str
    borough: str
    reasons: tuple[str, ...]
    unsecured_bytes: int
    last_progress_at: datetime | None
    request_count: int
    failed_count: int
    stream_bytes_s: float | None


@dataclass(frozen=True, slots=True)
class Operations:
    """How the service stands.

    recent    what all processes did in the last RATE_OVER_S seconds
    log_lag   of the custody log's oldest event that waits for its place
    """

    measured_at: datetime
    recent: Traffic
    active: list[BoroughUploads]
    open_count: int
    risk: AtRisk
    risk_measured_at: datetime
    queues: list[Queue]
    log: LogState
    webhooks: Webhooks
    stations: list[WorstStation]
    points: list[Point]
    step_s: int

    @property
    def log_lag(self) -> timedelta:
        """For how long the oldest event waits for its place in the log."""
        return _age(find_queue(self.queues, "sequencing").waiting_since, self.measured_at)


class OperationsBoard:
    """Measures, and remembers it for two seconds: a hundred open pages cost as much as one.

    Each figure is an index range with a bound (`ledger/operations.py`), so a measurement costs the
    same whatever the archive holds. It goes before all who wait for a connection: when the ledger
    is overloaded, this is what people look at.

    Concurrency: any number of tasks of one event loop.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        expires_after: timedelta,
        fixity_interval_s: float,
        now: Clock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self._expires_after = expires_after
        self._fixity_interval_s = fixity_interval_s
        self._now = now
        self._monotonic = monotonic
        self._measuring = asyncio.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

    async def measure(self, minutes: int) -> Operations:
        """Return how the service stands, with the history of so many minutes (of WINDOWS).

        Raises:
            LedgerUnavailable: nothing is known.
        """
        async with self._measuring:
            risk, risk_measured_at = await self._remember("risk", RISK_FRESH_S, self._measure_risk)
            figures = await self._remember("figures", FRESH_S, self._measure_figures)
            step_s, count = WINDOWS[minutes]

            async def list_points() -> list[Point]:
                async with reading(self._pool, is_urgent=True) as connection:
                    return await operations.list_points(connection, step_s=step_s, count=count)

            points = await self._remember(f"points {minutes}", FRESH_S, list_points)
        measured_at, recent, active, open_count, queues, log, webhooks, work = figures
        return Operations(
            measured_at,
            recent,
            active,
            open_count,
            risk,
            risk_measured_at,
            queues,
            log,
            webhooks,
            choose_worst(risk, work),
            points,
            step_s,
        )

    async def _remember(
        self, name: str, fresh_s: float, measure: Callable[[], Awaitable[Any]]
    ) -> Any:  # noqa: ANN401 - whatever is measured
        kept = self._kept.get(name)
        if kept is not None and self._monotonic() - kept[0] < fresh_s:
            return kept[1]
        measured = await measure()
        self._kept[name] = (self._monotonic(), measured)
        return measured

    async def _measure_risk(self) -> tuple[AtRisk, datetime]:
        risk = await measure_risk(
            expires_after=self._expires_after, pool=self._pool, now=self._now, is_urgent=True
        )
        return risk, self._now()

    async def _measure_figures(self) -> tuple[Any, ...]:
        async with reading(self._pool, is_urgent=True) as connection:
            measured_at = self._now()
            recent = await operations.sum_recent(connection, over_s=RATE_OVER_S)
            active = await operations.list_active(
                connection, expires_after_s=self._expires_after.total_seconds()
            )
            open_count = await operations.count_open(connection)
            queues = await operations.measure_queues(
                connection, fixity_interval_s=self._fixity_interval_s
            )
            log = await operations.find_log_state(connection)
            webhooks = Webhooks(*await measure_webhooks(connection, log.checkpoint_size or 0))
            work = await operations.list_station_work(connection, over_s=STATIONS_OVER_S)
        return measured_at, recent, active, open_count, queues, log, webhooks, work


async def measure_backlog(
    *, pool: Pool, expires_after: timedelta, fixity_interval_s: float, now: Clock
) -> Backlog:
    """Return what waits now.

    Raises:
        LedgerUnavailable: nothing is known.
    """
    risk = await measure_risk(expires_after=expires_after, pool=pool, now=now)
    async with reading(pool) as connection:
        active = await operations.list_active(
            connection, expires_after_s=expires_after.total_seconds()
        )
        queues = await operations.measure_queues(connection, fixity_interval_s=fixity_interval_s)
    waiting = {queue.name: queue.waiting_count for queue in queues}
    return Backlog(
        active_count=sum(each.active_count for each in active),
        unsecured_bytes=risk.unsecured_bytes,
        stalled_count=len(risk.stalled),
        finishing_count=waiting["finishing"],
        read_back_count=waiting["read_back"],
        sequencing_count=waiting["sequencing"],
        manifest_count=waiting["manifests"],
        log_lag_s=_age(find_queue(queues, "sequencing").waiting_since, now()).total_seconds(),
    )


def find_queue(queues: list[Queue], name: str) -> Queue:
    """Return the queue of a name."""
    return next(queue for queue in queues if queue.name == name)


def choose_worst(risk: AtRisk, work: list[StationWork]) -> list[WorstStation]:
    """Return the stations that stand out, each once with every reason; at most five of a reason.

    First those that stall, by what their cameras hold; then those that fail; then the slow ones.
    """
    working = {each.station_id: each for each in work}
    risky = {each.station_id: each for each in risk.stations}
    failing = sorted((each for each in work if each.failed_count), key=_by_failures)
    reasons: dict[str, list[str]] = {}
    for name, found in (
        ("stalled", [each.station_id for each in risk.stalled]),
        ("failing", [each.station_id for each in failing]),
        ("slow", _list_slow(work)),
    ):
        for station_id in found[:_WORST_MAX]:
            reasons.setdefault(station_id, []).append(name)
    return [
        _describe(station_id, tuple(why), working.get(station_id), risky.get(station_id))
        for station_id, why in reasons.items()
    ]


def _by_failures(station: StationWork) -> tuple[int, str]:
    return (-station.failed_count, station.station_id)


def _list_slow(work: list[StationWork]) -> list[str]:
    rates = {
        each.station_id: each.received_bytes / each.receiving_s
        for each in work
        if each.received_bytes >= _SLOW_BYTES_MIN and each.receiving_s > 0
    }
    if len(rates) < _COMPARED_MIN:
        return []
    limit = median(rates.values()) * _SLOW_SHARE
    slow = [station_id for station_id, rate in rates.items() if rate < limit]
    return sorted(slow, key=lambda station_id: rates[station_id])


def _describe(
    station_id: str,
    reasons: tuple[str, ...],
    work: StationWork | None,
    risk: StationAtRisk | None,
) -> WorstStation:
    place = work or risk
    has_rate = work is not None and work.receiving_s > 0
    return WorstStation(
        station_id,
        place.site_id if place else "",
        place.borough if place else "",
        reasons,
        0 if risk is None else risk.unsecured_bytes,
        None if risk is None else risk.last_progress_at,
        0 if work is None else work.request_count,
        0 if work is None else work.failed_count,
        work.received_bytes / work.receiving_s if work is not None and has_rate else None,
    )


def _age(since: datetime | None, now: datetime) -> timedelta:
    return max(timedelta(), now - since) if since is not None else timedelta()
