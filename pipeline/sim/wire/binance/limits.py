"""Binance spot's budgets: request weight of an address, orders of an account; their headers and rows.

Source: Binance spot REST API "LIMITS", exchangeInfo ``rateLimits``; the lower of the figures that documents show.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.rate_limits import Budget, BudgetState, WindowLimiter


class BinanceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Spot's figures."""

    weight: Budget = Budget(6000, 60_000)
    orders: Budget = Budget(50, 10_000)
    orders_day: Budget = Budget(160_000, 86_400_000)
    ban_factor: int = 3  # asking on past this many times the budget: 418 for ``ban_ms``
    ban_ms: int = 120_000


class Spend:
    """Who has used what. Counts of one address or one account."""

    def __init__(self, limits: BinanceLimits) -> None:
        self.limits = limits
        self.limiter = WindowLimiter()
        self._banned_until_ms: dict[str, int] = {}

    def rate_limits(self) -> list[dict[str, Any]]:
        """``rateLimits`` of exchangeInfo."""
        found = []
        for kind, interval, number, budget in (
            ("REQUEST_WEIGHT", "MINUTE", 1, self.limits.weight),
            ("ORDERS", "SECOND", 10, self.limits.orders),
            ("ORDERS", "DAY", 1, self.limits.orders_day),
        ):
            found.append({"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": budget.limit})
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

    def take_order(self, uid: str, now_ms: int) -> tuple[BudgetState, BudgetState]:
        """Counts an order (in ten seconds, in a day). Raises ``BinanceError``."""
        state = self.limiter.take(self.limits.orders, "orders", uid, now_ms)
        day = self.limiter.take(self.limits.orders_day, "orders_day", uid, now_ms)
        for one, span in ((state, "10 SECOND"), (day, "1 DAY")):
            if not one.allowed:
                text = f"Too many new orders; current limit is {one.limit} orders per {span}."
                raise BinanceError(-1015, text, 429, one.reset_ms)
        return state, day


def headers_of(weight: BudgetState | None, orders: tuple[BudgetState, BudgetState] | None) -> dict[str, str]:
    """Headers of a REST reply."""
    found = {"X-MBX-USED-WEIGHT-1M": str(weight.used), "X-MBX-USED-WEIGHT": str(weight.used)} if weight else {}
    if orders is not None:
        found |= {"X-MBX-ORDER-COUNT-10S": str(orders[0].used), "X-MBX-ORDER-COUNT-1D": str(orders[1].used)}
    return found


def rows_of(weight: BudgetState | None, orders: tuple[BudgetState, BudgetState] | None) -> list[dict[str, Any]]:
    """``rateLimits`` of a WebSocket API reply."""
    found = []
    if orders is not None:
        for state, interval, number in ((orders[0], "SECOND", 10), (orders[1], "DAY", 1)):
            found.append(_row("ORDERS", interval, number, state))
    if weight is not None:
        found.append(_row("REQUEST_WEIGHT", "MINUTE", 1, weight))
    return found


def _row(kind: str, interval: str, number: int, state: BudgetState) -> dict[str, Any]:
    row = {"rateLimitType": kind, "interval": interval, "intervalNum": number}
    return row | {"limit": state.limit, "count": state.used}
