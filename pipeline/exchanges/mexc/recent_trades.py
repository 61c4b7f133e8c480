"""The newest public trades of MEXC.

*Source:* MEXC spot v3: recent trades list.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.venue_json import decode, number
from pipeline.exchanges.recent_trades import PublicTrade, TradesQuestion
from pipeline.model.enums import OrderSide


class _Row(msgspec.Struct):
    price: Decimal
    qty: Decimal
    time: int
    isBuyerMaker: bool
    id: str | int | None = None


_rows = msgspec.json.Decoder(list[_Row])


def parse_trades(venue: str, payload: bytes) -> list[PublicTrade]:
    """``{"id":null,"price":"23","qty":"0.478468","time":1640830579240,"isBuyerMaker":true}``: the venue
    tells no id."""
    return [
        PublicTrade(
            trade_id="" if row.id is None else str(row.id),
            side=OrderSide.SELL if row.isBuyerMaker else OrderSide.BUY,
            price=number(row.price, venue),
            qty=number(row.qty, venue),
            venue_wall_ms=row.time,
        )
        for row in decode(_rows, payload, venue, "trades")
    ]


RECENT = {
    "spot": TradesQuestion(
        path="/trades",
        query=lambda symbol, limit: f"symbol={symbol}&limit={limit}",
        parse=parse_trades,
        weight=5,
    )
}
