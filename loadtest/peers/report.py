"""What the comparison says: tables in the terminal, JSON, a section of docs/performance.md."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from loadtest.peers.comparison import Row

DOCS: Final = Path("docs/performance.md")
BLOCK: Final = "compare"
OWN_NAME: Final = "this service"
# Resumable uploads that end in S3; the filer's endpoint writes its own volumes, by hand is no tus.
RESUMABLE_PEERS: Final = ("@tus/server", "tuspyserver")
BY_HAND: Final = "by hand"
SMALL_RATIO_MIN: Final = 3.0


def write_json(rows: Sequence[Row], skipped: Mapping[str, str], command: str, folder: Path) -> Path:
    """Write everything into a new file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    path = folder / f"compare-{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "at": now.isoformat(),
        "machine": describe_machine(),
        "command": command,
        "rows": [asdict(row) for row in rows],
        "skipped": dict(skipped),
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def tables(rows: Sequence[Row], skipped: Mapping[str, str], command: str) -> list[str]:
    """Return the Markdown of all results."""
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d} on {describe_machine()} by `{command}`.",
    ]
    for store in dict.fromkeys(row.store for row in rows):
        for workload in dict.fromkeys(row.workload for row in rows if row.store == store):
            chosen = [row for row in rows if row.store == store and row.workload == workload]
            lines += ["", *_table(store, chosen)]
    if skipped:
        lines += ["", "Not measured: " + "; ".join(f"{k}: {v}" for k, v in skipped.items()) + "."]
    verdicts = list(_verdicts(rows))
    if verdicts:
        lines += ["", *verdicts]
    return lines


def _table(store: str, rows: Sequence[Row]) -> list[str]:
    workload = rows[0].workload
    size = (
        f"{workload.file_bytes // 1024**2} MiB"
        if workload.file_bytes >= 1024**2
        else f"{workload.file_bytes // 1024} KiB"
    )
    title = f"**{workload.name}** on {store}: {workload.files} x {size}, {workload.at_once} at once"
    is_small = workload.may_be_one_request
    unit = "CPU-ms each" if is_small else "CPU-s/GiB"
    rates = "uploads/s | MB/s" if is_small else "MB/s | uploads/s"
    lines = [title, ""]
    lines.append(
        f"| server | requests | {rates} | {unit} | store's {unit} | peak RSS, MB | verified |"
    )
    lines.append("|---|---|---|---|---|---|---|---|")
    return lines + [_line(row, is_small=is_small) for row in rows]


def _line(row: Row, *, is_small: bool) -> str:
    name = f"**{row.server}**" if row.server == OWN_NAME else row.server
    if row.failure:
        return f"| {name} | {row.requests} | failed: {row.failure[:200]} | | | | | |"
    has_store = "store" in row.measured.cpu_s
    rss = f"{row.measured.rss_max_bytes / 1e6:.0f}"
    noisy = " NOISY" if row.measured.is_noisy else ""
    if is_small:
        of_store = f"{row.cpu_ms_per_file('store'):.1f}" if has_store else "-"
        figures = f"{row.files_per_s:.0f}{noisy} | {row.mb_per_s:.0f} | {row.cpu_ms_per_file():.2f}"
    else:
        of_store = f"{row.cpu_s_per_gib('store'):.1f}" if has_store else "-"
        figures = f"{row.mb_per_s:.0f}{noisy} | {row.files_per_s:.1f} | {row.cpu_s_per_gib():.2f}"
    return f"| {name} | {row.requests} | {figures} | {of_store} | {rss} | {row.verified} |"


def _verdicts(rows: Sequence[Row]) -> list[str]:
    lines = []
    for store in dict.fromkeys(row.store for row in rows):
        small = {
            row.server: row
            for row in rows
            if row.store == store and row.workload.may_be_one_request and not row.failure
        }
        if (own := small.get(OWN_NAME)) is None:
            continue
        own_ms = own.cpu_ms_per_file()
        peers = [small[name] for name in RESUMABLE_PEERS if name in small]
        if peers:
            cheapest = min(peers, key=Row.cpu_ms_per_file)
            ratio = cheapest.cpu_ms_per_file() / own_ms
            verdict = "met" if ratio >= SMALL_RATIO_MIN else "**missed**"
            lines.append(
                f"- small on {store}: {ratio:.1f} times cheaper than {cheapest.server}, the "
                f"cheapest resumable peer that stores through S3 (goal {SMALL_RATIO_MIN:g}): "
                f"{verdict}"
            )
        if BY_HAND in small:
            other_ms = small[BY_HAND].cpu_ms_per_file()
            verdict = "met" if own_ms < other_ms else "**missed**"
            lines.append(
                f"- small on {store}: {own_ms:.2f} CPU-ms against {other_ms:.2f} by hand "
                f"(goal: cheaper): {verdict}"
            )
        beside = ", ".join(
            f"{role} {own.cpu_ms_per_file(role) + 1000 * settled_s / own.workload.files:.2f}"
            for role, settled_s in own.settle_cpu_s.items()
            if role in {"postgres", "jobs"}
        )
        lines.append(
            f"- beside the API, per small upload until it was read back and released, on {store}: "
            f"{beside} CPU-ms"
        )
    return lines


def is_met(rows: Sequence[Row]) -> bool:
    """Tell whether this service did everything it was sent, and the goals of the comparison."""
    own = [row for row in rows if row.server == OWN_NAME]
    return (
        bool(own)
        and not any(row.failure for row in own)
        and not any("**missed**" in line for line in _verdicts(rows))
    )


def describe_machine() -> str:
    """Return cores, model and memory of this machine."""
    model: Any = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    memory_gib = psutil.virtual_memory().total / 1024**3
    return f"{psutil.cpu_count()} x {model}, {memory_gib:.0f} GiB"
