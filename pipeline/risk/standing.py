"""Whether what has tripped a breaker stands still, by the limits and fees that hold now, and what solves it by now.

A breaker's reason is what was true when it tripped. Its way out is not: limits are reloaded, fees are configured or
read anew, a day ends. What can be computed at once is computed here; of everything else the reason's own words hold.
"""

from __future__ import annotations

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.core_context import CoreContext
from pipeline.model.fixedpoint import plain
from pipeline.risk.breakers import LOSS_LIMIT, NAKED, rearm_text, scope, solve
from pipeline.risk.naked import NakedWatch
from pipeline.risk.worth import Worth


class Standing:
    """One per core; every answer is of this moment."""

    def __init__(self, context: CoreContext, worth: Worth, naked: NakedWatch, fees: AccountFees) -> None:
        self._context = context
        self._worth = worth
        self._naked = naked
        self._fees = fees

    def still(self, name: str) -> str:
        """Why a breaker would trip again if it were re-armed now; "" where it would not, or nothing tells."""
        if name in LOSS_LIMIT:
            loss = self._worth.loss_of(name, self._context.config.risk_limits)
            return "" if loss is None else loss.text
        return self._fee(name) or ""

    def after(self, name: str) -> str:
        """What may trip a breaker again soon after its re-arm, which counts it anew; "" where nothing is left."""
        if name != NAKED or not self._naked.usd_s:
            return ""
        return (
            f"what stands alone is counted anew, up to {plain(self._context.config.naked_usd_s)} USD x s: it trips "
            "again where `arb recoveries` still lists it then"
        )

    def solve(self, name: str) -> str:
        """What solves a tripped breaker now."""
        reason = self._context.ledger.breakers.get(name, "")
        still, rearm = self.still(name), rearm_text(name)
        if name in LOSS_LIMIT:
            return solve(name, still) if still else f"the loss is within its limit by now: {rearm}"
        fee = self._fee(name)
        if fee is None:
            return solve(name, reason)
        return f"{fee}: {solve(name, reason)}" if fee else f"the fee that was charged is what counts by now: {rearm}"

    def _fee(self, name: str) -> str | None:
        """Of a fee breaker: how what was charged differs from what the catalogue counts with, "" where it does not by
        now; None of every other, and where the reason does not tell."""
        row = self._context.instruments.find(*scope(name)) if name.startswith("fee.") else None
        return None if row is None else self._fees.still(row, self._context.ledger.breakers.get(name, ""))
