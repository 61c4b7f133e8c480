"""What an exit leaves of a hedge: nothing, or a quantity that both venues take an order of; and the end of a
remainder that is too small.

A remainder below a venue's minimum comes about all the same (an order that filled in part, minima that rose, what
others did on the account). Both legs cannot leave then, so the futures leg alone is closed, by an order that only
reduces, which venues take below their minima; the coins on spot become dust, which a later trade of the coin sells
along.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView
from pipeline.execution.ledger import Operation
from pipeline.execution.market import average_price, best_price, bounded_price, is_tradable_qty, mid_price
from pipeline.execution.plan import PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.execution.settle import hedge_terms
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.fixedpoint import plain, quantize_down, quantize_up
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO

LegBook = tuple[InstrumentRow, BookView, OrderSide]  # an instrument, its book, our side there
SHOWN = Decimal("0.01")


def least_qty(legs: Iterable[LegBook], lot: Decimal, slippage_bps: Decimal) -> Decimal:
    """The least quantity on the lot that every venue takes at limits within ``slippage_bps`` of its best price. Every
    book has a price on our side."""
    least = lot
    for row, view, side in legs:
        best = best_price(view, side, row)
        assert best is not None
        worst = best * (1 - slippage_bps / 10_000)  # a sell's notional there is less than at the best
        least = max(least, row.spec.min_qty, row.spec.min_notional / worst)
    return quantize_up(least, lot)


def without_small_remainder(qty: Decimal, whole: Decimal, least: Decimal) -> Decimal:
    """``qty`` of ``whole``, cut so that what stays open is nothing or ``least``; 0 where no such quantity is left."""
    if 0 < whole - qty < least:
        qty = whole - least
    return qty if qty >= least else ZERO


def small_remainder_text(hedge: HedgeRecord, legs: Sequence[LegBook], slippage_bps: Decimal) -> str:
    """Which venue's minimum order the hedge is below, in its amounts; "" where it is below none."""
    lot = max(row.spec.lot for row, _, _ in legs)
    whole = quantize_down(hedge.qty, lot)  # what both legs can leave with
    for row, view, side in legs:
        best = best_price(view, side, row)
        if best is None:
            continue
        spec = row.spec
        what = f"{plain(hedge.qty)} {hedge.base} ({(hedge.qty * best).quantize(SHOWN)} {spec.quote}) is below"
        if whole < max(spec.min_qty, lot):
            least = max(spec.min_qty, spec.lot) if hedge.qty < max(spec.min_qty, spec.lot) else lot
            return f"{what} {spec.venue}'s minimum order of {plain(least)} {hedge.base}"
        if whole * best * (1 - slippage_bps / 10_000) < spec.min_notional:
            return f"{what} {spec.venue}'s minimum order of {plain(spec.min_notional)} {spec.quote}"
    return ""


def futures_leg_of_remainder(
    context: CoreContext, hedge: HedgeRecord, futures: LegBook, bound_bps: Decimal
) -> PlannedLeg | str:
    """The order that closes a remainder's futures leg, its limit within ``bound_bps``; or why there is none."""
    row, view, side = futures
    spec, qty = row.spec, quantize_down(hedge.qty, row.spec.lot)
    best, average = best_price(view, side, row), average_price(view, side, qty, row)
    if best is None or average is None:
        return f"{spec.venue} {spec.symbol}: no depth for the {plain(hedge.qty)} {hedge.base} that are left"
    limit = bounded_price(best, side, bound_bps, spec.tick)
    position = context.ledger.accounts.futures_qty(spec.venue, spec.symbol)
    only_reduces = position * int(side) <= -qty
    if not only_reduces and not is_tradable_qty(row, qty, min(best, limit)):
        return f"{spec.venue} {spec.symbol}: position {plain(position)}, no order that only reduces closes what is left"
    assert spec.kind is InstrumentKind.PERPETUAL
    return PlannedLeg(row, side, qty, limit, best, average, spec.quote, ZERO, view)


def kept_prices(context: CoreContext, operation: Operation) -> dict[str, Decimal]:
    """Price of the coins that an operation keeps as dust because the futures leg of its hedge left alone: the mid of
    their spot book, or what they cost; empty for every other operation."""
    record = operation.record
    if not record.closes or len(record.legs) > 1:
        return {}
    opening = context.ledger.operations[record.closes]
    spot = next(leg for leg in opening.record.legs if leg.kind is InstrumentKind.SPOT)
    row = context.instruments.find(spot.venue, spot.symbol)
    view = None if row is None else context.market.book(row.instrument_id)
    mid = None if row is None or view is None else mid_price(view, row)
    return {spot.base: mid or hedge_terms(opening)[1]}
