"""How a manual opportunity ended, and which ends are raised."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.model.enums import ArbitrageState, Refusal
from pipeline.model.errors import OrderExecutionError, RecoveryError, RiskManagementError

#: Refusals by a limit, a breaker or a halt: raised as RiskManagementError. Every other one (the market moved, a book or
#: a balance is not proved, enough orders in this second) is a result that FAILED: nothing was sent; ask again.
BY_RISK = frozenset(
    {
        Refusal.HALT_LATCH,
        Refusal.VENUE_BLOCKED,
        Refusal.POSITION_LIMIT,
        Refusal.EXPOSURE_LIMIT,
        Refusal.DAILY_LOSS,
        Refusal.BREAKER,
        Refusal.MARGIN_LIMIT,
        Refusal.DISABLED_TYPE,
        Refusal.QUARANTINED,
        Refusal.BELOW_MIN_PROFIT,
    }
)


class ExecutionResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a manual opportunity ended.

    ``final_state``: COMPLETED, or FAILED: nothing was executed, or nothing is left of it. ``realized_profit`` in
    ``numeraire``, 0 where nothing was executed. ``reason`` says why; ``refusal``: the gate that refused it, else NONE.
    """

    final_state: ArbitrageState
    total_execution_time_ms: float
    realized_profit: Decimal
    numeraire: str = ""
    operation_id: str = ""
    reason: str = ""
    refusal: Refusal = Refusal.NONE


def refusal_of(reply: Mapping[str, Any]) -> Refusal:
    """The gate that refused, of a reply of the executor."""
    return Refusal[str(reply.get("refusal") or "none").upper()]


def result_of(reply: Mapping[str, Any]) -> ExecutionResult:
    """The result that a reply of the executor tells.

    Raises RiskManagementError where a limit, a breaker or a halt refused it, OrderExecutionError where it has not
    ended: a leg broke and the recovery goes on by itself; RecoveryError where that waits for an operator.
    """
    state, reason = str(reply["final_state"]), str(reply.get("reason", ""))
    operation = str(reply.get("operation_id", ""))
    if state == "refused":
        refusal = refusal_of(reply)
        if refusal in BY_RISK:
            raise RiskManagementError(f"refused by risk: {reason}; nothing was sent")
        return ExecutionResult(
            final_state=ArbitrageState.FAILED,
            total_execution_time_ms=0.0,
            realized_profit=Decimal(0),
            reason=reason,
            refusal=refusal,
        )
    if str(reply.get("outcome", "")) == "unresolved":
        raise RecoveryError(f"operation {operation}: {reason}; see `arb recoveries`, recovery r{operation}")
    if state not in ("completed", "failed"):
        text = f"operation {operation} is {state}" if operation else f"{state}: {reason}"
        raise OrderExecutionError(f"{text}; recovery goes on by itself, see `arb why {operation}`")
    return ExecutionResult(
        final_state=ArbitrageState[state.upper()],
        total_execution_time_ms=float(reply.get("total_execution_time_ms") or 0.0),
        realized_profit=Decimal(str(reply.get("realized_profit") or 0)),
        numeraire=str(reply.get("numeraire", "")),
        operation_id=operation,
        reason=reason,
    )
