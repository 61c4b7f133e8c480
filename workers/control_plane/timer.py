"""Says in a loop when something that is done once per period is due."""

from __future__ import annotations

TICK_S = 0.25  # the supervisor's loop looks at least so often


class Timer:
    """Due once per ``period_s``, first at ``first_s``. Times are monotonic seconds, given from outside."""

    def __init__(self, period_s: float, first_s: float) -> None:
        self._period_s = period_s
        self._next_s = first_s

    def due(self, now_s: float) -> bool:
        """Whether the period is over at ``now_s``; the next one begins then."""
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._period_s
        return True
