"""Every day that is simulated, and what is asked of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from loadtest.capacity.costs import Costs
from loadtest.capacity.day import Day, Outage, PodLost, Service, simulate
from loadtest.capacity.sizing import Sizing, size_for
from loadtest.capacity.traffic import HOUR_S, S0, S1, S2, Docking, Fleet, make_day
from loadtest.capacity.truth import Deviation, compare_to_published

FLEETS: Final = (S0, S1, S2)
LARGER: Final = (10, 100)
# Ten minutes after the last shift's end, when the most cameras are docked.
PEAK_AT_S: Final = 23 * HOUR_S + 600
FLOOR_MB_S: Final = 300.0
_SEGMENT_MB: Final = {"S0": 64.0, "S1": 64.0, "S2": 256.0}

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong on an S1 day, and the day that came of it."""

    what: str
    day: Day


@dataclass(frozen=True, slots=True)
class Study:
    """All results.

    days     by fleet, with nothing in the way but cameras and uplinks
    sized    by fleet: the same with the service so sized
    sizings  by fleet, larger ones included
    """

    costs: Costs
    seed: int
    days: dict[str, Day]
    sized: dict[str, Day]
    sizings: dict[str, Sizing]
    troubles: list[Trouble]

    def deviations(self) -> list[Deviation]:
        """Return every figure that is held against the published table."""
        return [each for name, day in self.days.items() for each in compare_to_published(name, day)]


STEPS: Final = 2 * len(FLEETS) + 5


def make_study(costs: Costs, seed: int, tell: Tell) -> Study:
    """Simulate everything; `tell` is called after each day."""
    days, sized, sizings = dict[str, Day](), dict[str, Day](), dict[str, Sizing]()
    dockings = {fleet.name: make_day(fleet, seed) for fleet in FLEETS}
    for fleet in FLEETS:
        days[fleet.name] = _run(fleet, dockings[fleet.name], Service())
        tell(fleet.name)
        sizings[fleet.name] = size_for(days[fleet.name], costs)
        service = sizings[fleet.name].service(costs)
        sized[fleet.name] = _run(fleet, dockings[fleet.name], service)
        tell(f"{fleet.name}, sized")
    for fleet in (S1, S2):
        for factor in LARGER:
            name = fleet.times(factor).name
            sizings[name] = size_for(days[fleet.name], costs, factor=factor)
    service, own = sizings["S1"].service(costs), dockings["S1"]
    pods = sizings["S1"].pods
    slow = replace(service, store_mb_s=service.store_mb_s / 2)
    floor = replace(service, store_mb_s=FLOOR_MB_S)
    needed = replace(service, ingest_mb_s=service.ingest_mb_s * (pods - 1) / pods)
    away = Outage(PEAK_AT_S - 2400, PEAK_AT_S + 1200)
    cases: list[tuple[str, Service, Sequence[Outage | PodLost]]] = [
        (
            f"one of {pods} pods dies at the peak, replaced in 90 s",
            service,
            [PodLost(PEAK_AT_S, pods)],
        ),
        (f"one of {pods} pods is missing all day", needed, []),
        ("S3 at half its speed all day", slow, []),
        (f"S3 at {FLOOR_MB_S:.0f} MB/s all day (survival floor)", floor, []),
        ("the service is away from 22:30 to 23:30", service, [away]),
    ]
    troubles = []
    for what, taken, events in cases:
        troubles.append(Trouble(what, _run(S1, own, taken, events)))
        tell(what)
    return Study(costs, seed, days, sized, sizings, troubles)


def _run(
    fleet: Fleet,
    dockings: Sequence[Docking],
    service: Service,
    events: Sequence[Outage | PodLost] = (),
) -> Day:
    return simulate(
        dockings,
        service,
        site_mb_s=fleet.site_mb_s,
        stream_mb_s=fleet.stream_mb_s,
        segment_mb=_SEGMENT_MB[fleet.name],
        events=events,
    )
