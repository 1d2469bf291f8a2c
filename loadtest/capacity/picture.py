"""The day's curve as one self-contained SVG."""

from collections.abc import Mapping
from typing import Final

from loadtest.capacity.day import Day

_WIDTH: Final = 960
_PANEL: Final = 190
_LEFT: Final = 70
_RIGHT: Final = 24
_GAP: Final = 56
_TOP: Final = 44
_FROM_MINUTE: Final = 3 * 60
_TO_MINUTE: Final = 28 * 60
_STEP_HOURS: Final = 3
_NICE: Final = (1, 1.5, 2, 2.5, 5, 7.5, 10)
_OPENING: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'font-family="sans-serif" font-size="13" role="img" aria-label="{title}">\n'
    "<title>{title}</title>\n"
    "<desc>Ingest in MB/s and uploads at once over the hours of the fleet's day.</desc>\n"
    "<style>@media (prefers-color-scheme: dark) {{ "
    "svg {{ filter: invert(1) hue-rotate(180deg) }} }}</style>"
)


def draw_day(name: str, day: Day) -> str:
    """Return ingest and uploads at once, by the minute, from 03:00 to 04:00 of the next day."""
    panels = (
        ("MB/s received", {m: mb / 60 for m, mb in day.mb_by_minute.items()}, "#2a6fb0"),
        ("uploads at once", {m: float(n) for m, n in day.uploads_by_minute.items()}, "#b0602a"),
    )
    height = _TOP + len(panels) * (_PANEL + _GAP)
    title = (
        f"{name}: {len(day.clips_mb):,} clips, {sum(day.clips_mb) / 1e6:.1f} TB in a day; peak "
        f"{day.peak_mb_s:,.0f} MB/s, {day.peak_uploads:,} uploads at once"
    )
    lines = [
        _OPENING.format(width=_WIDTH, height=height, title=title),
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="16" fill="#222">{title}</text>',
    ]
    for index, (label, values, colour) in enumerate(panels):
        lines += _draw_panel(_TOP + index * (_PANEL + _GAP), label, values, colour)
    return "\n".join([*lines, "</svg>", ""])


def _draw_panel(top: float, label: str, values: Mapping[int, float], colour: str) -> list[str]:
    highest = _round_up(max(values.values(), default=1.0))
    bottom, right = top + _PANEL, _WIDTH - _RIGHT
    lines = []
    for part in range(5):
        y = bottom - _PANEL * part / 4
        lines.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#ddd"/>')
        lines.append(
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">'
            f"{highest * part / 4:,.0f}</text>"
        )
    lines += [
        f'<text x="{_x(hour * 60):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">'
        f"{hour % 24:02d}:00</text>"
        for hour in range(_FROM_MINUTE // 60, _TO_MINUTE // 60 + 1, _STEP_HOURS)
    ]
    points = [
        f"{_x(minute):.1f} {bottom - _PANEL * values.get(minute, 0.0) / highest:.1f}"
        for minute in range(_FROM_MINUTE, _TO_MINUTE + 1)
    ]
    shape = "L".join(points)
    lines.append(
        f'<path d="M{_LEFT} {bottom}L{shape}L{right} {bottom}Z" fill="{colour}" opacity="0.25"/>'
    )
    lines.append(f'<path d="M{shape}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    lines.append(f'<text x="{_LEFT}" y="{top - 6}" fill="{colour}">{label}</text>')
    return lines


def _x(minute: float) -> float:
    share = (minute - _FROM_MINUTE) / (_TO_MINUTE - _FROM_MINUTE)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _round_up(value: float) -> float:
    power = 1.0
    while power * 10 < value:
        power *= 10
    return next(power * nice for nice in _NICE if power * nice >= value)
