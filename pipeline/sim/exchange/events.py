"""What a simulated venue pushes: market events in ticks and units, account events in Decimals.

Market events have passed aggregation, feed latency and feed faults; account events come after the private stream's
latency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.accounts import ForcedClose, PositionClose, SimPosition
from pipeline.sim.exchange.instruments import Level
from pipeline.sim.exchange.orders import SimOrder, SimTrade


@dataclass(slots=True, frozen=True)
class BookDelta:
    """Changed levels of one aggregation interval, absolute quantities in units, 0 = delete.

    ``first_id == prev_id + 1`` unless a fault dropped a delta before. Bids and asks best first; ``best_bid`` and
    ``best_ask`` are the book's after the change, None for an empty side.
    """

    symbol: str
    interval_ms: int
    first_id: int
    last_id: int
    prev_id: int
    bids: list[Level]
    asks: list[Level]
    ts_ms: int  # venue wall
    best_bid: Level | None
    best_ask: Level | None


@dataclass(slots=True, frozen=True)
class MarketTrade:
    """One public trade."""

    symbol: str
    price: int  # ticks
    qty: int  # units
    side: OrderSide  # the taker's
    trade_id: int
    ts_ms: int


@dataclass(slots=True, frozen=True)
class Ticker:
    """Best levels after a change; an absent side is None. ``update_id`` is in the space of the deltas' ids."""

    symbol: str
    bid: Level | None
    ask: Level | None
    update_id: int
    ts_ms: int


MarketEvent = BookDelta | MarketTrade | Ticker
MarketCallback = Callable[[MarketEvent], None]


@dataclass(slots=True, frozen=True)
class OrderEvent:
    """``event``: put, update, finish (as Gate.io names them; MEXC needs only the order)."""

    order: SimOrder
    event: str
    ts_ms: int


@dataclass(slots=True, frozen=True)
class TradeEvent:
    """One execution of an own order, with the order after it."""

    trade: SimTrade
    order: SimOrder
    ts_ms: int


@dataclass(slots=True, frozen=True)
class BalanceEvent:
    """``change`` is of the total (free + locked) except for order-create/-cancel, where only ``locked_change`` moves.

    ``reason``: order-create, order-update, order-match, order-cancel, fee, trade-fee-deduct, point-fee, pnl, fund,
    deposit, withdraw.
    """

    asset: str
    free: Decimal
    locked: Decimal
    change: Decimal
    locked_change: Decimal
    reason: str
    symbol: str
    order_id: int
    ts_ms: int


@dataclass(slots=True, frozen=True)
class PositionEvent:
    """A position after a change."""

    position: SimPosition
    ts_ms: int


@dataclass(slots=True, frozen=True)
class ForcedEvent:
    """The venue has closed a position or a part of it by itself."""

    close: ForcedClose
    ts_ms: int


@dataclass(slots=True, frozen=True)
class CloseEvent:
    """A position went back to flat."""

    close: PositionClose
    ts_ms: int


AccountEvent = OrderEvent | TradeEvent | BalanceEvent | PositionEvent | ForcedEvent | CloseEvent
AccountCallback = Callable[[AccountEvent], None]


def symbol_of(event: AccountEvent) -> str:
    """Whose event it is; "" where money moved for no symbol."""
    if isinstance(event, BalanceEvent):
        return event.symbol
    if isinstance(event, (OrderEvent, TradeEvent)):
        return event.order.symbol
    return event.position.symbol if isinstance(event, PositionEvent) else event.close.symbol
