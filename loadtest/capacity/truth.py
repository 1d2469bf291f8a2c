"""Where the model is held against something else: the published day, and a real `shift` run."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from loadtest.capacity.costs import Costs
from loadtest.capacity.day import CHUNK_MB, MINUTE_S, Day, simulate
from loadtest.capacity.sizing import machine_service, percentile
from loadtest.capacity.traffic import (
    CLIP_MEAN_MIN,
    DAY_S,
    ERASED_SHARE,
    Docking,
    Fleet,
    draw_clip_mb,
    make_day,
)

MIN_S: Final = 60.0
# One day is one draw: clips of four hours, and the minute in which they meet, differ from day to
# day. Totals and medians are steadier than tails.
TOLERANCE: Final = 0.15

# The design's traffic table (clips, TB, MB, MB/s, uploads, chunks/s, minutes, erasures).
PUBLISHED: Final[Mapping[str, Mapping[str, float]]] = {
    "S0": {
        "clips a day": 4_700,
        "TB a day": 1.9,
        "clip MB, mean": 394,
        "clip MB, p50": 202,
        "clip MB, p95": 1_449,
        "clip MB, p99": 2_882,
        "average MB/s": 22,
        "peak MB/s": 316,
        "peak uploads at once": 100,
        "8 MiB chunks/s at peak": 38,
        "docked to received p50, min": 1.4,
        "docked to received p95, min": 10,
        "docked to received p99, min": 18,
        "erasures a day": 3_000,
    },
    "S1": {
        "clips a day": 19_800,
        "TB a day": 9.0,
        "clip MB, mean": 458,
        "clip MB, p50": 230,
        "clip MB, p95": 1_600,
        "clip MB, p99": 3_600,
        "average MB/s": 105,
        "peak MB/s": 1_250,
        "peak uploads at once": 540,
        "8 MiB chunks/s at peak": 150,
        "docked to received p50, min": 3.8,
        "docked to received p95, min": 21,
        "docked to received p99, min": 37,
        "erasures a day": 12_400,
    },
    "S2": {
        "clips a day": 66_000,
        "TB a day": 65,
        "clip MB, mean": 993,
        "clip MB, p50": 500,
        "clip MB, p95": 3_508,
        "clip MB, p99": 7_548,
        "average MB/s": 758,
        "peak MB/s": 7_300,
        "peak uploads at once": 2_340,
        "8 MiB chunks/s at peak": 870,
        "docked to received p50, min": 21,
        "docked to received p95, min": 69,
        "docked to received p99, min": 108,
        "erasures a day": 41_000,
    },
}


@dataclass(frozen=True, slots=True)
class Deviation:
    """One figure of the model beside the one it is held against.

    tolerance  0.5: at most 1.5 times the expected figure, at least a 1.5th of it
    """

    what: str
    modelled: float
    expected: float
    tolerance: float

    @property
    def share(self) -> float:
        """How far the model is off; 0.1 is 10 % above."""
        return self.modelled / self.expected - 1 if self.expected else 0.0

    @property
    def is_within(self) -> bool:
        """Whether that is tolerable."""
        most = 1 + self.tolerance
        return self.expected / most <= self.modelled <= self.expected * most


def describe_day(day: Day) -> dict[str, float]:
    """Return the figures of the published table for a simulated day."""
    total_mb = sum(day.clips_mb)
    return {
        "clips a day": len(day.clips_mb),
        "TB a day": total_mb / 1e6,
        "clip MB, mean": total_mb / len(day.clips_mb),
        **{f"clip MB, p{p}": percentile(day.clips_mb, p) for p in (50, 95, 99)},
        "average MB/s": total_mb / DAY_S,
        "peak MB/s": day.peak_mb_s,
        "peak uploads at once": day.peak_uploads,
        "8 MiB chunks/s at peak": day.peak_mb_s / CHUNK_MB,
        **{
            f"docked to received p{p}, min": percentile(day.emptied_s, p) / MIN_S
            for p in (50, 95, 99)
        },
        "erasures a day": len(day.clips_mb) * ERASED_SHARE,
    }


def compare_to_published(name: str, day: Day) -> list[Deviation]:
    """Hold a simulated day against the published one."""
    modelled = describe_day(day)
    return [
        Deviation(what, modelled[what], expected, TOLERANCE)
        for what, expected in PUBLISHED[name].items()
    ]


_WINDOW_S: Final = 10.0
_FREE_CORES_MIN: Final = 0.1
# A run on a shared machine, and its tail above all, differs from itself by as much.
_RUN_TOLERANCES: Final = {
    "clips": 0.0,
    "GB sent": 0.15,
    "API CPU-s": 0.4,
    "peak MB/s over 10 s": 0.4,
    "sealed p50, s": 1.0,
    "sealed p99, s": 1.0,
}


def compare_to_run(document: Mapping[str, Any], costs: Costs, *, cores: int) -> list[Deviation]:
    """Hold the model at machine scale against the JSON of a real `shift` run.

    The day is compressed as the run was: `over_s` seconds are 24 hours. The machine's cores are all
    that bounds it; there are no sites, and a dock sends one clip after the other.

    Raises:
        ValueError: the document is of another scenario, or its run failed clips.
    """
    figures, knobs = document["figures"], document["knobs"]
    if document["scenario"] != "shift" or figures["failed"]:
        message = f"not a shift run in which every clip arrived: {document['scenario']}"
        raise ValueError(message)
    factor = DAY_S / knobs["over_s"]
    clips_per_dock = round(figures["clips_planned"] / knobs["devices"])
    # What other programs kept busy was not there for the run.
    free_cores = max(cores - figures.get("others_cores", 0.0), _FREE_CORES_MIN)
    service = machine_service(costs, cores=free_cores)
    day = simulate(
        _make_compressed_day(knobs["devices"], clips_per_dock, knobs["clip_bytes"]),
        # In the simulated day a second is longer by the factor.
        replace(service, ingest_mb_s=service.ingest_mb_s / factor),
        site_mb_s=service.ingest_mb_s / factor,
        # One upload keeps no more than one core busy.
        stream_mb_s=service.ingest_mb_s / factor / max(free_cores, 1.0),
    )
    sent_mb = sum(day.clips_mb)
    api_s = sent_mb * costs.api_s_per_mb + len(day.clips_mb) * costs.api_s_per_clip
    window = max(round(_WINDOW_S * factor / MINUTE_S), 1)
    modelled = {
        "clips": float(len(day.clips_mb)),
        "GB sent": sent_mb / 1e3,
        "API CPU-s": api_s,
        "peak MB/s over 10 s": _peak_over(day, window) * factor,
        "sealed p50, s": percentile(day.received_s, 50) / factor,
        "sealed p99, s": percentile(day.received_s, 99) / factor,
    }
    seen = {
        "clips": figures["clips_planned"],
        "GB sent": figures["bytes_planned"] / 1e9,
        "API CPU-s": figures["serve_cpu_s"],
        "peak MB/s over 10 s": _peak_of_run(document["series"]["docks"]),
        "sealed p50, s": figures["sealed_p50_s"],
        "sealed p99, s": figures["sealed_p99_s"],
    }
    return [Deviation(name, modelled[name], seen[name], _RUN_TOLERANCES[name]) for name in seen]


def _make_compressed_day(devices: int, clips_per_dock: int, clip_bytes: int) -> list[Docking]:
    # Every dock of the run comes, with the same number of clips and the fleet's spread of sizes.
    chance = random.Random(devices)
    mb_per_hour = clip_bytes / 1e6 / CLIP_MEAN_MIN * 60
    fleet = Fleet("run", 50, mb_per_hour, 1.0, shift_share=1.0, devices=devices)
    return [
        replace(
            docking,
            clips_mb=tuple(draw_clip_mb(mb_per_hour, chance) for _ in range(clips_per_dock)),
        )
        for docking in make_day(fleet, seed=devices)
    ]


def _peak_over(day: Day, minutes: int) -> float:
    first, last = min(day.mb_by_minute), max(day.mb_by_minute)
    totals = [
        sum(day.mb_by_minute.get(minute, 0.0) for minute in range(at, at + minutes))
        for at in range(first, last + 1)
    ]
    return max(totals) / (minutes * MINUTE_S)


def _peak_of_run(series: Sequence[Mapping[str, float]]) -> float:
    points = [(row["at"], row["acknowledged_bytes"]) for row in series]
    best, begin = 0.0, 0
    for at_s, sent_bytes in points:
        while points[begin][0] < at_s - _WINDOW_S:
            begin += 1
        best = max(best, (sent_bytes - points[begin][1]) / _WINDOW_S)
    return best / 1e6
