"""The operation's state machine (requirements S5, S15) as a table, and its controller with an audit trail."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.records import OperationRecord, OperationStateRecord, Record
from pipeline.model.enums import ArbitrageState
from pipeline.model.errors import OrderExecutionError

S = ArbitrageState

#: state -> states that may follow. COMPLETED and FAILED may reopen: a late fill is evidence, not an error.
NEXT: dict[ArbitrageState, frozenset[ArbitrageState]] = {
    S.IDLE: frozenset({S.DETECTING, S.RECOVERING}),
    S.DETECTING: frozenset({S.OPPORTUNITY_FOUND, S.IDLE, S.RECOVERING}),
    S.OPPORTUNITY_FOUND: frozenset({S.EXECUTING, S.FAILED, S.RECOVERING}),
    S.EXECUTING: frozenset({S.COMPLETED, S.FAILED, S.RECOVERING}),
    S.COMPLETED: frozenset({S.RECOVERING}),
    S.FAILED: frozenset({S.RECOVERING}),
    S.RECOVERING: frozenset({S.IDLE, S.DETECTING, S.EXECUTING, S.COMPLETED, S.FAILED}),
}
#: how a new operation came to be: the detector's work, told by its record
BIRTH = (S.DETECTING, S.OPPORTUNITY_FOUND, S.EXECUTING)


class StateController:
    """Creates operations and moves them; every step is a journal record, and there is no other way to move."""

    def __init__(self, ledger: Ledger, emit: Callable[[Record], None]) -> None:
        self._ledger = ledger
        self._emit = emit

    def create_operation(self, record: OperationRecord) -> Operation:
        """A new operation, IDLE until :meth:`begin`."""
        self._emit(record)
        return self._ledger.operations[record.operation_id]

    def begin(self, operation: Operation) -> None:
        """Walks a new operation through its birth states to EXECUTING. They say nothing that its record and intents
        do not say, so they are written behind the sends; a start finds an operation without them IDLE."""
        for state in BIRTH:
            self.transition_state(operation, state, "detected" if state is not S.EXECUTING else "gate approved")

    def transition_state(self, operation: Operation, to: ArbitrageState, reason: str) -> None:
        """Moves an operation. Raises OrderExecutionError on a step that the table does not have."""
        if to not in NEXT[operation.state]:
            raise OrderExecutionError(
                f"operation {operation.operation_id}: no step from {operation.state.name} to {to.name} ({reason})"
            )
        self._emit(OperationStateRecord(operation.operation_id, operation.state, to, reason))

    def transition_to_recovery(self, operation: Operation, reason: str) -> None:
        """Enters RECOVERING from any state; already there is no step."""
        if operation.state is not S.RECOVERING:
            self.transition_state(operation, S.RECOVERING, reason)

    def get_operations_by_state(self, state: ArbitrageState) -> list[Operation]:
        return [operation for operation in self._ledger.operations.values() if operation.state is state]

    def audit_trail(self, operation_id: str) -> list[tuple[int, OperationStateRecord]]:
        """(mono ns, step) of one operation, oldest first, as far as memory reaches (the journal has all)."""
        return [(at, step) for at, step in self._ledger.audit if step.operation_id == operation_id]
