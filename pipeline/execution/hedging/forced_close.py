"""Hedges that are closed because an operator says so: as far as books, balances and lots allow, or a reason why not.

A forced exit needs no profit and passes under halt and breakers. It needs a book that is not dead, because the price is
bounded by it. What one attempt cannot close (depth, an unsettled order, a venue that is away) is tried again until the
time that the operator gave is over; where orders closed nothing, with growing pauses (``attempts.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.attempts import CloseAnswer, ForcedAttempts
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import OpportunityType

RETRY_NS = 60_000_000_000  # how long a forced close is tried again by itself


class ForcedClose:
    """Which hedges are to be closed by command, and the plan of each (see the module's docstring)."""

    def __init__(self, context: CoreContext, attempts: ForcedAttempts) -> None:
        self._context = context
        self._attempts = attempts
        self._until_mono_ns: dict[str, int] = {}
        self.answers: dict[str, CloseAnswer] = {}  # hedge -> its newest attempt

    def ask(self, hedge_ids: Iterable[str]) -> None:
        """Closes these hedges from now on, for ``RETRY_NS``."""
        for hedge_id in hedge_ids:
            self._until_mono_ns[hedge_id] = self._context.now.mono_ns + RETRY_NS
            self.answers.pop(hedge_id, None)
            self._attempts.at_once(hedge_id)

    def by_command(self, hedge_id: str) -> None:
        """Closes one hedge; "": all, those too that entries under way are about to open."""
        if hedge_id:
            self.ask([hedge_id])
            return
        opening = (
            name
            for name, operation in self._context.ledger.open_operations.items()
            if operation.record.type is OpportunityType.SPOT_FUTURES_HEDGE and not operation.record.closes
        )
        self.ask(dict.fromkeys([*self._context.ledger.hedges, *opening]))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Hedges that are being closed, and entries whose hedges will be."""
        return tuple(self._until_mono_ns)

    def due(self) -> Iterator[CloseAnswer]:
        """A new attempt for each hedge that is to be closed and is not being closed already. One at a time: the caller
        sends what it is given before it asks for the next, which must see its orders, reservations and operation."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        for hedge_id, until_ns in list(self._until_mono_ns.items()):
            gone = hedge_id not in ledger.hedges and hedge_id not in ledger.open_operations
            if gone or now_ns > until_ns:
                del self._until_mono_ns[hedge_id]
        for hedge_id in list(self._until_mono_ns):
            hedge = ledger.hedges.get(hedge_id)
            if hedge is None:
                continue
            under_way = self._attempts.under_way(hedge_id)
            refused = "" if under_way else self._attempts.refused_text(hedge)
            if refused:
                self.answers[hedge_id] = CloseAnswer(hedge=hedge, reason=refused, left=hedge.qty)
            if not self._attempts.is_due(hedge):
                continue
            answer = self.attempt(hedge)
            if answer.plan is not None:
                self._attempts.attempted(hedge)
            if hedge_id not in self.answers or not (under_way or (refused and answer.plan is not None)):
                self.answers[hedge_id] = answer
            yield answer

    def attempt(self, hedge: HedgeRecord) -> CloseAnswer:
        """The plan that closes as much of a hedge as can be closed now, or why nothing can. Changes nothing."""
        return self._attempts.attempt(hedge, self._context.config.risk_limits.max_slippage_bps)
