"""Two runs of a scenario side by side."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from rich.table import Table

_MORE_IS_BETTER: Final = frozenset({"mb_per_s", "clips_per_s", "requests_per_s"})
# Neither good nor bad: how large the run was, and what its docks were dealt.
_NEUTRAL: Final = frozenset(
    {"secured", "cuts", "resumes", "open_max", "clips_planned", "bytes_planned"}
    | {"service_clips_made", "generator_cpu_s", "generator_cpu_share_max", "others_cores"}
)
_WORTH_A_WORD: Final = 0.05


def load_run(file: Path) -> dict[str, Any]:
    """Read a run's JSON.

    Raises:
        ValueError: the file is no run.
    """
    document: dict[str, Any] = json.loads(file.read_text())
    if "figures" not in document or "latency" not in document:
        message = f"{file} is not the JSON of a load test"
        raise ValueError(message)
    return document


def compare_runs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Table:
    """Return a table of what changed."""
    table = Table(
        title=f"{before['scenario']} {before['at']}  →  {after['scenario']} {after['at']}"
    )
    for column in ("", "A", "B", "change", ""):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("verdict", str(before["verdict"]), str(after["verdict"]), "", "")
    for name, first, second in _pairs(before, after):
        change = (second - first) / first if first else 0.0
        better = (change > 0) == (name in _MORE_IS_BETTER)
        is_told = abs(change) >= _WORTH_A_WORD and name not in _NEUTRAL
        word = ("better" if better else "worse") if is_told else ""
        table.add_row(name, f"{first:,.2f}", f"{second:,.2f}", f"{change:+.1%}", word)
    return table


def _pairs(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[tuple[str, float, float]]:
    for name, first in before["figures"].items():
        if name in after["figures"]:
            yield name, first, after["figures"][name]
    for step, first in before["latency"]["response"].items():
        second = after["latency"]["response"].get(step)
        if second is not None:
            for percentile in ("p50_ms", "p99_ms"):
                yield f"{step} {percentile}", first[percentile], second[percentile]
