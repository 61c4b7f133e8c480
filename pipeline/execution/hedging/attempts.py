"""One attempt at an exit that must be, by command or by rule: what can be closed now, or why nothing can; and its pace.

Orders that a venue refuses are not sent again and again: as long as the hedge does not get smaller, the next attempt
waits, and what the venue said is the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.exits import HedgeExits
from pipeline.execution.market import can_trade
from pipeline.execution.plan import Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import InstrumentKind, OrderSide, OrderState
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import ZERO

PAUSE_FIRST_NS = 250_000_000  # after orders that closed nothing, doubled with each such attempt in a row
PAUSE_MAX_NS = 4_000_000_000
URGENT_PAUSE_MAX_NS = 500_000_000  # where each moment may be the position's last
REFUSED = frozenset({OrderState.REJECTED, OrderState.EXPIRED, OrderState.CANCELLED})


class CloseAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt to close a hedge came to: the plan that was (or would be) sent, or ``reason`` why none was.

    ``left``: base coins of the hedge that the plan leaves open.
    """

    hedge: HedgeRecord
    plan: Plan | None = None
    reason: str = ""
    left: Decimal = ZERO


@dataclass(slots=True)
class Pace:
    """``qty`` of the hedge at the newest attempt, how many attempts in a row have left as much, when the newest one was
    and when the next one is due."""

    qty: Decimal
    in_vain: int = 0
    tried_mono_ns: int = 0
    due_mono_ns: int = 0


class ForcedAttempts:
    """Shared by every exit that must be, so that two of them do not send side by side. ``reconciled``: venues whose
    sessions stand and whose past is known; ``questioned(venue, symbol)``: what is there is being looked up, or
    ``row_questioned``, the instrument's row is being read."""

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        exits: HedgeExits,
        reconciled: Container[str],
        questioned: Callable[[str, str], bool],
        row_questioned: Callable[[str, str], bool],
    ) -> None:
        self._context = context
        self._balances = balances
        self._exits = exits
        self._reconciled = reconciled
        self._questioned = questioned
        self._row_questioned = row_questioned
        self._paces: dict[str, Pace] = {}

    # --- pace ---

    def is_due(self, hedge: HedgeRecord, *, urgent: bool = False) -> bool:
        """Whether orders may be sent now: none were, the hedge is smaller since, or the pause is over. ``urgent``: one
        that bounds less and cannot wait, whatever pauses the attempts before have earned."""
        pace = self._paces.get(hedge.operation_id)
        if pace is None or hedge.qty != pace.qty:
            return True
        soon_ns = pace.tried_mono_ns + URGENT_PAUSE_MAX_NS
        return self._context.now.mono_ns >= (min(soon_ns, pace.due_mono_ns) if urgent else pace.due_mono_ns)

    def attempted(self, hedge: HedgeRecord) -> None:
        """Orders are being sent."""
        pace = self._paces.get(hedge.operation_id)
        if pace is None or hedge.qty != pace.qty:
            self._paces = {name: kept for name, kept in self._paces.items() if name in self._context.ledger.hedges}
            pace = self._paces[hedge.operation_id] = Pace(hedge.qty)
        pace.tried_mono_ns = self._context.now.mono_ns
        pace.due_mono_ns = self._context.now.mono_ns + min(PAUSE_MAX_NS, PAUSE_FIRST_NS << pace.in_vain)
        pace.in_vain = min(pace.in_vain + 1, 8)

    def at_once(self, hedge_id: str) -> None:
        """No pause before the next attempt: an operator asks, or it has become urgent just now."""
        self._paces.pop(hedge_id, None)

    def refused_text(self, hedge: HedgeRecord) -> str:
        """What the venues said of the newest orders that were to close a hedge and closed nothing; "" where they closed
        some, or none were sent."""
        pace = self._paces.get(hedge.operation_id)
        closings = self._context.ledger.closings.get(hedge.operation_id, ())
        if pace is None or hedge.qty != pace.qty or not closings:
            return ""
        orders = self._context.ledger.orders
        newest = [orders[name] for name in closings[-1].orders if name in orders]
        texts = [
            f"{order.intent.venue} {order.intent.symbol}: order {order.state.name.lower()}: {order.reason}"
            for order in newest
            if order.state in REFUSED and not order.filled and order.reason
        ]
        said = "; ".join(dict.fromkeys(texts))
        wait_ms = max(0, pace.due_mono_ns - self._context.now.mono_ns) // 1_000_000
        return f"{said[:300]} ({pace.in_vain} attempts in vain, the next in {wait_ms} ms)" if said else ""

    # --- what can be closed ---

    def under_way(self, hedge_id: str) -> bool:
        """Whether an operation on a hedge is open."""
        operations = self._context.ledger.open_operations
        return hedge_id in operations or any(o.record.closes == hedge_id for o in operations.values())

    def attempt(self, hedge: HedgeRecord, bound_bps: Decimal) -> CloseAnswer:
        """The plan that closes as much of a hedge as can be closed now within ``bound_bps`` of the best prices, or why
        nothing can. Changes nothing."""
        context = self._context
        if self.under_way(hedge.operation_id):
            return CloseAnswer(hedge=hedge, reason="an operation on it is under way", left=hedge.qty)
        if context.halt.fenced():
            return CloseAnswer(hedge=hedge, reason="fenced: the guard has taken over, see `arb status`", left=hedge.qty)
        away = self._away(hedge)
        if away:
            return CloseAnswer(hedge=hedge, reason=away, left=hedge.qty)
        if context.taking_over and self._spot_is_next(hedge):
            reason = f"{hedge.spot_venue} {hedge.spot_symbol}: another hedge's order there comes first"
            return CloseAnswer(hedge=hedge, reason=reason, left=hedge.qty)
        plan = self._exits.forced_plan(hedge, bound_bps)
        if isinstance(plan, str):
            return CloseAnswer(hedge=hedge, reason=plan, left=hedge.qty)
        spot = next((leg for leg in plan.legs if leg.row.spec.kind is InstrumentKind.SPOT), None)
        usable = ZERO
        if spot is not None:
            usable = self._balances.usable(spot.row.spec.venue, spot.reserve_asset, reducing=True)
        if spot is not None and usable < spot.reserve_amount:  # as much of it as the balance covers
            smaller = self._exits.forced_plan(hedge, bound_bps, spot.qty * usable / spot.reserve_amount)
            if isinstance(smaller, str):
                return CloseAnswer(hedge=hedge, reason=_short(spot, usable), left=hedge.qty)
            plan = smaller
        return CloseAnswer(hedge=hedge, plan=plan, left=hedge.qty - plan.legs[0].qty)

    def _spot_is_next(self, hedge: HedgeRecord) -> bool:
        """Whether another hedge has begun to leave by its futures leg, and its order on this hedge's spot instrument is
        still to come: one leg after the other, two of them would leave one alone for as long as the other's takes."""
        ledger, place = self._context.ledger, (hedge.spot_venue, hedge.spot_symbol)
        for operation in ledger.open_operations.values():
            if not operation.record.closes or all((leg.venue, leg.symbol) != place for leg in operation.record.legs):
                continue
            intents = (ledger.orders[client_id].intent for client_id in operation.orders)
            if all((intent.venue, intent.symbol) != place for intent in intents):
                return True
        return False

    def outage(self, hedge: HedgeRecord) -> str:
        """Which venue of a hedge is away, or takes no such order, and how: only time helps. "" where none is."""
        for venue, symbol, side in _closing_places(hedge):
            row = self._context.instruments.find(venue, symbol)
            if row is None:
                continue
            if venue not in self._reconciled:
                return f"{venue} {symbol}: the venue is not connected and reconciled"
            if not can_trade(row, side):
                status = row.spec.status.name.lower()
                return f"{venue} {symbol}: the venue takes no {side.name.lower()} order ({status})"
        return ""

    def _away(self, hedge: HedgeRecord) -> str:
        """Which leg of a hedge can have no order of the side that closes it, and why; "" where both can."""
        for venue, symbol, _ in _closing_places(hedge):
            if self._context.instruments.find(venue, symbol) is None:
                return f"{venue} {symbol}: not in the catalogue; `arb symbols add {venue} {symbol}`"
        away = self.outage(hedge)
        if away:
            return away
        for venue, symbol, _ in _closing_places(hedge):
            if self._row_questioned(venue, symbol):
                return f"{venue} {symbol}: its row is being read anew, as an order there was refused"
            if self._questioned(venue, symbol):
                return f"{venue} {symbol}: what the position is, is being looked up at the venue"
        return ""


def _closing_places(hedge: HedgeRecord) -> tuple[tuple[str, str, OrderSide], ...]:
    """(venue, symbol, side that closes it) of both legs."""
    return (
        (hedge.spot_venue, hedge.spot_symbol, _opposite(hedge.spot_side)),
        (hedge.futures_venue, hedge.futures_symbol, hedge.spot_side),
    )


def _short(leg: PlannedLeg, usable: Decimal) -> str:
    spec, needed = leg.row.spec, plain(leg.reserve_amount)
    return f"{spec.venue} {spec.symbol}: free {plain(usable)} {leg.reserve_asset}, {needed} needed"


def _opposite(side: OrderSide) -> OrderSide:
    return OrderSide.SELL if side is OrderSide.BUY else OrderSide.BUY
