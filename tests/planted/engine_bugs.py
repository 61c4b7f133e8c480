"""Planted bugs for the chaos checker: each patches the engine in memory, for the time of a ``with``.

``MUTANTS``: name -> what it changes, as (object, attribute, replacement). A replacement that is a ``Wrapped`` gets the
original as its first argument. Nothing here is a switch of the product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

import pipeline.exchanges.gateio.orders as gateio_orders
import pipeline.execution.evidence as evidence
import pipeline.execution.ledger as ledger_module
import pipeline.execution.orchestrator as orchestrator
import pipeline.execution.plan as plan
import pipeline.execution.repair as repair
import pipeline.execution.settle as settle
import pipeline.recovery.account as account
import pipeline.recovery.wallets as wallets
import pipeline.risk.gate as gate
import pipeline.risk.last_look as last_look
from pipeline.core import ExecutionCore
from pipeline.exchanges.transport.gateway_watch import GatewayWatch
from pipeline.exchanges.transport.throttle import Throttle
from pipeline.execution.accounts import Accounts
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.bounds.repair_terms import Repair
from pipeline.execution.core_context import CoreContext, Ids
from pipeline.execution.events import Append, Place
from pipeline.execution.evidence import Evidence
from pipeline.execution.ledger import Ledger, Operation, Order
from pipeline.execution.orchestrator import OrderOrchestrator, request_of
from pipeline.execution.records import (
    DustRecord,
    FillRecord,
    OrderIntentRecord,
    OrderStateRecord,
    Outcome,
    Purpose,
)
from pipeline.execution.repair import RepairChooser
from pipeline.model.enums import OrderState
from pipeline.model.venue_events import OutcomeKind
from pipeline.recovery.account import AccountCheck
from pipeline.recovery.external_book import ExternalBook
from pipeline.recovery.funding import FundingWatch
from pipeline.recovery.manager import RecoveryManager
from pipeline.risk.exposure import Exposure
from pipeline.risk.gate import Gate
from pipeline.risk.last_look import LastLook
from pipeline.risk.order_rate import SendTimes
from pipeline.virtual.halt_page import WorldHalt
from tests.planted.exit_bugs import EXIT_BUGS
from tests.planted.limit_bugs import LIMIT_BUGS
from tests.planted.patches import ZERO, Patch, Wrapped, always
from tests.planted.rule_bugs import RULE_BUGS

MUTANTS: dict[str, list[Patch]] = {}


@contextlib.contextmanager
def planted(name: str) -> Iterator[None]:
    """The engine with this bug."""
    patches = MUTANTS[name]
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in patches]
    try:
        for owner, attribute, new in patches:
            setattr(owner, attribute, new.make(owner.__dict__[attribute]) if isinstance(new, Wrapped) else new)
        yield
    finally:
        for owner, attribute, old in before:
            setattr(owner, attribute, old)


# --- orders whose outcome is not known ---


def _timeout_is(state: OrderState) -> Any:
    def unknown(self: Evidence, order: Order, reason: str) -> None:
        self._record_state(order, state, source="local", reason=reason)

    return unknown


def _unknown_is_rejected(original: Any) -> Any:
    def outcome(self: Evidence, event: Any) -> Any:
        if event.kind is OutcomeKind.UNKNOWN:
            event = msgspec.structs.replace(event, kind=OutcomeKind.REJECTED)
        return original(self, event)

    return outcome


def _restart_is(state: OrderState) -> Wrapped:
    def make(original: Any) -> Any:
        def unknown(self: Evidence, order: Order, reason: str) -> None:
            if reason == "restart":
                self._record_state(order, state, source="recovery", reason=reason)
            else:
                original(self, order, reason)

        return unknown

    return Wrapped(make)


def _no_grace(original: Any) -> Any:
    def provable_at(self: RecoveryManager, order: Order) -> int:
        return int(original(self, order) - self._context.config.execution.unknown_grace_ms * 1_000_000)

    return provable_at


def _incomplete_believed(original: Any) -> Any:
    def on_sweep(self: RecoveryManager, answer: Any) -> None:
        original(self, msgspec.structs.replace(answer, error=""))

    return on_sweep


def _resend(original: Any) -> Any:
    def outcome(self: ExecutionCore, event: Any) -> None:
        original(self, event)
        order = self.ledger.orders.get(event.client_id)
        if event.kind is OutcomeKind.UNKNOWN and order is not None and not order.settled:
            self.context.act(Place(request_of(order.intent), order.intent.purpose, order.intent.operation_id))

    return outcome


def _resend_after_restart(original: Any) -> Any:
    def session(self: ExecutionCore, state: Any) -> None:
        original(self, state)
        for order in self.ledger.unsettled.values():
            if state.state == "up" and order.intent.venue == state.venue and not order.sent_mono_ns:
                self.context.act(Place(request_of(order.intent), order.intent.purpose, order.intent.operation_id))

    return session


MUTANTS |= {
    "a timeout is a rejection": [(Evidence, "unknown", _timeout_is(OrderState.REJECTED))],
    "a timeout is an expiry": [(Evidence, "unknown", _timeout_is(OrderState.EXPIRED))],
    "an unknown outcome is a rejection": [(Evidence, "outcome", Wrapped(_unknown_is_rejected))],
    "a restart expires what is open": [(Evidence, "unknown", _restart_is(OrderState.EXPIRED))],
    "a restart calls what is open not sent": [(Evidence, "unknown", _restart_is(OrderState.NOT_SENT))],
    "expired without waiting for the expiry": [(RecoveryManager, "provable_at", always(0))],
    "expired without the grace behind the expiry": [(RecoveryManager, "provable_at", Wrapped(_no_grace))],
    "no witness of money before EXPIRED": [(AccountCheck, "agrees", always(True))],
    "an incomplete sweep is believed": [(RecoveryManager, "on_sweep", Wrapped(_incomplete_believed))],
    "an order without an answer is sent again": [(ExecutionCore, "_outcome", Wrapped(_resend))],
    "a restart sends the intents again": [(ExecutionCore, "_session", Wrapped(_resend_after_restart))],
}


# --- evidence ---


def _overwritten(original: Any) -> Any:
    def update(self: Evidence, update: Any) -> Any:
        order = self._context.ledger.order_of(update.venue, update.client_id, update.order_id)
        if order is None:
            return original(self, update)
        fields = (update.state, update.filled_qty, update.average_price, update.venue_wall_ms, update.recv_mono_ns)
        record = OrderStateRecord(order.client_id, update.order_id, *fields, update.source, update.reason)
        self._context.record(record)
        return order

    return update


def _merged_without_record(known: OrderState, evidence: OrderState) -> OrderState:
    return evidence


def _late_dropped(original: Any) -> Any:
    def fill(self: Evidence, fill: Any) -> Any:
        order = self._context.ledger.order_of(fill.venue, fill.client_id, fill.order_id)
        ledger = self._context.ledger
        if order is not None and ledger.operations[order.intent.operation_id].result is not None:
            return None
        return original(self, fill)

    return fill


class _KnowsNothing(set[Any]):
    def __contains__(self, item: object) -> bool:
        return False


def _no_dedupe(original: Any) -> Any:
    def init(self: Ledger) -> None:
        original(self)
        self.fills_seen = _KnowsNothing()

    return init


def _half_filled(original: Any) -> Any:
    def apply(self: Accounts, fill: Any) -> None:
        original(self, msgspec.structs.replace(fill, fee=ZERO, extra_fees=()))

    return apply


#: Positions are moved without their executions as well, and what that brought is seen by the wallets alone, roughly.
_BY_WALLETS_ALONE: Patch = (wallets, "SETTLED_TOLERANCE", wallets.WALLET_TOLERANCE)


def _settled_by_state(self: Order) -> bool:
    return self.state.is_terminal


def _forgotten_at_boot(original: Any) -> Any:
    def boot(self: ExecutionCore, *args: Any, **kwargs: Any) -> Any:
        actions = original(self, *args, **kwargs)
        self.ledger.open_operations.clear()
        return actions

    return boot


MUTANTS |= {
    "states are overwritten": [
        (Evidence, "update", Wrapped(_overwritten)),
        (ledger_module, "merge", _merged_without_record),
    ],
    "late fills are dropped": [(Evidence, "fill", Wrapped(_late_dropped))],
    "a fill is booked each time that it is told": [(Ledger, "__init__", Wrapped(_no_dedupe))],
    "a cancelled order is settled without its quantity": [(Order, "settled", property(_settled_by_state))],
    "orphans are dropped": [(Evidence, "_keep_orphan", always(None)), _BY_WALLETS_ALONE],
    "fees of fills are not booked": [(Accounts, "apply_fill", Wrapped(_half_filled))],
    "funding is not booked": [(FundingWatch, "on_answer", always(None))],
    "forced closes are not booked": [(ExternalBook, "fill", always(None)), _BY_WALLETS_ALONE],
    "a restart forgets its operations": [(ExecutionCore, "boot", Wrapped(_forgotten_at_boot))],
    "ids begin again with each run": [
        (Ids, "__init__", Wrapped(lambda original: lambda self, epoch, prefix="a": original(self, 77, prefix)))
    ],
}


# --- the journal ---


def _sends_first(original: Any) -> Any:
    def drain(self: CoreContext) -> list[Any]:
        return sorted(original(self), key=lambda action: not isinstance(action, Place))

    return drain


def _not_written(kind: type, **fields: Any) -> Wrapped:
    def make(original: Any) -> Any:
        def drain(self: CoreContext) -> list[Any]:
            def lost(action: Any) -> bool:
                record = action.record if isinstance(action, Append) else None
                return isinstance(record, kind) and all(getattr(record, key) == fields[key] for key in fields)

            return [action for action in original(self) if not lost(action)]

        return drain

    return Wrapped(make)


def _no_remainders(original: Any) -> Any:
    def record(self: CoreContext, record: Any) -> None:
        if not (isinstance(record, DustRecord) and record.reason == "remainder"):
            original(self, record)

    return record


MUTANTS |= {
    "orders leave before their intents are written": [(CoreContext, "drain", Wrapped(_sends_first))],
    "intents of repairs are not written": [
        (CoreContext, "drain", _not_written(OrderIntentRecord, purpose=Purpose.REPAIR))
    ],
    "remainders are forgotten": [(CoreContext, "record", Wrapped(_no_remainders))],
}


# --- the gate ---


def _unknown_not_counted(original: Any) -> Any:
    def exposure(ledger: Ledger, rates: Any, marks: Any) -> Exposure:
        doubtful = {order.intent.operation_id for order in ledger.unsettled.values()}
        counted = {key: value for key, value in ledger.open_operations.items() if key not in doubtful}
        whole, ledger.open_operations = ledger.open_operations, counted
        try:
            found: Exposure = original(ledger, rates, marks)
        finally:
            ledger.open_operations = whole
        return found

    return exposure


def _no_fee(original: Any) -> Any:
    return lambda row, side, qty, price: (ZERO, original(row, side, qty, price)[1])


def _half_reserved(original: Any) -> Any:
    def reservation(*args: Any) -> tuple[str, Decimal]:
        asset, amount = original(*args)
        return asset, amount / 2

    return reservation


def _twice_the_plan(original: Any) -> Any:
    def intend(self: OrderOrchestrator, operation: Operation, leg: int, **fields: Any) -> Any:
        if fields["purpose"] is Purpose.ENTRY:
            fields["qty"] *= 2
        return original(self, operation, leg, **fields)

    return intend


def _released_at_once(self: BalanceMonitor, order: Order) -> None:
    if order.client_id in self._reservations:
        self._drop(order.client_id)


MUTANTS |= {
    "the halt is ignored": [(WorldHalt, "latched", always(False)), (WorldHalt, "may_launch", always(True))],
    "the lease is ignored": [
        (WorldHalt, "lease_expiry_mono_ns", always(2**62)),
        (WorldHalt, "may_launch", always(True)),
    ],
    "a drained venue is traded": [
        (WorldHalt, "venue_blocked", always(False)),
        (WorldHalt, "may_launch", always(True)),
    ],
    "no last look": [(LastLook, "entry", always(None))],
    "books of any age are traded": [(plan, "too_old", always(False)), (last_look, "too_old", always(False))],
    "flagged books are traded": [(plan, "tradable", always(True))],
    "our own fill does not block a book": [(Gate, "_after_fill", always(None))],
    "an unknown order does not block its symbol": [(Ledger, "unsettled_of_symbol", lambda *args: iter(()))],
    "no check for duplicates": [(Gate, "_duplicate", always(None))],
    "exposure is not counted": [(Gate, "exposure", lambda self: Exposure())],
    "orders of unknown outcome are no exposure": [(gate, "exposure", Wrapped(_unknown_not_counted))],
    "the order rate is not counted": [(SendTimes, "last_second", always(0))],
    "breakers are ignored": [(gate, "blocking", always(""))],
    "balances are not checked": [(Gate, "_funds", always(None))],
    "nothing is reserved": [(BalanceMonitor, "reserved", always(ZERO))],
    "half is reserved": [(plan, "reservation", Wrapped(_half_reserved))],
    "a reservation ends with its order": [(BalanceMonitor, "settled", _released_at_once)],
    "fees are ignored": [(plan, "fee_of", Wrapped(_no_fee))],
    "twice the plan is ordered": [(OrderOrchestrator, "_intend", Wrapped(_twice_the_plan))],
    "a venue trades before it is swept": [(RecoveryManager, "__contains__", always(True))],
    "Retry-After is ignored": [(GatewayWatch, "note", always(None))],
    "the venues' budgets are ignored": [(Throttle, "try_acquire", always(True))],
}


# --- repairs, results and exits ---


def _doubled(original: Any) -> Any:
    def option(self: RepairChooser, *args: Any) -> Any:
        found = original(self, *args)
        return replace(found, qty=found.qty * 2) if isinstance(found, Repair) else found

    return option


def _partial_is_full(original: Any) -> Any:
    def unmatched(operation: Operation, numeraire: str, dust: dict[str, Decimal]) -> Any:
        places = {(fill.venue, fill.symbol) for fill in operation.fills}
        return [] if len(places) > 1 else original(operation, numeraire, dust)

    return unmatched


def _one_leg_is_enough(operation: Operation, numeraire: str, dust: dict[str, Decimal]) -> Any:
    return []


def _dust_closed_twice(original: Any) -> Any:
    def unmatched(operation: Operation, numeraire: str, dust: dict[str, Decimal]) -> Any:
        moved, operation.moved_to_dust = operation.moved_to_dust, {}
        try:
            return original(operation, numeraire, dust)
        finally:
            operation.moved_to_dust = moved

    return unmatched


def _not_net_of_fees(original: Any) -> Any:
    def per_asset(fills: list[FillRecord]) -> Any:
        return original([msgspec.structs.replace(fill, fee=ZERO, extra_fees=()) for fill in fills])

    return per_asset


def _ends_early(original: Any) -> Any:
    def advance(self: OrderOrchestrator, operation: Operation) -> None:
        doubtful = self._context.ledger.unsettled_of_operation(operation)
        if operation.operation_id in self._context.ledger.open_operations and any(
            order.state is OrderState.UNKNOWN for order in doubtful
        ):
            self._result(operation, Outcome.FAILED, "an order's outcome is unknown", {})
            return
        original(self, operation)

    return advance


def _hedge_stays(self: Ledger, record: Any) -> None:
    if record.qty:
        self.hedges[record.operation_id] = record
        self.since_wall_ns.setdefault(record.operation_id, self.last_wall_ns)


def _twice_the_contracts(original: Any) -> Any:
    return lambda request: original(request) * 2


def _put_off(original: Any) -> Any:
    """A repair waits; before the end it is made all the same."""

    def repair_later(self: OrderOrchestrator, operation: Operation, *args: Any) -> None:
        if self._context.now.mono_ns - operation.started_mono_ns >= 1_000_000_000:
            original(self, operation, *args)

    return repair_later


MUTANTS |= {
    "a codec reads no fee": [(gateio_orders, "_fees", lambda venue, *parts: (ZERO, parts[0][0], ()))],
    "a codec orders twice the contracts": [(gateio_orders, "contracts_of", Wrapped(_twice_the_contracts))],
    "repairs are put off": [(OrderOrchestrator, "_repair", Wrapped(_put_off))],
    "repairs do not wait for answers": [(orchestrator, "answer_expected", always(False))],
    "repairs are twice what is open": [(RepairChooser, "_option", Wrapped(_doubled))],
    "a leg that filled in part is full": [(orchestrator, "unmatched_quantities", Wrapped(_partial_is_full))],
    "broken legs are not repaired": [(orchestrator, "unmatched_quantities", _one_leg_is_enough)],
    "what is dust is repaired again": [(orchestrator, "unmatched_quantities", Wrapped(_dust_closed_twice))],
    "an operation ends while an order is unknown": [(OrderOrchestrator, "advance", Wrapped(_ends_early))],
    "results are not net of fees": [(settle, "pnl_per_asset", Wrapped(_not_net_of_fees))],
    "a closed hedge stays open": [(Ledger, "_hedge", _hedge_stays)],
    "a hedge that others have ended is bought back": [
        (orchestrator, "own_side_only", always(False)),
        (repair, "own_side_only", always(False)),
    ],
    "repairs of what waits for an operator": [(RecoveryManager, "held_by_operator", always(False))],
}


MUTANTS |= {
    "repairs beside unknown orders are not bounded": [(repair, "may_repair", always(True))],
    "an exit may open the hedge's opposite": [(repair, "may_leave", always(True))],
    "a rate limit means that a position is gone": [(evidence, "ELSEWHERE", ())],
    "an execution that is listed late is money that is gone": [(account, "looks_traded", always(False))],
    "an execution that is listed late is a position of others": [(account, "may_be_late", always(False))],
    "what was closed before its fill was known is kept": [(ExternalBook, "late_fill", always(None))],
    "a wallet is compared without what is open": [(wallets, "realised_elsewhere", always(ZERO))],
}
MUTANTS |= EXIT_BUGS | LIMIT_BUGS | RULE_BUGS
