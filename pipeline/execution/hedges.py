"""Exits of open spot-futures hedges: when closing both legs earns something after fees."""

from __future__ import annotations

from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView, Opportunity
from pipeline.execution.market import (
    average_price,
    best_price,
    bounded_price,
    fee_of,
    is_tradable_qty,
    reservation,
    tradable,
)
from pipeline.execution.plan import Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide
from pipeline.model.fixedpoint import quantize_down
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO


def _opposite(side: OrderSide) -> OrderSide:
    return OrderSide.SELL if side is OrderSide.BUY else OrderSide.BUY


class HedgeExits:
    """Plans for leaving a hedge: both legs at once, as at the entry; the saga repairs what breaks."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context

    def exit_plan(self, hedge: HedgeRecord) -> Plan | None:
        """The closing plan if entry and exit together earn more than 0 after four fees; else None.

        None as well where a book is old or too thin, or an unsettled order is on one of the instruments.
        """
        context = self._context
        spot = context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
        futures = context.instruments.find(hedge.futures_venue, hedge.futures_symbol)
        if spot is None or futures is None:
            return None
        views = [self._view(row) for row in (spot, futures)]
        if views[0] is None or views[1] is None:
            return None
        lot = max(spot.spec.lot, futures.spec.lot)
        qty = quantize_down(hedge.qty, lot)
        spot_leg = self._leg(spot, _opposite(hedge.spot_side), qty, views[0])
        futures_leg = self._leg(futures, hedge.spot_side, qty, views[1])
        if spot_leg is None or futures_leg is None:
            return None
        profit, outlay = self._profit(hedge, spot_leg, futures_leg)
        if not profit > 0:
            return None
        edge = float(profit / outlay * 10_000)
        operation = context.ledger.operations[hedge.operation_id]
        opportunity = Opportunity(
            opportunity_id=0,
            type=int(OpportunityType.SPOT_FUTURES_HEDGE),
            pair_id=spot.pair_id,
            detect_mono_ns=context.now.mono_ns,
            trigger_recv_mono_ns=0,
            trigger_publish_mono_ns=0,
            edge_bps=edge,
            entry_edge_bps=edge,
            profit_quote=float(profit),
            trigger_instrument=spot.instrument_id,
            direction_key=-1 - operation.record.direction_key,
            legs=(),
            dequeued_mono_ns=context.now.mono_ns,
            manual=False,
        )
        return Plan(
            opportunity, OpportunityType.SPOT_FUTURES_HEDGE, spot.spec.pair, [spot_leg, futures_leg], edge, outlay
        )

    def _view(self, row: InstrumentRow) -> BookView | None:
        view = self._context.market.book(row.instrument_id)
        if view is None or not tradable(view, row):
            return None
        limit_ns = self._context.config.detection.max_age_to_trade_ms * 1_000_000
        return view if self._context.now.mono_ns - view.proof_mono_ns <= limit_ns else None

    def _leg(self, row: InstrumentRow, side: OrderSide, qty: Decimal, view: BookView) -> PlannedLeg | None:
        best = best_price(view, side, row)
        average = average_price(view, side, qty, row)
        if best is None or average is None or not is_tradable_qty(row, qty, best):
            return None
        if next(self._context.ledger.unsettled_of_symbol(row.spec.venue, row.spec.symbol), None) is not None:
            return None
        limit = bounded_price(best, side, self._context.config.risk_limits.max_slippage_bps, row.spec.tick)
        asset, amount = reservation(row, side, qty, limit, self._context.config.detection.hedge.leverage)
        if row.spec.kind is InstrumentKind.PERPETUAL:
            amount = ZERO  # closing needs no margin (requirements 4.6)
        return PlannedLeg(row, side, qty, limit, best, average, asset, amount, view)

    def _profit(self, hedge: HedgeRecord, spot: PlannedLeg, futures: PlannedLeg) -> tuple[Decimal, Decimal]:
        """(profit of entry and exit after four taker fees, outlay), in quote."""
        sign = int(hedge.spot_side)
        entry = (hedge.entry_futures_price - hedge.entry_spot_price) * sign * spot.qty
        leaving = (spot.average - futures.average) * sign * spot.qty
        fees = ZERO
        for leg, entry_price in ((spot, hedge.entry_spot_price), (futures, hedge.entry_futures_price)):
            for price in (leg.average, entry_price):
                fee, asset = fee_of(leg.row, leg.side, leg.qty, price)
                fees += fee * price if asset == leg.row.spec.base else fee
        return entry + leaving - fees, spot.qty * spot.average
