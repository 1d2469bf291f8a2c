"""What the bench says: goals and verdicts, a JSON file, a table in docs/performance.md."""

import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import psutil

from loadtest.bench_log import LATENCY_RATE_PER_S, PROOF_LEAVES, LogFigures
from loadtest.bench_runs import MIB, SMALL_WAYS, Measured
from loadtest.bench_tus import TUS_WAYS
from loadtest.docs_block import write_block

DOCS: Final = Path("docs/performance.md")
BLOCK: Final = "bench"

# The machine on which the limits were set takes so long for SHA-256 alone; a shared one takes up
# to twice as long for the same work, from one minute to the next.
REFERENCE_HASHLIB_CPU_S_PER_GIB: Final = 0.52
BIG_CPU_S_PER_GIB_MAX: Final = 1.25
BIG_TIMES_HASHLIB_MAX: Final = 2.2
SMALL_CLIPS_PER_S_MIN: Final = 350.0
WHOLE_CPU_MS_MAX: Final = 1.25
TUS_TIMES_NATIVE_MAX: Final = 1.15
HEADS_PER_CPU_S_MIN: Final = 2000.0
STORE_MB_PER_S_MIN: Final = 230.0
MANY_RSS_MIB_MAX: Final = 300.0
PLACED_PER_S_MIN: Final = 5000.0
CHECKPOINT_P99_MS_MAX: Final = 250.0
PROOF_P50_MS_MAX: Final = 2.0
AUDITED_PER_S_MIN: Final = 200_000.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that must hold.

    slowness  how much longer the machine took, during the run, for the same work than the one on
              which the limit was set; the verdict is on the figure without it
    """

    what: str
    figure: float
    limit: float
    kind: Literal["at most", "at least"]
    unit: str
    slowness: float = 1.0

    @property
    def judged(self) -> float:
        """The figure as it would be on the machine on which the limit was set."""
        return (
            self.figure / self.slowness if self.kind == "at most" else self.figure * self.slowness
        )

    @property
    def is_met(self) -> bool:
        """Whether it holds."""
        if self.kind == "at most":
            return self.judged <= self.limit
        return self.judged >= self.limit

    @property
    def shown(self) -> str:
        """The figure for people."""
        if self.slowness == 1.0:
            return f"{self.figure:.2f} {self.unit}"
        return f"{self.judged:.2f} {self.unit} at reference speed ({self.figure:.2f} here)"

    def __str__(self) -> str:
        verdict = "ok  " if self.is_met else "MISS"
        return f"{verdict}  {self.what}: {self.shown} (goal: {self.kind} {self.limit:g})"


@dataclass(frozen=True, slots=True)
class Report:
    """All runs of one bench."""

    runs: dict[str, Measured]
    log: LogFigures | None = None

    def goals(self) -> list[Goal]:
        """Return the goals of the runs that were made."""
        goals = []
        if big := self.runs.get("big"):
            cost = big.cpu_s["serve"] / big.gib
            goals += [
                Goal(
                    "big clips, API process",
                    cost,
                    BIG_CPU_S_PER_GIB_MAX,
                    "at most",
                    "CPU-s/GiB",
                    _slowness(big),
                ),
                Goal(
                    "big clips, API process beside hashlib alone",
                    cost / big.hashlib_cpu_s_per_gib,
                    BIG_TIMES_HASHLIB_MAX,
                    "at most",
                    "times",
                ),
            ]
        goals += self._goals_of_tus()
        if small := self.runs.get("small"):
            figure, limit = small.clips / small.wall_s, SMALL_CLIPS_PER_S_MIN
            what = "small clips by three requests, one worker"
            goals.append(Goal(what, figure, limit, "at least", "clips/s", _slowness(small)))
        if whole := self.runs.get("whole"):
            figure, limit = 1000 * whole.cpu_s["serve"] / whole.clips, WHOLE_CPU_MS_MAX
            what = "small clips by one request, API process"
            goals.append(Goal(what, figure, limit, "at most", "CPU-ms", _slowness(whole)))
        if store := self.runs.get("store"):
            figure = store.sent_bytes / 1e6 / store.wall_s
            what = "big clips through SeaweedFS"
            goals.append(
                Goal(what, figure, STORE_MB_PER_S_MIN, "at least", "MB/s", _slowness(store))
            )
        if many := self.runs.get("many"):
            figure, limit = many.rss_max_bytes / MIB, MANY_RSS_MIB_MAX
            what = f"memory under {many.clips} clips at once"
            goals.append(Goal(what, figure, limit, "at most", "MiB RSS"))
        return goals if self.log is None else [*goals, *_goals_of_log(self.log)]

    def _goals_of_tus(self) -> list[Goal]:
        goals = []
        native = self.runs.get("big")
        for way in TUS_WAYS:
            if native is not None and (measured := self.runs.get(way)):
                # Both beside SHA-256 alone, right before and after: the machine cancels out.
                figure = _times_hashlib(measured) / _times_hashlib(native)
                sent = "a PATCH per 8 MiB" if way == "tus" else "one PATCH per clip"
                what = f"big clips by tus, {sent}, API process beside native"
                goals.append(Goal(what, figure, TUS_TIMES_NATIVE_MAX, "at most", "times"))
        if head := self.runs.get("head"):
            figure, limit = head.clips / head.cpu_s["serve"], HEADS_PER_CPU_S_MIN
            what = "HEAD, one worker"
            goals.append(Goal(what, figure, limit, "at least", "per CPU-second", _slowness(head)))
        return goals

    def lines(self) -> list[str]:
        """Return the figures for people."""
        told = [line for measured in self.runs.values() for line in _describe(measured)]
        if self.log is not None:
            told.append(_describe_log(self.log))
        return [f"      {line}" for line in told]

    def write_json(self, folder: Path) -> Path:
        """Write everything into a new file and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        path = folder / f"bench-{now:%Y%m%dT%H%M%SZ}.json"
        document = {
            "at": now.isoformat(),
            "machine": _machine(),
            "goals": [{**asdict(goal), "is_met": goal.is_met} for goal in self.goals()],
            "runs": {name: asdict(measured) for name, measured in self.runs.items()},
            "log": None if self.log is None else asdict(self.log),
        }
        path.write_text(json.dumps(document, indent=2) + "\n")
        return path

    def write_docs(self, path: Path = DOCS) -> None:
        """Replace the table between the markers.

        Raises:
            ValueError: the markers are not there.
        """
        write_block(path, BLOCK, self._table())

    def _table(self) -> list[str]:
        rows = [
            f"Measured {datetime.now(UTC):%Y-%m-%d} on {_machine()}.",
            "",
            "| goal | measured | limit | |",
            "|---|---|---|---|",
        ]
        for goal in self.goals():
            verdict = "met" if goal.is_met else "**missed**"
            rows.append(f"| {goal.what} | {goal.shown} | {goal.kind} {goal.limit:g} | {verdict} |")
        rows += ["", "| run | figures |", "|---|---|"]
        for name, measured in self.runs.items():
            figures = "; ".join(_describe(measured))
            rows.append(f"| {name} | {figures.removeprefix(f'{name}: ')} |")
        if self.log is not None:
            rows.append(f"| log | {_describe_log(self.log).removeprefix('log: ')} |")
        return rows


def _goals_of_log(log: LogFigures) -> list[Goal]:
    slowness = log.hashlib_cpu_s_per_gib / REFERENCE_HASHLIB_CPU_S_PER_GIB
    millions = PROOF_LEAVES // 1_000_000
    return [
        Goal(
            "custody log, events placed and signed",
            log.placed_per_s,
            PLACED_PER_S_MIN,
            "at least",
            "events/s",
            slowness,
        ),
        Goal(
            f"custody log, commit to checkpoint at {LATENCY_RATE_PER_S} events/s, p99",
            log.checkpoint_p99_ms,
            CHECKPOINT_P99_MS_MAX,
            "at most",
            "ms",
        ),
        Goal(
            f"custody log, proof of inclusion among {millions} million leaves, median request",
            log.proof_p50_ms,
            PROOF_P50_MS_MAX,
            "at most",
            "ms",
            slowness,
        ),
        Goal(
            "audit, leaves hashed and compared",
            log.audited_per_s,
            AUDITED_PER_S_MIN,
            "at least",
            "leaves/s",
            slowness,
        ),
    ]


def _describe_log(log: LogFigures) -> str:
    return (
        f"log: {log.placed_per_s:.0f} events/s placed; commit to checkpoint "
        f"p50 {log.checkpoint_p50_ms:.0f} ms, p99 {log.checkpoint_p99_ms:.0f} ms; proof "
        f"p50 {log.proof_p50_ms:.2f} ms, p99 {log.proof_p99_ms:.2f} ms, "
        f"{log.proof_cpu_ms:.2f} CPU-ms of the API process; audit "
        f"{log.audited_per_s:.0f} leaves/s"
    )


def _slowness(measured: Measured) -> float:
    return measured.hashlib_cpu_s_per_gib / REFERENCE_HASHLIB_CPU_S_PER_GIB


def _times_hashlib(measured: Measured) -> float:
    return measured.cpu_s["serve"] / measured.gib / measured.hashlib_cpu_s_per_gib


def _describe(measured: Measured) -> list[str]:
    if measured.name == "head":
        return _describe_heads(measured)
    gib = measured.gib
    api = measured.cpu_s["serve"] / gib
    speed = f"{measured.sent_bytes / MIB / measured.wall_s:.0f} MiB/s"
    lines = []
    if measured.name in SMALL_WAYS:
        per_clip_ms = 1000 * measured.cpu_s["serve"] / measured.clips
        rate = measured.clips / measured.wall_s
        lines.append(
            f"{measured.name}: {measured.clips} clips of 256 KiB at {rate:.0f} clips/s, "
            f"API {per_clip_ms:.2f} CPU-ms each ({1000 / per_clip_ms:.0f} per CPU-second)"
        )
    else:
        ratio = api / measured.hashlib_cpu_s_per_gib
        lines.append(
            f"{measured.name}: {gib:.1f} GiB in {measured.clips} clip(s) at {speed}, "
            f"API {api:.2f} CPU-s/GiB = {ratio:.2f} x hashlib alone"
        )
    lines.append(f"hashlib's SHA-256 alone: {measured.hashlib_cpu_s_per_gib:.2f} CPU-s/GiB")
    store = f"store {measured.cpu_s['null_s3'] / gib:.2f} CPU-s/GiB"
    beside = [store, f"Postgres {measured.cpu_s['postgres']:.1f} CPU-s"]
    if measured.work_cpu_s is not None:
        work = f"{measured.work_cpu_s:.1f} CPU-s"
        beside.append(
            f"jobs until every clip was read back {work} ({measured.work_cpu_s / gib:.2f}/GiB)"
        )
    beside.append(f"API memory at most {measured.rss_max_bytes / MIB:.0f} MiB")
    lines.append("beside it: " + ", ".join(beside))
    if measured.name == "many":
        lines.append("of each clip of 4 GiB the first chunk was sent, at 400 kB/s")
    if measured.is_noisy:
        lines.append(
            f"NOISY: others used {measured.foreign_cpu_s:.1f} CPU-s in {measured.wall_s:.1f} s"
        )
    return lines


def _describe_heads(measured: Measured) -> list[str]:
    rate = measured.clips / measured.wall_s
    api_ms = 1000 * measured.cpu_s["serve"] / measured.clips
    return [
        f"head: {measured.clips} questions at {rate:.0f}/s, API {api_ms:.3f} CPU-ms each",
        f"beside it: Postgres {measured.cpu_s['postgres']:.1f} CPU-s",
    ]


def _machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    memory_gib = psutil.virtual_memory().total / 1024**3
    python = platform.python_version()
    return f"{psutil.cpu_count()} x {model}, {memory_gib:.0f} GiB, Python {python}"
