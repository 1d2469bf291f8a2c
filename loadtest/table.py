"""What runs of the scenarios said, as a table for docs/performance.md."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

DOCS: Final = Path("docs/performance.md")
BLOCK: Final = "load"
_HEAD: Final = (
    "| scenario | docks | clips | first start to last receipt | MB/s | sealed p50 / p99 |"
    " requests | told to come again | resumed | API, CPU-ms a clip | service's memory |"
    " lost, wrong, bad |"
)


def make_rows(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return Markdown: a line per run, then every goal that was missed."""
    lines = [_HEAD, "|" + "---|" * (_HEAD.count("|") - 1)]
    lines += [_row(run) for run in runs]
    lines.append("")
    for run in runs:
        lines += _verdict(run)
    return lines


def _row(run: Mapping[str, Any]) -> str:
    figures, counts = run["figures"], run["counts"]
    cells = (
        f"`{run['scenario']}`",
        f"{run['knobs']['devices']:,}",
        f"{figures['secured']:,} of {figures['clips_planned']:,}",
        f"{figures['wall_s']:.0f} s",
        f"{figures['mb_per_s']:,.0f}",
        f"{figures['sealed_p50_s']:.1f} / {figures['sealed_p99_s']:.1f} s",
        f"{counts['requests']:,}",
        f"{counts.get('retries', 0):,}",
        f"{counts.get('resumes', 0):,}",
        f"{figures['serve_cpu_ms_per_clip']:.2f}" if "serve_cpu_ms_per_clip" in figures else "",
        f"{figures['service_rss_max_gib']:.2f} GiB" if "service_rss_max_gib" in figures else "",
        f"{figures['audit_lost']}, {figures['audit_wrong']}, {figures['audit_bad_receipts']}",
    )
    return f"| {' | '.join(cells)} |"


def _verdict(run: Mapping[str, Any]) -> Iterator[str]:
    missed = [goal for goal in run["goals"] if not goal["is_met"]]
    told = f"{len(run['goals']) - len(missed)} of {len(run['goals'])} goals met"
    others = run["figures"].get("others_cores")
    beside = "" if others is None else f"; other programs took {others:.2f} cores"
    yield f"- `{run['command']}`, {run['at'][:10]}, {run['machine']}: {told}{beside}"
    for goal in missed:
        figure = f"{goal['figure']:.2f} {goal['unit']}".rstrip()
        yield f"  - **missed**: {goal['what']}: {figure}, {goal['kind']} {goal['limit']:g}"
    for reason in run["invalid"]:
        yield f"  - **proves nothing**: {reason}"
