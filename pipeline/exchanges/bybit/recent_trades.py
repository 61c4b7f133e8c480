"""The newest public trades of Bybit, both markets.

*Source:* Bybit V5 documentation: public recent trading history.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import msgspec

from pipeline.exchanges.bybit.listing import CATEGORY, page_of
from pipeline.exchanges.parsing.venue_json import decode, number
from pipeline.exchanges.recent_trades import PublicTrade, TradesQuestion
from pipeline.model.enums import OrderSide

ROWS_MAX = {"spot": 60, "futures": 1000}


class _Row(msgspec.Struct):
    execId: str
    price: Decimal
    size: Decimal
    side: str
    time: str


_rows = msgspec.json.Decoder(list[_Row])


def parse_trades(venue: str, payload: bytes) -> list[PublicTrade]:
    """``{"execId":"2100000000007764263","symbol":"BTCUSDT","price":"16618.49","size":"0.00012","side":"Buy",
    "time":"1672052955758"}`` of ``result.list``."""
    rows = bytes(page_of(venue, payload, "recent-trade").list)
    return [
        PublicTrade(
            trade_id=row.execId,
            side=OrderSide.BUY if row.side == "Buy" else OrderSide.SELL,
            price=number(row.price, venue),
            qty=number(row.size, venue),
            venue_wall_ms=int(number(row.time, venue)),
        )
        for row in decode(_rows, rows, venue, "recent-trade")
    ]


def _query(category: str, symbol: str, limit: int) -> str:
    return f"category={category}&symbol={symbol}&limit={limit}"


RECENT = {
    market: TradesQuestion(
        path="/v5/market/recent-trade",
        query=partial(_query, category),
        parse=parse_trades,
        limit_max=ROWS_MAX[market],
    )
    for market, category in CATEGORY.items()
}
