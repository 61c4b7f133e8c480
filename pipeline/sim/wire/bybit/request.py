"""One request of Bybit as its handler sees it: query or JSON body, and who signed it.

Source: Bybit V5 documentation "Integration Guidance" (parameters, authentication).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.bybit.market import BybitError


class ApiRequest(msgspec.Struct, frozen=True):
    """One request after the checks. ``category``: of the venue that the key's account is on."""

    params: dict[str, Any]
    account: SimAccount
    venue: SimVenue
    category: str
    now_ms: int

    def text(self, name: str, default: str = "") -> str:
        """A parameter as text; ``default`` when it is missing or empty."""
        value = self.params.get(name)
        if value is None or value == "":
            return default
        return ("true" if value else "false") if isinstance(value, bool) else str(value)

    def required(self, name: str) -> str:
        """Raises ``BybitError`` when it is missing or empty."""
        found = self.text(name)
        if not found:
            raise BybitError(10001, f"params error: {name} is missing")
        return found

    def integer(self, name: str, default: int) -> int:
        """A whole number from 0; ``default`` when it is missing."""
        found = self.text(name)
        if not found:
            return default
        if not found.isascii() or not found.isdigit():
            raise BybitError(10001, f"params error: {name} is invalid")
        return int(found)

    def decimal(self, name: str) -> Decimal | None:
        """A positive number sent as text; None when it is missing."""
        found = self.params.get(name)
        if found is None or found == "":
            return None
        try:
            value = Decimal(found) if isinstance(found, str) and found.isascii() and "_" not in found else None
        except InvalidOperation:
            value = None
        if value is None or not value.is_finite() or value <= 0:
            raise BybitError(10001, f"params error: {name} is invalid")
        return value

    def instrument(self) -> SimInstrument:
        """The one that ``symbol`` names. Raises ``BybitError``."""
        found = self.venue.instruments.get(self.required("symbol"))
        if found is None:
            raise BybitError(10001 if self.category == "linear" else 170121, "symbol invalid")
        return found

    def chosen_symbol(self) -> str | None:
        """``symbol`` where it is named; a coin or nothing asks for every one. Contracts want one of them."""
        if self.text("symbol"):
            return self.instrument().symbol
        if self.category == "linear" and not (self.text("settleCoin") or self.text("baseCoin")):
            raise BybitError(10001, "params error: symbol, settleCoin or baseCoin is needed")
        return None

    def page(self, rows: list[dict[str, Any]], default: int, most: int) -> dict[str, Any]:
        """One page of a list; the cursor is where the next one starts."""
        limit = min(self.integer("limit", default), most) or default
        start = self.integer("cursor", 0)
        after = str(start + limit) if start + limit < len(rows) else ""
        return {"category": self.category, "list": rows[start : start + limit], "nextPageCursor": after}

    def span(self) -> tuple[int, int]:
        """Start and end of a look back in unix ms: seven days at most, the last seven where nothing is named."""
        end_ms = self.integer("endTime", self.now_ms)
        start_ms = self.integer("startTime", end_ms - WEEK_MS)
        if end_ms - start_ms > WEEK_MS:
            raise BybitError(10001, "params error: the time range is longer than 7 days")
        return start_ms, end_ms


WEEK_MS = 7 * 24 * 3600 * 1000
Handler = Callable[[ApiRequest], Awaitable[dict[str, Any]]]


class Route(msgspec.Struct, frozen=True):
    """A handler and its rules. ``operation``: one of ``faults.OPERATIONS``; ``per_s``: requests of one account in a
    second, 0 = as many as orders of its category."""

    handler: Handler
    operation: str
    per_s: int = 50
