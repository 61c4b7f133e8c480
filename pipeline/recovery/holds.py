"""What an operator decides about breakers and held recoveries, so that nothing that was stopped stays stopped unseen.

A recovery that waits for an operator stands behind the breaker ``recovery_hold``. Whichever of the two is decided, the
other follows: re-arming the breaker lets every held recovery go on, and the breaker is over once none waits any more,
be it that an operator has decided, or that late evidence, a guard or orders by hand have ended what waited. A breaker
that is kept over a lost journal is for what only an operator knows of by now: he re-arms it.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.execution.events import CommandKind
from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.operation_states import StateController
from pipeline.execution.orchestrator import RECOVERY_HOLD, WHILE_SHORT, OrderOrchestrator, is_lent
from pipeline.model.enums import ArbitrageState
from pipeline.recovery.manager import RecoveryManager
from pipeline.risk.manager import RiskManager

KEPT = "kept over a lost journal: "  # begins the reason of such a breaker


class Holds:
    """Carries out what an operator decided; ``reason`` is kept in the journal."""

    def __init__(
        self,
        ledger: Ledger,
        risk: RiskManager,
        recovery: RecoveryManager,
        orders: OrderOrchestrator,
        states: StateController,
    ) -> None:
        self._ledger = ledger
        self._states = states
        self._risk = risk
        self._recovery = recovery
        self._orders = orders

    def decide(self, kind: CommandKind, argument: str, reason: str) -> None:
        """What a command decides about a breaker, a recovery or an operation (``argument``); others decide nothing."""
        deciders: dict[CommandKind, Callable[[str, str], None]] = {
            CommandKind.REARM: self.rearm,
            CommandKind.APPROVE: self.approve_by_operator,
            CommandKind.CANCEL_RECOVERY: self.take_over,
            CommandKind.RECOVER: self.recover,
        }
        if kind in deciders:
            deciders[kind](argument, reason)

    def rearm(self, name: str, reason: str) -> None:
        """Re-arms a breaker; nothing where it is not tripped."""
        if self._risk.rearm(name, reason) and name == RECOVERY_HOLD:
            self.release_all(reason)

    def approve_by_operator(self, recovery_id: str, reason: str) -> None:
        """As :meth:`approve`, and he says that the unknown orders that he is asked about never executed."""
        self._recovery.never_executed(recovery_id)
        self.approve(recovery_id, reason)

    def approve(self, recovery_id: str, reason: str) -> None:
        """Lets a recovery go on."""
        operation = self._recovery.approve(recovery_id, reason)
        if operation is not None:
            self._orders.release(operation)
        self._end_hold(reason)

    def while_short(self, recovery_id: str, reason: str) -> None:
        """As :meth:`approve`, until the margin of its contract is not short any more: then it waits for an operator as
        before, who was asked and has not decided."""
        self.approve(recovery_id, f"{WHILE_SHORT}{reason}")

    def take_over(self, recovery_id: str, reason: str) -> None:
        """An operator repairs this one: the engine leaves it alone, and its exposure stays counted."""
        operation = self._recovery.cancel_recovery(recovery_id, reason)
        if operation is not None:
            self._orders.repair_pace(operation).held = True
        self._end_hold(reason)

    def recover(self, operation_id: str, reason: str) -> None:
        """Begins the recovery of an open operation now, as its orders' silence or a restart would; nothing where it is
        under way already, or waits for an operator."""
        operation = self._ledger.open_operations.get(operation_id)
        if operation is None or self._recovery.held_by_operator(operation):
            return
        if operation.state is not ArbitrageState.RECOVERING:
            self._states.transition_to_recovery(operation, reason)
            self._recovery.initiate_recovery(operation, "resolve", reason)
        self._orders.advance(operation)

    def release_all(self, reason: str) -> None:
        """Every recovery that waits for an operator goes on, or would wait again once its margin is not short."""
        lent = [name for name, recovery in self._ledger.recoveries.items() if is_lent(recovery)]
        for recovery_id in (*self._recovery.waiting(), *lent):
            self.approve(recovery_id, reason)

    def recovered(self, operation: Operation, reason: str) -> None:
        """An operation has ended: what was kept for it is over."""
        self._recovery.finished(operation, reason)
        self._end_hold(f"operation {operation.operation_id} has ended: {reason}")

    def _end_hold(self, reason: str) -> None:
        why = self._ledger.breakers.get(RECOVERY_HOLD)
        if why is not None and not why.startswith(KEPT) and not self._recovery.waiting():
            self._risk.rearm(RECOVERY_HOLD, reason)
