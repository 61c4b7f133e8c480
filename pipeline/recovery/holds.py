"""What an operator decides about breakers and held recoveries, so that nothing that was stopped stays stopped unseen.

A recovery that waits for an operator stands behind the breaker ``recovery_hold``. Whichever of the two is decided, the
other follows: re-arming the breaker lets every held recovery go on, and the breaker is over once none waits any more.
"""

from __future__ import annotations

from pipeline.execution.ledger import Ledger
from pipeline.execution.orchestrator import RECOVERY_HOLD, OrderOrchestrator
from pipeline.recovery.manager import RecoveryManager
from pipeline.risk.manager import RiskManager


class Holds:
    """Carries out what an operator decided; ``reason`` is kept in the journal."""

    def __init__(self, ledger: Ledger, risk: RiskManager, recovery: RecoveryManager, orders: OrderOrchestrator) -> None:
        self._ledger = ledger
        self._risk = risk
        self._recovery = recovery
        self._orders = orders

    def rearm(self, name: str, reason: str) -> None:
        """Re-arms a breaker; nothing where it is not tripped."""
        if self._risk.rearm(name, reason) and name == RECOVERY_HOLD:
            self.release_all(reason)

    def approve(self, recovery_id: str, reason: str) -> None:
        """Lets a recovery go on."""
        operation = self._recovery.approve(recovery_id, reason)
        if operation is not None:
            self._orders.release(operation)
        self._end_hold(reason)

    def take_over(self, recovery_id: str, reason: str) -> None:
        """An operator repairs this one: the engine leaves it alone, and its exposure stays counted."""
        operation = self._recovery.cancel_recovery(recovery_id, reason)
        if operation is not None:
            self._orders.repair_pace(operation).held = True
        self._end_hold(reason)

    def release_all(self, reason: str) -> None:
        """Every recovery that waits for an operator goes on."""
        for recovery_id in self._recovery.waiting():
            self.approve(recovery_id, reason)

    def _end_hold(self, reason: str) -> None:
        if RECOVERY_HOLD in self._ledger.breakers and not self._recovery.waiting():
            self._risk.rearm(RECOVERY_HOLD, reason)
