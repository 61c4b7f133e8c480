"""The operation's state machine: one table that judges every step and draws the diagram.

An operation is found in four states: EXECUTING from the record that creates it, RECOVERING, COMPLETED and FAILED
(``ArbitrageState.persists``). IDLE, DETECTING and OPPORTUNITY_FOUND are the detector's work on the
opportunity, over before there is an operation. They stand in the audit trail as the operation's origin (``ORIGIN``),
and no operation is ever in them.

The README's diagram of the saga is what :func:`state_diagram` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pipeline.execution.ledger import Ledger, Operation
from pipeline.execution.records import OperationRecord, OperationStateRecord, Record
from pipeline.model.enums import ArbitrageState
from pipeline.model.errors import OrderExecutionError

S = ArbitrageState


class Step(NamedTuple):
    """One step of the machine; ``when`` says in plain text what leads to it."""

    before: ArbitrageState
    after: ArbitrageState
    when: str


#: The whole machine. COMPLETED and FAILED may reopen: a late fill is evidence, not an error.
STEPS = (
    Step(S.EXECUTING, S.COMPLETED, "every leg filled"),
    Step(S.EXECUTING, S.FAILED, "nothing filled, or less than any venue trades"),
    Step(S.EXECUTING, S.RECOVERING, "a leg broke, an outcome is unknown, or a start found it open"),
    Step(S.RECOVERING, S.COMPLETED, "repaired, or every leg proved filled"),
    Step(S.RECOVERING, S.FAILED, "nothing filled, or less than any venue trades"),
    Step(S.RECOVERING, S.EXECUTING, "by a caller's command, never by the saga"),
    Step(S.COMPLETED, S.RECOVERING, "late evidence reopened it"),
    Step(S.FAILED, S.RECOVERING, "late evidence reopened it"),
)
#: State -> states that may follow.
NEXT: dict[ArbitrageState, frozenset[ArbitrageState]] = {
    state: frozenset(step.after for step in STEPS if step.before is state) for state in S if state.persists
}
#: How the detector and the gate led to an operation: steps of the audit trail that move no operation.
ORIGIN = (
    Step(S.IDLE, S.DETECTING, "detected"),
    Step(S.DETECTING, S.OPPORTUNITY_FOUND, "detected"),
    Step(S.OPPORTUNITY_FOUND, S.EXECUTING, "gate approved"),
)


def state_diagram() -> str:
    """The machine as a Mermaid state diagram, without a line end behind the last line."""
    lines = ["stateDiagram-v2", f"    [*] --> {S.EXECUTING.name}: {ORIGIN[-1].when}, intents in the journal"]
    lines += [f"    {step.before.name} --> {step.after.name}: {step.when}" for step in STEPS]
    return "\n".join(lines)


class StateController:
    """Creates operations and moves them; every step is a journal record, and there is no other way to move."""

    def __init__(self, ledger: Ledger, emit: Callable[[Record], None]) -> None:
        self._ledger = ledger
        self._emit = emit

    def create_operation(self, record: OperationRecord) -> Operation:
        """Records a new operation; it is EXECUTING."""
        self._emit(record)
        return self._ledger.operations[record.operation_id]

    def record_origin(self, operation: Operation) -> None:
        """Writes the origin of a new operation to the audit trail.

        It says nothing that the operation's record and intents do not say, so the caller writes it behind the sends;
        an operation whose process was killed before has a shorter trail.
        """
        for step in ORIGIN:
            self._emit(OperationStateRecord(operation.operation_id, step.before, step.after, step.when))

    def transition_state(self, operation: Operation, to: ArbitrageState, reason: str) -> None:
        """Moves an operation. Raises OrderExecutionError on a step that the table does not have."""
        if to not in NEXT[operation.state]:
            raise OrderExecutionError(
                f"operation {operation.operation_id}: no step from {operation.state.name} to {to.name} ({reason})"
            )
        self._emit(OperationStateRecord(operation.operation_id, operation.state, to, reason))

    def transition_to_recovery(self, operation: Operation, reason: str) -> None:
        """Enters RECOVERING from any state; an operation that is in it already stays."""
        if operation.state is not S.RECOVERING:
            self.transition_state(operation, S.RECOVERING, reason)

    def get_operations_by_state(self, state: ArbitrageState) -> list[Operation]:
        """Operations in memory that are in ``state`` now; none for a state that does not persist. Those settled
        long ago have left it; ``results/counts.py`` counts all."""
        return [operation for operation in self._ledger.operations.values() if operation.state is state]

    def audit_trail(self, operation_id: str) -> list[tuple[int, OperationStateRecord]]:
        """(mono ns, step) of one operation, oldest first, as far as memory reaches (the journal has all)."""
        return [(at, step) for at, step in self._ledger.audit if step.operation_id == operation_id]
