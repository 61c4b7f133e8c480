"""MEXC orders: ``OrderRequest`` -> query of POST /order, replies -> updates. Sans-I/O.

POST /order answers without a status: ``{"symbol":"MXUSDT","orderId":"C02__…","orderListId":-1,"price":"0.1",
"origQty":"50","type":"LIMIT","side":"BUY","transactTime":1666676533741}``: accepted, nothing said about fills.

*Source:* MEXC spot v3: new order, cancel order, query order. Doubt: a cancel's answer may show the state before the
cancel ("NEW"), so a cancel's answer that is not terminal is not taken as news; the private stream and queries decide.
"""

from __future__ import annotations

import msgspec

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.mexc.errors import error_of
from pipeline.exchanges.parsing.own_trades import fill_of_row
from pipeline.exchanges.parsing.rows import OddRows, Rows, not_our_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import Fill, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces

_TYPE_OF_TIF = {
    TimeInForce.GTC: "LIMIT",
    TimeInForce.IOC: "IMMEDIATE_OR_CANCEL",
    TimeInForce.FOK: "FILL_OR_KILL",
    TimeInForce.POST_ONLY: "LIMIT_MAKER",
}
REST_STATES: dict[str, OrderState] = {
    "NEW": OrderState.OPEN,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "PARTIALLY_CANCELED": OrderState.CANCELLED,
}
#: status of spot@private.orders: 1 open, 2 filled, 3 partial, 4 cancelled, 5 cancelled with fills
STREAM_STATES: dict[int, OrderState] = {
    1: OrderState.OPEN,
    2: OrderState.FILLED,
    3: OrderState.PARTIALLY_FILLED,
    4: OrderState.CANCELLED,
    5: OrderState.CANCELLED,
}


class _Ack(msgspec.Struct):
    symbol: str
    orderId: str | int
    transactTime: Maybe = ABSENT


class _Order(msgspec.Struct):
    symbol: str
    orderId: str | int
    status: str
    executedQty: Maybe = ABSENT
    cummulativeQuoteQty: Maybe = ABSENT
    clientOrderId: str | None = None
    origClientOrderId: str | None = None
    time: Maybe = ABSENT
    updateTime: Maybe = ABSENT


class _Trade(msgspec.Struct):
    symbol: str
    id: str | int
    orderId: str | int
    price: str
    qty: str
    commission: str
    commissionAsset: str
    isBuyer: bool
    isMaker: bool
    time: Maybe = ABSENT
    clientOrderId: str | None = None


_ack = msgspec.json.Decoder(_Ack)
_order = msgspec.json.Decoder(_Order)
_orders = Rows(_Order, of="symbol")
_trades = Rows(_Trade, of="symbol")
_foreign_order = not_our_order("clientOrderId", "origClientOrderId")


def place_query(request: OrderRequest) -> str:
    """Query of POST /order without timestamp, window and signature.

    A market buy names its amount in quote, which an :class:`OrderRequest` does not carry: only market sells.
    """
    side = "BUY" if request.side is OrderSide.BUY else "SELL"
    if request.kind is OrderKind.MARKET:
        if request.side is OrderSide.BUY:
            raise ValueError("a MEXC market buy is in quote amount; use an IOC limit order with a bounded price")
        return (
            f"symbol={request.symbol}&side={side}&type=MARKET&quantity={plain(request.qty)}"
            f"&newClientOrderId={request.client_id}"
        )
    return (
        f"symbol={request.symbol}&side={side}&type={_TYPE_OF_TIF[request.tif]}&quantity={plain(request.qty)}"
        f"&price={plain(request.price)}&newClientOrderId={request.client_id}"
    )


def place_pieces(terms: OrderTerms, window_ms: int) -> Pieces:
    """:func:`place_query` of an IOC order with timestamp and window, with holes."""
    side = "BUY" if terms.side is OrderSide.BUY else "SELL"
    return [
        template.mark(template.leg(ENTRY_LEG.sign_from)),
        f"symbol={terms.symbol}&side={side}&type={_TYPE_OF_TIF[TimeInForce.IOC]}&quantity=".encode(),
        template.amount_text(template.leg(ENTRY_LEG.lots), terms.lot),
        b"&price=",
        template.amount_text(template.leg(ENTRY_LEG.ticks), terms.tick),
        f"&newClientOrderId={terms.id_prefix}".encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        b"&timestamp=",
        template.integer_text(template.leg(ENTRY_LEG.now_ms)),
        f"&recvWindow={window_ms}".encode(),
        template.mark(template.leg(ENTRY_LEG.sign_to)),
    ]


def order_query(symbol: str, client_id: str, order_id: str) -> str:
    """Query of GET and DELETE /order: by the venue's id where known, else by ours."""
    return f"symbol={symbol}&orderId={order_id}" if order_id else f"symbol={symbol}&origClientOrderId={client_id}"


def parse_ack(venue: str, client_id: str, reply: HttpReply) -> OrderUpdate:
    """Update of a placement. Raises the reply's error, or ``ProtocolViolation``."""
    error = error_of(venue, reply)
    if error is not None:
        raise error
    ack = decode(_ack, reply.body, venue, "POST /order")
    return OrderUpdate(
        venue=venue,
        symbol=ack.symbol,
        client_id=client_id,
        order_id=str(ack.orderId),
        state=OrderState.OPEN,
        filled_qty=None,
        average_price=None,
        venue_wall_ms=lenient_ms(ack.transactTime),
        recv_mono_ns=reply.recv_mono_ns,
        source="rest",
    )


def _update(venue: str, row: _Order, recv_mono_ns: int) -> OrderUpdate:
    state = REST_STATES.get(row.status)
    if state is None:
        raise ProtocolViolation(f"{venue}: unknown order status {row.status!r}", venue=venue)
    filled = maybe_number(row.executedQty, venue)  # None: not said, so that fills are asked for
    quote = maybe_number(row.cummulativeQuoteQty, venue)
    return OrderUpdate(
        venue=venue,
        symbol=row.symbol,
        client_id=row.origClientOrderId or row.clientOrderId or "",
        order_id=str(row.orderId),
        state=state,
        filled_qty=filled,
        average_price=quote / filled if filled and quote and filled > 0 and quote > 0 else None,
        venue_wall_ms=lenient_ms(row.updateTime) or lenient_ms(row.time),
        recv_mono_ns=recv_mono_ns,
        source="rest",
        reason=row.status,
    )


def parse_order(venue: str, payload: bytes, recv_mono_ns: int) -> OrderUpdate:
    """GET /order. Raises ``ProtocolViolation``, also for a status that is not documented."""
    return _update(venue, decode(_order, payload, venue, "order"), recv_mono_ns)


def parse_cancel(venue: str, payload: bytes, recv_mono_ns: int) -> OrderUpdate:
    """Answer of DELETE /order. Not terminal (the state before the cancel): nothing is said about the quantity."""
    update = parse_order(venue, payload, recv_mono_ns)
    if update.state.is_terminal:
        return update
    return msgspec.structs.replace(
        update, filled_qty=None, average_price=None, reason=f"cancel accepted, {update.reason}"
    )


def parse_orders(venue: str, payload: bytes, recv_mono_ns: int, odd: OddRows | None = None) -> list[OrderUpdate]:
    """GET /openOrders and /allOrders, DELETE /openOrders. Unreadable orders of others are left out."""

    def one(row: _Order) -> OrderUpdate:
        return _update(venue, row, recv_mono_ns)

    return _orders.read(payload, venue, "orders", one, odd=odd, foreign=_foreign_order)


def parse_fills(venue: str, payload: bytes, recv_mono_ns: int, odd: OddRows | None = None) -> tuple[list[Fill], int]:
    """GET /myTrades, and how many rows it had. Unreadable fills of others are left out."""

    def one(row: _Trade) -> Fill:
        return fill_of_row(
            venue,
            row,
            client_id=row.clientOrderId or "",
            is_buy=row.isBuyer,
            is_maker=row.isMaker,
            recv_mono_ns=recv_mono_ns,
        )

    return _trades.read_page(payload, venue, "myTrades", one, odd=odd, foreign=not_our_order("clientOrderId"))
