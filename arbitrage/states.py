"""``StateController``: operations of a running instance by their states."""

from __future__ import annotations

from typing import Any

from arbitrage.instance import Instance
from arbitrage.orders import legs_of
from arbitrage.results import result_of
from pipeline.model.enums import ArbitrageState
from pipeline.model.errors import OrderExecutionError
from pipeline.model.structs import ArbitrageOpportunity


class StateController:
    """States follow from what the venues report; an operator may begin a recovery, and nothing else by hand."""

    def __init__(self, config: object) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)

    async def create_operation(self, opportunity: ArbitrageOpportunity) -> str:
        """Begin the operation of a manual opportunity without waiting for its end; its id. Raises BadInput,
        RiskManagementError; OrderExecutionError where the gate refused it for another reason."""
        legs = await legs_of(self._instance, opportunity)
        reply = await self._instance.ask_executor("execute", opportunity=legs, wait=False)
        if not reply.get("operation_id"):
            raise OrderExecutionError(f"no operation: {result_of(reply).reason}")
        return str(reply["operation_id"])

    async def transition_state(self, operation_id: str, state: ArbitrageState, reason: str) -> None:
        """To RECOVERING, see :meth:`transition_to_recovery`. Raises OrderExecutionError for every other state: an
        operation is COMPLETED or FAILED by its fills."""
        if state is not ArbitrageState.RECOVERING:
            raise OrderExecutionError(
                f"operation {operation_id}: found a step to {state} by hand, wanted RECOVERING: every other state "
                "follows from what the venues report"
            )
        await self.transition_to_recovery(operation_id, reason)

    async def transition_to_recovery(self, operation_id: str, reason: str) -> str:
        """Begin the recovery of an open operation; the recovery's id. Raises BadInput where it is not open."""
        reply = await self._instance.ask_executor("recover", id=operation_id, reason=reason)
        return str(reply["recovery_id"])

    def get_operations_by_state(self, state: ArbitrageState) -> list[dict[str, Any]]:
        """Operations in the executor's memory that are in ``state``, the newest last (``arb report`` has all)."""
        return list(self._instance.executor("by_state", state=state.name)["operations"])

    def get_operation(self, operation_id: str) -> dict[str, Any]:
        """One operation in the executor's memory. Raises BadInput where it has left it (``arb why`` has all)."""
        found: dict[str, Any] = self._instance.executor("by_state", id=operation_id)["operations"][0]
        return found

    def audit_trail(self, operation_id: str) -> list[dict[str, Any]]:
        """Its steps: mono_ns, from, to, reason, oldest first. Raises BadInput as :meth:`get_operation`."""
        return list(self._instance.executor("by_state", id=operation_id)["trail"])
