"""``RecoveryManager``: recoveries of broken operations of a running instance."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from arbitrage.instance import Instance
from pipeline.model.errors import BadInput, RecoveryError


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """One recovery that is not over. ``unmatched``: what stands alone, by coin."""

    recovery_id: str
    operation_id: str
    pair: str
    strategy: str
    state: str
    requires_manual_approval: bool
    reason: str
    since_wall_ns: int
    unmatched: dict[str, Decimal]


class RecoveryManager:
    """The executor recovers by itself; an operator sees it here, and decides what waits for him."""

    def __init__(self, config: object) -> None:
        """``config``: what names the instance (see ``Instance``)."""
        self._instance = Instance(config)

    async def initiate_recovery(self, operation_id: str, reason: str) -> str:
        """Begin the recovery of an open operation now; its id. Raises RecoveryError where it is not open."""
        try:
            reply = await self._instance.ask_executor("recover", id=operation_id, reason=reason)
        except BadInput as error:
            raise RecoveryError(str(error)) from None
        return str(reply["recovery_id"])

    def get_active_recoveries(self) -> list[Recovery]:
        """Recoveries that are not over, those that wait for an operator among them. Raises ControlError."""
        return [
            msgspec.convert(row, Recovery, strict=False) for row in self._instance.executor("recoveries")["recoveries"]
        ]

    async def approve_recovery(self, recovery_id: str, reason: str = "") -> None:
        """Let a recovery that waits go on. Raises RecoveryError where there is none of that id."""
        await self._decide("approve", recovery_id, reason)

    async def cancel_recovery(self, recovery_id: str, reason: str = "") -> None:
        """Take it over: the engine repairs it no further, its exposure stays counted. Raises RecoveryError."""
        await self._decide("cancel", recovery_id, reason)

    async def _decide(self, op: str, recovery_id: str, reason: str) -> None:
        try:
            await self._instance.ask_executor(op, id=recovery_id, reason=reason)
        except BadInput as error:
            raise RecoveryError(str(error)) from None

    def get_recovery_statistics(self) -> dict[str, float]:
        """``started``, ``done``, ``active`` of those in the executor's memory; ``success_rate``: done in per cent."""
        reply = self._instance.executor("recoveries")
        counts = {name: float(reply[name]) for name in ("started", "done", "active")}
        return {**counts, "success_rate": round(100 * float(reply["success_rate"]), 2)}
