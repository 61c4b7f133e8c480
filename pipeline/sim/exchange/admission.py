"""Checks of an order before a simulated matching engine accepts it: free functions over one instrument.

Each raises ``SimReject`` with the reason; nothing has happened then.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.decimals import PPM, ZERO
from pipeline.sim.exchange.futures.positions import mode_of, position_of
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.order_book import ASK, BID, SimBook
from pipeline.sim.exchange.orders import RejectReason, SimOrderRequest, SimReject


def check_status(row: SimInstrument, request: SimOrderRequest, now_ms: int) -> None:
    """Expiry of the request, status of the instrument."""
    if request.expiry_wall_ms and now_ms > request.expiry_wall_ms:
        raise SimReject(RejectReason.EXPIRED, f"now={now_ms} expiry={request.expiry_wall_ms}")
    if row.status is TradingStatus.HALTED:
        raise SimReject(RejectReason.SYMBOL_HALTED, row.symbol)
    if row.only_reduces and not (request.reduce_only or request.close_position):
        raise SimReject(RejectReason.SYMBOL_HALTED, f"{row.symbol} is being delisted: reduce-only")
    barred = {TradingStatus.BUY_ONLY: OrderSide.SELL, TradingStatus.SELL_ONLY: OrderSide.BUY}.get(row.status)
    if barred is request.side:
        raise SimReject(RejectReason.SIDE_BARRED, f"{row.symbol} is {row.status.name}")


def wanted_units(row: SimInstrument, book: SimBook, account: SimAccount, request: SimOrderRequest) -> int:
    """Units of the order; a quote quantity becomes the units that the book gives for it."""
    if request.close_position or request.reduce_only:
        return _reducing_units(row, account, request)
    if request.quote_qty is not None:
        return _units_for_quote(row, book, request.quote_qty, id(account))
    if request.qty is None or request.qty <= 0:
        raise SimReject(RejectReason.BAD_PARAMETER, f"quantity must be positive: qty={request.qty}")
    return row.units(request.qty)


def _reducing_units(row: SimInstrument, account: SimAccount, request: SimOrderRequest) -> int:
    held = position_of(account, row.symbol, mode_of(account, request.side, True)).qty if row.is_futures else ZERO
    if not held or (held > 0) == (request.side is OrderSide.BUY):
        raise SimReject(RejectReason.REDUCE_ONLY, f"nothing to reduce: position={held}")
    wanted = abs(held) if request.close_position else min(abs(held), request.qty or ZERO)
    return int(wanted / row.unit)


def _units_for_quote(row: SimInstrument, book: SimBook, quote: Decimal, owner: int) -> int:
    """Whole lots that a market buy of ``quote`` gets from the visible book."""
    units, left = 0, quote
    for price, available in book.reachable(BID, None, owner):
        cost = row.price(price) * row.unit
        affordable = min(available, int(left / cost))
        units += affordable
        left -= cost * affordable
        if affordable < available:
            break
    units -= units % row.lot_units
    if units == 0:
        raise SimReject(RejectReason.NO_LIQUIDITY, f"{row.symbol}: quote={quote}")
    return units


def check_limits(row: SimInstrument, request: SimOrderRequest, units: int, mark: Decimal) -> None:
    """Quantity, notional, price and price band against the instrument row."""
    qty = row.qty(units)
    if qty < row.min_qty and not request.reduce_only:
        raise SimReject(RejectReason.QTY_TOO_SMALL, f"{qty} < {row.min_qty}")
    if row.max_qty and qty > row.max_qty:
        raise SimReject(RejectReason.QTY_TOO_LARGE, f"{qty} > {row.max_qty}")
    is_limit = request.kind is OrderKind.LIMIT
    if is_limit and request.price <= 0:
        raise SimReject(RejectReason.BAD_PARAMETER, f"price must be positive: price={request.price}")
    price = request.price if is_limit else mark
    notional = request.quote_qty if request.quote_qty is not None else price * qty
    if row.min_notional and notional < row.min_notional and not request.reduce_only:
        raise SimReject(RejectReason.NOTIONAL_TOO_SMALL, f"{notional} < {row.min_notional}")
    if row.max_notional and notional > row.max_notional:
        raise SimReject(RejectReason.NOTIONAL_TOO_LARGE, f"{notional} > {row.max_notional}")
    if is_limit and mark and row.price_band_ppm and abs(price - mark) > mark * row.price_band_ppm / PPM:
        raise SimReject(RejectReason.PRICE_BAND, f"price={price} mark={mark}")


def check_unfillable(
    book: SimBook, side: int, limit: int | None, units: int, request: SimOrderRequest, owner: int
) -> None:
    """Refuses a post-only order that would take, and a fill-or-kill order that cannot fill."""
    refuses_post_only = request.post_only and not request.unfillable_post_only_ends
    if refuses_post_only and book.takeable(side, limit, owner) > 0:
        raise SimReject(RejectReason.POST_ONLY_WOULD_TAKE, f"price={request.price}")
    refuses_fok = request.tif is TimeInForce.FOK and not request.unfillable_fok_ends
    if refuses_fok and book.takeable(side, limit, owner) < units:
        raise SimReject(RejectReason.FOK_NOT_FILLED, f"qty={request.qty}")


def meets_own(book: SimBook, side: int, limit: int) -> bool:
    """True if resting would cross an own order of the other side (self-trade prevention)."""
    best = book.best(ASK if side == BID else BID)
    return best is not None and (best <= limit if side == BID else best >= limit)


def walk_cost(row: SimInstrument, book: SimBook, side: int, units: int, owner: int) -> Decimal:
    """Quote that a taker of ``units`` would move through the visible book."""
    cost = ZERO
    for price, available in book.reachable(side, None, owner):
        taken = min(units, available)
        cost += row.price(price) * row.qty(taken)
        units -= taken
        if not units:
            break
    return cost
