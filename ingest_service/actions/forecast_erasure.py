"""Forecast what will be erased if nothing changes; what comes is held against it."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import WORKER, Happening, make_device_events
from ingest_service.domain.principal import Principal
from ingest_service.ledger import erasures
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.custody import insert_device_events
from ingest_service.ledger.erasures import DayCount, Expected

# Made every day for so many: work that stood still for weeks still knows what was expected.
HORIZON_DAYS: Final = 40


async def forecast_erasure(
    until: datetime, principal: Principal, *, pool: Pool, now: Clock
) -> list[Expected]:
    """Return what will be scheduled for erasure until then, by day, category and borough."""
    limits = None if principal.boroughs is None else sorted(principal.boroughs)
    async with reading(pool) as connection:
        return await erasures.forecast(connection, now(), until, limits)


async def make_forecast(*, pool: Pool, now: Clock) -> bool:
    """Record today's forecast, once a day (UTC); True: it was made now.

    What is due on a day is held against the newest forecast of the days before.

    Raises:
        LedgerUnavailable: none was recorded.
    """
    moment = now()
    midnight = start_of(moment.astimezone(UTC).date())
    async with reading(pool) as connection:
        last = await erasures.find_last_forecast(connection)
    if last is not None and last >= midnight:
        return False
    stop = midnight + timedelta(days=HORIZON_DAYS)
    async with writing(pool) as connection:
        found = {
            day.due_on: day for day in await erasures.count_due_by_day(connection, midnight, stop)
        }
        days = [
            found.get(day, DayCount(day, 0, 0))
            for day in (midnight.date() + timedelta(days=n) for n in range(HORIZON_DAYS))
        ]
        await erasures.insert_forecasts(connection, days, moment)
        facts = {
            "days": HORIZON_DAYS,
            "clip_count": sum(day.clip_count for day in days),
            "total_bytes": sum(day.total_bytes for day in days),
            "tomorrow_clip_count": days[1].clip_count,
            "tomorrow_total_bytes": days[1].total_bytes,
        }
        made = Happening("erase.forecast", WORKER, facts)
        await insert_device_events(connection, make_device_events(None, [made], now=moment))
    return True


def start_of(day: date) -> datetime:
    """Return the first instant of a day, UTC."""
    return datetime.combine(day, time.min, UTC)
