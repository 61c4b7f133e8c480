"""One attempt at an exit that must be, by command or by rule: what can be closed now, or why nothing can; and its pace.

Orders that a venue refuses are not sent again and again: as long as the hedge does not get smaller, the next attempt
waits, and what the venue said is the reason.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import msgspec

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.exits import HedgeExits
from pipeline.execution.hedging.margin_cuts import live_book
from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST
from pipeline.execution.market import best_price, bounded_price, can_trade, fee_of
from pipeline.execution.plan import Plan, PlannedLeg
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import InstrumentKind, OrderSide, OrderState
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import wallet_open
from pipeline.model.structs import ZERO, InstrumentSpec

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


class AccountDoubts(Protocol):
    """What an exit asks of the comparison of accounts with the ledger."""

    def questioned(self, venue: str, symbol: str) -> bool:
        """Whether a position is waiting for a sweep that says what it is, or the row is being read."""

    def in_question(self, venue: str, symbol: str) -> bool:
        """Whether the instrument's row is being read anew: nothing is sent there meanwhile."""

    def doubtful(self, spec: InstrumentSpec) -> str:
        """Why nothing is to be decided about an instrument by choice; "" when its account agrees with the ledger."""

    def besides(self, spec: InstrumentSpec) -> bool:
        """Whether an instrument that is no leg of an operation may be used for it."""


class ForcedAttempts:
    """Shared by every exit that must be, so that two of them do not send side by side. ``reconciled``: venues whose
    sessions stand and whose past is known."""

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        exits: HedgeExits,
        reconciled: Container[str],
        account: AccountDoubts,
    ) -> None:
        self._context = context
        self._balances = balances
        self._exits = exits
        self._reconciled = reconciled
        self._account = account
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
        if self._spot_is_next(hedge.spot_venue, hedge.spot_symbol):
            reason = f"{hedge.spot_venue} {hedge.spot_symbol}: another hedge's order there comes first"
            return CloseAnswer(hedge=hedge, reason=reason, left=hedge.qty)
        if self._gone(hedge) >= hedge.qty:
            text = "an earlier run has closed its contract; `arb resume --adopt --reason R` takes that over"
            return CloseAnswer(hedge=hedge, reason=text, left=hedge.qty)
        plan, short = self._covered(hedge, bound_bps, None, None)
        if short:  # other operations have moved its coins to another venue, which is as good a place to leave at
            other = self._elsewhere(hedge, bound_bps, None)
            plan = other if isinstance(other, Plan) else f"{plan}{other}"
        if isinstance(plan, str):
            return CloseAnswer(hedge=hedge, reason=plan, left=hedge.qty)
        return CloseAnswer(hedge=hedge, plan=plan, left=hedge.qty - plan.legs[0].qty)

    def _gone(self, hedge: HedgeRecord) -> Decimal:
        """How much of a hedge's contract orders have closed that this journal lacks, as long as nobody has taken them
        over: another order for it would open the other way."""
        ledger = self._context.ledger
        if not ledger.breakers.keys() & {UNKNOWN_PAST, SECOND_ENGINE}:
            return ZERO
        unowned = ledger.external.unowned.get((hedge.futures_venue, hedge.futures_symbol), ZERO)
        return min(hedge.qty, max(ZERO, unowned * int(hedge.spot_side)))

    def most_covered(self, plan: Plan) -> Decimal | None:
        """How many base coins of a plan the balance of its spot leg covers; None: all, or it has no such leg."""
        leg = _spot_leg(plan)
        if leg is None:
            return None
        usable = self._usable(leg)
        return None if usable >= leg.reserve_amount else leg.qty * usable / leg.reserve_amount

    def short_text(self, plan: Plan) -> str:
        """What the balance of a plan's spot leg has and what the plan needs."""
        leg = _spot_leg(plan)
        return "" if leg is None else _short(leg, self._usable(leg))

    def _usable(self, leg: PlannedLeg) -> Decimal:
        return self._balances.usable(leg.row.spec.venue, leg.reserve_asset, reducing=True)

    def elsewhere(self, hedge: HedgeRecord, plan: Plan, bound_bps: Decimal, qty: Decimal) -> Plan | str:
        """For a plan that the balance of its spot leg does not cover: one of at most ``qty`` base coins, within
        ``bound_bps`` of the best prices, at another spot venue of the pair, where trades of ours have moved the coins;
        or what is lacking."""
        leg = _spot_leg(plan)
        assert leg is not None  # it is not covered
        moved = self._moved_away(leg) and not self.under_way(hedge.operation_id)
        other = self._elsewhere(hedge, bound_bps, qty) if moved else ""
        return other if isinstance(other, Plan) else f"{_short(leg, self._usable(leg))}{other}"

    def _covered(
        self, hedge: HedgeRecord, bound_bps: Decimal, most: Decimal | None, spot: tuple[str, str] | None
    ) -> tuple[Plan | str, bool]:
        """The plan of as much as the balance covers (or why there is none), at most ``most`` base coins, and whether
        nothing is because trades of ours have moved the coins away. ``spot``: another spot instrument than the hedge's,
        where it is as much as no other hedge's."""
        room = hedge.qty - self._gone(hedge)
        most = room if most is None else min(most, room)
        plan = self._exits.forced_plan(hedge, bound_bps, most, spot)
        if isinstance(plan, str):
            return plan, False
        leg = _spot_leg(plan)
        if leg is None:
            return (plan, False) if spot is None else ("its remainder ends at its own venue", False)
        usable = self._usable(leg)
        if spot is not None:
            usable = min(usable, self._free_of_hedges(leg))
        if usable >= leg.reserve_amount:
            return plan, False
        most = min(most, leg.qty * usable / leg.reserve_amount)
        smaller = self._exits.forced_plan(hedge, bound_bps, most, spot)
        if isinstance(smaller, str):
            return _short(leg, usable), self._moved_away(leg)
        return smaller, False

    def _moved_away(self, leg: PlannedLeg) -> bool:
        """Whether a leg's coins are not at its venue by our own trades, as the venue has said since the last of them:
        not because somebody has locked or withdrawn them, nor because it has not told of them yet."""
        spec = leg.row.spec
        expected = self._context.ledger.expected_balance(spec.venue, leg.reserve_asset)
        asked_ns = self._balances.confirmed_mono_ns(spec.venue, leg.reserve_asset)
        if expected is None or asked_ns <= self._exits.last_fill_mono_ns(leg.row):
            return False
        return expected < leg.reserve_amount and not self._account.doubtful(spec)

    def _free_of_hedges(self, leg: PlannedLeg) -> Decimal:
        """What an account has of a leg's asset by our own books, less the coins of hedges that lie there."""
        spec, ledger = leg.row.spec, self._context.ledger
        held = (
            hedge.qty
            for hedge in ledger.hedges.values()
            if (hedge.spot_venue, hedge.base) == (spec.venue, leg.reserve_asset) and hedge.spot_side is OrderSide.BUY
        )
        return max(ZERO, (ledger.expected_balance(spec.venue, leg.reserve_asset) or ZERO) - sum(held, ZERO))

    def _elsewhere(self, hedge: HedgeRecord, bound_bps: Decimal, most: Decimal | None) -> Plan | str:
        """The plan with the best price for a hedge's coins on another spot instrument of its pair, where that is no
        stub; where their wallet is closed only if no other has them. A text: which one's price is too far; "" where no
        venue has them, or takes the order now."""
        own = self._context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
        side, found, far = _opposite(hedge.spot_side), list[Plan](), ""
        if own is None or not own.tradable_pair:
            return ""
        for row in self._context.instruments:
            spec, place = row.spec, (row.spec.venue, row.spec.symbol)
            like = spec.kind is InstrumentKind.SPOT and row.pair_id == own.pair_id and row.tradable_pair
            if not like or row is own or not self._account.besides(spec) or not can_trade(row, side):
                continue
            if spec.venue not in self._reconciled or self._account.questioned(*place) or self._spot_is_next(*place):
                continue
            plan, _ = self._covered(hedge, bound_bps, most, place)
            if isinstance(plan, str):
                continue
            if self._is_stub(plan.legs[0]):
                most_bps = self._context.config.execution.unwind_max_slippage_bps
                far += (
                    f"; {place[0]} {place[1]}: its price is more than {most_bps:g} bps from every other one of the pair"
                )
            else:
                found.append(plan)
        return max(found, key=_worth) if found else far

    def _is_stub(self, leg: PlannedLeg) -> bool:
        """Whether a price is worse, by more than a repair may pay, than every other living one of the pair."""
        others: list[Decimal] = []
        for row in self._context.instruments:
            view = live_book(self._context, row) if row.pair_id == leg.row.pair_id and row is not leg.row else None
            best = None if view is None or not row.tradable_pair else best_price(view, leg.side, row)
            others += [] if best is None else [best]
        if not others:
            return False
        reference = max(others) if leg.side is OrderSide.BUY else min(others)
        most_bps = self._context.config.execution.unwind_max_slippage_bps
        limit = bounded_price(reference, leg.side, most_bps, leg.row.spec.tick)
        return leg.best > limit if leg.side is OrderSide.BUY else leg.best < limit

    def _spot_is_next(self, venue: str, symbol: str) -> bool:
        """Whether, in a takeover, a hedge has begun to leave by its futures leg and its order on this spot market is
        still to come: one leg after the other, two of them would leave one alone for as long as the other's takes."""
        ledger, place = self._context.ledger, (venue, symbol)
        if not self._context.taking_over:
            return False
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
            if self._account.in_question(venue, symbol):
                return f"{venue} {symbol}: its row is being read anew, as an order there was refused"
            if self._account.questioned(venue, symbol):
                return f"{venue} {symbol}: what the position is, is being looked up at the venue"
        return ""


def _worth(plan: Plan) -> tuple[bool, Decimal, Decimal]:
    """An open wallet first, then the best price after fees, then the quantity: the rest is the next attempt's."""
    leg = plan.legs[0]
    fee, asset = fee_of(leg.row, leg.side, Decimal(1), leg.average)
    fee *= leg.average if asset == leg.row.spec.base else 1
    return wallet_open(leg.row.spec), -int(leg.side) * leg.average - fee, leg.qty


def _spot_leg(plan: Plan) -> PlannedLeg | None:
    return next((leg for leg in plan.legs if leg.row.spec.kind is InstrumentKind.SPOT), None)


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
