"""What `ingest top` shows: a screen for people, a line for logs."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.operations import OperationsNow, QueueNow, WorstStation

_SPARKS: Final = "▁▂▃▄▅▆▇█"
_BAR_CELLS: Final = 12
_ROWS_MAX: Final = 8
_SPARK_CELLS: Final = 48
_KILO: Final = 1000
_SMALL: Final = 10
_LARGE: Final = 100
_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_DAY_S: Final = 86_400
# As on the page /ops: when the lag of the log is worth a look, and when it is worth one's sleep.
_LAG_WARN_S: Final = 5
_LAG_BAD_S: Final = 60
_QUEUES: Final = {
    "finishing": "finishing",
    "read_back": "read-back",
    "sequencing": "sequencing",
    "publishing": "checkpoints",
    "manifests": "manifests",
    "fixity": "fixity overdue",
}
_STYLES: Final = {"stalled": "bold red", "failing": "yellow", "slow": "yellow"}


def show_line(now: OperationsNow) -> str:
    """Return one line with the figures that matter, for logs and pipes."""
    rate, log = now.rate, now.custody_log
    waiting = " ".join(
        f"{_QUEUES[queue.name]}={_count_queue(queue)}"
        for queue in now.queues
        if queue.name in {"finishing", "read_back", "sequencing", "manifests"}
    )
    return (
        f"{now.measured_at:%Y-%m-%dT%H:%M:%SZ}"
        f" received={show_bytes(rate.received_bytes_s)}/s,{rate.received_clips_s:.2f}clips/s"
        f" secured={rate.secured_clips_s:.2f}clips/s"
        f" active={now.uploads.active_count}"
        f" at-risk={show_bytes(now.at_risk.unsecured_bytes)},{now.at_risk.unsecured_count}"
        f" stalled={now.at_risk.stalled_count}"
        f" {waiting}"
        f" log-lag={log.lag_s:.1f}s"
        f" busy={rate.shed_requests_s:.1f}/s failed={rate.failed_requests_s:.1f}/s"
        f" {'halted' if log.halted_reason else now.readiness.status.replace(' ', '-')}"
    )


def show_screen(now: OperationsNow, *, source: str, trouble: str = "") -> RenderableType:
    """Return the whole screen.

    trouble  why these are not the newest figures; empty: they are
    """
    parts: list[RenderableType] = [_head(now, source, trouble), _tiles(now)]
    middle = Table.grid(expand=True, padding=(0, 1))
    for _ in range(3):
        middle.add_column(ratio=1)
    middle.add_row(_boroughs(now), _queues(now), _checks(now))
    parts += [_charts(now), middle, _stations(now)]
    return Group(*parts)


def _head(now: OperationsNow, source: str, trouble: str) -> RenderableType:
    line = Table.grid(expand=True)
    line.add_column()
    line.add_column(justify="right")
    is_ready = now.readiness.status == "ready"
    warned = any(not check.ok for check in now.readiness.checks.values())
    state = ("● ready", "bold green") if is_ready else ("■ not ready", "bold red")
    if is_ready and warned:
        state = ("▲ ready, with a warning", "bold yellow")
    if trouble:
        state = (f"■ {trouble}", "bold red")
    line.add_row(
        Text.assemble(("ingest top  ", "bold"), state),
        Text(f"{source}   measured {now.measured_at:%H:%M:%S} UTC   v{now.version}", "dim"),
    )
    return line


def _tiles(now: OperationsNow) -> RenderableType:
    rate, risk, log = now.rate, now.at_risk, now.custody_log
    oldest = _age(risk.unsecured_since, now.measured_at)
    lag_style = "bold"
    if log.halted_reason or log.lag_s > _LAG_BAD_S:
        lag_style = "bold red"
    elif log.lag_s > _LAG_WARN_S:
        lag_style = "bold yellow"
    point = log.checkpoint
    tiles = [
        (
            "receiving",
            Text(f"{show_bytes(rate.received_bytes_s)}/s", "bold"),
            f"{rate.received_clips_s:.2f} clips/s",
        ),
        (
            "securing",
            Text(f"{rate.secured_clips_s:.2f} clips/s", "bold"),
            f"{show_bytes(rate.secured_bytes_s)}/s",
        ),
        (
            "active uploads",
            Text(f"{now.uploads.active_count:,}", "bold"),
            f"{show_bytes(now.uploads.left_bytes)} to come",
        ),
        (
            "at risk",
            Text(show_bytes(risk.unsecured_bytes), "bold red" if risk.stalled_count else "bold"),
            f"{risk.unsecured_count:,}, oldest {oldest}" if risk.unsecured_count else "all safe",
        ),
        (
            "log lag",
            Text("halted" if log.halted_reason else f"{log.lag_s:.1f} s", lag_style),
            f"checkpoint {point.age_s:.0f} s" if point else "no checkpoint",
        ),
        (
            "refused, failed",
            Text(
                f"{rate.shed_requests_s:.1f} + {rate.failed_requests_s:.1f} /s",
                "bold red" if rate.failed_requests_s else "bold",
            ),
            f"{risk.stalled_count:,} stalled",
        ),
    ]
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in tiles:
        grid.add_column(ratio=1)
    grid.add_row(*(Text(name, "dim") for name, _, _ in tiles))
    grid.add_row(*(big for _, big, _ in tiles))
    grid.add_row(*(Text(small, "dim") for _, _, small in tiles))
    return Panel(grid, border_style="dim")


def _charts(now: OperationsNow) -> RenderableType:
    points = now.history.points
    grid = Table.grid(expand=False, padding=(0, 2))
    grid.add_row(
        Text("received", "dim"),
        Text(spark([point.received_bytes_s for point in points]), "blue"),
        Text(f"peak {show_bytes(max((each.received_bytes_s for each in points), default=0))}/s"),
    )
    grid.add_row(
        Text("secured", "dim"),
        Text(spark([point.secured_clips_s for point in points]), "green"),
        Text(f"peak {max((each.secured_clips_s for each in points), default=0):.2f} clips/s"),
    )
    waits = _hold([point.read_back_count for point in points])
    grid.add_row(
        Text("read-back queue", "dim"),
        Text(spark(waits), "yellow"),
        Text(f"peak {max(waits, default=0):,.0f}"),
    )
    return Panel(
        grid,
        title=f"last {now.history.minutes} minutes",
        title_align="left",
        border_style="dim",
    )


def _boroughs(now: OperationsNow) -> RenderableType:
    boroughs = now.uploads.boroughs
    most = max((each.active_count for each in boroughs), default=1)
    table = _make_table("borough", "uploads", "")
    for each in boroughs[:_ROWS_MAX]:
        cells = max(1, round(each.active_count / most * _BAR_CELLS))
        table.add_row(Text(each.borough), f"{each.active_count:,}", Text("━" * cells, "blue"))
    if len(boroughs) > _ROWS_MAX:
        table.add_row(Text(f"{len(boroughs) - _ROWS_MAX} more", "dim"), "", "")
    if not boroughs:
        table.add_row(Text("no upload is active", "dim"), "", "")
    return table


def _queues(now: OperationsNow) -> RenderableType:
    table = _make_table("queue", "waiting", "oldest")
    for queue in now.queues:
        oldest = _age(queue.waiting_since, now.measured_at) if queue.waiting_since else ""
        table.add_row(_QUEUES[queue.name], _count_queue(queue), Text(oldest, "dim"))
    troubles = now.webhooks.failing_count + now.webhooks.disabled_count
    table.add_row(
        "webhooks behind",
        f"{now.webhooks.lag_events:,}",
        Text(f"{troubles} in trouble" if troubles else "", "yellow"),
    )
    return table


def _checks(now: OperationsNow) -> RenderableType:
    table = _make_table("leans on", "", "")
    for name, check in now.readiness.checks.items():
        mark = Text("✓", "green") if check.ok else Text("✗", "bold red")
        table.add_row(name.replace("_", " "), mark, Text("" if check.ok else check.detail, "red"))
    return table


def _stations(now: OperationsNow) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), expand=False, header_style="dim")
    for heading in ("station", "borough", "why"):
        table.add_column(heading)
    for heading in ("failed", "per stream", "at risk", "last progress"):
        table.add_column(heading, justify="right")
    for each in now.stations:
        table.add_row(*_station_row(each, now.measured_at))
    if not now.stations:
        table.add_row(Text("none stands out", "dim"))
    return Panel(table, title="stations to look at", title_align="left", border_style="dim")


def _station_row(each: WorstStation, at: datetime) -> Iterable[Text]:
    why = Text(" ").join(Text(reason, _STYLES[reason]) for reason in each.reasons)
    rate = "" if each.stream_bytes_s is None else f"{show_bytes(each.stream_bytes_s)}/s"
    failed = f"{each.failed_count:,} of {each.request_count:,}" if each.request_count else ""
    progress = f"{_age(each.last_progress_at, at)} ago" if each.last_progress_at else ""
    return (
        Text(each.station_id),
        Text(each.borough),
        why,
        Text(failed),
        Text(rate),
        Text(show_bytes(each.unsecured_bytes)),
        Text(progress),
    )


def _make_table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), expand=False, header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number == 1 else "left")
    return table


def spark(values: Sequence[float], cells: int = _SPARK_CELLS) -> str:
    """Return values as blocks, the last ones if there are more than cells."""
    shown = values[-cells:]
    most = max(shown, default=0)
    if most <= 0:
        return _SPARKS[0] * len(shown)
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[round(max(0.0, value) / most * steps)] for value in shown)


def _hold(samples: Iterable[int | None]) -> list[float]:
    """Return samples with the last known one where none was taken."""
    held: list[float] = []
    for sample in samples:
        held.append(float(sample) if sample is not None else (held[-1] if held else 0.0))
    return held


def show_bytes(count: float) -> str:
    """Return a size for people: 1000 B are a kB."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < _KILO - 0.5:
            break
        size, unit = size / _KILO, larger
    if unit == "B" or size >= _LARGE:
        return f"{size:.0f} {unit}"
    return f"{size:.1f} {unit}" if size >= _SMALL else f"{size:.2f} {unit}"


def _count_queue(queue: QueueNow) -> str:
    return f"{queue.waiting_count:,}{'+' if queue.is_more else ''}"


def _age(since: datetime | None, now: datetime) -> str:
    if since is None:
        return "-"
    seconds = max(0.0, (now - since).total_seconds())
    if seconds < _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.0f} h"
    return f"{seconds / _DAY_S:.0f} days"
