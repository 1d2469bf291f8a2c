"""Count: what each camera recorded against what came in, and what is not safe yet."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ingest_service.actions.read_feed import FeedTail
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import WORKER, Happening, make_device_events
from ingest_service.domain.principal import Principal
from ingest_service.ledger import completeness
from ingest_service.ledger.completeness import (
    Completeness,
    CompletenessFilter,
    StationAtRisk,
    Totals,
)
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.custody import insert_device_events

# Nothing has come from a station for so long although its cameras hold something: it is stalled.
STALLED_AFTER: Final = timedelta(minutes=30)
GAPS_SHOWN_MAX: Final = 100
_WINDOW: Final = 500
_COUNT_MAX: Final = 2**53 - 1
# Events after which a camera is counted again.
_TELLING: Final = (
    "device.manifest_reported",
    "clip.announced",
    "clip.sealed",
    "clip.secured",
    "clip.quarantined",
    "quarantine.resolved",
    "clip.restored",
    "upload.expired",
    "upload.terminated",
    "erase.executed",
)


async def count_next(*, pool: Pool, tail: FeedTail, now: Clock) -> int:
    """Count the cameras again that the next events of the log name; return how many events.

    One transaction: counts, `device.sequence_gap_detected` events and the place in the log move
    together, so each gap is told once. Of several workers one does it at a time.

    Raises:
        LedgerUnavailable: nothing has moved, or all of it.
    """
    log_size = await tail.look()
    async with writing(pool) as connection:
        start = await completeness.lock_cursor(connection)
        if start is None or start >= log_size:
            return 0
        stop = min(start + _WINDOW, log_size)
        touched = await completeness.list_touched(connection, start, stop, _TELLING)
        if touched:
            await completeness.compute(connection, touched)
            for fresh in await completeness.tell_gaps(connection, touched):
                facts = {
                    "station_id": fresh.station_id,
                    "ranges": [list(each) for each in fresh.ranges[:GAPS_SHOWN_MAX]],
                    "range_count": len(fresh.ranges),
                    # A camera may number as it likes; a leaf holds what JSON carries exactly.
                    "recording_count": min(
                        sum(last - first + 1 for first, last in fresh.ranges), _COUNT_MAX
                    ),
                }
                happening = Happening("device.sequence_gap_detected", WORKER, facts)
                await insert_device_events(
                    connection, make_device_events(fresh.device_serial, [happening], now=now())
                )
        await completeness.move_cursor(connection, stop)
    return stop - start


async def list_completeness(
    asked: CompletenessFilter, principal: Principal, *, after: str, limit: int, pool: Pool
) -> tuple[Totals, list[Completeness], str | None]:
    """Return the sums, a page of cameras by serial, and where the next page begins."""
    limited = CompletenessFilter(
        asked.device, asked.station, asked.borough, _limits_of(principal), asked.only_incomplete
    )
    async with reading(pool) as connection:
        totals = await completeness.sum_completeness(connection, limited)
        found = await completeness.list_completeness(
            connection, limited, after=after, limit=limit + 1, gaps_max=GAPS_SHOWN_MAX
        )
    page = found[:limit]
    return totals, page, page[-1].device_serial if len(found) > limit else None


@dataclass(frozen=True, slots=True)
class AtRisk:
    """What cameras hold that is not safe here: announced and not read back, or not even announced.

    stalled   stations from which nothing has come for `STALLED_AFTER`
    """

    unsecured_count: int
    unsecured_bytes: int
    unsecured_since: datetime | None
    stations: list[StationAtRisk]
    stalled: list[StationAtRisk]


async def measure_risk(
    *,
    station: str | None = None,
    borough: str | None = None,
    limits: list[str] | None = None,
    expires_after: timedelta,
    pool: Pool,
    now: Clock,
    is_urgent: bool = False,
) -> AtRisk:
    """Return what is at risk now.

    is_urgent  goes before all who wait for a connection

    Raises:
        LedgerUnavailable: nothing is known.
    """
    async with reading(pool, is_urgent=is_urgent) as connection:
        stations = await completeness.list_at_risk(
            connection,
            station=station,
            borough=borough,
            limits=limits,
            expires_after_s=expires_after.total_seconds(),
        )
    since = now() - STALLED_AFTER
    return AtRisk(
        unsecured_count=sum(each.unsecured_count for each in stations),
        unsecured_bytes=sum(each.unsecured_bytes for each in stations),
        unsecured_since=min(
            (each.unsecured_since for each in stations if each.unsecured_since), default=None
        ),
        stations=stations,
        stalled=[each for each in stations if _is_stalled(each, since)],
    )


def _is_stalled(station: StationAtRisk, since: datetime) -> bool:
    if not station.pending_count:
        # All of it is here; it waits for us, not for the station.
        return False
    moved_at = station.last_progress_at or station.unsecured_since
    return moved_at is not None and moved_at < since


def _limits_of(principal: Principal) -> list[str] | None:
    return None if principal.boroughs is None else sorted(principal.boroughs)
