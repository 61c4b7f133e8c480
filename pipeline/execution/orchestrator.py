"""The leg saga (requirements S4): both legs at once, then whatever the fills demand, until nothing is owed.

"Both legs or neither" does not exist across venues: a broken leg is a normal state. After every piece of evidence
``advance`` looks at the operation as a whole::

    orders still answering in time?      wait
    exposure worth an order?             RECOVERING: repair (complete or unwind, the cheaper), bounded price
    too many repairs, or none possible?  hold: a breaker trips, an operator decides
    an order still unknown?              wait for recovery's proof; nothing new on its symbol
    nothing owed                         COMPLETED / FAILED; the remainder is dust

Hedge decisions use proven fills only. Nothing is ever sent twice: a repair is a new order with a new id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.accounts import EXACT
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import CancelOrder, Entered, Place, Report
from pipeline.execution.ledger import Operation, Order
from pipeline.execution.market import USD_COINS, UsdRates
from pipeline.execution.operation_states import StateController
from pipeline.execution.plan import Plan
from pipeline.execution.records import (
    REPORT_OF_OUTCOME,
    DustRecord,
    HedgeRecord,
    OperationRecord,
    OrderIntentRecord,
    Outcome,
    Purpose,
)
from pipeline.execution.repair import Repair, RepairBook, debts, operation_start
from pipeline.execution.settle import entry_basis, futures_moved, hedge_terms, matched_qty, result_of
from pipeline.model.enums import (
    ArbitrageState,
    InstrumentKind,
    OpportunityType,
    OrderKind,
    OrderSide,
    OrderState,
    TimeInForce,
)
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO, OrderRequest

REPAIRS_MAX = 12  # orders of the unwind ladder that reached a venue before an operator is asked
REPAIR_PAUSE_FIRST_NS = 20_000_000
REPAIR_PAUSE_MAX_NS = 500_000_000
COOLDOWN_MAX_NS = 60_000_000_000


@dataclass(slots=True)
class Pursuit:
    """What is only known while the process lives: the pace of an operation's unwind ladder."""

    attempts: int = 0
    forgiven: int = 0  # rungs before an operator approved that the ladder begins again
    next_try_mono_ns: int = 0
    blocked_since_mono_ns: int = 0
    held: bool = False


class OrderOrchestrator:
    """Executes plans and leads every operation to its end."""

    def __init__(
        self,
        context: CoreContext,
        states: StateController,
        balances: BalanceMonitor,
        rates: UsdRates,
        *,
        on_recovery: Callable[[Operation, str, str], None],
        on_recovered: Callable[[Operation, str], None],
        held_by_operator: Callable[[Operation], bool],
        asking: Callable[[Order], bool],
        can_place: Callable[[str], bool],
    ) -> None:
        self._context = context
        self._states = states
        self._balances = balances
        self._rates = rates
        self._repairs = RepairBook(context, balances, balances.session_up, can_place)
        self._on_recovery = on_recovery
        self._on_recovered = on_recovered
        self._held_by_operator = held_by_operator
        self._asking = asking
        self._pursuits: dict[str, Pursuit] = {}
        self._broken: dict[int, int] = {}  # direction -> broken legs in a row

    # --- entry ---

    def execute_opportunity(
        self, plan: Plan, *, purpose: Purpose = Purpose.ENTRY, closes: str = "", gate_mono_ns: int = 0
    ) -> Operation:
        """Records the operation and its intents, then places all legs at once."""
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
            gate_mono_ns=gate_mono_ns or context.now.mono_ns,
            manual=opportunity.manual,
            closes=closes,
        )
        operation = self._states.create_operation(record)
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
        ]
        for request in requests:
            context.act(Place(request, purpose, operation.operation_id))
        self._states.record_origin(operation)
        return operation

    def adopt(self, entered: Entered) -> Operation:
        """An entry whose records stand in the journal: folded in, reserved, and led from here on like any other."""
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
        attempt: int = 0,
    ) -> OrderRequest:
        """The intent's record, and the request that may be sent once it is in the journal."""
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
            tif=TimeInForce.IOC,
            qty=qty,
            price=price,
            reduce_only=reduce_only,
            multiplier=spec.multiplier,
            expiry_wall_ms=context.now.wall_ms + context.config.execution.recv_window_ms,
            reserve_asset=reserve[0],
            reserve_amount=reserve[1],
            book_seq=plan.book_seq,
            update_id=plan.update_id,
            attempt=attempt,
        )
        context.record(intent)
        self._balances.reserve_balance(context.ledger.orders[intent.client_id])
        return request_of(intent)

    # --- progress ---

    def pursuit(self, operation: Operation) -> Pursuit:
        known = self._pursuits.get(operation.operation_id)
        if known is None:
            known = self._pursuits[operation.operation_id] = Pursuit(held=self._held_by_operator(operation))
        return known

    def advance(self, operation: Operation) -> None:
        """Looks at an operation after evidence or time, and does the next thing that it needs."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        if operation.operation_id not in ledger.open_operations:
            return
        unsettled = ledger.unsettled_of_operation(operation)
        if any(self._answer_expected(order) or self._asking(order) for order in unsettled):
            return
        pursuit = self.pursuit(operation)
        alone = len(ledger.open_operations) == 1
        unmatched = False
        for debt in debts(operation, self._context.config.execution.numeraire, ledger.dust if alone else {}):
            repair, worth = self._repairs.choose(operation, debt, self._slippage_bps(operation, pursuit))
            unmatched = unmatched or worth
            if repair is not None and not pursuit.held and now_ns >= pursuit.next_try_mono_ns:
                self._repair(operation, pursuit, repair, debt.asset)
                return
        if unmatched:
            self._repair_impossible(operation, pursuit)
        elif unsettled:
            if operation.state is not ArbitrageState.RECOVERING:
                self._states.transition_to_recovery(operation, "an order's outcome is unknown")
                self._on_recovery(operation, "resolve", unsettled[0].client_id)
        else:
            self._finish(operation)

    def _answer_expected(self, order: Order) -> bool:
        """Whether word of this order may still come in its normal time."""
        since = order.sent_mono_ns or order.intent_mono_ns
        waited_ns = self._context.now.mono_ns - since
        return 0 <= waited_ns < self._context.config.answer_timeout_ms * 1_000_000

    def _rungs(self, operation: Operation, pursuit: Pursuit) -> int:
        """Repairs of this operation that reached a venue; counted from the ledger, so that a restart keeps them."""
        orders = (self._context.ledger.orders[client_id] for client_id in operation.orders)
        repairs = (o for o in orders if o.intent.purpose in (Purpose.REPAIR, Purpose.DUST))
        return sum(1 for order in repairs if order.state is not OrderState.NOT_SENT) - pursuit.forgiven

    def _slippage_bps(self, operation: Operation, pursuit: Pursuit) -> Decimal:
        """The unwind ladder: bounded slippage, doubled at each further step, up to the risk limit."""
        execution = self._context.config.execution
        wider = execution.unwind_slippage_bps * (1 << self._rungs(operation, pursuit))
        return min(execution.unwind_max_slippage_bps, wider)

    def _repair(self, operation: Operation, pursuit: Pursuit, repair: Repair, asset: str) -> None:
        """One order of the ladder."""
        features = self._context.config.features
        rungs = self._rungs(operation, pursuit)
        if rungs >= REPAIRS_MAX or not features.enable_recovery_mode:
            self._hold(operation, pursuit, f"{rungs} repairs did not close it")
            return
        if repair.takes_dust:  # from here on the operation owes the old remainder too
            self._context.record(DustRecord(asset, -repair.takes_dust, operation.operation_id, "taken to be closed"))
        if repair.purpose is Purpose.REPAIR and operation.state is not ArbitrageState.RECOVERING:
            self._states.transition_to_recovery(operation, f"leg broken: {repair.side.name} {repair.qty} owed")
            filled = {(f.venue, f.symbol) for f in operation.fills}
            spec = repair.row.spec
            strategy = "unwind" if (spec.venue, spec.symbol) in filled else "complete"
            self._on_recovery(operation, strategy, f"{repair.side.name} {repair.qty} {repair.row.spec.venue}")
        reduce_only = repair.row.spec.kind is InstrumentKind.PERPETUAL and not repair.reserve_amount
        request = self._intend(
            operation,
            repair.leg,
            row=repair.row,
            side=repair.side,
            qty=repair.qty,
            price=repair.price,
            purpose=repair.purpose,
            reserve=(repair.reserve_asset, repair.reserve_amount),
            reduce_only=reduce_only,
            attempt=rungs,
        )
        pause_ns = min(REPAIR_PAUSE_MAX_NS, REPAIR_PAUSE_FIRST_NS << min(pursuit.attempts, 8))
        pursuit.attempts += 1
        pursuit.next_try_mono_ns = self._context.now.mono_ns + pause_ns
        pursuit.blocked_since_mono_ns = 0
        self._context.act(Place(request, repair.purpose, operation.operation_id))

    def _repair_impossible(self, operation: Operation, pursuit: Pursuit) -> None:
        """Exposure remains and nothing can be placed now: wait a little, then ask an operator."""
        now_ns = self._context.now.mono_ns
        if operation.state is not ArbitrageState.RECOVERING:
            self._states.transition_to_recovery(operation, "exposure, and no venue can take the order now")
            self._on_recovery(operation, "resolve", "no venue can take the order now")
        if pursuit.held or now_ns < pursuit.next_try_mono_ns:
            return
        pursuit.blocked_since_mono_ns = pursuit.blocked_since_mono_ns or now_ns
        patience_ns = 5 * self._context.config.risk_limits.max_unhedged_ms * 1_000_000
        if now_ns - pursuit.blocked_since_mono_ns > patience_ns and not self._context.ledger.unsettled_of_operation(
            operation
        ):
            self._hold(operation, pursuit, "no venue takes the repair")

    def _hold(self, operation: Operation, pursuit: Pursuit, reason: str) -> None:
        """The end of the ladder: exposure stays, no new risk anywhere until an operator has decided."""
        pursuit.held = True
        self._on_recovery(operation, "hold", reason)
        self._context.trip("recovery_hold", f"operation {operation.operation_id}: {reason}")
        self._result(operation, Outcome.UNRESOLVED, reason, {})

    def release(self, operation: Operation) -> None:
        """An operator approved: the ladder begins again."""
        fresh = Pursuit()
        fresh.forgiven = self._rungs(operation, fresh)
        self._pursuits[operation.operation_id] = fresh
        self.advance(operation)

    # --- end ---

    def _finish(self, operation: Operation) -> None:
        context = self._context
        start = operation_start(operation, context.config.execution.numeraire)
        remainders: dict[str, Decimal] = {}
        for debt in debts(operation, context.config.execution.numeraire, {}):
            remainders[debt.asset] = debt.amount
            context.record(DustRecord(debt.asset, debt.amount, operation.operation_id, "remainder"))
        if start not in USD_COINS:  # profit in a coin is exposure in that coin: it joins the dust and is sold with it
            moved = operation.moved_to_dust.get(start, ZERO)
            gained = EXACT.subtract(operation.exposure().get(start, ZERO), moved)
            if gained:
                remainders[start] = gained
                context.record(DustRecord(start, gained, operation.operation_id, "profit or loss"))
        if start and not operation.fills:
            outcome, reason = Outcome.FAILED, self._why_empty(operation)
        elif operation.recovered:
            outcome, reason = Outcome.RECOVERED, "broken leg repaired"
        elif matched_qty(operation, context.ledger) > 0:
            outcome, reason = Outcome.COMPLETED, "all legs filled"
        else:
            outcome, reason = Outcome.FAILED, "a leg filled less than any venue trades"
        recovering = operation.state is ArbitrageState.RECOVERING
        to = ArbitrageState.FAILED if outcome is Outcome.FAILED else ArbitrageState.COMPLETED
        if operation.state is not to:
            if operation.state in (ArbitrageState.COMPLETED, ArbitrageState.FAILED):
                self._states.transition_to_recovery(operation, "late evidence changed how it ended")
            self._states.transition_state(operation, to, reason)
        carried = self._hedges(operation)
        self._result(operation, outcome, reason, remainders, carried)
        if recovering:
            self._on_recovered(operation, reason)
        self._pursuits.pop(operation.operation_id, None)

    def _why_empty(self, operation: Operation) -> str:
        reasons = [
            f"{order.state.name.lower()} {order.reason}".strip()
            for client_id in operation.orders
            if (order := self._context.ledger.orders[client_id]).state is not OrderState.CANCELLED
        ]
        return ("nothing filled: " + "; ".join(reasons))[:200] if reasons else "nothing filled"

    def _result(
        self,
        operation: Operation,
        outcome: Outcome,
        reason: str,
        dust: dict[str, Decimal],
        carried: Decimal = ZERO,
    ) -> None:
        context = self._context
        numeraire = context.config.execution.numeraire
        start = operation_start(operation, numeraire)
        rate = Decimal(1) if start == numeraire else (self._rates.rate(start) or ZERO)
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
                carried=carried,
            )
        )
        record = operation.record
        until_ns = context.now.mono_ns + self._cooldown_ns(record.direction_key, outcome)
        context.act(Report(record.opportunity_id, REPORT_OF_OUTCOME[outcome], record.direction_key, until_ns))

    def _cooldown_ns(self, direction_key: int, outcome: Outcome) -> int:
        """Doubled with every further broken leg in a row: a price that never fills would cost an unwind each time."""
        if outcome is Outcome.RECOVERED:
            self._broken[direction_key] = self._broken.get(direction_key, 0) + 1
        elif outcome is Outcome.COMPLETED:
            self._broken.pop(direction_key, None)
        doublings = min(16, max(0, self._broken.get(direction_key, 0) - 1))
        return min(COOLDOWN_MAX_NS, self._context.config.detection.cooldown_ms * 1_000_000 << doublings)

    def _hedges(self, operation: Operation) -> Decimal:
        """A hedge stays open as a target position; a closing operation takes its quantity off.

        Returns the entry basis in quote, which is realised only at the exit: less at the entry, more at the exit.
        """
        record, ledger = operation.record, self._context.ledger
        if record.type is not OpportunityType.SPOT_FUTURES_HEDGE:
            return ZERO
        opening = ledger.operations[record.closes] if record.closes else operation
        # Reckoned from all fills each time, so that an operation that late evidence reopened is not counted twice.
        # Signed: a closing that was unwound and sold a remainder along with it has made the position larger.
        opened = futures_moved(opening)
        way = -1 if opened < 0 else 1
        closed = sum((-way * futures_moved(o) for o in ledger.closings.get(opening.operation_id, ())), ZERO)
        left = max(ZERO, EXACT.subtract(abs(opened), closed))
        known = ledger.hedges.get(opening.operation_id)
        reason = f"closed by {operation.operation_id}" if record.closes else "opened"
        if left or known is not None:
            self._context.record(self._hedge(opening, left, reason))
        basis = entry_basis(opening)
        if record.closes:
            return basis * -way * futures_moved(operation)
        return -basis * abs(opened)  # not earned before the exit

    def _hedge(self, operation: Operation, qty: Decimal, reason: str) -> HedgeRecord:
        legs = operation.record.legs
        spot = next(leg for leg in legs if leg.kind is InstrumentKind.SPOT)
        futures = next(leg for leg in legs if leg.kind is InstrumentKind.PERPETUAL)
        spot_side, entry_spot, entry_futures = hedge_terms(operation)
        return HedgeRecord(
            operation_id=operation.operation_id,
            base=spot.base,
            spot_instrument=spot.instrument_id,
            futures_instrument=futures.instrument_id,
            spot_venue=spot.venue,
            spot_symbol=spot.symbol,
            futures_venue=futures.venue,
            futures_symbol=futures.symbol,
            spot_side=spot_side,
            qty=qty,
            entry_spot_price=entry_spot,
            entry_futures_price=entry_futures,
            reason=reason,
        )

    # --- commands and numbers ---

    def cancel_all_orders(self) -> int:
        """Asks the venues to cancel every order that may still rest; the answers are evidence like any other."""
        count = 0
        for order in self._context.ledger.unsettled.values():
            if order.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED, OrderState.UNKNOWN, OrderState.SENT):
                intent = order.intent
                self._context.act(CancelOrder(intent.venue, intent.symbol, intent.client_id, order.order_id))
                count += 1
        return count

    def get_execution_statistics(self) -> dict[str, float]:
        """Counts by outcome, success rate, mean time from gate to last fill in ms."""
        ledger = self._context.ledger
        outcomes = ledger.outcomes
        done = sum(outcomes.values())
        times = [
            result.stamps["last_fill"] - result.stamps["gate"]
            for operation in ledger.operations.values()
            if (result := operation.result) is not None and {"last_fill", "gate"} <= result.stamps.keys()
        ]
        good = outcomes[Outcome.COMPLETED] + outcomes[Outcome.RECOVERED]
        return {
            "executed": float(len(ledger.operations)),
            "completed": float(outcomes[Outcome.COMPLETED]),
            "failed": float(outcomes[Outcome.FAILED]),
            "recovered": float(outcomes[Outcome.RECOVERED]),
            "unresolved": float(len(ledger.open_operations)),
            "success_rate": good / done if done else 0.0,
            "average_execution_time_ms": sum(times) / len(times) / 1e6 if times else 0.0,
        }


def request_of(intent: OrderIntentRecord) -> OrderRequest:
    """The wire request of an intent. Sent at most once, by whoever appended the intent."""
    return OrderRequest(
        client_id=intent.client_id,
        venue=intent.venue,
        symbol=intent.symbol,
        side=intent.side,
        kind=intent.order_kind,
        tif=intent.tif,
        qty=intent.qty,
        price=intent.price,
        reduce_only=intent.reduce_only,
        multiplier=intent.multiplier,
        expiry_wall_ms=intent.expiry_wall_ms,
    )
