"""Values along time: points of (seconds since the paths began, value), linear between them, constant outside."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.sim.exchange.latency import NS_PER_S

Path = tuple[tuple[float, float], ...]
RATE_DIGITS = 8  # of a funding rate


@dataclass(slots=True)
class PathClock:
    """Where a market stands on its scenario's paths. ``began_ns``: market time at which they began; None: they wait,
    and every value is its path's first one."""

    began_ns: int | None = 0

    def at_s(self, now_ns: int) -> float:
        """Seconds along the paths at a market time."""
        return 0.0 if self.began_ns is None else max(0.0, (now_ns - self.began_ns) / NS_PER_S)


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


def rate_at(path: Path, at_s: float) -> Decimal:
    """The funding rate at a time."""
    return round(Decimal(value_at(path, at_s)), RATE_DIGITS).normalize() + 0


def path_error(path: Sequence[tuple[float, float]]) -> str:
    """Why the points are no path, or ""."""
    times = [time_s for time_s, _ in path]
    if any(late <= early for early, late in itertools.pairwise(times)):
        return f"times must rise, found {times}"
    return "times must be from 0" if times and times[0] < 0 else ""
