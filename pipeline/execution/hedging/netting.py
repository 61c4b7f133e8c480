"""An entry on the contract of an open hedge of the other direction: the contract nets, and inventory moves.

The hedge holds spot X against the contract; the entry trades the contract against spot Y so that the position shrinks.
Two hedges would stand on a position that the venue has closed already, and each would pay to leave what is not there.
So the entry becomes an exit of the hedge, with Y in the place of X, as far as the hedge goes, if that is worth the
inventory that it moves (:func:`pipeline.economics.netting.nets`): what the hedge holds at X stays there as inventory,
and Y has moved by as much the other way. What the entry offers beyond the hedge is judged as an entry when it is seen
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

from pipeline.economics.netting import nets, netted_qty
from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.remainders import LegBook, least_qty
from pipeline.execution.market import average_price, best_price, is_tradable_qty, reservation
from pipeline.execution.plan import DirectionPrice, Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType, OrderSide
from pipeline.model.fixedpoint import quantize_up
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.units import PPM, PPM_PER_BPS

NOT_LISTED = (-1, 0)


class Netting:
    """``free()``: open hedges that may leave by choice now, oldest first; none of them has an order whose outcome is
    unknown, or an account in doubt. ``price_bps(buy, sell)``: of inventory, by instrument ids."""

    def __init__(self, context: CoreContext, free: Callable[[], list[HedgeRecord]], price_bps: DirectionPrice) -> None:
        self._context = context
        self._free = free
        self._price_bps = price_bps

    def closing(self) -> set[tuple[int, int]]:
        """(contract's instrument id, side) whose trade shrinks the contract of an open hedge: its own exit, too."""
        found = {self._closing_id(hedge) for hedge in self._context.ledger.hedges.values()}
        found.discard(NOT_LISTED)
        return found

    def _closing_id(self, hedge: HedgeRecord) -> tuple[int, int]:
        """(contract's instrument id, side that closes the hedge there); ``NOT_LISTED`` where the catalogue lacks it."""
        row = self._context.instruments.find(hedge.futures_venue, hedge.futures_symbol)
        return NOT_LISTED if row is None else (row.instrument_id, int(hedge.spot_side))

    def is_exit(self, plan: Plan) -> bool:
        """Whether :meth:`exit_of` makes an exit of an entry's plan."""
        return self.exit_of(plan) is not None

    def exit_of(self, plan: Plan) -> tuple[Plan, HedgeRecord] | None:
        """The exit that an approved entry becomes, and the hedge that it leaves; None where it stays an entry."""
        if plan.type is not OpportunityType.SPOT_FUTURES_HEDGE:
            return None
        futures = next(leg for leg in plan.legs if leg.row.spec.kind is InstrumentKind.PERPETUAL)
        spot = next(leg for leg in plan.legs if leg is not futures)
        for hedge in self._free():
            if self._closing_id(hedge) != (futures.row.instrument_id, int(futures.side)):
                continue
            held = self._context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
            if held is None or held.instrument_id == spot.row.instrument_id or not self._pays(held, spot, futures):
                continue
            qty = self._qty(hedge, held, spot, futures)
            legs = self._legs(plan, futures, qty) if qty else None
            if legs is not None:
                notional = max(leg.notional_usd for leg in legs)
                share = qty / futures.qty
                return replace(plan, legs=legs, notional_usd=notional, profit=plan.profit * share), hedge
        return None

    def _pays(self, held: InstrumentRow, spot: PlannedLeg, futures: PlannedLeg) -> bool:
        """Coins are bought at one end and sold at the other: by the hedge at its spot, by the entry at the plan's."""
        ids = (held.instrument_id, spot.row.instrument_id)
        buy, sell = ids if spot.side is OrderSide.SELL else ids[::-1]
        return nets(futures.row.spec.taker_fee_ppm / PPM_PER_BPS, self._price_bps(buy, sell))

    def _qty(self, hedge: HedgeRecord, held: InstrumentRow, spot: PlannedLeg, futures: PlannedLeg) -> Decimal:
        """Base coins that net: as much as both have, on every lot; the hedge keeps nothing or what its own two venues
        take an order of. 0: none."""
        lot = max(row.spec.lot for row in (held, spot.row, futures.row))
        if netted_qty(hedge.qty, futures.qty, lot, ZERO) == hedge.qty:
            return hedge.qty
        view = self._context.market.book(held.instrument_id)
        if view is None or best_price(view, spot.side, held) is None:
            return ZERO
        books: list[LegBook] = [(held, view, spot.side), (futures.row, futures.view, futures.side)]
        least = least_qty(books, lot, self._context.config.risk_limits.max_slippage_bps)
        return netted_qty(hedge.qty, futures.qty, lot, least)

    def _legs(self, plan: Plan, futures: PlannedLeg, qty: Decimal) -> list[PlannedLeg] | None:
        """The plan's legs for ``qty`` base coins, in their order; None where a venue takes no such order."""
        legs: list[PlannedLeg] = []
        for leg in plan.legs:
            wanted = qty if leg is futures else min(leg.qty, _gross(leg, qty))
            if not is_tradable_qty(leg.row, wanted, min(leg.best, leg.limit)):
                return None
            leverage = self._context.config.detection.hedge.leverage
            asset, amount = reservation(leg.row, leg.side, wanted, leg.limit, leverage)
            legs.append(
                replace(
                    leg,
                    qty=wanted,
                    average=average_price(leg.view, leg.side, wanted, leg.row) or leg.average,
                    reserve_asset=asset,
                    reserve_amount=ZERO if leg is futures else amount,  # closing needs no margin
                    notional_usd=leg.notional_usd * wanted / leg.qty,
                )
            )
        return legs


def _gross(leg: PlannedLeg, qty: Decimal) -> Decimal:
    """Order quantity from which ``qty`` arrives: more where a buy's fee is taken in coins."""
    spec = leg.row.spec
    if leg.side is OrderSide.BUY and spec.fee_rule is FeeAssetRule.RECEIVED:
        return quantize_up(qty * PPM / (PPM - spec.taker_fee_ppm), spec.lot)
    return qty
