"""Request budgets of the simulated venues: fixed windows per endpoint and key, with the venues' headers.

Defaults are the venues' documented figures; where a document and a newer report differ, the stricter is enforced, so
that an engine that passes here passes both.
"""

from __future__ import annotations

import msgspec

# A client cycling through keys or addresses must not grow the table without bound.
_KEYS_MAX = 4096


class Budget(msgspec.Struct, frozen=True):
    """``limit`` units in each window of ``interval_ms``."""

    limit: int
    interval_ms: int


class BudgetState(msgspec.Struct, frozen=True):
    """What a window allows after a request was counted."""

    allowed: bool
    limit: int
    remain: int
    reset_ms: int  # venue wall ms at which the window ends
    used: int


class WindowLimiter:
    """Fixed-window counters: one per (budget, key). Windows start at the first request, not at round seconds."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], tuple[int, int]] = {}

    def clear(self) -> None:
        """All windows open anew."""
        self._windows.clear()

    def take(self, budget: Budget, name: str, key: str, now_ms: int, weight: int = 1) -> BudgetState:
        """Count ``weight``; a refused request is counted too, as the venues do."""
        slot = (name, key)
        started_ms, used = self._windows.get(slot, (now_ms, 0))
        if now_ms - started_ms >= budget.interval_ms:
            started_ms, used = now_ms, 0
        used += weight
        if len(self._windows) >= _KEYS_MAX and slot not in self._windows:
            self._windows.clear()
        self._windows[slot] = (started_ms, used)
        return BudgetState(
            used <= budget.limit, budget.limit, max(0, budget.limit - used), started_ms + budget.interval_ms, used
        )


def retry_after_s(state: BudgetState, now_ms: int) -> int:
    """Whole seconds, rounded up, for ``Retry-After``."""
    return max(1, -(-(state.reset_ms - now_ms) // 1000))
