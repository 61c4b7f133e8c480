"""The smallest schedule that still breaks the same rule."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.chaos.schedule import Schedule

Breaks = Callable[[Schedule], bool]


def shrink(schedule: Schedule, breaks: Breaks, *, runs_max: int = 120) -> Schedule:
    """Drops halves, then quarters, ... then single steps, as long as ``breaks`` holds; at most ``runs_max`` runs."""
    runs, size = 0, max(1, len(schedule.steps) // 2)
    while runs < runs_max:
        dropped = False
        for begin in range(0, len(schedule.steps), size):
            smaller = schedule.without(set(range(begin, begin + size)))
            runs += 1
            if len(smaller.steps) < len(schedule.steps) and breaks(smaller):
                schedule, dropped = smaller, True
                break
            if runs >= runs_max:
                break
        if not dropped:
            if size == 1:
                break
            size //= 2
    return schedule
