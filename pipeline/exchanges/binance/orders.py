"""Binance orders of spot and USDⓈ-M: requests -> parameters; answers -> updates, fills. Sans-I/O.

Orders ask for the answer RESULT: how much was filled is in it, with which trades the user stream and REST say::

    {"symbol":"BTCUSDT","orderId":28,"orderListId":-1,"clientOrderId":"6gCrw2kRUAF9CvJDGP16IP",
     "transactTime":1507725176595,"price":"0.00000000","origQty":"10.00000000","executedQty":"10.00000000",
     "origQuoteOrderQty":"0.000000","cummulativeQuoteQty":"10.00000000","status":"FILLED","timeInForce":"IOC",
     "type":"LIMIT","side":"SELL","workingTime":1507725176595,"selfTradePreventionMode":"NONE"}

USDⓈ-M answers have ``cumQty`` and no quote amount; older ones ``avgPrice`` and ``cumQuote``. Its post-only orders are
GTX ones, and positions are one-way (no ``positionSide``).

*Source:* Binance spot REST and WebSocket API, USDⓈ-M futures API: new order, query order, cancel order.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.own_trades import fill_of_row
from pipeline.exchanges.parsing.rows import OddRows, Rows, not_our_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, number
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import Fill, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces

ORDER_ANSWER = "RESULT"
POST_ONLY_FUTURES = "GTX"

STATES: dict[str, OrderState] = {
    "NEW": OrderState.OPEN,
    "PENDING_NEW": OrderState.OPEN,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "PENDING_CANCEL": OrderState.OPEN,
    "CANCELED": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.CANCELLED,  # the remainder of IOC, FOK, market; "expired" of ours means never accepted
    "EXPIRED_IN_MATCH": OrderState.CANCELLED,
}
#: USDⓈ-M orders of the venue itself that close a position at one price, off the book: reported with their fill.
FORCED_STATES = ("NEW_INSURANCE", "NEW_ADL")
#: How the client ids of such orders begin, and what they are for. Source: USDⓈ-M API, ``newClientOrderId``,
#: ORDER_TRADE_UPDATE (liquidation: ``autoclose-``; ADL: ``adl_autoclose``; delisting: ``settlement_autoclose-``).
FORCED_IDS = (
    ("autoclose-", "liquidation"),
    ("adl_autoclose", "adl"),
    ("settlement_autoclose-", "settlement"),
    ("delivery_autoclose-", "delivery"),
)


class _Order(msgspec.Struct):
    symbol: str
    orderId: int
    status: str
    executedQty: Decimal
    clientOrderId: str = ""
    origClientOrderId: str | None = None
    cummulativeQuoteQty: Decimal | None = None
    cumQuote: Decimal | None = None
    avgPrice: Decimal | None = None
    updateTime: Maybe = ABSENT
    transactTime: Maybe = ABSENT
    time: Maybe = ABSENT


class _Trade(msgspec.Struct):
    symbol: str
    id: int
    orderId: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commissionAsset: str
    time: Maybe = ABSENT
    isBuyer: bool | None = None
    isMaker: bool | None = None
    buyer: bool | None = None
    maker: bool | None = None


_order = msgspec.json.Decoder(_Order)
_orders = Rows(_Order, of="symbol")
_foreign_order = not_our_order("clientOrderId", "origClientOrderId")
_trades = Rows(_Trade, of="symbol")


def order_name(symbol: str, client_id: str, order_id: str) -> list[tuple[str, str]]:
    """Parameters that name an order: by the venue's id where known, else by ours."""
    return [("symbol", symbol), ("orderId", order_id) if order_id else ("origClientOrderId", client_id)]


def state_of(venue: str, status: str, filled: Decimal) -> OrderState:
    """State of an order of which ``filled`` is filled. Raises ``ProtocolViolation`` for an unknown status."""
    if status in FORCED_STATES:
        return OrderState.FILLED if filled > 0 else OrderState.OPEN
    state = STATES.get(status)
    if state is None:
        raise ProtocolViolation(f"{venue}: unknown order status {status!r}", venue=venue)
    return state


def reason_of(status: str, client_id: str) -> str:
    """An order's state as the venue names it, and what one of the venue itself was for."""
    cause = next((word for start, word in FORCED_IDS if client_id.startswith(start)), "")
    return f"{cause}: {status}" if cause else status


def place_params(request: OrderRequest, market: str = "spot") -> list[tuple[str, str | int]]:
    """Parameters of ``order.place`` without key, timestamp and window. Raises ``ValueError`` for what the market does
    not have."""
    futures = market == "futures"
    if request.reduce_only and not futures:
        raise ValueError("spot has no reduce-only orders")
    params: list[tuple[str, str | int]] = [
        ("newClientOrderId", request.client_id),
        ("newOrderRespType", ORDER_ANSWER),
        ("quantity", plain(request.qty)),
        ("side", _side(request.side)),
        ("symbol", request.symbol),
    ]
    if request.reduce_only:
        params.append(("reduceOnly", "true"))
    if request.kind is OrderKind.MARKET:
        return [*params, ("type", "MARKET")]
    params.append(("price", plain(request.price)))
    if request.tif is TimeInForce.POST_ONLY and not futures:
        return [*params, ("type", "LIMIT_MAKER")]
    tif = POST_ONLY_FUTURES if request.tif is TimeInForce.POST_ONLY else request.tif.name
    return [*params, ("timeInForce", tif), ("type", "LIMIT")]


def place_pieces(terms: OrderTerms, api_key: str, window_ms: int) -> Pieces:
    """The inside of ``params`` of an IOC order before its signature, with holes: names in their order. Both markets
    have the same."""
    return [
        f'"apiKey":"{api_key}","newClientOrderId":"{terms.id_prefix}'.encode(),
        template.id_text(template.leg(ENTRY_LEG.client)),
        f'","newOrderRespType":"{ORDER_ANSWER}","price":"'.encode(),
        template.amount_text(template.leg(ENTRY_LEG.ticks), terms.tick),
        b'","quantity":"',
        template.amount_text(template.leg(ENTRY_LEG.lots), terms.lot),
        f'","recvWindow":{window_ms},"side":"{_side(terms.side)}","symbol":"{terms.symbol}"'.encode(),
        b',"timeInForce":"IOC","timestamp":',
        template.integer_text(template.leg(ENTRY_LEG.now_ms)),
        b',"type":"LIMIT"',
    ]


def _side(side: OrderSide) -> str:
    return "BUY" if side is OrderSide.BUY else "SELL"


def _update(venue: str, row: _Order, recv_mono_ns: int, source: str = "rest") -> OrderUpdate:
    filled = number(row.executedQty, venue)
    quote = row.cummulativeQuoteQty if row.cummulativeQuoteQty is not None else row.cumQuote
    average = number(row.avgPrice, venue) if row.avgPrice else None
    if average is None and filled > 0 and quote is not None and quote > 0:  # -1: not known (old orders)
        average = number(quote, venue) / filled
    return OrderUpdate(
        venue=venue,
        symbol=row.symbol,
        client_id=row.origClientOrderId or row.clientOrderId,
        order_id=str(row.orderId),
        state=state_of(venue, row.status, filled),
        filled_qty=filled,
        average_price=average if filled > 0 else None,
        venue_wall_ms=lenient_ms(row.updateTime) or lenient_ms(row.transactTime) or lenient_ms(row.time),
        recv_mono_ns=recv_mono_ns,
        source=source,
        reason=reason_of(row.status, row.clientOrderId),
    )


def parse_order(venue: str, payload: bytes, recv_mono_ns: int, source: str = "rest") -> OrderUpdate:
    """One order: the answer to its placement, its query or its cancel."""
    return _update(venue, decode(_order, payload, venue, "order"), recv_mono_ns, source)


def parse_orders(venue: str, payload: bytes, recv_mono_ns: int, odd: OddRows | None = None) -> list[OrderUpdate]:
    """A list of orders: open, all, or cancelled ones. What is none of ours and cannot be read is left out: among
    cancelled orders there are lists of orders (OCO)."""

    def one(row: _Order) -> OrderUpdate:
        return _update(venue, row, recv_mono_ns)

    return _orders.read(payload, venue, "orders", one, odd=odd, foreign=_foreign_order)


def parse_fills(venue: str, payload: bytes, recv_mono_ns: int, odd: OddRows | None = None) -> tuple[list[Fill], int]:
    """GET /api/v3/myTrades or /fapi/v1/userTrades, and how many rows it had. Rows carry no client id: match by order
    id; every one that cannot be read may be ours."""

    def one(row: _Trade) -> Fill:
        return fill_of_row(
            venue,
            row,
            client_id="",
            is_buy=bool(row.isBuyer or row.buyer),
            is_maker=bool(row.isMaker or row.maker),
            recv_mono_ns=recv_mono_ns,
        )

    return _trades.read_page(payload, venue, "trades", one, odd=odd)
