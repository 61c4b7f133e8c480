"""Hedges that are closed because an operator says so: as far as books, balances and lots allow, or a reason why not.

A forced exit needs no profit and passes under halt and breakers. It needs a book that is not dead, because the price is
bounded by it. What one attempt cannot close (depth, an unsettled order, a venue that is away) is tried again until the
time that the operator gave is over; where orders closed nothing, with growing pauses.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.exits import HedgeExits
from pipeline.execution.market import can_trade
from pipeline.execution.plan import Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.fixedpoint import plain
from pipeline.model.structs import ZERO

RETRY_NS = 60_000_000_000  # how long a forced close is tried again by itself
PAUSE_FIRST_NS = 250_000_000  # after orders that closed nothing, doubled with each such attempt in a row
PAUSE_MAX_NS = 4_000_000_000


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
    """Orders of a forced close that a venue refuses are not sent again and again: ``qty`` of the hedge at the newest
    attempt, how many attempts in a row have left as much, and when the next one is due."""

    qty: Decimal
    in_vain: int = 0
    due_mono_ns: int = 0


class KnownVenues(Protocol):
    """Recovery's view of the venues: ``venue in venues`` = its session stands and its past is known."""

    def __contains__(self, venue: object) -> bool:
        """Whether a venue is reconciled."""

    def questioned(self, venue: str, symbol: str) -> bool:
        """Whether a position is being looked up at the venue."""


class ForcedClose:
    """Which hedges are to be closed by command, and the plan of each (see the module's docstring)."""

    def __init__(self, context: CoreContext, balances: BalanceMonitor, exits: HedgeExits, venues: KnownVenues) -> None:
        self._context = context
        self._exits = exits
        self._balances = balances
        self._venues = venues
        self._until_mono_ns: dict[str, int] = {}
        self._paces: dict[str, Pace] = {}
        self.answers: dict[str, CloseAnswer] = {}  # hedge -> its newest attempt

    def ask(self, hedge_ids: Iterable[str]) -> None:
        """Closes these hedges from now on, for ``RETRY_NS``."""
        for hedge_id in hedge_ids:
            self._until_mono_ns[hedge_id] = self._context.now.mono_ns + RETRY_NS
            self.answers.pop(hedge_id, None)
            self._paces.pop(hedge_id, None)

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
                self._paces.pop(hedge_id, None)
        found = []
        for hedge_id in self._until_mono_ns:
            hedge = ledger.hedges[hedge_id]
            if not self._is_due(hedge):
                continue
            answer = self.attempt(hedge)
            if answer.plan is not None:
                self._attempted(hedge)
            if answer.plan is not None or hedge_id not in self.answers or not self._under_way(hedge_id):
                self.answers[hedge_id] = answer
            found.append(answer)
        return found

    def _is_due(self, hedge: HedgeRecord) -> bool:
        pace = self._paces.get(hedge.operation_id)
        return pace is None or hedge.qty != pace.qty or self._context.now.mono_ns >= pace.due_mono_ns

    def _attempted(self, hedge: HedgeRecord) -> None:
        pace = self._paces.get(hedge.operation_id)
        if pace is None or hedge.qty != pace.qty:
            pace = self._paces[hedge.operation_id] = Pace(hedge.qty)
        pace.due_mono_ns = self._context.now.mono_ns + min(PAUSE_MAX_NS, PAUSE_FIRST_NS << pace.in_vain)
        pace.in_vain = min(pace.in_vain + 1, 8)

    def _under_way(self, hedge_id: str) -> bool:
        operations = self._context.ledger.open_operations
        return hedge_id in operations or any(o.record.closes == hedge_id for o in operations.values())

    def attempt(self, hedge: HedgeRecord) -> CloseAnswer:
        """The plan that closes as much of a hedge as can be closed now, or why nothing can. Changes nothing."""
        context = self._context
        if self._under_way(hedge.operation_id):
            return CloseAnswer(hedge=hedge, reason="an operation on it is under way", left=hedge.qty)
        if context.halt.fenced():
            return CloseAnswer(hedge=hedge, reason="fenced: the guard has taken over, see `arb status`", left=hedge.qty)
        away = self._away(hedge)
        if away:
            return CloseAnswer(hedge=hedge, reason=away, left=hedge.qty)
        bound = context.config.risk_limits.max_slippage_bps
        plan = self._exits.forced_plan(hedge, bound)
        if isinstance(plan, str):
            return CloseAnswer(hedge=hedge, reason=plan, left=hedge.qty)
        spot = next((leg for leg in plan.legs if leg.row.spec.kind is InstrumentKind.SPOT), None)
        usable = ZERO if spot is None else self._balances.usable(spot.row.spec.venue, spot.reserve_asset)
        if spot is not None and usable < spot.reserve_amount:  # as much of it as the balance covers
            smaller = self._exits.forced_plan(hedge, bound, spot.qty * usable / spot.reserve_amount)
            if isinstance(smaller, str):
                return CloseAnswer(hedge=hedge, reason=_short(spot, usable), left=hedge.qty)
            plan = smaller
        return CloseAnswer(hedge=hedge, plan=plan, left=hedge.qty - plan.legs[0].qty)

    def _away(self, hedge: HedgeRecord) -> str:
        """Which venue of a hedge takes no order of the side that closes it; "" where both do."""
        for venue, symbol, side in (
            (hedge.spot_venue, hedge.spot_symbol, _opposite(hedge.spot_side)),
            (hedge.futures_venue, hedge.futures_symbol, hedge.spot_side),
        ):
            row = self._context.instruments.find(venue, symbol)
            if row is None:
                return f"{venue} {symbol}: not in the catalogue; `arb symbols add {venue} {symbol}`"
            if venue not in self._venues:
                return f"{venue} {symbol}: the venue is not connected and reconciled"
            if self._venues.questioned(venue, symbol):
                return f"{venue} {symbol}: what the position is, is being looked up at the venue"
            if not can_trade(row, side):
                status = row.spec.status.name.lower()
                return f"{venue} {symbol}: the venue takes no {side.name.lower()} order ({status})"
        return ""


def _short(leg: PlannedLeg, usable: Decimal) -> str:
    spec, needed = leg.row.spec, plain(leg.reserve_amount)
    return f"{spec.venue} {spec.symbol}: free {plain(usable)} {leg.reserve_asset}, {needed} needed"


def _opposite(side: OrderSide) -> OrderSide:
    return OrderSide.SELL if side is OrderSide.BUY else OrderSide.BUY
