"""The circuit breaker: more than was expected is to be erased, so nothing is, until two look."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ingest_service.actions.forecast_erasure import start_of
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import (
    WORKER,
    Actor,
    Happening,
    format_time,
    make_device_events,
)
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import RetentionRules, find_excess
from ingest_service.errors import AnotherPersonNeeded, HaltNotFound
from ingest_service.ledger import erasures
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.custody import insert_device_events
from ingest_service.ledger.erasures import Halt

SHOWN_FOR: Final = timedelta(days=60)
_LONG_AGO: Final = datetime(2015, 1, 1, tzinfo=UTC)


async def check_breaker(*, pool: Pool, rules: RetentionRules, now: Clock) -> Halt | None:
    """Return the halt under which nothing may be erased; None: go on.

    Asked before every batch. For each day (UTC) up to today: what was scheduled of that day's
    clips and what is due of them now, against what was forecast before the day began. Also what is
    scheduled, and what is deleted, today.

    Raises:
        LedgerUnavailable: not known; nothing may be erased yet.
    """
    moment = now()
    midnight = start_of(moment.astimezone(UTC).date())
    async with writing(pool) as connection:
        halts = await erasures.list_halts(connection, moment - SHOWN_FOR)
        standing = next((halt for halt in halts if halt.released_at is None), None)
        if standing is not None:
            return standing
        excess = await _find_excess(connection, halts, moment, midnight, rules)
        if not excess:
            return None
        halt = Halt(
            make_id(moment), moment, f"more is due than was forecast: {_tell(excess)}", excess
        )
        if await erasures.insert_halt(connection, halt):
            facts = {
                "halt_id": str(halt.halt_id),
                "excess": dict(excess),
                "deviation_share": str(rules.deviation_share),
                "deviation_clips": rules.deviation_clips,
                "clips_per_day_max": rules.clips_per_day_max,
            }
            halted = Happening("erase.batch_halted", WORKER, facts, "failed", halt.reason)
            await insert_device_events(connection, make_device_events(None, [halted], now=moment))
        return halt


async def _find_excess(
    connection: Connection,
    halts: Sequence[Halt],
    moment: datetime,
    midnight: datetime,
    rules: RetentionRules,
) -> Mapping[str, int]:
    due = await erasures.count_due_by_day(connection, _LONG_AGO, moment)
    first = start_of(due[0].due_on) if due else midnight
    done = await erasures.count_scheduled_by_day(connection, first, midnight + timedelta(days=1))
    expected = await erasures.list_forecast(connection, [day.due_on for day in due])
    scheduled, intended = await erasures.count_today(connection, midnight)
    actual = {
        day.due_on.isoformat(): (
            day.clip_count + done.get(day.due_on, 0),
            expected.get(day.due_on, 0),
        )
        for day in due
    }
    ready = await erasures.count_ready(connection, moment)
    today = midnight.date().isoformat()
    totals = {
        f"scheduled on {today}": scheduled + sum(day.clip_count for day in due),
        f"deleted on {today}": intended + ready,
    }
    allowed: dict[str, int] = {}
    for halt in halts:
        for name, count in halt.excess.items():
            allowed[name] = max(count, allowed.get(name, 0))
    return find_excess(actual, totals, allowed, rules)


def _tell(excess: Mapping[str, int]) -> str:
    names = sorted(excess)
    told = ", ".join(f"{name}: {excess[name]}" for name in names[:5])
    return told if len(names) <= len(names[:5]) else f"{told} and {len(names) - 5} more"


async def list_halts(*, pool: Pool, now: Clock) -> list[Halt]:
    """Return the halt that stands and those of the last weeks, newest first."""
    async with reading(pool) as connection:
        return await erasures.list_halts(connection, now() - SHOWN_FOR)


async def release_halt(
    halt_id: UUID,
    principal: Principal,
    *,
    authority: str,
    pool: Pool,
    now: Clock,
    request_id: str | None = None,
) -> Halt:
    """Say that the erasing may go on; with the word of a second person it does.

    As much as was found too much is allowed then, and no more. Who says it again is answered as
    before.

    Raises:
        HaltNotFound: there is no such halt.
        AnotherPersonNeeded: the first one cannot be the second one as well.
    """
    async with writing(pool) as connection:
        halt = await erasures.lock_halt(connection, halt_id)
        if halt is None:
            raise HaltNotFound(str(halt_id))
        if halt.released_at is not None:
            return halt
        if halt.first_released_by == principal.id:
            message = "has released this halt; a second person is needed"
            raise AnotherPersonNeeded(principal.id, message)
        moment = now()
        await erasures.release_halt(connection, halt, principal.id, moment)
        is_first = halt.first_released_by is None
        released = Happening(
            "erase.halt_confirmed" if is_first else "erase.halt_released",
            Actor.of(principal),
            {
                "halt_id": str(halt_id),
                "halted_at": format_time(halt.halted_at),
                "excess": dict(halt.excess),
                "authority": authority,
            },
            request_id=request_id,
        )
        await insert_device_events(connection, make_device_events(None, [released], now=moment))
        again = await erasures.lock_halt(connection, halt_id)
    return again or halt
