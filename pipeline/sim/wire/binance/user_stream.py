"""Events of the Binance user data stream: account events of a venue as the venue writes them.

Source: Binance spot API, "User Data Streams" (read 2026).
"""

from __future__ import annotations

import hashlib
from typing import Any

from pipeline.sim.exchange.events import AccountEvent, BalanceEvent, OrderEvent, TradeEvent
from pipeline.sim.exchange.orders import SimOrder, SimTrade
from pipeline.sim.wire.binance.formats import eight, side_text, status_text, tif_text, type_text

MOVED_WITHOUT_ORDER = ("deposit", "withdraw")
_ZERO = "0.00000000"
#: What is executed when an order ends, by its status.
_EXECUTION = {"CANCELED": "CANCELED", "EXPIRED": "EXPIRED", "EXPIRED_IN_MATCH": "TRADE_PREVENTION"}


def events_of(event: AccountEvent) -> list[dict[str, Any]]:
    """The stream's events that tell an account event, oldest first. A full fill is reported by its last trade."""
    if isinstance(event, TradeEvent):
        return [_report(event.order, "TRADE", event.ts_ms, event.trade)]
    if isinstance(event, OrderEvent):
        status = status_text(event.order)
        if event.event == "put":
            return [_report(event.order, "NEW", event.ts_ms)]
        if event.event == "finish" and status in _EXECUTION:
            return [_report(event.order, _EXECUTION[status], event.ts_ms)]
        return []
    return _balance(event) if isinstance(event, BalanceEvent) else []


def cancel_id(order: SimOrder) -> str:
    """The client id of a cancel that named none."""
    text = f"cancel{order.order_id}:{order.update_seq}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:22]


def _report(order: SimOrder, execution: str, ts_ms: int, trade: SimTrade | None = None) -> dict[str, Any]:
    """``executionReport``; a cancel's has its own id in ``c`` and the order's in ``C``."""
    cancelled = execution == "CANCELED"
    return {
        "e": "executionReport",
        "E": ts_ms,
        "s": order.symbol,
        "c": cancel_id(order) if cancelled else order.client_id,
        "S": side_text(order.side),
        "o": type_text(order),
        "f": tif_text(order),
        "q": eight(order.qty),
        "p": eight(order.price),
        "P": _ZERO,
        "F": _ZERO,
        "g": -1,
        "C": order.client_id if cancelled else "",
        "x": execution,
        "X": "NEW" if execution == "NEW" else status_text(order),
        "r": "NONE",
        "i": order.order_id,
        "l": eight(trade.qty) if trade else _ZERO,
        "z": eight(order.filled_qty),
        "L": eight(trade.price) if trade else _ZERO,
        "n": eight(trade.coin_fee or trade.fee) if trade else "0",
        "N": (trade.coin_asset or trade.fee_asset) if trade else None,
        "T": trade.ts_ms if trade else order.updated_ms,
        "t": trade.trade_id if trade else -1,
        "I": order.order_id * 2 + 1,
        "w": execution in ("NEW", "TRADE"),
        "m": trade.is_maker if trade else False,
        "M": False,
        "O": order.created_ms,
        "Z": eight(order.filled_quote),
        "Y": eight(trade.quote) if trade else _ZERO,
        "Q": eight(order.quote_qty) if order.quote_qty is not None else _ZERO,
        "W": order.created_ms,
        "V": "NONE",
    }


def _balance(event: BalanceEvent) -> list[dict[str, Any]]:
    row = {"a": event.asset, "f": eight(event.free), "l": eight(event.locked)}
    found: list[dict[str, Any]] = []
    if event.reason in MOVED_WITHOUT_ORDER:
        change = {"a": event.asset, "d": eight(event.change), "T": event.ts_ms}
        found.append({"e": "balanceUpdate", "E": event.ts_ms, **change})
    return [*found, {"e": "outboundAccountPosition", "E": event.ts_ms, "u": event.ts_ms, "B": [row]}]
