"""Who docks when, where, with how much footage: the traffic model of the fleet."""

import math
import random
from dataclasses import dataclass, replace
from typing import Final

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
# The day begins when nobody docks, so that each shift's peak lies within it.
DAY_BEGINS_S: Final = 3 * HOUR_S
SHIFTS: Final = ((7.0, 0.20), (15.0, 0.35), (23.0, 0.45))  # ends at, share of the day's shifts
DOCKING_DELAY_S: Final = 600.0
DOCKING_SIGMA_S: Final = 1200.0
CLIP_MEDIAN_MIN: Final = 6.0
CLIP_MEAN_MIN: Final = 12.0
CLIP_MAX_MIN: Final = 240.0
CLIP_SIGMA: Final = math.sqrt(2 * math.log(CLIP_MEAN_MIN / CLIP_MEDIAN_MIN))
# Of 800,000 videos of the first year 500,000 were deleted when their time was up.
ERASED_SHARE: Final = 0.625


@dataclass(frozen=True, slots=True)
class Fleet:
    """A force and how it records.

    clips_per_shift  on average; how many a camera has on one day is Poisson
    shift_share      of all cameras that do a shift on a day
    mb_per_hour      megabytes (10^6 bytes) of one hour of footage
    site_mb_s        uplink of one site, shared by its docks
    stream_mb_s      one camera sends at most this
    """

    name: str
    clips_per_shift: float
    mb_per_hour: float
    site_mb_s: float
    shift_share: float = 0.45
    devices: int = 22_000
    sites: int = 160
    stream_mb_s: float = 25 / 8

    def times(self, factor: int) -> "Fleet":
        """Return a fleet so many times as large, on so many times as many sites."""
        name = f"{self.name} x {factor}"
        return replace(self, name=name, devices=self.devices * factor, sites=self.sites * factor)


S0: Final = Fleet("S0", clips_per_shift=0.48, mb_per_hour=2000, site_mb_s=100 / 8)
S1: Final = Fleet("S1", clips_per_shift=2, mb_per_hour=2300, site_mb_s=100 / 8)
S2: Final = Fleet("S2", clips_per_shift=5, mb_per_hour=5000, site_mb_s=1000 / 8, shift_share=0.6)


@dataclass(frozen=True, slots=True)
class Docking:
    """One camera put into a bay: when, at which site, with clips of which sizes in MB."""

    at_s: float
    site: int
    clips_mb: tuple[float, ...]


def make_day(fleet: Fleet, seed: int) -> list[Docking]:
    """Return every docking of one day that brings footage, in order of time.

    Times are seconds from midnight; the last ones lie past the next midnight.
    """
    chance = random.Random(seed)
    ends_h = [end_h for end_h, _ in SHIFTS]
    shares = [share for _, share in SHIFTS]
    day = []
    for device in range(fleet.devices):
        if chance.random() >= fleet.shift_share:
            continue
        clips_mb = tuple(
            draw_clip_mb(fleet.mb_per_hour, chance)
            for _ in range(draw_poisson(fleet.clips_per_shift, chance))
        )
        ends_at = chance.choices(ends_h, shares)[0] * HOUR_S
        at_s = chance.gauss(ends_at + DOCKING_DELAY_S, DOCKING_SIGMA_S)
        if clips_mb:
            day.append(Docking(at_s, device % fleet.sites, clips_mb))
    return sorted(day, key=lambda docking: docking.at_s)


def draw_clip_mb(mb_per_hour: float, chance: random.Random) -> float:
    """Return the size of one clip: its length is lognormal, four hours at most."""
    minutes = chance.lognormvariate(math.log(CLIP_MEDIAN_MIN), CLIP_SIGMA)
    return mb_per_hour * min(minutes, CLIP_MAX_MIN) / 60


def draw_poisson(mean: float, chance: random.Random) -> int:
    """Return a Poisson number (Knuth's way: the means are small)."""
    floor, product, count = math.exp(-mean), chance.random(), 0
    while product > floor:
        product *= chance.random()
        count += 1
    return count
