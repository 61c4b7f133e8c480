"""Binance's budgets: request weight of an address, orders of an account; their headers and rows.

Source: Binance spot REST API "LIMITS", exchangeInfo ``rateLimits``; USDⓈ-M futures API "General info"; the lower of the
figures that documents show.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.rate_limits import Budget, BudgetState, WindowLimiter


class OrderWindow(msgspec.Struct, frozen=True):
    """So many orders in ``number`` of ``interval``; ``header``: how the reply's header names it."""

    budget: Budget
    interval: str
    number: int
    header: str


class BinanceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """One market's figures."""

    weight: Budget
    orders: tuple[OrderWindow, ...]
    ban_factor: int = 3  # asking on past this many times the budget: 418 for ``ban_ms``
    ban_ms: int = 120_000


TEN_SECONDS_MS, MINUTE_MS, DAY_MS = 10_000, 60_000, 86_400_000
SPOT_LIMITS = BinanceLimits(
    weight=Budget(6000, MINUTE_MS),
    orders=(
        OrderWindow(Budget(50, TEN_SECONDS_MS), "SECOND", 10, "10S"),
        OrderWindow(Budget(160_000, DAY_MS), "DAY", 1, "1D"),
    ),
)
FUTURES_LIMITS = BinanceLimits(
    weight=Budget(2400, MINUTE_MS),
    orders=(
        OrderWindow(Budget(300, TEN_SECONDS_MS), "SECOND", 10, "10S"),
        OrderWindow(Budget(1200, MINUTE_MS), "MINUTE", 1, "1M"),
    ),
)
#: What an account has used of its order windows.
Counts = tuple[tuple[OrderWindow, BudgetState], ...]


class Spend:
    """Who has used what. Counts of one address or one account."""

    def __init__(self, limits: BinanceLimits) -> None:
        self.limits = limits
        self.limiter = WindowLimiter()
        self._banned_until_ms: dict[str, int] = {}

    def rate_limits(self) -> list[dict[str, Any]]:
        """``rateLimits`` of exchangeInfo."""
        found = [_limit("REQUEST_WEIGHT", "MINUTE", 1, self.limits.weight.limit)]
        found += [_limit("ORDERS", one.interval, one.number, one.budget.limit) for one in self.limits.orders]
        return found

    def take_weight(self, address: str, weight: int, now_ms: int) -> BudgetState:
        """Counts a request. Raises ``BinanceError``: 429, or 418 for a client that goes on far past its budget."""
        banned_until_ms = self._banned_until_ms.get(address, 0)
        if now_ms < banned_until_ms:
            raise self._ban(banned_until_ms)
        state = self.limiter.take(self.limits.weight, "weight", address, now_ms, weight)
        if state.allowed:
            return state
        if state.used > state.limit * self.limits.ban_factor:
            self._banned_until_ms[address] = now_ms + self.limits.ban_ms
            raise self._ban(now_ms + self.limits.ban_ms)
        text = f"Too much request weight used; current limit is {state.limit} request weight per 1 MINUTE."
        raise BinanceError(-1003, text, 429, state.reset_ms)

    @staticmethod
    def _ban(until_ms: int) -> BinanceError:
        return BinanceError(-1003, f"Way too much request weight used; IP banned until {until_ms}.", 418, until_ms)

    def take_order(self, uid: str, now_ms: int) -> Counts:
        """Counts an order in every window. Raises ``BinanceError``."""
        counts = tuple(
            (one, self.limiter.take(one.budget, f"orders.{one.header}", uid, now_ms)) for one in self.limits.orders
        )
        for one, state in counts:
            if not state.allowed:
                span = f"{one.number} {one.interval}"
                text = f"Too many new orders; current limit is {state.limit} orders per {span}."
                raise BinanceError(-1015, text, 429, state.reset_ms)
        return counts


def headers_of(weight: BudgetState | None, orders: Counts | None) -> dict[str, str]:
    """Headers of a REST reply."""
    found = {"X-MBX-USED-WEIGHT-1M": str(weight.used), "X-MBX-USED-WEIGHT": str(weight.used)} if weight else {}
    return found | {f"X-MBX-ORDER-COUNT-{one.header}": str(state.used) for one, state in orders or ()}


def rows_of(weight: BudgetState | None, orders: Counts | None) -> list[dict[str, Any]]:
    """``rateLimits`` of a WebSocket API reply."""
    found = [
        _limit("ORDERS", one.interval, one.number, state.limit) | {"count": state.used} for one, state in orders or ()
    ]
    if weight is not None:
        found.append(_limit("REQUEST_WEIGHT", "MINUTE", 1, weight.limit) | {"count": weight.used})
    return found


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, Any]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
