"""The scenarios: who comes when with what, and the goals that decide pass or fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from loadtest.bench_report import Goal
from loadtest.faults import Shares
from loadtest.pace import (
    Pace,
    Sizes,
    arrive_and_send,
    arrive_then_send,
    day_of_shifts,
    outage,
    same_size,
    spread_sizes,
    steady,
)

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
_RSS_GIB_MAX: Final = 1.5


@dataclass(frozen=True, slots=True)
class Knobs:
    """What may be set from the command line.

    devices      docks with one camera each, each on its own connection
    clip_bytes   size of every clip, or the mean
    over_s       how long the plan of intended starts is
    within_s     from the first start to the last receipt
    processes    generators; 0: as many as the open-file limit asks for, at least 2
    """

    devices: int
    clip_bytes: int
    over_s: float
    within_s: float
    processes: int = 0


_WELL: Final = Shares()


@dataclass(frozen=True, slots=True)
class Load:
    """What the generators do.

    is_held     a dock keeps its connection until the whole run ends
    is_rotated  footage that the null S3 cannot make again
    """

    pace: Pace
    sizes: Sizes
    shares: Shares = _WELL
    clips_per_device: int = 1
    is_held: bool = False
    is_rotated: bool = True


Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of run.

    goal         for people
    store        what the service of this machine stores in
    environment  knobs of the service that the scenario needs
    audited      share of the stored objects that are re-read
    """

    name: str
    goal: str
    knobs: Knobs
    make_load: Callable[[Knobs], Load]
    make_goals: Callable[[Knobs, Figures], list[Goal]]
    store: Literal["null", "embedded"] = "embedded"
    workers: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    audited: float = 1.0


def _nothing_lost(knobs: Knobs, figures: Figures) -> list[Goal]:
    """What every run must keep, whatever else it is for."""
    planned = figures["clips_planned"]
    return [
        Goal("clips failed", figures["failed"], 0, "at most", "clips"),
        Goal("clips with a verified receipt", figures["secured"], planned, "at least", "clips"),
        Goal("audit: clips lost", figures["audit_lost"], 0, "at most", "clips"),
        Goal("audit: clips with wrong bytes", figures["audit_wrong"], 0, "at most", "clips"),
        Goal("audit: bad receipts", figures["audit_bad_receipts"], 0, "at most", "receipts"),
        Goal("from first start to last receipt", figures["wall_s"], knobs.within_s, "at most", "s"),
    ]


def _light(figures: Figures) -> list[Goal]:
    if "service_rss_max_gib" not in figures:
        return []  # a service elsewhere: its own monitoring tells
    rss = figures["service_rss_max_gib"]
    return [Goal("memory of the service", rss, _RSS_GIB_MAX, "at most", "GiB RSS")]


def _all_alive(knobs: Knobs, figures: Figures) -> list[Goal]:
    alive = Goal("alive at once", figures["open_max"], knobs.devices, "at least", "connections")
    goals = [alive, *_nothing_lost(knobs, figures), *_light(figures)]
    if "service_clips_made" in figures:
        made, planned = figures["service_clips_made"], figures["clips_planned"]
        goals.append(Goal("clips that the service made of it", made, planned, "at most", "clips"))
    return goals


def _herd_goals(knobs: Knobs, figures: Figures) -> list[Goal]:
    resumed = figures["resumes"]
    return [
        Goal("docks that were cut off and resumed", resumed, knobs.devices, "at least", "docks"),
        *_nothing_lost(knobs, figures),
        *_light(figures),
    ]


def _soak_goals(knobs: Knobs, figures: Figures) -> list[Goal]:
    goals = [*_nothing_lost(knobs, figures), *_light(figures)]
    if "service_rss_growth" in figures:
        growth = figures["service_rss_growth"]
        goals.append(Goal("memory, last fifth to second fifth", growth, 1.2, "at most", "times"))
    return goals


def _shift_goals(knobs: Knobs, figures: Figures) -> list[Goal]:
    return [
        *_nothing_lost(knobs, figures),
        Goal("sealed, p99 from the intended start", figures["sealed_p99_s"], 60, "at most", "s"),
        *_light(figures),
    ]


def _peak_goals(knobs: Knobs, figures: Figures) -> list[Goal]:
    return [
        Goal("throughput", figures["mb_per_s"], 1000, "at least", "MB/s"),
        Goal("clips failed", figures["failed"], 0, "at most", "clips"),
        Goal("clips with a verified receipt", figures["secured"], knobs.devices, "at least", ""),
        Goal("audit: bad receipts", figures["audit_bad_receipts"], 0, "at most", "receipts"),
    ]


_FIELD: Final = Shares(tus=0.25, cut=0.1, repeated=0.05, clock=0.1)

_ALL: Final = (
    Scenario(
        name="fleet",
        goal="every camera of the force on its own connection, all alive at once, one clip each",
        knobs=Knobs(devices=22_000, clip_bytes=16 * KIB, over_s=265, within_s=300),
        make_load=lambda knobs: Load(
            pace=arrive_and_send(
                arrive_over_s=knobs.over_s * 0.2, pause_s=1, send_over_s=knobs.over_s
            ),
            sizes=same_size(knobs.clip_bytes),
            shares=_FIELD,
            is_held=True,
        ),
        make_goals=_all_alive,
        # A dock that waits for its turn in this compressed day stays connected.
        environment={"INGEST_KEEP_ALIVE_S": "900", "INGEST_READ_BACK_CONCURRENCY": "8"},
    ),
    Scenario(
        name="shift",
        goal="a day of shifts (S1) in minutes: a tenth of the fleet, the real curve and sizes, "
        "bytes scaled down",
        knobs=Knobs(devices=990, clip_bytes=MIB, over_s=240, within_s=300),
        make_load=lambda knobs: Load(
            pace=day_of_shifts(over_s=knobs.over_s),
            sizes=spread_sizes(knobs.clip_bytes),
            shares=_FIELD,
            clips_per_device=2,
        ),
        make_goals=_shift_goals,
        environment={"INGEST_READ_BACK_CONCURRENCY": "4"},
    ),
    Scenario(
        name="herd",
        goal="an outage in the middle of everybody's first chunk: 3,300 docks are back in the same "
        "instant, the rest of 22,000 within a minute",
        knobs=Knobs(devices=22_000, clip_bytes=16 * KIB, over_s=120, within_s=420),
        make_load=lambda knobs: Load(
            pace=outage(
                arrive_over_s=knobs.over_s / 2,
                send_over_s=knobs.over_s / 2,
                at_once=round(knobs.devices * 0.15),
                return_over_s=60 * knobs.over_s / 120,
            ),
            sizes=same_size(knobs.clip_bytes),
            shares=replace(_FIELD, cut=1.0),
            is_held=True,
        ),
        make_goals=_herd_goals,
        environment={"INGEST_KEEP_ALIVE_S": "900", "INGEST_READ_BACK_CONCURRENCY": "8"},
    ),
    Scenario(
        name="soak",
        goal="an even load for long: nothing lost, memory flat",
        knobs=Knobs(devices=6_000, clip_bytes=256 * KIB, over_s=600, within_s=660),
        make_load=lambda knobs: Load(
            pace=steady(over_s=knobs.over_s),
            sizes=spread_sizes(knobs.clip_bytes),
            shares=replace(_FIELD, cut=0.2),
        ),
        make_goals=_soak_goals,
        environment={"INGEST_READ_BACK_CONCURRENCY": "4"},
    ),
    Scenario(
        name="peak",
        goal="as many MB/s as two workers take, on an S3 that costs nothing",
        knobs=Knobs(devices=16, clip_bytes=GIB, over_s=0, within_s=300),
        make_load=lambda knobs: Load(
            pace=arrive_then_send(arrive_over_s=0, pause_s=1, send_over_s=0),
            sizes=same_size(knobs.clip_bytes),
            is_rotated=False,
        ),
        make_goals=_peak_goals,
        store="null",
    ),
)
SCENARIOS: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in _ALL}


def make_knobs(scenario: Scenario, changes: Mapping[str, Any]) -> Knobs:
    """Return a scenario's knobs with those changed that are not None."""
    return replace(scenario.knobs, **{k: v for k, v in changes.items() if v is not None})
