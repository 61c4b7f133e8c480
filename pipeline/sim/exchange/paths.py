"""Values along time: points of (seconds since the market's start, value), linear between them, constant outside."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence

Path = tuple[tuple[float, float], ...]


def value_at(path: Path, at_s: float) -> float:
    """The value at a time; raises ``IndexError`` for an empty path."""
    index = bisect_right(path, at_s, key=lambda point: point[0])
    if index == 0:
        return path[0][1]
    start_s, start = path[index - 1]
    if index == len(path):
        return start
    end_s, end = path[index]
    return start + (end - start) * (at_s - start_s) / (end_s - start_s)


def path_error(path: Sequence[tuple[float, float]]) -> str:
    """Why the points are no path, or ""."""
    times = [time_s for time_s, _ in path]
    if any(late <= early for early, late in itertools.pairwise(times)):
        return f"times must rise, found {times}"
    return "times must be from 0" if times and times[0] < 0 else ""
