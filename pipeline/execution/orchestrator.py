"""The leg saga: all legs at once, then repairs until no unmatched quantity is left.

"Both legs or neither" does not exist across venues: a broken leg is a normal state. After every piece of evidence
``advance`` looks at the operation as a whole and takes the first row that applies::

    an order may still be answered in time    wait; where others ended a leg, only what is not on its way is repaired
    an unmatched quantity is worth an order   RECOVERING: repair (complete or unwind, the cheaper) at a bounded price
    too many repairs, or none possible        hold: a breaker trips, an operator decides
    an order's outcome is unknown             RECOVERING: wait for recovery's proof; nothing new on its symbol
    otherwise                                 COMPLETED or FAILED; what remains is dust

The states and their steps are the table of ``operation_states.py``. Repairs are decided by proved fills only. Nothing
is ever sent twice: a repair is a new order with a new id.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import takewhile

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.accounts import EXACT
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.bounds.repair_terms import Repair, RepairPace, UsableInstruments
from pipeline.execution.bounds.unmatched import operation_start, unmatched_quantities
from pipeline.execution.bounds.windows import OrderWindows, answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import CancelOrder, Entered, Place, Report, request_of
from pipeline.execution.external_shares import others_decide, own_side_only, position_unknown
from pipeline.execution.hedging.remainders import kept_prices
from pipeline.execution.ledger import Operation, Order
from pipeline.execution.market import UsdRates
from pipeline.execution.operation_states import StateController
from pipeline.execution.plan import Plan
from pipeline.execution.records import (
    REPORT_OF_OUTCOME,
    DustRecord,
    OperationRecord,
    OrderIntentRecord,
    Outcome,
    Purpose,
    RecoveryRecord,
)
from pipeline.execution.repair import RepairChooser
from pipeline.execution.results.counts import counts_of
from pipeline.execution.settle import (
    carried_basis,
    hedge_left,
    hedge_record,
    matched_qty,
    result_of,
    why_empty,
)
from pipeline.model.enums import (
    ArbitrageState,
    InstrumentKind,
    OpportunityType,
    OrderKind,
    OrderSide,
    OrderState,
    TimeInForce,
)
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO, OrderRequest

RECOVERY_HOLD = "recovery_hold"  # the breaker of operations that wait for an operator
WHILE_SHORT = "while its margin is short: "  # begins the reason of an approval that ends with the shortage
REPAIRS_MAX = 12  # repairs of one operation before an operator is asked
PATIENCE = 5  # times ``max_unhedged_ms``: so long no venue takes a repair before an operator is asked
REPAIR_PAUSE_FIRST_NS = 20_000_000
REPAIR_PAUSE_MAX_NS = 500_000_000
COOLDOWN_MAX_NS = 60_000_000_000


def is_lent(recovery: RecoveryRecord) -> bool:
    """Whether a recovery goes on without an operator's word, for as long as margin is short."""
    return recovery.state == "approved" and recovery.reason.startswith(WHILE_SHORT)


class OrderOrchestrator:
    """Executes plans and leads every operation to its end.

    Callbacks into recovery: ``on_recovery(operation, strategy, reason)`` when repairs begin, change or are held,
    ``on_recovered`` at an operation's end; ``held_by_operator`` and ``awaits_first_sweep`` ask for its view of an
    operation and an order. ``on_order(venue)``: an order was written down to be sent, whatever it is for.
    ``can_place(venue)``: the venue's rate budget takes one now. ``questioned(venue, symbol)``: a position there is
    being looked up, nothing that depends on it is repaired. ``urgent_bps``, ``usable``: see ``RepairChooser``.
    ``on_end(direction, until)``: an operation of that direction has a result, its cooldown lasts until then (monotonic
    ns).
    """

    def __init__(
        self,
        context: CoreContext,
        states: StateController,
        balances: BalanceMonitor,
        rates: UsdRates,
        fees: AccountFees,
        *,
        on_recovery: Callable[[Operation, str, str], object],
        on_recovered: Callable[[Operation, str], None],
        on_end: Callable[[int, int], None],
        held_by_operator: Callable[[Operation], bool],
        awaits_first_sweep: Callable[[Order], bool],
        on_order: Callable[[str], None],
        can_place: Callable[[str], bool],
        questioned: Callable[[str, str], bool],
        urgent_bps: Callable[[Operation], Decimal],
        usable: UsableInstruments,
    ) -> None:
        self._context = context
        self._questioned = questioned
        self._states = states
        self._balances = balances
        self._rates = rates
        self._fees = fees
        self._urgent_bps = urgent_bps
        self.repairs = RepairChooser(context, balances, balances.session_up, can_place, urgent_bps, usable)
        self._on_recovery = on_recovery
        self._on_recovered = on_recovered
        self._on_end = on_end
        self._held_by_operator = held_by_operator
        self._awaits_first_sweep = awaits_first_sweep
        self._on_order = on_order
        self.windows = OrderWindows(context)
        self._paces: dict[str, RepairPace] = {}
        self._broken: dict[int, int] = {}  # direction -> broken legs in a row

    # --- entry ---

    def execute_opportunity(self, plan: Plan, *, purpose: Purpose = Purpose.ENTRY, closes: str = "") -> Operation:
        """Records the operation and its intents, then asks for all orders at once; for FLATTEN those on futures alone,
        and spot follows by :meth:`advance` as far as they have filled. ``closes``: the operation whose hedge it leaves.
        """
        context, opportunity = self._context, plan.opportunity
        record = OperationRecord(
            operation_id=context.ids.next(),
            opportunity_id=opportunity.opportunity_id,
            type=plan.type,
            pair=plan.pair,
            legs=tuple(leg.leg_plan() for leg in plan.legs),
            edge_detect_bps=opportunity.edge_bps,
            edge_send_bps=plan.edge_send_bps,
            direction_key=opportunity.direction_key,
            notional_usd=plan.notional_usd,
            trigger_recv_mono_ns=opportunity.trigger_recv_mono_ns,
            detect_mono_ns=opportunity.detect_mono_ns,
            dequeued_mono_ns=opportunity.dequeued_mono_ns,
            gate_mono_ns=context.now.mono_ns,
            manual=opportunity.manual,
            closes=closes,
        )
        operation = self._states.create_operation(record)
        if plan.dust:
            context.record(DustRecord(record.legs[0].base, plan.dust, record.operation_id, "hedge below a minimum"))
        requests = [
            self._intend(
                operation,
                index,
                row=leg.row,
                side=leg.side,
                qty=leg.qty,
                price=leg.limit,
                purpose=purpose,
                reserve=(leg.reserve_asset, leg.reserve_amount),
                reduce_only=bool(closes) and self._shrinks(leg.row, leg.side, leg.qty),
            )
            for index, leg in enumerate(plan.legs)
            if purpose is not Purpose.FLATTEN or leg.row.spec.kind is InstrumentKind.PERPETUAL
        ]
        for request in requests:
            context.act(Place(request, purpose, operation.operation_id))
        self._states.record_origin(operation)
        return operation

    def adopt(self, entered: Entered) -> Operation:
        """Takes over an entry of the fast path, whose records are in the journal already: folds them into the ledger,
        reserves the balances; from here on it is an operation like any other."""
        ledger, now = self._context.ledger, self._context.now
        ledger.apply(entered.operation, now.mono_ns, now.wall_ns)
        for intent in entered.intents:
            ledger.apply(intent, now.mono_ns, now.wall_ns)
            self._balances.reserve_balance(ledger.orders[intent.client_id])
        operation = ledger.operations[entered.operation.operation_id]
        self._states.record_origin(operation)
        return operation

    def _shrinks(self, row: InstrumentRow, side: OrderSide, qty: Decimal) -> bool:
        """Whether the order only shrinks the net futures position: hedges of both directions share one position, and
        a venue cuts a reduce-only order down to what is left of it."""
        if row.spec.kind is not InstrumentKind.PERPETUAL:
            return False
        position = self._context.ledger.accounts.futures_qty(row.spec.venue, row.spec.symbol)
        return position * int(side) <= -qty

    def _intend(
        self,
        operation: Operation,
        leg: int,
        *,
        row: InstrumentRow,
        side: OrderSide,
        qty: Decimal,
        price: Decimal,
        purpose: Purpose,
        reserve: tuple[str, Decimal],
        reduce_only: bool = False,
        tif: TimeInForce = TimeInForce.IOC,
        attempt: int = 0,
    ) -> OrderRequest:
        """Records the intent; returns the request, which may be sent once the intent is in the journal."""
        context, spec, plan = self._context, row.spec, operation.record.legs[leg]
        intent = OrderIntentRecord(
            client_id=context.ids.next(),
            operation_id=operation.operation_id,
            leg=leg,
            purpose=purpose,
            instrument_id=row.instrument_id,
            venue=spec.venue,
            symbol=spec.symbol,
            kind=spec.kind,
            base=spec.base,
            quote=spec.quote,
            side=side,
            order_kind=OrderKind.LIMIT,
            tif=tif,
            qty=qty,
            price=price,
            reduce_only=reduce_only,
            multiplier=spec.multiplier,
            expiry_wall_ms=context.now.wall_ms + self.windows.ms(purpose, spec.venue),
            reserve_asset=reserve[0],
            reserve_amount=reserve[1],
            book_seq=plan.book_seq,
            update_id=plan.update_id,
            attempt=attempt,
        )
        context.record(intent)
        self._balances.reserve_balance(context.ledger.orders[intent.client_id])
        self._on_order(intent.venue)
        return request_of(intent)

    # --- progress ---

    def repair_pace(self, operation: Operation) -> RepairPace:
        """The pace of an operation's repairs; begun anew after a restart, but for what an operator has decided."""
        known = self._paces.get(operation.operation_id)
        if known is None:
            known = self._paces[operation.operation_id] = RepairPace(held=self._held_by_operator(operation))
            ledger, recovery_id = self._context.ledger, f"r{operation.operation_id}"
            recovery = ledger.recoveries.get(recovery_id)
            if recovery is not None and recovery.state == "approved":
                approved_ms = ledger.since_wall_ns[recovery_id] // 1_000_000  # the first one after it went out at once
                known.rungs_forgiven = sum(o.began_wall_ms < approved_ms for o in self._repairs(operation))
        return known

    def advance(self, operation: Operation) -> None:
        """Does the next thing that an operation needs, after new evidence or when time has passed; idempotent."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        if operation.operation_id not in ledger.open_operations:
            return
        unsettled = ledger.unsettled_of_operation(operation)
        if any(order.held for order in unsettled):
            return
        waits = any(answer_expected(self._context, o) or self._awaits_first_sweep(o) for o in unsettled)
        if waits and not own_side_only(ledger, operation):
            return
        if self._context.halt.fenced() or position_unknown(ledger, operation, self._questioned):
            return  # fenced: the guard acts; an intent would only be written and not sent
        pace = self.repair_pace(operation)
        alone = len(ledger.open_operations) == 1
        unrepaired = others_first = False
        for quantity in unmatched_quantities(
            operation, self._context.config.execution.numeraire, ledger.dust if alone else {}
        ):
            others_first |= others_decide(ledger, operation, quantity.asset, quantity.amount)
            repair, worth = self.repairs.choose(operation, quantity, self._slippage_bps(operation, pace))
            unrepaired = unrepaired or worth
            if repair is not None and not pace.held and now_ns >= pace.next_try_mono_ns:
                self._repair(operation, pace, repair, quantity.asset)
                return
        if waits:
            return
        if unrepaired:
            self._no_repair_possible(operation, pace, waits_for_venue=bool(self.repairs.waits_for_venue(operation)))
        elif unsettled or others_first:
            if operation.state is not ArbitrageState.RECOVERING:  # what stands alone meanwhile is counted as such
                self._states.transition_to_recovery(operation, "the outcome of an order is unknown")
                self._on_recovery(operation, "resolve", unsettled[0].client_id if unsettled else "")
        else:
            self._finish(operation)

    def _repairs(self, operation: Operation) -> list[Order]:
        """Repairs of this operation that left this host, by the ledger, so that a restart keeps their count."""
        orders = (self._context.ledger.orders[client_id] for client_id in operation.orders)
        repairs = (o for o in orders if o.intent.purpose in (Purpose.REPAIR, Purpose.DUST))
        return [order for order in repairs if order.state is not OrderState.NOT_SENT]

    def _rungs(self, operation: Operation, pace: RepairPace) -> int:
        """How many rungs of the ladder are used up; one that was forgiven may turn out not to have left this host."""
        return max(0, len(self._repairs(operation)) - pace.rungs_forgiven)

    def _unsent(self, operation: Operation) -> int:
        """Its newest repairs in a row that did not leave this host: each is two records for nothing."""
        states = (self._context.ledger.orders[client_id].state for client_id in reversed(operation.orders))
        unsent = (OrderState.INTENT, OrderState.NOT_SENT)
        return sum(1 for _ in takewhile(lambda state: state in unsent, states))

    def _slippage_bps(self, operation: Operation, pace: RepairPace) -> Decimal:
        """Slippage allowed to the next repair: doubled at each rung, up to ``unwind_max_slippage_bps``."""
        execution = self._context.config.execution
        wider = execution.unwind_slippage_bps * (1 << self._rungs(operation, pace))
        return min(execution.unwind_max_slippage_bps, wider)

    def _repair(self, operation: Operation, pace: RepairPace, repair: Repair, asset: str) -> None:
        """Records and places one repair, or holds the operation when the ladder is at its end."""
        features = self._context.config.features
        rungs, waits = self._rungs(operation, pace), self._waits_again(operation)
        if rungs >= REPAIRS_MAX or not features.enable_recovery_mode or waits:
            why = "its margin is not short any more" if waits else f"{rungs} repairs did not close it"
            self._hold(operation, pace, why)
            return
        if repair.takes_dust:  # from here on the older remainder is this operation's as well
            self._context.record(DustRecord(asset, -repair.takes_dust, operation.operation_id, "taken to be closed"))
        if repair.purpose is Purpose.REPAIR and operation.state is not ArbitrageState.RECOVERING:
            self._states.transition_to_recovery(operation, f"leg broken: {repair.side.name} {repair.qty} unmatched")
            filled = {(f.venue, f.symbol) for f in operation.fills}
            spec = repair.row.spec
            strategy = "unwind" if (spec.venue, spec.symbol) in filled else "complete"
            self._on_recovery(operation, strategy, f"{repair.side.name} {repair.qty} {repair.row.spec.venue}")
        request = self._intend(
            operation,
            repair.leg,
            row=repair.row,
            side=repair.side,
            qty=repair.qty,
            price=repair.price,
            purpose=repair.purpose,
            reserve=(repair.reserve_asset, repair.reserve_amount),
            reduce_only=repair.reduces,
            tif=repair.tif,
            attempt=rungs,
        )
        most_ns = REPAIR_PAUSE_MAX_NS << min(2, self._unsent(operation) // 4)
        pause_ns = min(most_ns, REPAIR_PAUSE_FIRST_NS << min(pace.attempts, 8))
        pace.attempts += 1
        pace.next_try_mono_ns = self._context.now.mono_ns + pause_ns
        pace.blocked_since_mono_ns = 0
        self._context.act(Place(request, repair.purpose, operation.operation_id))

    def _no_repair_possible(self, operation: Operation, pace: RepairPace, *, waits_for_venue: bool) -> None:
        """An unmatched quantity remains and no repair can be placed now: waits, after a while holds the operation, but
        for one that goes on when its venue is back."""
        now_ns = self._context.now.mono_ns
        if operation.state is not ArbitrageState.RECOVERING:
            self._states.transition_to_recovery(operation, "exposure, and no venue can take the order now")
            self._on_recovery(operation, "resolve", "no venue can take the order now")
        if pace.held or waits_for_venue or now_ns < pace.next_try_mono_ns:
            return
        pace.blocked_since_mono_ns = pace.blocked_since_mono_ns or now_ns
        patience_ns = PATIENCE * self._context.config.risk_limits.max_unhedged_ms * 1_000_000
        unsettled = self._context.ledger.unsettled_of_operation(operation)
        if now_ns - pace.blocked_since_mono_ns > patience_ns and not unsettled:
            self._hold(operation, pace, self.repairs.why_none(operation))

    def _waits_again(self, operation: Operation) -> bool:
        """Whether it went on without its operator because margin was short, which it is no more; after a restart, until
        the margin is read again."""
        known = self._context.ledger.recoveries.get(f"r{operation.operation_id}")
        return known is not None and is_lent(known) and not self._urgent_bps(operation)

    def _hold(self, operation: Operation, pace: RepairPace, reason: str) -> None:
        """The end of the ladder: the exposure stays, and a breaker stops new risk until an operator has decided."""
        pace.held = True
        self._on_recovery(operation, "hold", reason)
        self._context.trip(RECOVERY_HOLD, f"operation {operation.operation_id}: {reason}")
        self._result(operation, Outcome.UNRESOLVED, reason, {})

    def release(self, operation: Operation) -> None:
        """Lets the repairs of a held operation begin again, after an operator approved."""
        fresh = RepairPace()
        fresh.rungs_forgiven = self._rungs(operation, fresh)
        self._paces[operation.operation_id] = fresh
        self.advance(operation)

    # --- end ---

    def _finish(self, operation: Operation) -> None:
        """Ends an operation: what remains becomes dust, the hedge is recorded, the result written."""
        context = self._context
        start = operation_start(operation, context.config.execution.numeraire)
        remainders: dict[str, Decimal] = {}
        for quantity in unmatched_quantities(operation, context.config.execution.numeraire, {}):
            remainders[quantity.asset] = quantity.amount
            context.record(DustRecord(quantity.asset, quantity.amount, operation.operation_id, "remainder"))
        if start not in USD_COINS:  # profit in a coin is exposure in that coin: it joins the dust and is sold with it
            moved = operation.moved_to_dust.get(start, ZERO)
            gained = EXACT.subtract(operation.exposure().get(start, ZERO), moved)
            if gained:
                remainders[start] = gained
                context.record(DustRecord(start, gained, operation.operation_id, "profit or loss"))
        if start and not operation.fills:
            outcome, reason = Outcome.FAILED, why_empty(operation, context.ledger)
        elif operation.recovered:
            outcome, reason = Outcome.RECOVERED, "broken leg repaired"
        elif matched_qty(operation, context.ledger) > 0 or not operation.orders:  # without orders: adopted
            outcome, reason = Outcome.COMPLETED, "all legs filled"
        else:
            outcome, reason = Outcome.FAILED, "a leg filled less than any venue trades"
        to = ArbitrageState.FAILED if outcome is Outcome.FAILED else ArbitrageState.COMPLETED
        if operation.state is not to:
            if operation.state in (ArbitrageState.COMPLETED, ArbitrageState.FAILED):
                self._states.transition_to_recovery(operation, "late evidence changed how it ended")
            self._states.transition_state(operation, to, reason)
        self._hedges(operation)
        self._result(operation, outcome, reason, remainders)
        self._on_recovered(operation, reason)
        self._paces.pop(operation.operation_id, None)

    def _result(self, operation: Operation, outcome: Outcome, reason: str, dust: dict[str, Decimal]) -> None:
        context = self._context
        numeraire = context.config.execution.numeraire
        start = operation_start(operation, numeraire)
        rate = Decimal(1) if start == numeraire else self._rates.booking_rate(operation.record, start)
        context.record(
            result_of(
                operation,
                context.ledger,
                outcome=outcome,
                reason=reason,
                numeraire=numeraire,
                numeraire_rate=rate,
                ended_mono_ns=context.now.mono_ns,
                dust=dust,
                fee_rates=self._fees.coin_rates(operation.fills, start),
                kept=kept_prices(context, operation),
                carried=carried_basis(context.ledger, operation),
            )
        )
        record = operation.record
        until_ns = context.now.mono_ns + self._cooldown_ns(record.direction_key, outcome)
        context.act(Report(record.opportunity_id, REPORT_OF_OUTCOME[outcome], record.direction_key, until_ns))
        self._on_end(record.direction_key, until_ns)

    def _cooldown_ns(self, direction_key: int, outcome: Outcome) -> int:
        """Cooldown of a direction after an operation, doubled with every further broken leg in a row: a price that
        never fills would cost an unwind each time."""
        if outcome is Outcome.RECOVERED:
            self._broken[direction_key] = self._broken.get(direction_key, 0) + 1
        elif outcome is Outcome.COMPLETED:
            self._broken.pop(direction_key, None)
        doublings = min(16, max(0, self._broken.get(direction_key, 0) - 1))
        return min(COOLDOWN_MAX_NS, self._context.config.detection.cooldown_ms * 1_000_000 << doublings)

    def _hedges(self, operation: Operation) -> None:
        """A hedge stays open as a target position; a closing operation takes its quantity off."""
        record, ledger = operation.record, self._context.ledger
        if record.type is not OpportunityType.SPOT_FUTURES_HEDGE:
            return
        opening = ledger.operations[record.closes] if record.closes else operation
        left = hedge_left(ledger, opening)
        known = ledger.hedges.get(opening.operation_id)
        reason = f"closed by {operation.operation_id}" if record.closes else "opened"
        if left or known is not None:
            self._context.record(hedge_record(opening, left, reason))

    # --- commands and numbers ---

    def cancel_all_orders(self) -> int:
        """Asks the venues to cancel every order that may still rest; returns how many. The answers are evidence."""
        count = 0
        for order in self._context.ledger.unsettled.values():
            if order.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED, OrderState.UNKNOWN, OrderState.SENT):
                intent = order.intent
                self._context.act(CancelOrder(intent.venue, intent.symbol, intent.client_id, order.order_id))
                count += 1
        return count

    def get_execution_statistics(self) -> dict[str, float]:
        """Counts over the whole journal, success rate (0 to 1; 0 before the first end; see ``counts``), mean ms from
        the gate to the last fill."""
        ledger = self._context.ledger
        counts = counts_of(ledger)
        times = [
            result.stamps["last_fill"] - result.stamps["gate"]
            for operation in ledger.operations.values()
            if (result := operation.result) is not None and {"last_fill", "gate"} <= result.stamps.keys()
        ]
        return {
            "executed": float(counts.total),
            "completed": float(counts.completed),
            "failed": float(counts.failed),
            "recovered": float(counts.recovered),
            "unresolved": float(counts.unresolved),
            "success_rate": counts.success_rate or 0.0,
            "average_execution_time_ms": sum(times) / len(times) / 1e6 if times else 0.0,
        }
