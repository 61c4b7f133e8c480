"""Fills that an operation is given although no order of its own made them: what others took of a leg, or what an
operator has taken over. One builder, so that every such fill carries the same fields."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from pipeline.execution.records import FillRecord
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.structs import ZERO

EXTERNAL = "external"  # source of a fill that an operation was given because others had taken a part of its leg
ADOPTED = "adopted"  # source of the fills that an adopted hedge is given


class Place(Protocol):
    """Where a fill was: a leg of an operation, or an external fill's record."""

    @property
    def instrument_id(self) -> int: ...
    @property
    def venue(self) -> str: ...
    @property
    def symbol(self) -> str: ...
    @property
    def kind(self) -> InstrumentKind: ...
    @property
    def base(self) -> str: ...
    @property
    def quote(self) -> str: ...


def given_fill(
    operation_id: str,
    place: Place,
    side: OrderSide,
    qty: Decimal,
    price: Decimal,
    *,
    source: str,
    recv_mono_ns: int,
    trade_id: str = "",
    order_id: str = "",
    fee: Decimal = ZERO,
    fee_asset: str = "",
    venue_wall_ms: int = 0,
) -> FillRecord:
    """``qty`` in base coins, ``fee`` positive = paid, in the quote coin unless ``fee_asset`` says otherwise; ids where
    the venue has listed an execution."""
    return FillRecord(
        venue=place.venue,
        symbol=place.symbol,
        trade_id=trade_id,
        order_id=order_id,
        client_id="",
        operation_id=operation_id,
        instrument_id=place.instrument_id,
        kind=place.kind,
        base=place.base,
        quote=place.quote,
        side=side,
        qty=qty,
        price=price,
        fee=fee,
        fee_asset=fee_asset or place.quote,
        is_maker=False,
        venue_wall_ms=venue_wall_ms,
        recv_mono_ns=recv_mono_ns,
        source=source,
    )
