"""Answer auditors: every event of a clip, a person, a device, or of a period, page by page.

That somebody looked is an event before the first page leaves.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Happening, make_device_events
from ingest_service.ledger import trails
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.custody import insert_device_events
from ingest_service.ledger.trails import Span, TrailEvent

PAGE: Final = 1_000
# One statement looks at what an hour brings, at most.
_SLICE: Final = timedelta(hours=1)
_MS_MAX: Final = 2**48 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)

Pages = AsyncIterator[Sequence[TrailEvent]]


async def record_audit(
    happening: Happening, *, device_serial: str | None, pool: Pool, now: Clock
) -> None:
    """Record that an auditor looks at what is of no single clip.

    Raises:
        LedgerUnavailable: it may or may not be recorded; nothing was shown.
    """
    async with reading(pool) as connection:
        await insert_device_events(
            connection, make_device_events(device_serial, [happening], now=now())
        )


async def read_clip_trail(clip_id: UUID, *, pool: Pool) -> Pages:
    """Yield a clip's events in the order of its chain."""
    after = -1
    while True:
        async with reading(pool) as connection:
            page = await trails.list_clip_trail(connection, clip_id, after=after, limit=PAGE)
        yield page
        if len(page) < PAGE:
            return
        after = page[-1].clip_seq or 0


async def read_actor_trail(
    actor_id: str, *, start: datetime | None, stop: datetime | None, pool: Pool
) -> Pages:
    """Yield what somebody did, from start to before stop."""
    span = make_span(start or _EPOCH, stop or _LAST)
    while True:
        async with reading(pool) as connection:
            page = await trails.list_actor_trail(connection, actor_id, span, limit=PAGE)
        yield _within(page, start, stop)
        if len(page) < PAGE:
            return
        span = Span(page[-1].event_id, span.before)


async def read_device_trail(
    device_serial: str, *, start: datetime | None, stop: datetime | None, pool: Pool
) -> Pages:
    """Yield what happened to a camera and its clips, from start to before stop."""
    span = make_span(start or _EPOCH, stop or _LAST)
    while True:
        async with reading(pool) as connection:
            page = await trails.list_device_trail(connection, device_serial, span, limit=PAGE)
        yield _within(page, start, stop)
        if len(page) < PAGE:
            return
        span = Span(page[-1].event_id, span.before)


async def read_period_trail(
    types: Sequence[str], actor_id: str | None, *, start: datetime, stop: datetime, pool: Pool
) -> Pages:
    """Yield events of some types, from start to before stop, an hour at a time."""
    begin = start
    while begin < stop:
        end = min(begin + _SLICE, stop)
        span = make_span(begin, end)
        while True:
            async with reading(pool) as connection:
                page = await trails.list_period_trail(connection, span, types, actor_id, limit=PAGE)
            if page:
                yield _within(page, begin, end)
            if len(page) < PAGE:
                break
            span = Span(page[-1].event_id, span.before)
        begin = end


def make_span(start: datetime, stop: datetime) -> Span:
    """Return the event ids from start to stop: at least those, to the millisecond."""
    first = max(0, min(_milliseconds(start), _MS_MAX))
    last = max(0, min(_milliseconds(stop) + 2, _MS_MAX))
    return Span(UUID(int=max(0, (first << 80) - 1)), UUID(int=min(2**128 - 1, (last + 1) << 80)))


def _milliseconds(moment: datetime) -> int:
    # An id carries what `timestamp` gives (domain/ids.py), which may be one less by rounding.
    return int(moment.timestamp() * 1000) - 1


def _within(
    page: list[TrailEvent], start: datetime | None, stop: datetime | None
) -> list[TrailEvent]:
    """Leave out what is in the same millisecond, but outside."""
    return [
        event
        for event in page
        if (start is None or event.recorded_at >= start)
        and (stop is None or event.recorded_at < stop)
    ]
