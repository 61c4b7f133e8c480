"""Line charts as inline SVG: no script, no style sheet, nothing from elsewhere."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 78, 14, 30, 26  # room for the labels of the axes
POINTS_MAX = 600  # of one line: no screen shows more; extremes are kept
COLOURS = ("#1f6fb2", "#c2571a", "#2d8659", "#8a3ea8", "#b8860b", "#4a4a4a")
Point = tuple[float, float]
Label = Callable[[float], str]


class Line(NamedTuple):
    """One line of a chart: its name and its points, x ascending."""

    name: str
    points: Sequence[Point]


def thinned(points: Sequence[Point], points_max: int = POINTS_MAX) -> list[Point]:
    """At most ``points_max`` points (4 or more): of each stretch the lowest and the highest, first and last of all."""
    if len(points) <= points_max:
        return list(points)
    stretches = points_max // 2 - 1
    inner, found = points[1:-1], [points[0]]
    for number in range(stretches):
        part = inner[number * len(inner) // stretches : (number + 1) * len(inner) // stretches]
        ends = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        found.extend(sorted(ends))
    return [*found, points[-1]]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values from ``low`` to ``high``, about ``wanted`` of them: 1, 2 or 5 times a power of ten apart."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def number_label(value: float) -> str:
    """A value at an axis: at most four digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value + 0.0:.4g}"


def time_label(wall_s: float) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(wall_s, UTC).strftime("%m-%d %H:%M:%S")


def line_chart(
    title: str, lines: Sequence[Line], *, x_label: Label = number_label, y_label: Label = number_label
) -> str:
    """``<svg>`` of lines over one pair of axes; a sentence instead where there are no points. Lines that stand alone
    in a chart need no legend."""
    points = [point for line in lines for point in line.points]
    if not points:
        return f"<p>{html.escape(title)}: nothing recorded yet.</p>"
    x0, x1 = _range([x for x, _ in points])
    y0, y1 = _range([y for _, y in points])

    def place(x: float, y: float) -> str:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f'<title>{html.escape(title)}</title><text x="{LEFT}" y="16" class="title">{html.escape(title)}</text>'
    ]
    for value in ticks(y0, y1):
        across, down = place(x0, value).split(",")
        parts.append(f'<line x1="{across}" y1="{down}" x2="{WIDTH - RIGHT}" y2="{down}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{down}" class="y">{html.escape(y_label(value))}</text>')
    for x, anchor in ((x0, "start"), ((x0 + x1) / 2, "middle"), (x1, "end")):
        across = place(x, y0).split(",")[0]
        parts.append(f'<text x="{across}" y="{HEIGHT - 8}" text-anchor="{anchor}">{html.escape(x_label(x))}</text>')
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(place(*point) for point in thinned(line.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if len(lines) > 1:
            at = WIDTH - RIGHT - 110 * (len(lines) - number)
            parts.append(f'<text x="{at}" y="16" fill="{colour}">{html.escape(line.name)}</text>')
    return "".join([*parts, "</svg>"])


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest; a little apart where they are the same."""
    low, high = min(values), max(values)
    if low < high:
        return low, high
    room = abs(low) * 0.01 or 1.0
    return low - room, high + room
