"""Takes open hedges to their end: which exit is tried when, and what forbids it."""

from __future__ import annotations

from collections.abc import Callable, Container
from decimal import Decimal
from typing import NamedTuple, Protocol

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Opportunity
from pipeline.execution.hedging.attempts import AccountDoubts, ForcedAttempts
from pipeline.execution.hedging.entry_price import HedgeEntryPrices
from pipeline.execution.hedging.exits import HedgeExits
from pipeline.execution.hedging.netting import Netting
from pipeline.execution.hedging.watch import HedgeWatch, exit_key_of, side_of
from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST
from pipeline.execution.plan import DirectionPrice, Plan
from pipeline.execution.records import HedgeRecord
from pipeline.model.structs import ZERO

LOOK_NS = 250_000_000  # a threshold also moves with time, without any update of a book


class ExitDirection(NamedTuple):
    """The direction of leaving for all hedges of one pair and side. ``qty``: base coins that are open."""

    direction_key: int
    threshold_milli_bps: int
    side: int  # +1: the hedges are long spot
    qty: Decimal
    spot_venue: str
    spot_symbol: str


class MarginView(Protocol):
    """What an exit by choice asks of the margin state."""

    def below_trigger(self, venue: str, symbol: str) -> bool:
        """Whether a contract is so near to its liquidation that its margin comes before every choice."""


class ExitGate(Protocol):
    """What an exit by choice asks of the gate."""

    def in_cooldown(self, direction_key: int) -> bool:
        """Whether the direction is in its cooldown after an operation."""

    def has_room_for(self, plan: Plan) -> bool:
        """Whether the venues' budgets take the plan's orders."""

    def last_fill(self, venue: str, symbol: str) -> tuple[int, int]:
        """(receive mono ns, venue wall ms) of our last fill there; zeros: none."""

    @property
    def margin(self) -> MarginView:
        """Margin of the futures positions."""


class HedgeControl:
    """One instance of the core. Exits that must be pass under halts and breakers, and wait for nothing but a session;
    exits by choice wait for the core to be ready, for a futures venue without doubt, and for the order budget."""

    def __init__(
        self,
        context: CoreContext,
        balances: BalanceMonitor,
        gate: ExitGate,
        *,
        reconciled: Container[str],
        ready: Callable[[], bool],
        leave: Callable[[Plan, HedgeRecord], object],
        account: AccountDoubts,
        price_bps: DirectionPrice,
    ) -> None:
        """``reconciled``: venues whose sessions stand and whose past is known. ``leave``: carries a plan out.
        ``price_bps``: of inventory, by instrument ids."""
        self._account = account
        self._context = context
        self._gate = gate
        self._reconciled = reconciled
        self._ready = ready
        self._leave = leave
        self._looked_mono_ns = 0
        self.lacking: dict[str, str] = {}  # hedge that would leave by choice now -> what its spot venue lacks for it
        self.watch = HedgeWatch(context, gate.last_fill)
        self.entry_prices = HedgeEntryPrices(context, self.watch)
        self.exits = HedgeExits(context, self.watch, gate.last_fill)
        self.attempts = ForcedAttempts(context, balances, self.exits, reconciled, account)
        self.netting = Netting(context, self._without_doubt, price_bps)

    def tick(self) -> None:
        """At every tick: models and readings, exits that must be; four times a second those by choice."""
        self.watch.tick()
        self.entry_prices.tick()
        if self._context.ledger.hedges or self.exits.hard:
            self.exits.tick()
            self._leave_hard()
        now_ns = self._context.now.mono_ns
        if now_ns - self._looked_mono_ns >= LOOK_NS:
            self._looked_mono_ns = now_ns
            for hedge in self._free_to_choose():
                self._leave_by_choice(hedge)

    def rows_changed(self) -> None:
        """The catalogue has new or changed rows."""
        self.watch.rows_changed()
        self.entry_prices.rows_changed()

    def hard_exit(self, hedge: HedgeRecord, reason: str) -> None:
        """The hedge must leave, whole, at a bounded price (margin, a leg that is gone, a delisting): it begins now and
        goes on at every tick until the hedge is closed."""
        self.exits.hard_exit(hedge, reason)
        self._leave_hard()

    def is_exit(self, direction_key: int) -> bool:
        """Whether trading that direction leaves an open hedge: the opposite opportunity on the same two instruments."""
        instruments = self._context.instruments
        return any(exit_key_of(hedge, instruments) == direction_key for hedge in self._context.ledger.hedges.values())

    def exit_rows(self) -> list[ExitDirection]:
        """What the detector is to look for: one row for each direction in which hedges may leave by choice now. What is
        on its way out, or may not leave, has none."""
        instruments = self._context.instruments
        found: dict[int, ExitDirection] = {}
        for hedge in self._free_to_choose():
            reading = self.watch.readings.get(hedge.operation_id)
            key = exit_key_of(hedge, instruments)
            if key < 0 or reading is None or reading.threshold_milli_bps is None:
                continue
            if not self.watch.may_choose(reading):
                continue
            qty = found[key].qty if key in found else ZERO
            found[key] = ExitDirection(
                key, reading.threshold_milli_bps, side_of(hedge), qty + hedge.qty, hedge.spot_venue, hedge.spot_symbol
            )
        return list(found.values())

    def offered(self, opportunity: Opportunity) -> None:
        """The detector saw the exit of a direction at or below its threshold: each hedge of it is judged on the books
        of now, oldest first."""
        if not opportunity.crc_ok:
            self._context.alert(1, "malformed", "the exit of a hedge with a wrong checksum")
            return
        instruments = self._context.instruments
        for hedge in self._free_to_choose():
            if exit_key_of(hedge, instruments) == opportunity.direction_key:
                self._leave_by_choice(hedge)

    def _at_rest(self) -> list[HedgeRecord]:
        """Open hedges that no operation is under way for, and whose position is not being looked up."""
        ledger = self._context.ledger
        closing = {o.record.closes for o in ledger.open_operations.values() if o.record.closes}
        busy = closing | ledger.open_operations.keys()
        return [
            hedge
            for name, hedge in ledger.hedges.items()
            if name not in busy
            and not self._account.questioned(hedge.futures_venue, hedge.futures_symbol)
            and not self._account.questioned(hedge.spot_venue, hedge.spot_symbol)
        ]

    def _free_to_choose(self) -> list[HedgeRecord]:
        """Those of them that may leave by choice: nothing else makes them leave, no engine we do not know may have."""
        if self._context.ledger.breakers.keys() & {UNKNOWN_PAST, SECOND_ENGINE}:
            return []
        return [
            hedge
            for hedge in self._at_rest()
            if hedge.operation_id not in self.exits.hard
            and not self._gate.margin.below_trigger(hedge.futures_venue, hedge.futures_symbol)
        ]

    def _without_doubt(self) -> list[HedgeRecord]:
        return [hedge for hedge in self._free_to_choose() if not self._in_doubt(hedge)]

    def enter(self, plan: Plan) -> bool:
        """Takes an approved entry that nets an open hedge's contract as that hedge's exit; whether it did."""
        found = self.netting.exit_of(plan)
        if found is not None:
            self._leave(*found)
        return found is not None

    def _in_doubt(self, hedge: HedgeRecord) -> bool:
        """Whether the account of one of its legs differs from the ledger."""
        legs = ((hedge.spot_venue, hedge.spot_symbol), (hedge.futures_venue, hedge.futures_symbol))
        rows = (self._context.instruments.find(*leg) for leg in legs)
        return any(row is not None and self._account.doubtful(row.spec) for row in rows)

    def _leave_hard(self) -> None:
        ledger, attempts = self._context.ledger, self.attempts
        for hedge_id in list(self.exits.hard):
            hedge = ledger.hedges.get(hedge_id)
            if hedge is None or attempts.under_way(hedge_id):
                continue
            self.exits.hard[hedge_id].left(hedge.qty)
            if not attempts.is_due(hedge):
                refused = attempts.refused_text(hedge)
                if refused:
                    self.exits.say_why_not(hedge, refused)
                continue
            answer = attempts.attempt(hedge, self.exits.bound_bps(hedge))
            if answer.plan is None:
                self.exits.say_why_not(hedge, answer.reason)
            else:
                if not attempts.refused_text(hedge):  # what was refused stands until an order fills
                    self.exits.hard[hedge_id].why = ""
                attempts.attempted(hedge)
                self._leave(answer.plan, hedge)

    def _leave_by_choice(self, hedge: HedgeRecord) -> None:
        """Leaves, in part or whole, where the threshold says so and nothing speaks against it; a halt does not."""
        if not self._ready():
            return
        if hedge.spot_venue not in self._reconciled or hedge.futures_venue not in self._reconciled:
            return
        if self._in_doubt(hedge):
            return
        self.lacking.pop(hedge.operation_id, None)
        plan = self.exits.chosen_plan(hedge)
        if isinstance(plan, str) or self._gate.in_cooldown(plan.opportunity.direction_key):
            return
        most = self.attempts.most_covered(plan)
        if most is not None:  # what its spot venue would refuse leaves the contract's order alone
            self._lacks(hedge, plan)
            plan = self.exits.chosen_plan(hedge, most)
        if isinstance(plan, str):
            return
        if self._gate.has_room_for(plan):
            self._leave(plan, hedge)

    def _lacks(self, hedge: HedgeRecord, plan: Plan) -> None:
        self.lacking = {name: text for name, text in self.lacking.items() if name in self._context.ledger.hedges}
        first = f"bring {hedge.base} there (arb balance)" if side_of(hedge) > 0 else "bring money there (arb balance)"
        close = f"arb close {hedge.operation_id} leaves where coins lie"
        self.lacking[hedge.operation_id] = f"{self.attempts.short_text(plan)}; {first}, or {close}"
