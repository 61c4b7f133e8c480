"""Fills from the list of own trades, as Binance and MEXC (which follows Binance's names) answer it."""

from __future__ import annotations

from typing import Any, Protocol

from pipeline.exchanges.parsing.venue_json import Maybe, lenient_ms, number
from pipeline.model.enums import OrderSide
from pipeline.model.structs import Fill


class TradeRow(Protocol):
    """What both venues' rows have. Numbers are text or ``Decimal``, ids text or int; ``time`` (ms) only informs."""

    symbol: str
    id: Any
    orderId: Any
    price: Any
    qty: Any
    commission: Any
    commissionAsset: str
    time: Maybe


def fill_of_row(venue: str, row: TradeRow, *, client_id: str, is_buy: bool, is_maker: bool, recv_mono_ns: int) -> Fill:
    """One fill; quantity in base coin, fee in ``commissionAsset``, positive = paid. Raises ``ProtocolViolation``."""
    return Fill(
        venue=venue,
        symbol=row.symbol,
        trade_id=str(row.id),
        order_id=str(row.orderId),
        client_id=client_id,
        side=OrderSide.BUY if is_buy else OrderSide.SELL,
        qty=number(row.qty, venue),
        price=number(row.price, venue),
        fee=number(row.commission, venue),
        fee_asset=row.commissionAsset,
        is_maker=is_maker,
        venue_wall_ms=lenient_ms(row.time),
        recv_mono_ns=recv_mono_ns,
        source="rest",
    )
