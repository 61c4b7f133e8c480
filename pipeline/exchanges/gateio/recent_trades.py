"""The newest public trades of Gate.io, both markets.

*Source:* Gate.io API v4: spot market trades, futures trading history.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.venue_json import decode, number
from pipeline.exchanges.recent_trades import PublicTrade, TradesQuestion
from pipeline.model.enums import OrderSide


class _Spot(msgspec.Struct):
    id: str
    create_time_ms: Decimal
    side: str
    amount: Decimal
    price: Decimal


class _Futures(msgspec.Struct):
    id: int
    create_time: Decimal  # s, with a fraction
    size: Decimal
    price: Decimal


_spot = msgspec.json.Decoder(list[_Spot])
_futures = msgspec.json.Decoder(list[_Futures])


def parse_spot(venue: str, payload: bytes) -> list[PublicTrade]:
    """``{"id":"1232893232","create_time_ms":"1548000000123.456","side":"buy","amount":"0.15","price":"0.03"}``."""
    return [
        PublicTrade(
            trade_id=row.id,
            side=OrderSide.BUY if row.side == "buy" else OrderSide.SELL,
            price=number(row.price, venue),
            qty=number(row.amount, venue),
            venue_wall_ms=int(number(row.create_time_ms, venue)),
        )
        for row in decode(_spot, payload, venue, "spot/trades")
    ]


def parse_futures(venue: str, payload: bytes) -> list[PublicTrade]:
    """``{"id":121234231,"create_time":1514764800.123,"contract":"BTC_USDT","size":-100,"price":"100.123"}``: contracts;
    the sign is the taker's side."""
    found = []
    for row in decode(_futures, payload, venue, "futures/trades"):
        size = number(row.size, venue)
        found.append(
            PublicTrade(
                trade_id=str(row.id),
                side=OrderSide.BUY if size > 0 else OrderSide.SELL,
                price=number(row.price, venue),
                qty=abs(size),
                venue_wall_ms=int(number(row.create_time, venue) * 1000),
            )
        )
    return found


RECENT = {
    "spot": TradesQuestion(
        path="/spot/trades",
        query=lambda symbol, limit: f"currency_pair={symbol}&limit={limit}",
        parse=parse_spot,
    ),
    "futures": TradesQuestion(
        path="/futures/usdt/trades",
        query=lambda symbol, limit: f"contract={symbol}&limit={limit}",
        parse=parse_futures,
        in_contracts=True,
    ),
}
