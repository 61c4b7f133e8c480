"""What the Gate.io spot and futures APIs share: the route table's shape, paging, countdown timers, kept prints."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.types import SimAccount, SimOrder, TradePrint
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError

Handler = Callable[[ApiRequest], Awaitable[Any]]
Item = TypeVar("Item")
TRADES_KEPT = 1000
COUNTDOWN_LEAST_S = 5


class Route(msgspec.Struct, frozen=True):
    """``operation`` is the simulator's word for faults and ledger. ``{}`` in a path stands for one segment."""

    handler: Handler
    operation: str
    signed: bool = True
    status: int = 200  # of success


def page(rows: Sequence[Item], call: ApiRequest, *, default: int = 100, most: int = 1000) -> list[Item]:
    """``limit`` with ``page`` (from 1) or ``offset``."""
    limit = max(1, min(call.whole("limit", default), most))
    offset = call.whole("offset", 0) or (max(1, call.whole("page", 1)) - 1) * limit
    return list(rows[offset : offset + limit])


def span_ms(call: ApiRequest, *, default_s: int) -> tuple[int, int]:
    """``from`` and ``to`` in unix seconds, as inclusive milliseconds."""
    end_s = call.whole("to", 0)
    end_ms = end_s * 1000 + 999 if end_s else call.now_ms
    start_s = call.whole("from", 0)
    return (start_s * 1000 if start_s else end_ms - default_s * 1000), end_ms


class Prints:
    """The newest public trades of each symbol, for the REST lists and day statistics."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[TradePrint]] = {}

    def add(self, trade: TradePrint) -> None:
        self._kept.setdefault(trade.symbol, deque(maxlen=TRADES_KEPT)).append(trade)

    def of(self, symbol: str) -> Sequence[TradePrint]:
        return self._kept.get(symbol) or ()

    def newest(self, symbol: str, limit: int) -> list[TradePrint]:
        """Newest first."""
        return list(self.of(symbol))[-limit:][::-1]


class Countdown:
    """The dead-man switch: unless repeated in time, the account's orders are cancelled by the venue."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._armed: dict[tuple[str, str], int] = {}
        self._count = 0

    def set(self, account: SimAccount, symbol: str, timeout_s: int, now_ms: int) -> dict[str, str]:
        """``symbol`` "" = all. 0 disarms. Returns the reply; raises ``GateError`` for 1..4 seconds."""
        key = (account.uid, symbol)
        if timeout_s == 0:
            self._armed.pop(key, None)
            return {"triggerTime": "0"}
        if timeout_s < COUNTDOWN_LEAST_S:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `timeout` value: {timeout_s}")
        self._count += 1
        serial = self._count
        self._armed[key] = serial
        self._venue.clock.call_later(timeout_s * NS_PER_S, lambda: self._fire(account, symbol, key, serial))
        return {"triggerTime": str(now_ms + timeout_s * 1000)}

    def _fire(self, account: SimAccount, symbol: str, key: tuple[str, str], serial: int) -> None:
        if self._armed.get(key) == serial:
            del self._armed[key]
            self._venue.cancel_all(account, symbol or None)


def text_is_known(order: SimOrder, now_ms: int, life_ms: int) -> bool:
    """A client text finds an order while it is open and ``life_ms`` after its end; the id always does."""
    return order.is_open or now_ms - order.finished_ms <= life_ms
