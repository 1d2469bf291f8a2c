"""Which faults come when: drawn from a seed, so that a run can be had again."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LINKS: Final = ("docks", "s3", "postgres")
PROCESSES: Final = ("api worker", "api parent", "work", "seaweed", "postgres")


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to harm.

    name      what happens
    where     link or process; service: API and jobs
    lasts_s   shortest and longest; (0, 0): a moment
    once      more of it proves no more
    """

    name: str
    where: str
    lasts_s: tuple[float, float]
    once: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind at one time; seconds of the run."""

    kind: Kind
    at_s: float
    lasts_s: float

    def __str__(self) -> str:
        until = f" to {self.at_s + self.lasts_s:6.1f}" if self.lasts_s else " " * 10
        return f"{self.at_s:6.1f}{until} s  {self.kind.name}: {self.kind.where}"


def list_kinds(*, has_replica: bool, has_herd: bool) -> list[Kind]:
    """Return everything that may happen."""
    kinds = [
        Kind(name, link, lasts_s)
        for link in LINKS
        for name, lasts_s in (
            ("latency", (4.0, 10.0)),
            ("throttled", (4.0, 10.0)),
            ("resets at random bytes", (3.0, 8.0)),
            ("half-open connections", (2.0, 6.0)),
            ("all connections reset", (0.0, 0.0)),
            ("nobody is let in", (2.0, 5.0)),
        )
    ]
    kinds += [
        Kind("answers cut short", "docks", (3.0, 8.0)),
        Kind("answers cut short", "s3", (3.0, 8.0)),
        Kind("burst of 500 and 503", "s3", (3.0, 8.0)),
        Kind("burst of SlowDown", "s3", (3.0, 8.0)),
        Kind("done, and answered by an error or not at all", "s3", (3.0, 8.0)),
        Kind("200 with an error", "s3", (5.0, 10.0)),
    ]
    kinds += [Kind("SIGKILL", process, (0.0, 0.0)) for process in PROCESSES]
    kinds += [
        Kind("SIGKILL", "one backend of postgres", (0.0, 0.0)),
        Kind("restart", "postgres", (0.0, 0.0)),
    ]
    kinds += [Kind("SIGSTOP, SIGCONT", process, (3.0, 8.0)) for process in PROCESSES]
    kinds += [
        Kind("clock jumps ahead", "service", (4.0, 10.0)),
        Kind("clock jumps back", "service", (4.0, 10.0)),
    ]
    if has_replica:
        kinds.append(Kind("failover to the standby", "postgres", (0.0, 0.0), once=True))
    if has_herd:
        kinds.append(Kind("outage; all docks come back at once", "docks", (6.0, 6.0), once=True))
    return kinds


def draw_timetable(
    kinds: Sequence[Kind], *, first_s: float, last_s: float, every_s: float, seeded: random.Random
) -> list[Fault]:
    """Return faults in order of time: every kind once, as far as there is time, then again.

    first_s, last_s  seconds of the run between which faults begin
    every_s          one begins so often, on average
    """
    faults: list[Fault] = []
    bag: list[Kind] = []
    again = [kind for kind in kinds if not kind.once]
    at_s = first_s
    while at_s <= last_s:
        if not bag:
            bag = list(again if faults else kinds)
            seeded.shuffle(bag)
        kind = bag.pop()
        faults.append(Fault(kind, round(at_s, 1), round(seeded.uniform(*kind.lasts_s), 1)))
        at_s += seeded.uniform(0.5, 1.5) * every_s
    return faults
