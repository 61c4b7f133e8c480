"""Gate.io orders of spot and USDT futures: requests -> JSON, replies -> updates and fills. Sans-I/O.

One order object serves REST, the WebSocket API and the private stream; the stream leaves ``status`` out (spot) or
writes bare numbers (futures). Our client id travels as ``text`` = "t-" + id. Futures sizes are signed contracts: base
coin is |size| x multiplier, and only this module converts.

*Source:* Gate.io API v4: create an order (spot), create a futures order. Doubt: what a second order with the same
``text`` gives; a refusal for it is taken as evidence that the order exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.rows import OddRows, Rows, not_our_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, lenient_ms, maybe_number, number
from pipeline.model.enums import OrderKind, OrderSide, OrderState, TimeInForce
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import ZERO, Fill, OrderRequest, OrderUpdate
from pipeline.templates import template
from pipeline.templates.slots import ENTRY_LEG
from pipeline.templates.template import OrderTerms, Pieces

TEXT_PREFIX = "t-"
#: How ``text`` of a futures order begins that the venue placed itself. Source: APIv4 "Futures", order ``text``.
FORCED_TEXTS = ("liq", "hedge-liq", "pm_liq", "comb_margin_liq", "scm_liq", "insurance", "auto_delev", "clear")
_TIF = {
    TimeInForce.GTC: "gtc",
    TimeInForce.IOC: "ioc",
    TimeInForce.FOK: "fok",
    TimeInForce.POST_ONLY: "poc",
}
GT = "GT"
POINTS = "POINT"


class SpotOrder(msgspec.Struct):
    """The fields of a spot order that we use."""

    id: str | int
    currency_pair: str
    side: str
    amount: Decimal
    left: Decimal
    type: str = "limit"
    text: str | None = None
    status: str | None = None
    event: str | None = None
    finish_as: str | None = None
    filled_amount: Maybe = ABSENT
    filled_total: Maybe = ABSENT
    avg_deal_price: Maybe = ABSENT
    update_time_ms: Maybe = ABSENT
    succeeded: bool = True
    label: str | None = None


class FuturesOrder(msgspec.Struct):
    """The fields of a futures order that we use."""

    id: str | int
    contract: str
    size: Decimal
    left: Decimal
    status: str
    text: str | None = None
    finish_as: str | None = None
    fill_price: Maybe = ABSENT
    create_time: Maybe = ABSENT
    finish_time: Maybe = ABSENT
    finish_time_ms: Maybe = ABSENT

    @property
    def finished_ms(self) -> int:
        """When it ended, unix ms; 0 where that is not known."""
        return lenient_ms(self.finish_time_ms) or lenient_ms(self.finish_time, 1000)


class SpotTrade(msgspec.Struct):
    """The fields of a spot fill that we use."""

    id: str | int
    currency_pair: str
    order_id: str | int
    side: str
    amount: Decimal
    price: Decimal
    create_time_ms: Maybe = ABSENT
    role: str = "taker"
    fee: Maybe = ABSENT
    fee_currency: str = ""
    point_fee: Maybe = ABSENT
    gt_fee: Maybe = ABSENT
    text: str | None = None


class FuturesTrade(msgspec.Struct):
    """The fields of a futures fill that we use; ``size`` is signed contracts."""

    id: str | int
    contract: str
    order_id: str | int
    size: Decimal
    price: Decimal
    create_time: Maybe = ABSENT
    create_time_ms: Maybe = ABSENT
    role: str = "taker"
    fee: Maybe = ABSENT
    point_fee: Maybe = ABSENT
    text: str | None = None


spot_order = msgspec.json.Decoder(SpotOrder)
futures_order = msgspec.json.Decoder(FuturesOrder)
_spot_orders = Rows(SpotOrder, of="currency_pair", prefix=TEXT_PREFIX)
_spot_trades = Rows(SpotTrade, of="currency_pair", prefix=TEXT_PREFIX)
_futures_orders = Rows(FuturesOrder, of="contract", prefix=TEXT_PREFIX)
_futures_trades = Rows(FuturesTrade, of="contract", prefix=TEXT_PREFIX)
_foreign = not_our_order("text", prefix=TEXT_PREFIX)


def client_id_of(text: str | None) -> str:
    """Our id from ``text``; "" for an order that somebody else placed (web, app, liquidation)."""
    return text[len(TEXT_PREFIX) :] if text and text.startswith(TEXT_PREFIX) else ""


def place_body(market: str, request: OrderRequest) -> bytes:
    """JSON of POST …/orders, which is also ``req_param`` of the WebSocket API's order_place."""
    return _spot_body(request) if market == "spot" else _futures_body(request)


def _spot_body(request: OrderRequest) -> bytes:
    side = "buy" if request.side is OrderSide.BUY else "sell"
    if request.kind is OrderKind.MARKET:
        if request.side is OrderSide.BUY:
            raise ValueError(
                "a Gate.io spot market buy is in quote amount; use an IOC limit order with a bounded price"
            )
        return (
            f'{{"text":"{TEXT_PREFIX}{request.client_id}","currency_pair":"{request.symbol}","type":"market",'
            f'"account":"spot","side":"{side}","amount":"{plain(request.qty)}","time_in_force":"ioc"}}'
        ).encode()
    return (
        f'{{"text":"{TEXT_PREFIX}{request.client_id}","currency_pair":"{request.symbol}","type":"limit",'
        f'"account":"spot","side":"{side}","amount":"{plain(request.qty)}","price":"{plain(request.price)}",'
        f'"time_in_force":"{_TIF[request.tif]}"}}'
    ).encode()


def place_pieces(market: str, terms: OrderTerms) -> Pieces | None:
    """:func:`place_body` of an IOC order, with holes. None: a lot of this contract is no whole number of contracts."""
    client_id = (f'{{"text":"{TEXT_PREFIX}{terms.id_prefix}'.encode(), template.id_text(template.leg(ENTRY_LEG.client)))
    price = template.amount_text(template.leg(ENTRY_LEG.ticks), terms.tick)
    if market == "spot":
        side = "buy" if terms.side is OrderSide.BUY else "sell"
        head = f'","currency_pair":"{terms.symbol}","type":"limit","account":"spot","side":"{side}","amount":"'
        qty = template.amount_text(template.leg(ENTRY_LEG.lots), terms.lot)
        tail = f'","time_in_force":"{_TIF[TimeInForce.IOC]}"}}'
        return [*client_id, head.encode(), qty, b'","price":"', price, tail.encode()]
    per_lot = terms.lot / terms.multiplier
    if per_lot * terms.multiplier != terms.lot or per_lot != int(per_lot):
        return None
    signed = per_lot if terms.side is OrderSide.BUY else -per_lot
    head = f'","contract":"{terms.symbol}","size":'
    qty = template.amount_text(template.leg(ENTRY_LEG.lots), signed)
    return [*client_id, head.encode(), qty, b',"price":"', price, f'","tif":"{_TIF[TimeInForce.IOC]}"}}'.encode()]


def contracts_of(request: OrderRequest) -> Decimal:
    """Signed size in contracts. Raises ``ValueError`` for a quantity that is no whole step of contracts."""
    contracts = request.qty / request.multiplier
    if contracts * request.multiplier != request.qty:
        raise ValueError(f"{request.qty} is no exact number of contracts of {request.multiplier} {request.symbol}")
    return contracts if request.side is OrderSide.BUY else -contracts


def _futures_body(request: OrderRequest) -> bytes:
    contracts = contracts_of(request)
    size = plain(contracts)
    size = size if "." not in size else f'"{size}"'  # decimal contracts are text, under X-Gate-Size-Decimal
    market = request.kind is OrderKind.MARKET
    price = "0" if market else plain(request.price)
    tif = "ioc" if market else _TIF[request.tif]
    reduce = ',"reduce_only":true' if request.reduce_only else ""
    return (
        f'{{"text":"{TEXT_PREFIX}{request.client_id}","contract":"{request.symbol}","size":{size},'
        f'"price":"{price}","tif":"{tif}"{reduce}}}'
    ).encode()


def _spot_state(row: SpotOrder, filled: Decimal | None, venue: str) -> OrderState:
    """``status`` where it is sent (REST, WebSocket API), else the stream's ``event`` with ``finish_as``."""
    status = row.status
    if status is None:
        if row.event in ("put", "update"):
            status = "open"
        elif row.event == "finish":
            status = "closed"
    if status == "open":
        return OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN
    if status == "closed":  # ended, however: an IOC with something left is "closed", too
        whole = row.finish_as == "filled" or row.left == 0
        return OrderState.FILLED if whole else OrderState.CANCELLED
    if status == "cancelled":
        return OrderState.CANCELLED
    raise ProtocolViolation(f"{venue}: order {row.id} with status {row.status!r}, event {row.event!r}", venue=venue)


def _spot_filled(row: SpotOrder, venue: str) -> Decimal | None:
    """Cumulative base quantity; None where only quote amounts are sent (market buys)."""
    sent = maybe_number(row.filled_amount, venue)
    if sent is not None:
        return sent
    if row.type == "market" and row.side == "buy":
        return None
    return number(row.amount, venue) - number(row.left, venue)


def spot_update(venue: str, row: SpotOrder, recv_mono_ns: int, source: str) -> OrderUpdate:
    """Update of a spot order; ``source``: "rest", "ws_api" or "ws". Raises ``ProtocolViolation`` for an unknown
    status."""
    filled = _spot_filled(row, venue)
    average = maybe_number(row.avg_deal_price, venue)
    total = maybe_number(row.filled_total, venue)
    if not average and filled and total:
        average = total / filled
    return OrderUpdate(
        venue=venue,
        symbol=row.currency_pair,
        client_id=client_id_of(row.text),
        order_id=str(row.id),
        state=_spot_state(row, filled, venue),
        filled_qty=filled,
        average_price=average if average and filled != 0 else None,
        venue_wall_ms=lenient_ms(row.update_time_ms),
        recv_mono_ns=recv_mono_ns,
        source=source,
        reason=row.finish_as or "",
    )


def futures_update(
    venue: str, row: FuturesOrder, multipliers: Mapping[str, Decimal], recv_mono_ns: int, source: str
) -> OrderUpdate:
    """Update of a futures order, quantity in base coin. Raises ``KeyError`` for a contract whose multiplier is not
    known, ``ProtocolViolation`` for an unknown status."""
    multiplier = multipliers[row.contract]
    filled = (abs(number(row.size, venue)) - abs(number(row.left, venue))) * multiplier
    if row.status == "open":
        state = OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN
    elif row.status == "finished":
        state = OrderState.FILLED if row.finish_as == "filled" else OrderState.CANCELLED
    else:
        raise ProtocolViolation(f"{venue}: order {row.id} with status {row.status!r}", venue=venue)
    wall_ms = row.finished_ms or lenient_ms(row.create_time, 1000)
    return OrderUpdate(
        venue=venue,
        symbol=row.contract,
        client_id=client_id_of(row.text),
        order_id=str(row.id),
        state=state,
        filled_qty=filled,
        average_price=maybe_number(row.fill_price, venue) or None if filled > 0 else None,
        venue_wall_ms=wall_ms,
        recv_mono_ns=recv_mono_ns,
        source=source,
        reason=_end_of(row),
    )


def _fees(venue: str, *parts: tuple[str, Maybe]) -> tuple[Decimal, str, tuple[tuple[str, Decimal], ...]]:
    """(fee, its asset, what was taken in further assets) of the parts of one fee, the plain asset's first."""
    taken = [(asset, amount) for asset, text in parts if (amount := maybe_number(text, venue))]
    if not taken:
        return ZERO, parts[0][0], ()
    return taken[0][1], taken[0][0], tuple(taken[1:])


def _end_of(row: FuturesOrder) -> str:
    """How an order ended; of one that the venue placed and that filled its text, which says what it was for."""
    ended = row.finish_as or ""
    forced = row.text is not None and row.text.startswith(FORCED_TEXTS)
    return str(row.text) if forced and ended in ("", "filled") else ended


def spot_fill(venue: str, row: SpotTrade, recv_mono_ns: int, source: str) -> Fill:
    """The fee in the assets in which it was really taken: received coin, GT, points, or several of them."""
    fee, asset, extra = _fees(venue, (row.fee_currency, row.fee), (GT, row.gt_fee), (POINTS, row.point_fee))
    return Fill(
        venue=venue,
        symbol=row.currency_pair,
        trade_id=str(row.id),
        order_id=str(row.order_id),
        client_id=client_id_of(row.text),
        side=OrderSide.BUY if row.side == "buy" else OrderSide.SELL,
        qty=number(row.amount, venue),
        price=number(row.price, venue),
        fee=fee,
        fee_asset=asset,
        extra_fees=extra,
        is_maker=row.role == "maker",
        venue_wall_ms=lenient_ms(row.create_time_ms),
        recv_mono_ns=recv_mono_ns,
        source=source,
    )


def futures_fill(
    venue: str, row: FuturesTrade, multipliers: Mapping[str, Decimal], recv_mono_ns: int, source: str
) -> Fill:
    """Fees are in the settlement coin or in points, positive = paid. Raises ``KeyError`` for an unknown multiplier."""
    size = number(row.size, venue)
    fee, asset, extra = _fees(venue, (row.contract.rpartition("_")[2], row.fee), (POINTS, row.point_fee))
    return Fill(
        venue=venue,
        symbol=row.contract,
        trade_id=str(row.id),
        order_id=str(row.order_id),
        client_id=client_id_of(row.text),
        side=OrderSide.BUY if size > 0 else OrderSide.SELL,
        qty=abs(size) * multipliers[row.contract],
        price=number(row.price, venue),
        fee=fee,
        fee_asset=asset,
        extra_fees=extra,
        is_maker=row.role == "maker",
        venue_wall_ms=lenient_ms(row.create_time_ms) or lenient_ms(row.create_time, 1000),
        recv_mono_ns=recv_mono_ns,
        source=source,
    )


def spot_updates(
    venue: str, payload: bytes, recv_mono_ns: int, source: str, odd: OddRows | None = None
) -> tuple[list[tuple[SpotOrder, OrderUpdate]], int]:
    """Orders of a list with their rows, and how many rows it had. Orders of others that cannot be read are left out.

    Raises ``ProtocolViolation`` for a list, or an order of ours, that cannot be read; so do the three below."""

    def one(row: SpotOrder) -> tuple[SpotOrder, OrderUpdate]:
        return row, spot_update(venue, row, recv_mono_ns, source)

    return _spot_orders.read_page(payload, venue, "spot orders", one, odd=odd, foreign=_foreign)


def spot_fills(
    venue: str, payload: bytes, recv_mono_ns: int, source: str, odd: OddRows | None = None
) -> tuple[list[Fill], int]:
    """Fills of a list, and how many rows it had."""

    def one(row: SpotTrade) -> Fill:
        return spot_fill(venue, row, recv_mono_ns, source)

    return _spot_trades.read_page(payload, venue, "spot fills", one, odd=odd, foreign=_foreign)


def futures_updates(
    venue: str,
    payload: bytes,
    multipliers: Mapping[str, Decimal],
    recv_mono_ns: int,
    source: str,
    odd: OddRows | None = None,
) -> tuple[list[tuple[FuturesOrder, OrderUpdate]], int]:
    """As :func:`spot_updates`. Raises ``KeyError`` for a contract whose multiplier is not known."""

    def one(row: FuturesOrder) -> tuple[FuturesOrder, OrderUpdate]:
        return row, futures_update(venue, row, multipliers, recv_mono_ns, source)

    return _futures_orders.read_page(payload, venue, "futures orders", one, odd=odd, foreign=_foreign)


def futures_fills(
    venue: str,
    payload: bytes,
    multipliers: Mapping[str, Decimal],
    recv_mono_ns: int,
    source: str,
    odd: OddRows | None = None,
) -> tuple[list[Fill], int]:
    """As :func:`spot_fills`. Raises ``KeyError`` for a contract whose multiplier is not known."""

    def one(row: FuturesTrade) -> Fill:
        return futures_fill(venue, row, multipliers, recv_mono_ns, source)

    return _futures_trades.read_page(payload, venue, "futures fills", one, odd=odd, foreign=_foreign)
