"""Values along time: points of (seconds since the paths began, value), linear between them, constant outside."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.sim.exchange.latency import NS_PER_S

Path = tuple[tuple[float, float], ...]
RATE_DIGITS = 8  # of a funding rate
SETTLED_NS = 60 * NS_PER_S  # no venue lags so far behind: the moments of a move that ended before are asked for no more


@dataclass(slots=True)
class PathClock:
    """Where a market stands on its scenario's paths. ``began_ns``: market time at which they began; None: they wait,
    and every value is its path's first one."""

    began_ns: int | None = 0

    def at_s(self, now_ns: int) -> float:
        """Seconds along the paths at a market time."""
        return 0.0 if self.began_ns is None else max(0.0, (now_ns - self.began_ns) / NS_PER_S)


@dataclass(slots=True)
class Moves:
    """Moves of a price by hand: each multiplies it along its time, and what it has reached stays. Market time."""

    _rows: list[tuple[int, int, float]] = field(default_factory=list)  # begin, duration (ns), logarithm of the factor
    _settled: float = 0.0  # logarithm of those that ended long ago

    def __bool__(self) -> bool:
        return bool(self._rows or self._settled)

    def add(self, now_ns: int, lasts_ns: int, factor: float) -> None:
        """One more, from now on. Raises ``ValueError`` for a factor that is not above 0."""
        ended = [row for row in self._rows if row[0] + row[1] < now_ns - SETTLED_NS]
        self._settled += sum(row[2] for row in ended)
        self._rows = [row for row in self._rows if row not in ended]
        self._rows.append((now_ns, lasts_ns, math.log(factor)))

    def factor_at(self, when_ns: int) -> float:
        """What they multiply the price with at a moment; exactly 1 where there are none."""
        if not self:
            return 1.0
        exponent = self._settled
        for began_ns, lasts_ns, size in self._rows:
            exponent += size * min(1.0, max(0.0, (when_ns - began_ns) / max(1, lasts_ns)))
        return math.exp(exponent)


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
