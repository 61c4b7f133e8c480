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


class MexcLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Weight budgets are per endpoint. 500 per 10 s by the document, 300 per address reported in 2026."""

    ip: Budget = Budget(300, 10_000)
    uid: Budget = Budget(500, 10_000)
    place: Budget = Budget(5, 1_000)  # reported since 2025-03
    batch: Budget = Budget(2, 1_000)
    ws_in: Budget = Budget(100, 1_000)
    ws_topics_max: int = 30
    listen_keys_max: int = 60
    sockets_per_key_max: int = 5
    ban_factor: int = 3  # asking on past this many times the budget: 418 for ``ban_ms``
    ban_ms: int = 120_000


class GateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Gate.io's budgets. ``private`` and ``public`` are per endpoint. Source: Gate.io APIv4 "Rate limit"."""

    public: Budget = Budget(200, 10_000)
    spot_place: Budget = Budget(10, 1_000)  # per account and market
    spot_cancel: Budget = Budget(200, 1_000)
    futures_place: Budget = Budget(100, 1_000)
    futures_cancel: Budget = Budget(200, 1_000)
    private: Budget = Budget(200, 10_000)
    spot_ws_trading: Budget = Budget(10, 1_000)
    futures_ws_trading: Budget = Budget(100, 1_000)


def gate_headers(state: BudgetState) -> dict[str, str]:
    """Response headers that every limited Gate.io reply carries; the reset time is in unix seconds."""
    return {
        "X-Gate-RateLimit-Requests-Remain": str(state.remain),
        "X-Gate-RateLimit-Limit": str(state.limit),
        "X-Gate-RateLimit-Reset-Timestamp": str(state.reset_ms // 1000),
    }


def retry_after_s(state: BudgetState, now_ms: int) -> int:
    """Whole seconds, rounded up, for ``Retry-After``."""
    return max(1, -(-(state.reset_ms - now_ms) // 1000))
