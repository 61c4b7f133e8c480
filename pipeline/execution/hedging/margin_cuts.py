"""Plans that take a part of a hedge, or all of it, off both legs at once because its margin runs short.

Such an exit is not a choice: age and profit of the books do not decide, only that they are alive and that the price is
bounded. What the visible books hold within ``unwind_max_slippage_bps`` is the most that one plan takes. Only the limit
on the contract is wider: an order there that comes back empty from a slow venue costs the time that the position has.
The spot leg is liquidated by nobody: what does not fill there within the usual bound is repaired, as anywhere. Where
it cannot be traded at all and the contract must close, that one leaves alone, and the coins follow when they can.
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView, Opportunity
from pipeline.execution.external_shares import A_HAIR, may_fill
from pipeline.execution.hedging.remainders import (
    LegBook,
    futures_leg_of_remainder,
    least_qty,
    small_remainder_text,
    without_small_remainder,
)
from pipeline.execution.market import (
    average_price,
    best_price,
    bounded_price,
    depth_within,
    is_tradable_qty,
    reservation,
    tradable,
    within_band,
)
from pipeline.execution.plan import Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.execution.settle import hedge_left
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide
from pipeline.model.fixedpoint import from_fp, quantize_down, quantize_up, to_fp_ceil, to_fp_floor
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO
from shm.layout import BOOK

NO_BOOK = BookView((0,) * BOOK.WORDS, 0)  # of a leg that no living book has a price of


def cut_plan(context: CoreContext, hedge: HedgeRecord, qty: Decimal, bound_bps: Decimal) -> Plan | str:
    """Closes ``qty`` base coins of ``hedge`` (rounded up to a lot, at most all of it) on both legs, futures first.

    What stays open is nothing or what both venues take an order of: the cut is smaller for it, or all is taken where
    the books hold all. ``bound_bps``: how far from the best price the contract's limit may go, at least
    ``unwind_max_slippage_bps`` (which is the spot leg's bound), at most the venue's own band. A text: why there is no
    such plan now.
    """
    seen_bps = context.config.execution.unwind_max_slippage_bps
    futures = context.instruments.find(hedge.futures_venue, hedge.futures_symbol)
    spot = context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
    if spot is None or futures is None:
        return f"{hedge.base}: an instrument of the hedge is not in the catalogue"
    spot_side = OrderSide(-int(hedge.spot_side))
    sides = ((futures, hedge.spot_side), (spot, spot_side))
    lot = max(spot.spec.lot, futures.spec.lot)
    whole = held = quantize_down(hedge.qty, lot)
    wanted = min(quantize_up(qty, lot), whole)
    views: list[BookView] = []
    for row, side in sides:
        view = live_book(context, row)
        if view is None:
            return f"{row.spec.venue} {row.spec.symbol}: no live book"
        best = best_price(view, side, row)
        if best is None:
            return f"{row.spec.venue} {row.spec.symbol}: no price for a {side.name.lower()}"
        limit = bounded_price(best, side, seen_bps, row.spec.tick)
        held = min(held, quantize_down(_depth(view, side, limit, row), lot))
        views.append(view)
    books = [(row, view, side) for (row, side), view in zip(sides, views, strict=True)]
    text = small_remainder_text(hedge, books, seen_bps)
    if text:
        return _rest_plan(context, hedge, spot, books[0], text, max(seen_bps, within_band(futures, bound_bps)))
    least, wanted = least_qty(books, lot, seen_bps), min(wanted, held)
    if held == whole and whole - wanted < least:
        wanted = whole  # a little more cut is better than a little less
    cut = without_small_remainder(max(wanted, min(least, held)), whole, least)
    if not cut:
        return f"{hedge.base}: {wanted} is less than the venues take, or would leave less"
    wanted = cut
    legs: list[PlannedLeg] = []
    for (row, side), view in zip(sides, views, strict=True):
        leg_bps = max(seen_bps, within_band(row, bound_bps)) if row is futures else seen_bps
        leg = _leg(context, row, side, wanted, view, leg_bps)
        if leg is None:
            return f"{row.spec.venue} {row.spec.symbol}: {wanted} is less than the venue takes"
        legs.append(leg)
    return _plan(context, hedge, spot, legs)


def contract_alone_plan(context: CoreContext, hedge: HedgeRecord, qty: Decimal, bound_bps: Decimal) -> Plan | str:
    """Closes ``qty`` base coins of a hedge's contract (rounded up to a lot, at most what is open of it and no earlier
    exit is closing) alone, because its spot leg cannot be traded now and its venue would liquidate it: by an order
    that only reduces, its limit within ``bound_bps``. The coins stand alone until their venue takes an order that
    reduces them. A text: why not now."""
    futures = context.instruments.find(hedge.futures_venue, hedge.futures_symbol)
    spot = context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
    if spot is None or futures is None:
        return f"{hedge.base}: an instrument of the hedge is not in the catalogue"
    where, seen_bps = f"{futures.spec.venue} {futures.spec.symbol}", context.config.execution.unwind_max_slippage_bps
    view, side = live_book(context, futures), hedge.spot_side
    best = None if view is None else best_price(view, side, futures)
    if view is None or best is None:
        return f"{where}: no live book, or no price for a {side.name.lower()}"
    leg_bps, lot = max(seen_bps, within_band(futures, bound_bps)), max(spot.spec.lot, futures.spec.lot)
    held = _depth(view, side, bounded_price(best, side, leg_bps, futures.spec.tick), futures)
    free = unclaimed(context, hedge, alone=True)
    if free < lot:
        return f"{where}: an earlier exit of hedge {hedge.operation_id} is to close what is open of it"
    wanted = min(quantize_up(qty, lot), quantize_down(free, lot), quantize_down(held, lot))
    leg = _leg(context, futures, side, wanted, view, leg_bps) if wanted > 0 else None
    if leg is None:
        return f"{where}: {wanted} is less than the venue takes, or than its book holds"
    if context.ledger.accounts.futures_qty(futures.spec.venue, futures.spec.symbol) * int(side) > -wanted:
        return f"{where}: no order of {wanted} only reduces the position"
    spot_side = OrderSide(-int(hedge.spot_side))
    seen = live_book(context, spot)
    own = None if seen is None else best_price(seen, spot_side, spot)
    price = own or best  # the contract's is for reservation and value only: without a book of its own no order is sent
    limit = bounded_price(price, spot_side, seen_bps, spot.spec.tick)
    asset, amount = reservation(spot, spot_side, wanted, limit, context.config.detection.hedge.leverage)
    coins = PlannedLeg(spot, spot_side, wanted, limit, price, price, asset, amount, seen if seen and own else NO_BOOK)
    plan = _plan(context, hedge, spot, [leg, coins])
    plan.in_turn = True
    return plan


def unclaimed(context: CoreContext, hedge: HedgeRecord, *, alone: bool) -> Decimal:
    """Base coins that are open of a hedge's contract and that no exit under way is to close, or may have to: for spot
    orders that have traded more coins than the exit has closed of the contract, or still may.

    ``alone``: of the contract without its coins, which would be liquidated meanwhile. Then an order whose answer is
    overdue claims none: whether it has traded or not, the contract must close, and neither exit opens anything again
    for what both have closed together (``external_shares.ending_part``).
    """
    ledger, found = context.ledger, ZERO
    for exit_ in ledger.closings.get(hedge.operation_id, ()):
        if exit_.operation_id not in ledger.open_operations:
            continue
        has = exit_.exposure().get(hedge.base, ZERO) - exit_.moved_to_dust.get(hedge.base, ZERO)
        has *= int(hedge.spot_side)
        orders = (o for o in ledger.unsettled_of_operation(exit_) if o.intent.kind is InstrumentKind.SPOT)
        selling = (o for o in orders if o.intent.side is not hedge.spot_side)
        most = sum((may_fill(o) for o in selling if not alone or answer_expected(context, o)), ZERO)
        if most - has > max(most, -has) * (A_HAIR - 1):  # fees in base coins
            found += most - has
    return max(ZERO, hedge_left(ledger, ledger.operations[hedge.operation_id]) - found)


def _rest_plan(
    context: CoreContext, hedge: HedgeRecord, spot: InstrumentRow, futures: LegBook, text: str, bound_bps: Decimal
) -> Plan | str:
    """The end of a hedge that is below a venue's minimum: its futures leg closed, its coins dust."""
    leg = futures_leg_of_remainder(context, hedge, futures, bound_bps)
    if isinstance(leg, str):
        return f"{text}; {leg}"
    plan = _plan(context, hedge, spot, [leg])
    plan.dust = leg.qty * int(hedge.spot_side)
    return plan


def _plan(context: CoreContext, hedge: HedgeRecord, spot: InstrumentRow, legs: list[PlannedLeg]) -> Plan:
    operation, now_ns = context.ledger.operations[hedge.operation_id], context.now.mono_ns
    opportunity = Opportunity(
        opportunity_id=0,
        type=int(OpportunityType.SPOT_FUTURES_HEDGE),
        pair_id=spot.pair_id,
        detect_mono_ns=now_ns,
        trigger_recv_mono_ns=0,
        trigger_publish_mono_ns=0,
        edge_bps=0.0,
        entry_edge_bps=0.0,
        profit_quote=0.0,
        trigger_instrument=spot.instrument_id,
        direction_key=-1 - operation.record.direction_key,
        legs=(),
        dequeued_mono_ns=now_ns,
        manual=True,
    )
    outlay = legs[-1].qty * legs[-1].average
    return Plan(opportunity, OpportunityType.SPOT_FUTURES_HEDGE, spot.spec.pair, legs, 0.0, outlay)


def live_book(context: CoreContext, row: InstrumentRow) -> BookView | None:
    """The row's book; None where it may not be traded on, or was not proved within ``dead_after_ms``."""
    view = context.market.book(row.instrument_id)
    if view is None or not tradable(view, row):
        return None
    limit_ns = context.config.detection.dead_after_ms * 1_000_000
    return view if context.now.mono_ns - view.proof_mono_ns <= limit_ns else None


def _depth(view: BookView, side: OrderSide, limit: Decimal, row: InstrumentRow) -> Decimal:
    rounded = to_fp_floor if side is OrderSide.BUY else to_fp_ceil
    return from_fp(depth_within(view, side, rounded(limit, row.price_exp)), row.qty_exp)


def _leg(
    context: CoreContext, row: InstrumentRow, side: OrderSide, qty: Decimal, view: BookView, slippage_bps: Decimal
) -> PlannedLeg | None:
    best, average = best_price(view, side, row), average_price(view, side, qty, row)
    if best is None or average is None or not is_tradable_qty(row, qty, best):
        return None
    limit = bounded_price(best, side, slippage_bps, row.spec.tick)
    asset, amount = reservation(row, side, qty, limit, context.config.detection.hedge.leverage)
    if row.spec.kind is InstrumentKind.PERPETUAL:
        amount = ZERO  # closing needs no margin
    return PlannedLeg(row, side, qty, limit, best, average, asset, amount, view)
