"""Unknown orders that no sweep shows while their venue's balance, or position, has moved: they may have executed.

Only an operator may say that such an order never did. What he says holds for the orders that he was asked about, not
for a later one of the same operation, and nothing else that lets a recovery go on says it.
"""

from __future__ import annotations

from pipeline.execution.ledger import Ledger, Order


class Unproved:
    """Which orders an operator is asked about, and of which he has said that they never executed. In memory: after a
    restart he is asked again."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._asked: dict[str, dict[str, str]] = {}  # operation -> client id -> what its operator is asked
        self._never_executed: set[str] = set()

    def texts(self) -> dict[str, str]:
        """Operation -> what its operator is asked."""
        unsettled = self._ledger.unsettled
        found = {
            operation_id: "; ".join(text for client_id, text in asked.items() if client_id in unsettled)
            for operation_id, asked in self._asked.items()
        }
        return {operation_id: text for operation_id, text in found.items() if text}

    def ask(self, order: Order, text: str) -> bool:
        """An operator must decide about an order; whether that is new."""
        asked = self._asked.setdefault(order.intent.operation_id, {})
        new = order.client_id not in asked
        asked[order.client_id] = text
        return new

    def decided(self, order: Order) -> bool:
        """Whether an operator has said that an order never executed."""
        return order.client_id in self._never_executed

    def decide(self, operation_id: str) -> None:
        """An operator says that what he was asked about never executed."""
        self._never_executed.update(self._asked.pop(operation_id, ()))

    def ended(self, operation_id: str) -> None:
        """An operation is over."""
        self._asked.pop(operation_id, None)
        orders = self._ledger.operations[operation_id].orders if operation_id in self._ledger.operations else ()
        self._never_executed.difference_update(orders)
