"""Line charts as SVG text: no script, no font, nothing from anywhere else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 560
HEIGHT: Final = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 44, 30
# Distinct to colour-blind eyes on light and on dark (Okabe and Ito).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777")
_POINTS_MAX: Final = 400

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: (second of the run, value)."""

    name: str
    points: Points


def draw_chart(title: str, unit: str, lines: Sequence[Line]) -> str:
    """Return a chart as one <svg> element; lines without points are left out."""
    lines = [Line(line.name, _thin(line.points)) for line in lines if line.points]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="currentColor">'
        f"<title>{escape(title)}</title>"
        f'<text x="8" y="16" font-size="13" font-weight="600">{escape(title)}</text>'
    )
    if not lines:
        return f'{head}<text x="8" y="60">no data</text></svg>'
    x_max = max(x for line in lines for x, _ in line.points) or 1.0
    y_step, y_count = _choose_steps(max(y for line in lines for _, y in line.points))
    y_max = y_step * y_count
    inner_w, inner_h = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    parts = [head]
    for index in range(y_count + 1):
        y = _TOP + inner_h * (1 - index / y_count)
        parts.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="currentColor" stroke-opacity="0.15"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_show(index * y_step)}</text>"
        )
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="16" text-anchor="end">{escape(unit)}</text>')
    x_step, x_count = _choose_steps(x_max)
    for index in range(x_count + 1):
        if index * x_step <= x_max:
            x = _LEFT + inner_w * index * x_step / x_max
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">'
                f"{_show(index * x_step)} s</text>"
            )
    legend_x = float(_LEFT)
    for index, line in enumerate(lines):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(
            f"{_LEFT + inner_w * x / x_max:.1f},{_TOP + inner_h * (1 - y / y_max):.1f}"
            for x, y in line.points
        )
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.6" points="{path}"/>'
            f'<rect x="{legend_x:.0f}" y="25" width="10" height="4" fill="{colour}"/>'
            f'<text x="{legend_x + 14:.0f}" y="31">{escape(line.name)}</text>'
        )
        legend_x += 28 + 6.2 * len(line.name)
    return "".join([*parts, "</svg>"])


_CHARTS_SHOW: Final = "Several charts over the time of the run; the caption has the figures."
_DARK: Final = (
    "@media (prefers-color-scheme: dark) { :root { filter: invert(1) hue-rotate(180deg) } }"
)


def join_charts(charts: Sequence[str], caption: str, columns: int = 2) -> str:
    """Return several charts as one SVG picture on white, for a README."""
    rows = math.ceil(len(charts) / columns)
    width, height = WIDTH * columns, HEIGHT * rows + 30
    placed = [
        chart.replace(
            "<svg ", f'<svg x="{WIDTH * (i % columns)}" y="{30 + HEIGHT * (i // columns)}" ', 1
        )
        for i, chart in enumerate(charts)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" color="#222222">'
        f"<title>{escape(caption)}</title><desc>{escape(_CHARTS_SHOW)}</desc>"
        f"<style>{_DARK}</style>"
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="8" y="20" font-family="system-ui, sans-serif" font-size="14" '
        f'fill="#222222">{escape(caption)}</text>{"".join(placed)}</svg>\n'
    )


def _thin(points: Points) -> Points:
    """Return at most _POINTS_MAX points: of each bucket the largest, so that no peak is hidden."""
    if len(points) <= _POINTS_MAX:
        return points
    size = math.ceil(len(points) / _POINTS_MAX)
    buckets = (points[at : at + size] for at in range(0, len(points), size))
    return [max(bucket, key=lambda point: point[1]) for bucket in buckets]


def _choose_steps(top: float) -> tuple[float, int]:
    """Return a round step and how many of them hold `top`."""
    if top <= 0 or not math.isfinite(top):
        return 1.0, 1
    rough = top / 4
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1, 2, 2.5, 5, 10) if scale * factor >= rough * 0.999)
    return step, max(1, math.ceil(top / step - 1e-9))


def _show(value: float) -> str:
    thousand = 1000
    if value >= thousand * thousand:
        return f"{value / thousand / thousand:g} M"
    return f"{value:,.0f}" if value >= thousand else f"{value:g}"
