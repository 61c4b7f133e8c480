"""Gate.io private pushes: account events as items of the private channels, filtered by what a socket subscribed to.

Source: Gate.io WebSocket v4 "spot.orders", "spot.usertrades", "spot.balances" and their v2 and futures variants.
"""

from __future__ import annotations

from typing import Any

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import (
    AccountEvent,
    BalanceEvent,
    CloseEvent,
    ForcedEvent,
    OrderEvent,
    PositionEvent,
    TradeEvent,
)
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio import closed_rows, futures_rows, spot_rows

SPOT_CHANNELS = ("spot.orders", "spot.usertrades", "spot.balances", "spot.orders_v2", "spot.usertrades_v2")
FUTURES_CHANNELS = (
    "futures.orders",
    "futures.usertrades",
    "futures.balances",
    "futures.positions",
    "futures.liquidates",
    "futures.auto_deleverages",
    "futures.position_closes",
)
ALL = "!all"


def spot_items(event: AccountEvent, account: SimAccount) -> list[tuple[str, str, dict[str, Any]]]:
    """(channel, symbol or "", item) for every spot channel that carries the event."""
    uid = int(account.uid)
    if isinstance(event, OrderEvent):
        order = event.order
        return [
            ("spot.orders", order.symbol, spot_rows.order_push(order, event.event, uid, fees=True)),
            ("spot.orders_v2", order.symbol, spot_rows.order_push(order, event.event, uid, fees=False)),
        ]
    if isinstance(event, TradeEvent):
        trade = event.trade
        return [
            ("spot.usertrades", trade.symbol, spot_rows.trade_push(trade, uid, fees=True)),
            ("spot.usertrades_v2", trade.symbol, spot_rows.trade_push(trade, uid, fees=False)),
        ]
    if isinstance(event, BalanceEvent):
        return [("spot.balances", "", spot_rows.balance_push(event, account))]
    return []


def futures_items(
    event: AccountEvent, account: SimAccount, venue: SimVenue, *, decimal_sizes: bool
) -> list[tuple[str, str, dict[str, Any]]]:
    """The same for futures. A settlement at a delisting is reported by its order and the closed position only."""
    instruments = venue.instruments
    if isinstance(event, OrderEvent):
        order = event.order
        item = futures_rows.order_push(order, instruments[order.symbol], account, decimal_sizes)
        return [("futures.orders", order.symbol, item)]
    if isinstance(event, TradeEvent):
        trade = event.trade
        item = futures_rows.trade_push(trade, instruments[trade.symbol], decimal_sizes)
        return [("futures.usertrades", trade.symbol, item)]
    if isinstance(event, PositionEvent):
        position = event.position
        row = instruments[position.symbol]
        liq_price = venue.liquidation_price(account, position)
        item = futures_rows.position_push(position, row, account, decimal_sizes=decimal_sizes, liq_price=liq_price)
        return [("futures.positions", position.symbol, item)]
    if isinstance(event, CloseEvent):
        return [("futures.position_closes", event.close.symbol, closed_rows.close_push(event.close, account))]
    if isinstance(event, ForcedEvent):
        forced = event.close
        row = instruments[forced.symbol]
        if forced.kind == "liquidation":
            item = closed_rows.liquidation_push(forced, row, account, decimal_sizes)
            return [("futures.liquidates", forced.symbol, item)]
        if forced.kind == "adl":
            item = closed_rows.deleverage_push(forced, row, account, decimal_sizes)
            return [("futures.auto_deleverages", forced.symbol, item)]
        return []
    return [("futures.balances", "", futures_rows.balance_push(event, account))]
