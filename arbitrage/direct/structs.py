"""What a direct exchange takes and gives. Prices are quote per base coin, quantities base coin, all exact."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.structs import Balance, KeyRights, Position

PriceLevel = tuple[Decimal, Decimal]
"""(price, quantity)."""


class OrderBook(msgspec.Struct, frozen=True, kw_only=True):
    """One book, best prices first. ``update_id``: the venue's number of its last update; 0 = not known."""

    venue: str
    symbol: str
    bids: tuple[PriceLevel, ...]
    asks: tuple[PriceLevel, ...]
    update_id: int
    recv_mono_ns: int  # when its last frame, or the answer, was whole


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade of others. ``side``: the taker's. ``trade_id``: "" where the venue tells none."""

    venue: str
    symbol: str
    trade_id: str
    side: OrderSide
    price: Decimal
    qty: Decimal
    venue_wall_ms: int


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One order as it is known. ``state`` UNKNOWN: sent, and no answer says what became of it: ask for its status,
    never send it again. Quantities that the venue has not sent are None."""

    venue: str
    symbol: str
    client_id: str
    order_id: str
    state: OrderState
    side: OrderSide | None = None
    kind: OrderKind | None = None
    tif: TimeInForce | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    filled_qty: Decimal | None = None
    average_price: Decimal | None = None
    reason: str = ""

    @property
    def is_done(self) -> bool:
        """Whether it has ended at the venue."""
        return self.state.is_terminal


class CancelResult(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue said to a cancel. ``cancelled`` None: no answer says it."""

    client_id: str
    order_id: str
    cancelled: bool | None
    reason: str = ""


class TradingFee(msgspec.Struct, frozen=True, kw_only=True):
    """The account's fees on one symbol as fractions of the value."""

    symbol: str
    maker: Decimal
    taker: Decimal


class AccountInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One account on one market, as of now. ``rights``: what the venue tells of the key; None = not known."""

    venue: str
    balances: dict[str, Balance]
    positions: tuple[Position, ...]
    rights: KeyRights


class HealthStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``status``: "healthy", "degraded" (it answers, and its order entry is down) or "unhealthy". ``response_time``:
    seconds of one question; None = it did not answer."""

    status: str
    response_time: float | None
    reason: str = ""
