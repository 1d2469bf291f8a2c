"""When docks are meant to start: plans of intended times, made before the clock runs.

The plan does not wait for the service (open loop): whoever is held up is late, and its times count
from when it should have started.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_DAY_H: Final = 24.0
# domain.md, section 2: shifts end at 07:00, 15:00 and 23:00; docking is normal around +10 min.
_SHIFT_ENDS_H: Final = (7.0, 15.0, 23.0)
_SHIFT_WEIGHTS: Final = (20, 35, 45)
_DOCKING_DELAY_H: Final = 10 / 60
_DOCKING_SIGMA_H: Final = 20 / 60
# Clip length in minutes: lognormal, median 6, mean 12, at most 4 h.
_CLIP_MEDIAN_MIN: Final = 6.0
_CLIP_MEAN_MIN: Final = 12.0
_CLIP_MAX_MIN: Final = 240.0
_CLIP_SIGMA: Final = math.sqrt(2 * math.log(_CLIP_MEAN_MIN / _CLIP_MEDIAN_MIN))


@dataclass(frozen=True, slots=True)
class Visit:
    """Seconds from the start of the run at which one dock means to act.

    arrives_at   connects and asks for the time
    sends_at     announces its clips and sends them
    returns_at   after an outage that cut it off in its first chunk; None: no outage
    """

    arrives_at: float
    sends_at: float
    returns_at: float | None = None


Pace = Callable[[int, random.Random], Sequence[Visit]]


def arrive_then_send(*, arrive_over_s: float, pause_s: float, send_over_s: float) -> Pace:
    """Let all docks connect evenly over a time, then send evenly over another."""

    def plan(count: int, seeded: random.Random) -> Sequence[Visit]:
        begin_s = arrive_over_s + pause_s
        order = seeded.sample(range(count), count)
        return [
            Visit(arrive_over_s * index / count, begin_s + send_over_s * place / count)
            for index, place in enumerate(order)
        ]

    return plan


def arrive_and_send(*, arrive_over_s: float, pause_s: float, send_over_s: float) -> Pace:
    """Let all docks connect evenly over a time; each sends in its turn, the first ones at once.

    send_over_s  no shorter than arrive_over_s: nobody's turn comes before he is there
    """

    def plan(count: int, _seeded: random.Random) -> Sequence[Visit]:
        return [
            Visit(arrive_over_s * index / count, pause_s + send_over_s * index / count)
            for index in range(count)
        ]

    return plan


def outage(*, arrive_over_s: float, send_over_s: float, at_once: int, return_over_s: float) -> Pace:
    """Let all docks begin, be cut off, and come back: some at once, the rest over a time."""

    def plan(count: int, seeded: random.Random) -> Sequence[Visit]:
        begin_s = arrive_over_s + 1
        back_s = begin_s + send_over_s + 2
        visits = []
        for index, place in enumerate(seeded.sample(range(count), count)):
            later = return_over_s * max(place - at_once, 0) / max(count - at_once, 1)
            sends_at = begin_s + send_over_s * index / count
            visits.append(Visit(arrive_over_s * index / count, sends_at, back_s + later))
        return visits

    return plan


def steady(*, over_s: float) -> Pace:
    """Let docks come as strangers do: at random, at an even rate."""

    def plan(count: int, seeded: random.Random) -> Sequence[Visit]:
        times = sorted(seeded.uniform(0, over_s) for _ in range(count))
        return [Visit(at, at) for at in times]

    return plan


def day_of_shifts(*, over_s: float) -> Pace:
    """Let docks come as on a day of the force (S1), 24 hours compressed into over_s."""

    def plan(count: int, seeded: random.Random) -> Sequence[Visit]:
        times = []
        for _ in range(count):
            end_h = seeded.choices(_SHIFT_ENDS_H, _SHIFT_WEIGHTS)[0]
            at_h = seeded.gauss(end_h + _DOCKING_DELAY_H, _DOCKING_SIGMA_H) % _DAY_H
            times.append(over_s * at_h / _DAY_H)
        return [Visit(at, at) for at in sorted(times)]

    return plan


Sizes = Callable[[random.Random], int]


def same_size(size_bytes: int) -> Sizes:
    """Make every clip equally long."""
    return lambda _seeded: size_bytes


def spread_sizes(mean_bytes: int) -> Sizes:
    """Make clips as long as recordings are: lognormal, with this mean."""

    def draw(seeded: random.Random) -> int:
        minutes = seeded.lognormvariate(math.log(_CLIP_MEDIAN_MIN), _CLIP_SIGMA)
        return max(1, int(mean_bytes * min(minutes, _CLIP_MAX_MIN) / _CLIP_MEAN_MIN))

    return draw
