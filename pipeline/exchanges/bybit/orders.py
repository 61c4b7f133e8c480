"""Bybit orders of spot and USDT perpetuals: requests -> JSON; rows -> updates and fills. Sans-I/O.

::

    {"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","price":"65000.1",
     "timeInForce":"IOC","positionIdx":0,"reduceOnly":false,"orderLinkId":"ab-1"}
    {"category":"linear","symbol":"BTCUSDT","orderId":"o1","orderLinkId":"ab-1","side":"Buy","orderStatus":"Filled",
     "rejectReason":"EC_NoError","cancelType":"UNKNOWN","avgPrice":"65000.1","cumExecQty":"0.001", …}
    {"category":"linear","symbol":"BTCUSDT","execId":"e1","orderId":"o1","orderLinkId":"ab-1","side":"Buy",
     "execPrice":"65000.1","execQty":"0.001","execFee":"0.035","feeCurrency":"","isMaker":false,"execType":"Trade",
     "execTime":"1700000000123"}

A create is answered with its ids alone; a post-only order that would take and a fill-or-kill order that cannot fill are
taken first and end on the order stream. Rows of REST and of the stream are the same.

Doubts: ``feeCurrency`` of contracts is seen empty, which is read as the coin that they settle in; on spot an empty one
is not read at all. An order outside the band is moved to its limit on linear, which is never the worse price for us.

*Source:* Bybit V5 documentation: place order, order history, trade history; enums (orderStatus, execType, createType).
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, not_our_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number, number
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import ZERO, Fill, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces

SETTLED_IN = "USDT"
STATES: dict[str, OrderState] = {
    "New": OrderState.OPEN,
    "PartiallyFilled": OrderState.PARTIALLY_FILLED,
    "Untriggered": OrderState.OPEN,
    "Triggered": OrderState.OPEN,
    "Filled": OrderState.FILLED,
    "Cancelled": OrderState.CANCELLED,
    "PartiallyFilledCanceled": OrderState.CANCELLED,
    "Deactivated": OrderState.CANCELLED,
    "Rejected": OrderState.REJECTED,
}
#: Executions that are fills. FUNDING is recognised by :func:`is_funding`.
FILL_TYPES = frozenset({"Trade", "AdlTrade", "BustTrade", "Delivery", "Settle", "BlockTrade", "MovePosition"})
FUNDING = "Funding"
#: ``createType`` of orders that the venue placed itself, and what they are for.
FORCED = {
    "CreateByLiq": "liquidation",
    "CreateByTakeOver_PassThrough": "liquidation",
    "CreateByAdl_PassThrough": "adl",
    "CreateBySettle": "settlement",
}
_TIF = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "PostOnly",
}
_NO_REASON = ("", "EC_NoError")
_NO_CANCEL = ("", "UNKNOWN")


class OrderRow(msgspec.Struct):
    """The fields of an order that we use."""

    symbol: str
    orderId: str
    orderStatus: str
    category: str = ""
    orderLinkId: str = ""
    rejectReason: str = ""
    cancelType: str = ""
    createType: str = ""
    avgPrice: Maybe = ABSENT
    cumExecQty: Maybe = ABSENT
    updatedTime: Maybe = ABSENT
    createdTime: Maybe = ABSENT
    positionIdx: int = 0


class ExecutionRow(msgspec.Struct):
    """The fields of an execution that we use."""

    symbol: str
    execId: str
    orderId: str
    side: str
    execPrice: Decimal
    execQty: Decimal
    execType: str
    category: str = ""
    orderLinkId: str = ""
    execFee: Maybe = ABSENT
    feeCurrency: str = ""
    isMaker: bool = False
    execTime: Maybe = ABSENT


class _Ids(msgspec.Struct):
    orderId: str = ""
    orderLinkId: str = ""


class _Result(msgspec.Struct):
    result: msgspec.Raw


_ids = msgspec.json.Decoder(_Ids)
_id_rows = msgspec.json.Decoder(list[_Ids])
_result = msgspec.json.Decoder(_Result)
_orders = Rows(OrderRow, of="symbol")
_executions = Rows(ExecutionRow, of="symbol")
_foreign = not_our_order("orderLinkId")


# --- requests ---


def _side(side: OrderSide) -> str:
    return "Buy" if side is OrderSide.BUY else "Sell"


def place_body(category: str, request: OrderRequest) -> bytes:
    """JSON of POST /v5/order/create, and of ``args`` of the WebSocket API. Raises ``ValueError`` for what the market
    does not have."""
    linear = category == "linear"
    if request.reduce_only and not linear:
        raise ValueError("spot has no reduce-only orders")
    head = f'{{"category":"{category}","symbol":"{request.symbol}","side":"{_side(request.side)}","orderType":'
    if request.kind is OrderKind.MARKET:
        unit = "" if linear else ',"marketUnit":"baseCoin"'
        kind = f'"Market","qty":"{plain(request.qty)}"{unit},"timeInForce":"IOC"'
    else:
        amounts = f'"qty":"{plain(request.qty)}","price":"{plain(request.price)}"'
        kind = f'"Limit",{amounts},"timeInForce":"{_TIF[request.tif]}"'
    return f'{head}{kind}{_tail(category, reduce=request.reduce_only)}{request.client_id}"}}'.encode()


def _tail(category: str, *, reduce: bool = False) -> str:
    """What stands before the client id: one position a contract, or no borrowing."""
    if category == "linear":
        return f',"positionIdx":0,"reduceOnly":{"true" if reduce else "false"},"orderLinkId":"'
    return ',"isLeverage":0,"orderLinkId":"'


def place_pieces(category: str, terms: OrderTerms) -> Pieces:
    """:func:`place_body` of an IOC limit order, with holes."""
    head = (
        f'{{"category":"{category}","symbol":"{terms.symbol}","side":"{_side(terms.side)}","orderType":"Limit","qty":"'
    )
    return [
        head.encode(),
        template.amount_text(template.leg(ENTRY_LEG.lots), terms.lot),
        b'","price":"',
        template.amount_text(template.leg(ENTRY_LEG.ticks), terms.tick),
        f'","timeInForce":"IOC"{_tail(category)}{terms.id_prefix}'.encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        b'"}',
    ]


def cancel_body(category: str, symbol: str, client_id: str, order_id: str) -> bytes:
    """JSON of POST /v5/order/cancel; by the venue's id where known, else by ours."""
    name = f'"orderId":"{order_id}"' if order_id else f'"orderLinkId":"{client_id}"'
    return f'{{"category":"{category}","symbol":"{symbol}",{name}}}'.encode()


# --- answers ---


def result_of(venue: str, payload: bytes, what: str) -> bytes:
    """``result`` of a REST reply. Raises ``ProtocolViolation``."""
    return bytes(decode(_result, payload, venue, what).result)


def parse_taken(
    venue: str, symbol: str, client_id: str, payload: bytes, recv_mono_ns: int, at_ms: int, source: str
) -> OrderUpdate:
    """The order in the answer to a create (its ids): taken for processing, and nothing more is known.

    Raises ``ProtocolViolation`` where the answer is about another order."""
    row = decode(_ids, payload, venue, "order.create")
    if not row.orderId or row.orderLinkId != client_id:
        text = (
            f"{venue}: order.create: found orderId {row.orderId!r} of {row.orderLinkId!r}, wanted one of {client_id!r}"
        )
        raise ProtocolViolation(text, venue=venue)
    return OrderUpdate(
        venue=venue,
        symbol=symbol,
        client_id=client_id,
        order_id=row.orderId,
        state=OrderState.OPEN,
        filled_qty=None,
        average_price=None,
        venue_wall_ms=at_ms,
        recv_mono_ns=recv_mono_ns,
        source=source,
    )


def parse_id(venue: str, result: bytes) -> tuple[str, str]:
    """(client id, order id) in the ``result`` of POST /v5/order/cancel."""
    row = decode(_ids, result, venue, "order/cancel")
    return row.orderLinkId, row.orderId


def parse_ids(venue: str, payload: bytes) -> list[tuple[str, str]]:
    """(client id, order id) of the ``list`` of POST /v5/order/cancel-all."""
    return [(row.orderLinkId, row.orderId) for row in decode(_id_rows, payload, venue, "cancel-all")]


def state_of(venue: str, status: str, filled: Decimal | None) -> OrderState:
    """State of an order of which ``filled`` is filled: one that the venue rejected with fills has ended with them.
    Raises ``ProtocolViolation`` for an unknown status."""
    state = STATES.get(status)
    if state is None:
        raise ProtocolViolation(f"{venue}: unknown order status {status!r}", venue=venue)
    if state is OrderState.REJECTED and filled:
        return OrderState.CANCELLED
    return OrderState.PARTIALLY_FILLED if state is OrderState.OPEN and filled else state


def _reason(row: OrderRow) -> str:
    """An order's state as the venue names it, and what one of the venue itself was for."""
    words = [row.orderStatus]
    if row.rejectReason not in _NO_REASON:
        words.append(row.rejectReason)
    elif row.cancelType not in _NO_CANCEL:
        words.append(row.cancelType)
    cause = FORCED.get(row.createType)
    said = " ".join(words)
    return f"{cause}: {said}" if cause else said


def update_of(venue: str, row: OrderRow, recv_mono_ns: int, source: str) -> OrderUpdate:
    """Raises ``ProtocolViolation`` for an unknown status, and for an order of hedge mode."""
    if row.positionIdx:
        text = f"{venue}: order {row.orderId} of positionIdx {row.positionIdx}, wanted 0 (one-way)"
        raise ProtocolViolation(text, venue=venue)
    filled, average = maybe_number(row.cumExecQty, venue), maybe_number(row.avgPrice, venue)
    return OrderUpdate(
        venue=venue,
        symbol=row.symbol,
        client_id=row.orderLinkId,
        order_id=row.orderId,
        state=state_of(venue, row.orderStatus, filled),
        filled_qty=filled,
        average_price=average if filled and average else None,
        venue_wall_ms=lenient_ms(row.updatedTime) or lenient_ms(row.createdTime),
        recv_mono_ns=recv_mono_ns,
        source=source,
        reason=_reason(row),
    )


def is_funding(row: ExecutionRow) -> bool:
    """The row books funding: no order did that."""
    return row.execType == FUNDING


def fill_of(venue: str, row: ExecutionRow, recv_mono_ns: int, source: str) -> Fill:
    """Raises ``ProtocolViolation`` for an execution that is none we know, and for a fee of no coin."""
    if row.execType not in FILL_TYPES:
        raise ProtocolViolation(f"{venue}: unknown execution {row.execType!r}", venue=venue)
    if row.side not in ("Buy", "Sell"):
        raise ProtocolViolation(f"{venue}: execution {row.execId} of side {row.side!r}", venue=venue)
    fee = maybe_number(row.execFee, venue) or ZERO
    asset = row.feeCurrency or (SETTLED_IN if row.category == "linear" else "")
    if fee and not asset:
        raise ProtocolViolation(f"{venue}: execution {row.execId} with a fee of no coin", venue=venue)
    return Fill(
        venue=venue,
        symbol=row.symbol,
        trade_id=row.execId,
        order_id=row.orderId,
        client_id=row.orderLinkId,
        side=OrderSide.BUY if row.side == "Buy" else OrderSide.SELL,
        qty=number(row.execQty, venue),
        price=number(row.execPrice, venue),
        fee=fee,
        fee_asset=asset,
        is_maker=row.isMaker,
        venue_wall_ms=lenient_ms(row.execTime),
        recv_mono_ns=recv_mono_ns,
        source=source,
    )


def parse_orders(
    venue: str, category: str, rows: bytes, recv_mono_ns: int, source: str, odd: OddRows | None = None
) -> list[OrderUpdate]:
    """A list of orders of one category. Orders of others that cannot be read are left out.

    Raises ``ProtocolViolation`` for a list, or an order of ours, that cannot be read."""

    def one(row: OrderRow) -> OrderUpdate | None:
        return update_of(venue, row, recv_mono_ns, source) if row.category in ("", category) else None

    found = _orders.read(rows, venue, "orders", one, odd=odd, foreign=_foreign)
    return [update for update in found if update is not None]


def parse_executions(
    venue: str, category: str, rows: bytes, recv_mono_ns: int, source: str, odd: OddRows | None = None
) -> list[tuple[ExecutionRow, Fill | None]]:
    """A list of executions of one category, with the fills that they are; None of funding. As :func:`parse_orders`."""

    def one(row: ExecutionRow) -> tuple[ExecutionRow, Fill | None] | None:
        if row.category not in ("", category):
            return None
        row.category = category
        return row, None if is_funding(row) else fill_of(venue, row, recv_mono_ns, source)

    found = _executions.read(rows, venue, "executions", one, odd=odd, foreign=_foreign)
    return [pair for pair in found if pair is not None]
