"""The year, day by day, and the weeks after it until nothing is due any more."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ingest_service.dev.year.book import Book
from ingest_service.dev.year.cameras import Cameras
from ingest_service.dev.year.clock import DAY, MovedClock
from ingest_service.dev.year.people import People
from ingest_service.dev.year.plan import YEAR_DAYS, Fate, draw_fate
from ingest_service.dev.year.plants import Plant, Planter
from ingest_service.dev.year.rule_makers import RuleMakers
from ingest_service.dev.year.service import Service, YearFailed
from ingest_service.domain.retention import RetentionRules

# On these days somebody puts a policy in force that has forgotten what is evidence.
MISTAKE_DAYS: Final = (120, 250)
# Where no breaker says so, it takes so long until somebody notices.
_UNNOTICED_DAYS: Final = 12
# What was released on the last day is chased, announced and erased, one after the other.
_TAIL_DAYS: Final = 17
_STEPS_OF_AN_END: Final = 3
# For the estimate, until it is known.
_USUAL_TAIL_DAYS: Final = 130
_MORNING, _AFTERNOON, _EVENING = 7.0, 14.0, 18.0
_DEVIATION_CLIPS: Final = (10, 100)
_CLIPS_PER_DAY: Final = (12, 50_000)
_DAYS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Scenario:
    """A year: so many clips, drawn from a seed, and perhaps faults that must be found.

    year_days     while clips come in
    mistake_days  on which a policy that has forgotten what is evidence is put in force
    plant_day     from which on faults are planted
    rest_days     after the year the jobs run every so many days, unless somebody has plans
    """

    clips: int
    seed: int = 1
    plants: tuple[Plant, ...] = ()
    year_days: int = YEAR_DAYS
    mistake_days: tuple[int, ...] = MISTAKE_DAYS
    plant_day: int = 60
    rest_days: int = 1

    def rules(self) -> RetentionRules:
        """Return the service's own rules; the breaker's numbers fit a force of this size."""
        if "blind-breaker" in self.plants:
            return RetentionRules(deviation_clips=10**9, clips_per_day_max=10**9)
        per_day = math.ceil(self.clips / self.year_days)
        at_once = min(max(_DAYS_AT_ONCE * per_day, _CLIPS_PER_DAY[0]), _CLIPS_PER_DAY[1])
        return RetentionRules(
            deviation_clips=min(max(per_day, _DEVIATION_CLIPS[0]), _DEVIATION_CLIPS[1]),
            clips_per_day_max=at_once,
        )


@dataclass(slots=True)
class Progress:
    """How far the year is.

    share      0..1, of the days
    elapsed_s  since its beginning
    """

    day: int
    clips: int
    share: float
    elapsed_s: float
    receiving_s: float

    @property
    def left_s(self) -> float:
        """How long it will take still, if it goes on like this."""
        return self.elapsed_s * (1 - self.share) / self.share if self.share else 0.0


@dataclass(slots=True)
class Year:
    """One run: the scenario, the service, the people, the books."""

    scenario: Scenario
    clock: MovedClock
    service: Service
    cameras: Cameras
    people: People
    rule_makers: RuleMakers
    book: Book
    planter: Planter
    tell: Callable[[Progress], None]
    receiving_s: float = 0.0
    _mistaken_since: int | None = None
    _next: int = 0

    async def live(self) -> None:
        """Let the year pass, and what follows from it.

        Raises:
            YearFailed: the service did what it should not have done; nothing is judged.
        """
        began = time.monotonic()
        await self.service.register_stations()
        await self.rule_makers.make_rules()
        day, last_day = 0, self.scenario.year_days
        while day <= last_day:
            if not self._may_rest(day, last_day):
                await self._live_day(day)
            if day >= self.scenario.year_days - 1:
                rests = _STEPS_OF_AN_END * (self.scenario.rest_days - 1)
                last_day = self.book.find_last_day(self.clock.start) + _TAIL_DAYS + rests
            day += 1
            elapsed_s = time.monotonic() - began
            is_known = day >= self.scenario.year_days
            total = last_day + 1 if is_known else self.scenario.year_days + _USUAL_TAIL_DAYS
            self.tell(Progress(day, self._next, day / total, elapsed_s, self.receiving_s))

    def _may_rest(self, day: int, last_day: int) -> bool:
        is_over = self.scenario.year_days <= day < last_day
        return is_over and day % self.scenario.rest_days != 0 and not self.people.has_plans(day)

    async def _live_day(self, day: int) -> None:
        self.clock.move_to(day, _MORNING)
        fates = self._take_fates(day)
        began = time.monotonic()
        received = await self.service.receive_day([fate for fate in fates if not fate.breaks_off])
        await self.cameras.break_off([fate for fate in fates if fate.breaks_off])
        received += await self.cameras.come_back(day, self._draw)
        self.receiving_s += time.monotonic() - began
        for each in received:
            self.book.note_clip(each)
        await self.people.dispatch(day, received)
        self.clock.move_to(day, _AFTERNOON)
        await self.people.do_deeds(day)
        if day >= self.scenario.plant_day:
            await self.planter.plant_all(day, self.clock())
        if day in self.scenario.mistake_days:
            await self.rule_makers.make_mistake()
            self.book.planned_halts.append((self.clock.start + day * DAY).date())
            self._mistaken_since = day
        self.clock.move_to(day, _EVENING)
        halt = await self.service.work()
        await self._look_after(day, is_halted=halt is not None)

    async def _look_after(self, day: int, *, is_halted: bool) -> None:
        """Mend a mistake that has halted the erasing, and let it go on.

        A halt that nobody has made a mistake for is left standing: the judge tells of it.
        """
        since = self._mistaken_since
        if since is None or not (is_halted or day - since >= _UNNOTICED_DAYS):
            return
        await self.rule_makers.mend_mistake()
        await self.service.compute()
        self._mistaken_since = None
        if not is_halted:
            return
        halt = await self.service.work()
        if halt is None:
            message = "a halt has ended without anybody's word"
            raise YearFailed(message)
        await self.rule_makers.release_halt(halt)
        await self.service.work()

    def _take_fates(self, day: int) -> list[Fate]:
        """Return what comes in on a day."""
        asked = self.scenario
        fates: list[Fate] = []
        while self._next < asked.clips:
            fate = self._draw(self._next)
            if fate.day != day:
                break
            fates.append(fate)
            self._next += 1
        return fates

    def _draw(self, number: int) -> Fate:
        asked = self.scenario
        return draw_fate(number, asked.clips, asked.seed, asked.year_days)
