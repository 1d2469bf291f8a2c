"""Runs one scenario: generators, watch, audit; weighs the goals and says what it saw."""

import asyncio
import json
import math
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from loadtest.audit import Findings, Store, check_receipts, read_objects, read_outcomes
from loadtest.bench_report import Goal
from loadtest.fleet import Job, count_processes, make_reels
from loadtest.own_stack import Stack
from loadtest.plant import Fault, plant_fault
from loadtest.receipt_check import ReceiptCheck
from loadtest.reel import Reel
from loadtest.scenarios import GIB, MIB, Knobs, Scenario
from loadtest.tally import Tally, describe, merge_intervals
from loadtest.watch import Watch, describe_roles

_ROOT: Final = Path(__file__).parents[1]
_READY_TIMEOUT_S: Final = 120.0
_HEAD_START_S: Final = 1.5
_LATE_SHARE_MAX: Final = 0.01
# A generator that had nearly a whole core for more than this share of the time was the bound.
_SATURATED_CPU: Final = 0.9
_SATURATED_SHARE_MAX: Final = 0.1
_NOISY_CORES: Final = 0.2
_GIVE_UP_FACTOR: Final = 1.5
_GRID_S: Final = 1.0
_ROLES: Final = ("serve", "work", "postgres", "seaweed", "null_s3")
_LINE_BYTES_MAX: Final = 16 * 1024 * 1024
_SUMMED: Final = (
    "open",
    "arrived",
    "announced",
    "sealed",
    "secured",
    "failed",
    "requests",
    "retries",
    "resumes",
    "late",
    "errors",
    "acknowledged_bytes",
)

Tell = Callable[[str, Mapping[str, float]], None]


class GeneratorFailed(Exception):
    """A generator ended before its time."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run.

    is_own   the service was started for this run and serves nobody else
    fault    harm to do to the store before the audit
    tell     takes how far the run is: a phase and its counts
    """

    scenario: Scenario
    knobs: Knobs
    run: str
    stack: Stack
    folder: Path
    is_own: bool
    fault: Fault | None
    tell: Tell


@dataclass(slots=True)
class Heard:
    """What the generators said."""

    ticks: list[list[dict[str, Any]]]
    tally: Tally = field(default_factory=Tally)
    ended_at: float = 0.0
    cpu_s: float = 0.0


async def judge(order: Order) -> dict[str, Any]:
    """Run a scenario and return everything about it, as JSON can hold it.

    Raises:
        GeneratorFailed: a generator died; nothing is judged.
    """
    parts = order.knobs.processes or count_processes(order.knobs.devices)
    files = [order.folder / f"outcomes-{part}.jsonl" for part in range(parts)]
    heard, watch = await _drive(order, files)
    order.tell("audit", {})
    reels = [
        reel for own in make_reels(order.scenario.name, order.knobs, order.run) for reel in own
    ]
    findings = await _audit(order, reels, files)
    series = _merge_ticks(heard.ticks)
    figures = _compute_figures(order, heard, watch.samples, series, findings)
    figures["clips_planned"] = len(reels)
    figures["bytes_planned"] = sum(reel.size_bytes for reel in reels)
    goals = order.scenario.make_goals(order.knobs, figures)
    reasons = _find_invalid(heard)
    is_met = all(goal.is_met for goal in goals) and findings.is_clean
    return {
        "scenario": order.scenario.name,
        "goal": order.scenario.goal,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m loadtest", *sys.argv[1:]]),
        "machine": describe_machine(),
        "run": order.run,
        "knobs": asdict(order.knobs) | {"processes": parts},
        "service": {"workers": order.scenario.workers, "store": order.scenario.store}
        | order.scenario.environment,
        "fault_planted": order.fault,
        "verdict": "invalid" if reasons else "met" if is_met else "missed",
        "invalid": reasons,
        "goals": [{**asdict(goal), "is_met": goal.is_met} for goal in goals],
        "figures": figures,
        "counts": dict(sorted(heard.tally.counts.items())),
        "errors": dict(heard.tally.errors.most_common(50)),
        "latency": {
            "service": {k: describe(v) for k, v in sorted(heard.tally.service.items())},
            "response": {k: describe(v) for k, v in sorted(heard.tally.response.items())},
        },
        "roles": describe_roles(watch.samples, dict.fromkeys(_ROLES)),
        "audit": findings.told(),
        "series": {"docks": series, "service": watch.samples},
    }


async def _drive(order: Order, files: Sequence[Path]) -> tuple[Heard, Watch]:
    """Let the generators run, and watch the service meanwhile."""
    generators = [await _start_generator() for _ in files]
    heard = Heard(ticks=[[] for _ in files])
    zero = [math.inf]
    watch = Watch(
        order.stack.facts,
        {role: pid for role, pid in order.stack.pids.items() if psutil.pid_exists(pid)},
        lambda: time.time() - zero[0],
    )
    try:
        for part, (generator, file) in enumerate(zip(generators, files, strict=True)):
            job = Job(
                scenario=order.scenario.name,
                knobs=order.knobs,
                run=order.run,
                part=part,
                parts=len(files),
                give_up_s=_GIVE_UP_FACTOR * order.knobs.within_s + 30,
                wire=order.stack.wire,
                verifier_key=str(order.stack.facts["log_verifier_key"]),
                outcomes=file,
            )
            await _write(generator, job.pack())
        async with asyncio.timeout(_READY_TIMEOUT_S):
            for generator in generators:
                await _read(generator)
        zero[0] = time.time() + _HEAD_START_S
        for generator in generators:
            await _write(generator, repr(zero[0]))
        watch.start()
        listening = (
            _listen(order, generator, part, heard) for part, generator in enumerate(generators)
        )
        # The first one to fail ends them all.
        await asyncio.gather(*listening)
    finally:
        for generator in generators:
            if generator.returncode is None:
                with suppress(ProcessLookupError):
                    generator.terminate()
            await generator.wait()
    # What came after the last receipt is not the run's.
    await asyncio.to_thread(watch.stop)
    return heard, watch


async def _start_generator() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.fleet",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        limit=_LINE_BYTES_MAX,
    )


async def _write(generator: asyncio.subprocess.Process, line: str) -> None:
    if generator.stdin is None:
        message = "a generator has no standard input"
        raise GeneratorFailed(message)
    generator.stdin.write(line.encode() + b"\n")
    await generator.stdin.drain()


async def _read(generator: asyncio.subprocess.Process) -> dict[str, Any]:
    line = b"" if generator.stdout is None else await generator.stdout.readline()
    if not line:
        status = await generator.wait()
        how = f"by signal {-status}" if status < 0 else f"with status {status}: see its error above"
        message = f"a generator ended before its time, {how}"
        raise GeneratorFailed(message)
    told: dict[str, Any] = json.loads(line)
    return told


async def _listen(
    order: Order, generator: asyncio.subprocess.Process, part: int, heard: Heard
) -> None:
    own = heard.ticks[part]
    while True:
        told = await _read(generator)
        if "final" in told:
            heard.tally.add(told["final"])
            heard.ended_at = max(heard.ended_at, told["ended_at"])
            heard.cpu_s += sum(tick["cpu_share"] * tick["took_s"] for tick in own)
            return
        own.append(told)
        last = [ticks[-1] for ticks in heard.ticks if ticks]
        counts = {name: sum(tick.get(name, 0) for tick in last) for name in _SUMMED}
        order.tell("run", counts | {"at": told["at"]})


async def _audit(order: Order, reels: Sequence[Reel], files: Sequence[Path]) -> Findings:
    findings = Findings()
    outcomes = read_outcomes(files)
    check = ReceiptCheck(str(order.stack.facts["log_verifier_key"]))
    proved = check_receipts(reels, outcomes, check, findings)
    if order.scenario.store == "null":
        return findings  # it keeps no bytes: the receipts' hashes are all there is to check
    store = Store(order.stack.facts)
    if order.fault is not None and proved:
        await plant_fault(order.fault, proved[min(proved)], store)
    done = [0]

    def advance(count: int) -> None:
        done[0] += count
        order.tell("audit", {"audited": done[0], "of": len(proved)})

    share = order.scenario.audited
    await read_objects(reels, proved, store, findings, share=share, advance=advance)
    return findings


# --- what it amounts to ----------------------------------------------------------------------


def _merge_ticks(ticks: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, float]]:
    """Return the generators' ticks added up on a common grid of seconds."""
    last_at = max((own[-1]["at"] for own in ticks if own), default=0.0)
    merged = []
    positions = [0] * len(ticks)
    for step in range(1, math.ceil(last_at / _GRID_S) + 1):
        at = step * _GRID_S
        row: dict[str, float] = {"at": at} | dict.fromkeys(_SUMMED, 0.0)
        row |= {"cpu_share": 0.0, "lag_s": 0.0}
        times = []
        for part, own in enumerate(ticks):
            while positions[part] < len(own) and own[positions[part]]["at"] <= at:
                tick = own[positions[part]]
                times.append(tick["times"])
                row["cpu_share"] = max(row["cpu_share"], tick["cpu_share"])
                row["lag_s"] = max(row["lag_s"], tick["lag_s"])
                positions[part] += 1
            if positions[part]:
                for name in _SUMMED:
                    row[name] += own[positions[part] - 1].get(name, 0)
        histogram = merge_intervals(times)
        if histogram.get_total_count():
            for percentile in (50, 99):
                value_us = histogram.get_value_at_percentile(percentile)
                row[f"p{percentile}_ms"] = value_us / 1000
            row["max_ms"] = histogram.get_max_value() / 1000
        merged.append(row)
    return merged


def _compute_figures(
    order: Order,
    heard: Heard,
    samples: Sequence[Mapping[str, float]],
    series: Sequence[Mapping[str, float]],
    findings: Findings,
) -> dict[str, float]:
    counts = heard.tally.counts
    ticks = [tick for own in heard.ticks for tick in own]
    sent_bytes = counts["acknowledged_bytes"]
    flowed_s = (heard.tally.last_byte_s or 0.0) - (heard.tally.first_byte_s or 0.0)
    figures: dict[str, float] = {
        "wall_s": heard.ended_at,
        "secured": counts["secured"],
        "failed": counts["failed"],
        "resumes": counts["resumes"],
        "cuts": counts["cuts"],
        "retries": counts["retries"],
        "errors": sum(heard.tally.errors.values()),
        "late_starts": counts["late"],
        "dropped_starts": counts["dropped"],
        "open_max": max((row["open"] for row in series), default=0),
        "requests_per_s": counts["requests"] / max(heard.ended_at, 1e-9),
        "clips_per_s": counts["secured"] / max(heard.ended_at, 1e-9),
        "mb_per_s": sent_bytes / 1e6 / max(flowed_s, 1e-9),
        "generator_cpu_s": heard.cpu_s,
        "generator_cpu_share_max": max((tick["cpu_share"] for tick in ticks), default=0),
        "generator_lag_max_s": max((tick["lag_s"] for tick in ticks), default=0),
        "audit_lost": len(findings.lost),
        "audit_wrong": len(findings.wrong),
        "audit_bad_receipts": len(findings.bad_receipts),
    }
    for milestone in ("sealed", "secured"):
        if milestone in heard.tally.response:
            described = describe(heard.tally.response[milestone])
            for percentile in ("p50", "p99"):
                figures[f"{milestone}_{percentile}_s"] = described[f"{percentile}_ms"] / 1000
    figures |= _service_figures(samples, sent_bytes, counts["secured"])
    if figures.get("serve_cpu_s"):
        figures["others_cores"] = _measure_others(samples, heard)
    if order.is_own and "clips_made" in (samples[-1] if samples else {}):
        figures["service_clips_made"] = samples[-1]["clips_made"]
    return figures


def _service_figures(
    samples: Sequence[Mapping[str, float]], sent_bytes: int, secured: int
) -> dict[str, float]:
    own = [sample for sample in samples if "serve_rss_mib" in sample]
    if not own:
        return {}
    rss_mib = [sample["serve_rss_mib"] + sample.get("work_rss_mib", 0) for sample in own]
    cpu_s = own[-1]["serve_cpu_s"] - own[0]["serve_cpu_s"]
    fifth = max(len(rss_mib) // 5, 1)
    early, late = rss_mib[fifth : 2 * fifth] or rss_mib, rss_mib[-fifth:]
    figures = {
        "service_rss_max_gib": max(rss_mib) * MIB / GIB,
        "service_rss_growth": (sum(late) / len(late)) / (sum(early) / len(early)),
        "serve_cpu_s": cpu_s,
    }
    if sent_bytes:
        figures["serve_cpu_s_per_gib"] = cpu_s / (sent_bytes / GIB)
    if secured:
        figures["serve_cpu_ms_per_clip"] = 1000 * cpu_s / secured
    return figures


def _measure_others(samples: Sequence[Mapping[str, float]], heard: Heard) -> float:
    """Return how many cores programs that have no part in the run kept busy."""
    first, last = samples[0], samples[-1]
    busy_s = last["machine_cpu_s"] - first["machine_cpu_s"] - heard.cpu_s
    for role, used in describe_roles(samples, dict.fromkeys(_ROLES)).items():
        busy_s -= used["cpu_s"] if f"{role}_cpu_s" in first else 0
    return max(busy_s, 0.0) / max(last["at"] - first["at"], 1e-9)


def _find_invalid(heard: Heard) -> list[str]:
    """Return why the run proves nothing about the service; empty if it does."""
    counts, reasons = heard.tally.counts, []
    if counts["dropped"]:
        reasons.append(f"{counts['dropped']} docks never started")
    if counts["late"] > _LATE_SHARE_MAX * max(counts["starts"], 1):
        reasons.append(
            f"{counts['late']} of {counts['starts']} starts were late by a second or more"
        )
    for part, own in enumerate(heard.ticks):
        full = sum(tick["cpu_share"] > _SATURATED_CPU for tick in own)
        if full > _SATURATED_SHARE_MAX * len(own) + 1:
            reasons.append(
                f"generator {part} was saturated: over {_SATURATED_CPU:.0%} of a core in "
                f"{full} of {len(own)} intervals"
            )
    return reasons


def describe_machine() -> str:
    """Return what this was measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    memory_gib = psutil.virtual_memory().total / GIB
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    python = platform.python_version()
    return (
        f"{psutil.cpu_count()} x {model}, {memory_gib:.0f} GiB, {files} open files, Python {python}"
    )


def _show_costs(figures: Mapping[str, float]) -> list[str]:
    """Return what the service used, and whether others disturbed it."""
    lines = []
    if "serve_cpu_s_per_gib" in figures:
        per_gib, per_clip = figures["serve_cpu_s_per_gib"], figures.get("serve_cpu_ms_per_clip", 0)
        speed = f"{figures['mb_per_s']:.0f} MB/s, {figures['clips_per_s']:.0f} clips/s"
        lines.append(
            f"      {speed}; API {per_gib:.2f} CPU-s per GiB, {per_clip:.2f} CPU-ms per clip"
        )
    if figures.get("others_cores", 0) > _NOISY_CORES:
        lines.append(
            f"NOISY other programs kept {figures['others_cores']:.2f} of {psutil.cpu_count()} "
            "cores busy: rates and times are worse than this machine's own"
        )
    return lines


def show_goals(document: Mapping[str, Any]) -> list[str]:
    """Return goals and verdict for people."""
    names = ("what", "figure", "limit", "kind", "unit")
    lines = [str(Goal(**{name: each[name] for name in names})) for each in document["goals"]]
    lines += _show_costs(document["figures"])
    lines += [f"INVALID  {reason}" for reason in document["invalid"]]
    lines.append(f"verdict: {document['verdict']}")
    return lines
