"""The newest public trades of Binance.

*Source:* Binance spot REST API and USDⓈ-M futures API: recent trades list.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.venue_json import decode, number
from pipeline.exchanges.recent_trades import PublicTrade, TradesQuestion
from pipeline.model.enums import OrderSide


class _Row(msgspec.Struct):
    id: int
    price: Decimal
    qty: Decimal
    time: int
    isBuyerMaker: bool


_rows = msgspec.json.Decoder(list[_Row])


def parse_trades(venue: str, payload: bytes) -> list[PublicTrade]:
    """``{"id":28457,"price":"4.00000100","qty":"12.00000000","time":1499865549590,"isBuyerMaker":true}``."""
    return [
        PublicTrade(
            trade_id=str(row.id),
            side=OrderSide.SELL if row.isBuyerMaker else OrderSide.BUY,
            price=number(row.price, venue),
            qty=number(row.qty, venue),
            venue_wall_ms=row.time,
        )
        for row in decode(_rows, payload, venue, "trades")
    ]


def _query(symbol: str, limit: int) -> str:
    return f"symbol={symbol}&limit={limit}"


RECENT = {
    "spot": TradesQuestion(path="/api/v3/trades", query=_query, parse=parse_trades, weight=25),
    "futures": TradesQuestion(path="/fapi/v1/trades", query=_query, parse=parse_trades, weight=5),
}
