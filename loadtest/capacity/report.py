"""docs/capacity.md: the study in words and tables."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

from loadtest.capacity.day import Day
from loadtest.capacity.sizing import (
    BUSY_MAX,
    EVENTS_PER_S_MAX,
    MEMORY_MARGIN,
    POSTGRES_CORES_MAX,
    READ_BACKS_PER_POD,
    STORE_FACTOR,
    Sizing,
    percentile,
)
from loadtest.capacity.study import Study
from loadtest.capacity.truth import MIN_S, TOLERANCE, Deviation, compare_to_published

_HEAD: Final = """# What the fleet's day needs

Written by `make capacity` (`python -m loadtest.capacity`): do not edit. A simulation (simpy) of one
day of 22,000 body-worn cameras: shifts end at 07:00, 15:00 and 23:00, cameras are docked around ten
minutes later, 160 sites share their uplinks, a camera sends at most 25 Mbit/s. Clips are sent in
segments of 64 to 256 MB; docks retry as the reference dock does (half a second doubling up to a
minute, half of it by chance) and repeat the chunk that was in flight. S0 is 2017 as reported, **S1
the design base** (2 clips a shift, 2.3 GB/h), S2 the stress case (5 clips, 5 GB/h, 1 Gbit/s sites).

![The day of S1]({picture})
"""

_SIZING: Final = """## Pods, cores, memory, rates

For the busiest minute, cores planned {busy:.0%} busy. A larger fleet has as many times the sites,
which are independent: its peaks add up.
"""

_SIZING_NOTES: Final = """
- Custody log: {events}.
- Ledger: {ledger}. Beyond that, a ledger for each region or force.
- A memory limit is {memory:g} times the base and the uploads of a pod; a job pod reads {reads}
  clips at once. S3 is taken as {store:g} times the ingest peak: each byte is written and read back.
- Postgres connections are ten a process: past a few hundred, a pooler stands in front of it.
"""

_TIMES: Final = """## Time to secure

With the service so sized, per clip: *received* is from docking to its last byte, *secured* from
docking to the receipt that lets the camera erase it, both in minutes; *read back* is from its last
byte to its receipt, in seconds. All are p50 / p95 / p99.
"""

_TROUBLES: Final = """## When something is wrong (S1)

*S3 at half its speed* moves little more than the ingest peak: read-back yields to ingest, so docks
hardly notice, but receipts are late. After an outage the uplinks and the service's own speed bound
what comes at once.
"""

_PUBLISHED: Final = """## Against the published traffic table

Modelled (published), tolerance {tolerance:.0%}; a figure beyond it is bold and fails the command.
One day of seed {seed}; nothing but cameras and uplinks in the way. *Docked to received* is here
until a camera's last clip.
"""

_RUN: Final = """## Against a real run

`python -m loadtest.capacity --shift-run FILE` simulates the machine of a `shift` run (its docks,
sizes and compressed day; every process on the cores that other programs left) and compares.
"""

_COSTS: Final = """## Measured costs that went in

Measured {day} on {machine} by `{command}` (`loadtest/capacity/measured.toml`). `hashlib` alone in
the same run is the yardstick: where it needs less, everything else needs less too.
"""

_ROWS: Final[tuple[tuple[str, Callable[[Sizing], str]], ...]] = (
    ("API pods (1 core each, one spare)", lambda s: f"{s.pods:,}"),
    ("API cores busy at the peak", lambda s: f"{s.api_cores:,.1f}"),
    ("memory limit of an API pod, MiB", lambda s: f"{s.pod_memory_mib:,.0f}"),
    ("job pods (1 core each)", lambda s: f"{s.job_pods:,}"),
    ("connections from cameras", lambda s: f"{s.docks:,}"),
    ("network in, Gbit/s (the same out to S3)", lambda s: f"{s.network_gbit_s:,.1f}"),
    ("S3: MB/s written and read together", lambda s: f"{s.store_mb_s:,.0f}"),
    ("stored, TB a day", lambda s: f"{s.stored_tb_per_day:,.1f}"),
    ("Postgres cores busy", lambda s: f"{s.postgres_cores:,.1f}"),
    ("Postgres transactions/s", lambda s: f"{s.transactions_per_s:,.0f}"),
    ("Postgres connections", lambda s: f"{s.database_connections:,}"),
    ("WAL, MB/s", lambda s: f"{s.wal_mb_per_s:,.2f}"),
    ("ledger, GB a year", lambda s: f"{s.ledger_gb_per_year:,.0f}"),
    ("custody events/s", lambda s: f"{s.events_per_s:,.0f}"),
    ("request log, lines/s", lambda s: f"{s.log_lines_per_s:,.0f}"),
    ("request log, GB a day", lambda s: f"{s.log_gb_per_day:,.2f}"),
)


_DAY_COLUMNS: Final = ("peak MB/s", "uploads at once", "received", "secured", "read back, s")


def make_document(study: Study, run_checks: Sequence[Deviation], picture: str) -> str:
    """Return docs/capacity.md."""
    parts = [
        _HEAD.format(picture=f"pictures/{picture}"),
        *_sizing(study),
        *_times(study),
        *_troubles(study),
        *_published(study),
        *_run(run_checks),
        *_costs(study),
    ]
    return "\n".join(parts) + "\n"


def _sizing(study: Study) -> list[str]:
    names = list(study.sizings)
    lines = [_SIZING.format(busy=BUSY_MAX), *_head("", *names)]
    lines += [
        f"| {label} | " + " | ".join(show(study.sizings[name]) for name in names) + " |"
        for label, show in _ROWS
    ]
    late = [n for n, s in study.sizings.items() if s.events_per_s > EVENTS_PER_S_MAX]
    large = [n for n, s in study.sizings.items() if s.postgres_cores > POSTGRES_CORES_MAX]
    notes = _SIZING_NOTES.format(
        events=_within(f"one sequencer of {EVENTS_PER_S_MAX:,} events/s", late),
        ledger=_within(f"one Postgres primary of {POSTGRES_CORES_MAX} busy cores", large),
        memory=MEMORY_MARGIN,
        reads=READ_BACKS_PER_POD,
        store=STORE_FACTOR,
    )
    return [*lines, notes]


def _within(what: str, over: Sequence[str]) -> str:
    return f"too much for {what}: {', '.join(over)}" if over else f"all within {what}"


def _head(*names: str) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---|" + "---:|" * (len(names) - 1)]


def _times(study: Study) -> list[str]:
    lines = [_TIMES, *_head("", *_DAY_COLUMNS)]
    lines += [f"| {name} | {_describe(day)} |" for name, day in study.sized.items()]
    return [*lines, ""]


def _troubles(study: Study) -> list[str]:
    lines = [_TROUBLES, *_head("", *_DAY_COLUMNS, "repeated, MB")]
    lines.append(f"| nothing | {_describe(study.sized['S1'])} | 0 |")
    lines += [
        f"| {each.what} | {_describe(each.day)} | {each.day.repeated_mb:,.0f} |"
        for each in study.troubles
    ]
    return [*lines, ""]


def _describe(day: Day) -> str:
    def minutes(values: Sequence[float]) -> str:
        return " / ".join(f"{percentile(values, p) / MIN_S:.1f}" for p in (50, 95, 99))

    seconds = " / ".join(f"{percentile(day.read_back_s, p):.1f}" for p in (50, 95, 99))
    return (
        f"{day.peak_mb_s:,.0f} | {day.peak_uploads:,} | {minutes(day.received_s)} | "
        f"{minutes(day.secured_s)} | {seconds}"
    )


def _published(study: Study) -> list[str]:
    names = list(study.days)
    checks = {name: compare_to_published(name, day) for name, day in study.days.items()}
    lines = [_PUBLISHED.format(tolerance=TOLERANCE, seed=study.seed), *_head("", *names)]
    for index, first in enumerate(checks[names[0]]):
        cells = [_show_deviation(checks[name][index]) for name in names]
        lines.append(f"| {first.what} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _show_deviation(each: Deviation) -> str:
    text = f"{each.modelled:,.4g} ({each.expected:,.4g})"
    if each.modelled >= 1000:  # noqa: PLR2004 - four digits
        text = f"{each.modelled:,.0f} ({each.expected:,.0f})"
    return text if each.is_within else f"**{text}**"


def _run(checks: Sequence[Deviation]) -> list[str]:
    if not checks:
        return [_RUN, "No run was given to this one.", ""]
    lines = [_RUN, *_head("", "modelled", "run", "off by", "tolerance", "")]
    lines += [
        f"| {each.what} | {each.modelled:,.3g} | {each.expected:,.3g} | {each.share:+.0%} | "
        f"{each.tolerance:.0%} | {'within' if each.is_within else '**beyond**'} |"
        for each in checks
    ]
    return [*lines, ""]


def _costs(study: Study) -> list[str]:
    costs = study.costs
    lines = [
        _COSTS.format(day=costs.measured_on, machine=costs.machine, command=costs.command),
        *_head("", ""),
    ]
    lines += [
        f"| `{name}` | {value:,.4g} |"
        for name, value in asdict(costs).items()
        if not isinstance(value, str)
    ]
    return lines
