"""Hedges that are closed because an operator says so: as far as books, balances and lots allow, or a reason why not.

A forced exit needs no profit and passes under halt and breakers. It needs a book that is not dead, because the price is
bounded by it. What one attempt cannot close (depth, an unsettled order, a venue that is away) is tried again until the
time that the operator gave is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView, Opportunity
from pipeline.execution.market import (
    average_price,
    best_price_fp,
    bounded_price,
    can_trade,
    depth_within,
    is_tradable_qty,
    reservation,
    tradable,
)
from pipeline.execution.plan import Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide
from pipeline.model.fixedpoint import from_fp, plain, quantize_down, to_fp
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO

RETRY_NS = 60_000_000_000  # how long a forced close is tried again by itself


class CloseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt to close a hedge came to: the plan that was (or would be) sent, or ``reason`` why none was.

    ``left``: base coins of the hedge that the plan leaves open.
    """

    hedge: HedgeRecord
    plan: Plan | None = None
    reason: str = ""
    left: Decimal = ZERO


class ForcedClose:
    """Which hedges are to be closed by command, and the plan of each (see the module's docstring).

    ``reconciled(venue)``: its session stands and its past is known. ``questioned(venue, symbol)``: a position is being
    looked up.
    """

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        reconciled: Callable[[str], bool],
        questioned: Callable[[str, str], bool],
    ) -> None:
        self._questioned = questioned
        self._context = context
        self._balances = balances
        self._reconciled = reconciled
        self._until_mono_ns: dict[str, int] = {}
        self.answers: dict[str, CloseAnswer] = {}  # hedge -> its newest attempt

    def ask(self, hedge_ids: Iterable[str]) -> None:
        """Closes these hedges from now on, for ``RETRY_NS``."""
        for hedge_id in hedge_ids:
            self._until_mono_ns[hedge_id] = self._context.now.mono_ns + RETRY_NS
            self.answers.pop(hedge_id, None)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Hedges that are being closed."""
        return tuple(self._until_mono_ns)

    def due(self) -> list[CloseAnswer]:
        """A new attempt for each hedge that is to be closed and is not being closed already."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        for hedge_id, until_ns in list(self._until_mono_ns.items()):
            if hedge_id not in ledger.hedges or now_ns > until_ns:
                del self._until_mono_ns[hedge_id]
        found = []
        for hedge_id in self._until_mono_ns:
            answer = self.attempt(ledger.hedges[hedge_id])
            if answer.plan is not None or hedge_id not in self.answers or not self._under_way(hedge_id):
                self.answers[hedge_id] = answer
            found.append(answer)
        return found

    def _under_way(self, hedge_id: str) -> bool:
        operations = self._context.ledger.open_operations
        return hedge_id in operations or any(o.record.closes == hedge_id for o in operations.values())

    def attempt(self, hedge: HedgeRecord) -> CloseAnswer:
        """The plan that closes as much of a hedge as can be closed now, or why nothing can. Changes nothing."""
        context = self._context
        if self._under_way(hedge.operation_id):
            return CloseAnswer(hedge=hedge, reason="an operation on it is under way", left=hedge.qty)
        if not context.now.mono_ns < context.halt.lease_expiry_mono_ns():
            return CloseAnswer(hedge=hedge, reason="no lease: the guard grants none, see `arb status`", left=hedge.qty)
        legs = (
            (hedge.spot_venue, hedge.spot_symbol, _opposite(hedge.spot_side)),
            (hedge.futures_venue, hedge.futures_symbol, hedge.spot_side),
        )
        places: list[_Place] = []
        for venue, symbol, side in legs:
            place = self._place(venue, symbol, side)
            if isinstance(place, str):
                return CloseAnswer(hedge=hedge, reason=f"{venue} {symbol}: {place}", left=hedge.qty)
            places.append(place)
        lot = max(place.row.spec.lot for place in places)
        qty = quantize_down(min(hedge.qty, *(place.most for place in places)), lot)
        for place in places:
            if not is_tradable_qty(place.row, qty, place.best):
                spec = place.row.spec
                what = f"{plain(qty)} of {plain(hedge.qty)} {hedge.base} can be traded now ({place.bound})"
                least = f"the smallest order is {plain(spec.min_qty)} {spec.base} and {plain(spec.min_notional)}"
                reason = f"{spec.venue} {spec.symbol}: {what}; {least} {spec.quote}"
                return CloseAnswer(hedge=hedge, reason=reason, left=hedge.qty)
        planned = [self._leg(place, qty) for place in places]
        return CloseAnswer(hedge=hedge, plan=self._plan(hedge, planned), left=hedge.qty - qty)

    def _place(self, venue: str, symbol: str, side: OrderSide) -> _Place | str:
        """What one leg can trade now, or why it cannot."""
        context = self._context
        row = context.instruments.find(venue, symbol)
        if row is None:
            return f"not in the catalogue; `arb symbols add {venue} {symbol}`"
        if not self._reconciled(venue):
            return "the venue is not connected and reconciled"
        if self._questioned(venue, symbol):
            return "what the position is, is being looked up at the venue"
        if not can_trade(row, side):
            return f"the venue takes no {side.name.lower()} order ({row.spec.status.name.lower()})"
        unsettled = next(context.ledger.unsettled_of_symbol(venue, symbol), None)
        if unsettled is not None:
            return f"order {unsettled.client_id} is not settled"
        view = context.market.book(row.instrument_id)
        best_fp = None if view is None else best_price_fp(view, side)
        if view is None or best_fp is None or not tradable(view, row):
            return "no whole book"
        age_ms = (context.now.mono_ns - view.proof_mono_ns) // 1_000_000
        if age_ms > context.config.detection.dead_after_ms:
            return f"its book is not proved current since {age_ms} ms"
        best = from_fp(best_fp, row.price_exp)
        limit = bounded_price(best, side, context.config.risk_limits.max_slippage_bps, row.spec.tick)
        depth = from_fp(depth_within(view, side, to_fp(limit, row.price_exp)), row.qty_exp)
        most, bound = (
            depth,
            f"{plain(depth)} within {context.config.risk_limits.max_slippage_bps} bps of the best price",
        )
        if row.spec.kind is InstrumentKind.SPOT:
            asset, _ = reservation(row, side, Decimal(1), limit, Decimal(1))
            usable = self._balances.usable(venue, asset)
            affordable = usable if side is OrderSide.SELL else usable / self._cost(row, side, limit)
            if affordable < most:
                most, bound = affordable, f"free {plain(usable)} {asset}"
        return _Place(row, side, view, best, limit, most, bound)

    def _cost(self, row: InstrumentRow, side: OrderSide, limit: Decimal) -> Decimal:
        return reservation(row, side, Decimal(1), limit, Decimal(1))[1]

    def _leg(self, place: _Place, qty: Decimal) -> PlannedLeg:
        row = place.row
        asset, amount = reservation(row, place.side, qty, place.limit, self._context.config.detection.hedge.leverage)
        if row.spec.kind is InstrumentKind.PERPETUAL:
            amount = ZERO  # closing needs no margin (requirements 4.6)
        average = average_price(place.view, place.side, qty, row) or place.best
        return PlannedLeg(row, place.side, qty, place.limit, place.best, average, asset, amount, place.view)

    def _plan(self, hedge: HedgeRecord, legs: list[PlannedLeg]) -> Plan:
        context, spot = self._context, legs[0]
        operation = context.ledger.operations[hedge.operation_id]
        opportunity = Opportunity(
            opportunity_id=0,
            type=int(OpportunityType.SPOT_FUTURES_HEDGE),
            pair_id=spot.row.pair_id,
            detect_mono_ns=context.now.mono_ns,
            trigger_recv_mono_ns=0,
            trigger_publish_mono_ns=0,
            edge_bps=0.0,
            entry_edge_bps=0.0,
            profit_quote=0.0,
            trigger_instrument=spot.row.instrument_id,
            direction_key=-1 - operation.record.direction_key,
            legs=(),
            dequeued_mono_ns=context.now.mono_ns,
            manual=True,
        )
        outlay = spot.qty * spot.average
        return Plan(opportunity, OpportunityType.SPOT_FUTURES_HEDGE, spot.row.spec.pair, legs, 0.0, outlay)


class _Place(msgspec.Struct, frozen=True):
    """One leg's instrument, side and prices; ``most``: base coins that it can trade now, and what ``bound``s them."""

    row: InstrumentRow
    side: OrderSide
    view: BookView
    best: Decimal
    limit: Decimal
    most: Decimal
    bound: str


def _opposite(side: OrderSide) -> OrderSide:
    return OrderSide.SELL if side is OrderSide.BUY else OrderSide.BUY
