"""MEXC private pushes: order, deal and account frames of one account, by the channels that a socket subscribed to.

Source: MEXC spot v3 "WebSocket User Data Streams"; websocket-proto (PrivateOrders, PrivateDeals, PrivateAccount).
"""

from __future__ import annotations

import hashlib
from decimal import Decimal

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.events import AccountEvent, BalanceEvent, OrderEvent, TradeEvent
from pipeline.sim.exchange.orders import SimOrder, SimTrade
from pipeline.sim.wire.mexc import formats
from pipeline.sim.wire.mexc import push_frames as frames
from pipeline.sim.wire.numbers import exact_text

ORDERS = "spot@private.orders.v3.api.pb"
DEALS = "spot@private.deals.v3.api.pb"
ACCOUNT = "spot@private.account.v3.api.pb"
CHANNELS = (ORDERS, DEALS, ACCOUNT)

_BALANCE_KINDS = {
    "order-create": b"ENTRUST_PLACE",
    "order-match": b"ENTRUST",
    "order-cancel": b"ENTRUST_CANCEL",
    "fee": b"TRADE_FEE",
    "trade-fee-deduct": b"TRADE_FEE",
    "deposit": b"DEPOSIT",
    "withdraw": b"WITHDRAW",
    "fund": b"CONTRACT_TRANSFER",
    "pnl": b"ENTRUST",
}


def encode(event: AccountEvent) -> tuple[str, bytes] | None:
    """(channel, frame) of one account event; None for what MEXC spot does not push (events of positions)."""
    if isinstance(event, OrderEvent):
        return ORDERS, _order_frame(event.order, event.ts_ms)
    if isinstance(event, BalanceEvent):
        return ACCOUNT, _balance_frame(event)
    if isinstance(event, TradeEvent):
        return DEALS, _deal_frame(event.trade, event.ts_ms)
    return None


def _bytes(value: Decimal) -> bytes:
    return exact_text(value).encode()


def _trade_type(side: OrderSide) -> int:
    return 1 if side is OrderSide.BUY else 2


def _order_frame(order: SimOrder, ts_ms: int) -> bytes:
    amount = order.quote_qty if order.quote_qty is not None else order.price * order.qty
    left_amount = max(Decimal(0), amount - order.filled_quote)
    payload = frames.private_orders(
        order_id=formats.order_id_text(order.order_id).encode(),
        client_id=order.client_id.encode(),
        price=_bytes(order.price),
        quantity=_bytes(order.qty),
        amount=_bytes(amount),
        average_price=_bytes(round(order.average_price, 12)),
        order_type=formats.ws_type(order),
        trade_type=_trade_type(order.side),
        is_maker=False,
        remain_amount=_bytes(left_amount),
        remain_quantity=_bytes(order.left_qty),
        last_deal_quantity=_bytes(order.last_fill_qty) if order.last_fill_qty else b"",
        cumulative_quantity=_bytes(order.filled_qty),
        cumulative_amount=_bytes(order.filled_quote),
        status=formats.ws_status(order),
        create_ms=order.created_ms,
    )
    return frames.wrap(
        ORDERS.encode(),
        order.symbol.encode(),
        frames.PRIVATE_ORDERS,
        payload,
        send_ms=ts_ms,
        create_ms=order.updated_ms,
    )


def _deal_frame(trade: SimTrade, ts_ms: int) -> bytes:
    payload = frames.private_deals(
        price=_bytes(trade.price),
        quantity=_bytes(trade.qty),
        amount=_bytes(trade.quote),
        trade_type=_trade_type(trade.side),
        is_maker=trade.is_maker,
        trade_id=formats.trade_id_text(trade.trade_id).encode(),
        client_id=trade.client_id.encode(),
        order_id=formats.order_id_text(trade.order_id).encode(),
        fee=_bytes(trade.coin_fee or trade.fee),
        fee_asset=(trade.coin_asset or trade.fee_asset).encode(),
        time_ms=trade.ts_ms,
    )
    return frames.wrap(
        DEALS.encode(), trade.symbol.encode(), frames.PRIVATE_DEALS, payload, send_ms=ts_ms, create_ms=trade.ts_ms
    )


def _balance_frame(event: BalanceEvent) -> bytes:
    """``balanceAmount`` is what is available; the event's change is of the total."""
    payload = frames.private_account(
        asset=event.asset.encode(),
        coin_id=hashlib.md5(event.asset.encode(), usedforsecurity=False).hexdigest().encode(),
        available=_bytes(event.free),
        available_change=_bytes(event.change - event.locked_change),
        frozen=_bytes(event.locked),
        frozen_change=_bytes(event.locked_change),
        kind=_BALANCE_KINDS.get(event.reason, b"ENTRUST"),
        time_ms=event.ts_ms,
    )
    return frames.wrap(
        ACCOUNT.encode(), b"", frames.PRIVATE_ACCOUNT, payload, send_ms=event.ts_ms, create_ms=event.ts_ms
    )
