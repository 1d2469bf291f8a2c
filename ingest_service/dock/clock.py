"""How far the server's clock is ahead of ours."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from schemas.announcement import ServerTime

SAMPLE_COUNT: Final = 5


@dataclass(frozen=True, slots=True)
class ClockReading:
    """One measurement.

    offset_ms       server time minus our time
    uncertainty_ms  half the round trip: the true offset lies within offset +- uncertainty
    """

    offset_ms: int
    uncertainty_ms: int


async def measure_clock(
    ask: Callable[[], Awaitable[ServerTime]],
    *,
    now: Callable[[], float],
    monotonic: Callable[[], float],
    sample_count: int = SAMPLE_COUNT,
) -> ClockReading:
    """Ask for the server's time several times; the quickest answer is the best one.

    As in NTP (RFC 5905, section 8): the server's clock was read somewhere within the round trip,
    so its middle is the best guess and half of it the bound. Errors of `ask` pass through.

    Args:
        ask: one question.
        now: our wall clock, seconds since 1970.
        monotonic: a clock that nobody sets; times the round trip.
        sample_count: questions asked.
    """
    best_round_trip_s = math.inf
    best_offset_s = 0.0
    for _ in range(sample_count):
        asked_at = now()
        started = monotonic()
        answer = await ask()
        round_trip_s = monotonic() - started
        if round_trip_s < best_round_trip_s:
            best_round_trip_s = round_trip_s
            best_offset_s = answer.now.timestamp() - (asked_at + round_trip_s / 2)
    return ClockReading(round(best_offset_s * 1000), math.ceil(best_round_trip_s / 2 * 1000))
