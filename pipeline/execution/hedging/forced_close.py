"""Hedges that are closed because an operator says so: as far as books, balances and lots allow, or a reason why not.

A forced exit needs no profit and passes under halt and breakers. It needs a book that is not dead, because the price is
bounded by it: the bound widens as that of exits that must be, by the time since it was asked. What one attempt cannot
close (depth, an unsettled order, a venue that is away) is tried again for a minute, or until the widest bound was tried
where that takes longer; where orders closed nothing, with growing pauses (``attempts.py``). What is open then is given
up, and an operator is told. For a hedge that an entry under way opens all this begins when it is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.attempts import CloseAnswer, ForcedAttempts
from pipeline.execution.hedging.exits import all_bounds_ns, forced_bound_bps, named
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import OpportunityType
from pipeline.model.units import NS_PER_S

NOT_FILLED = "its orders have not closed it yet"
RETRY_NS = 60_000_000_000  # how long a forced close is tried again by itself, at least


@dataclass(slots=True)
class Asked:
    """Since when a hedge is to be closed, and until when that is tried, mono ns. Asked again it is the first time that
    counts: the bound does not narrow."""

    since_mono_ns: int
    until_mono_ns: int


class ForcedClose:
    """Which hedges are to be closed by command, and the plan of each (see the module's docstring)."""

    def __init__(self, context: CoreContext, attempts: ForcedAttempts) -> None:
        self._context = context
        self._attempts = attempts
        self._asked: dict[str, Asked] = {}
        self.answers: dict[str, CloseAnswer] = {}  # hedge -> its newest attempt
        self.given_up: dict[str, str] = {}  # hedge that was to be closed and is open still -> what kept it

    def ask(self, hedge_ids: Iterable[str]) -> None:
        """Closes these hedges from now on, until all bounds were tried."""
        for hedge_id in hedge_ids:
            now_ns = self._context.now.mono_ns
            asked = self._asked.setdefault(hedge_id, Asked(now_ns, 0))
            asked.until_mono_ns = now_ns + self._tried_ns
            self.answers.pop(hedge_id, None)
            self.given_up.pop(hedge_id, None)
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
    def _tried_ns(self) -> int:
        return max(RETRY_NS, all_bounds_ns(self._context.config.detection.hedge.exit))

    @property
    def wanted(self) -> tuple[str, ...]:
        """Hedges that are being closed, and entries whose hedges will be."""
        return tuple(self._asked)

    def goes_on(self, hedge_id: str) -> str:
        """How a hedge is being closed now; "" where it is not, or has left."""
        hedge, asked = self._context.ledger.hedges.get(hedge_id), self._asked.get(hedge_id)
        if hedge is None or asked is None:
            return ""
        left_s = max(0, asked.until_mono_ns - self._context.now.mono_ns) // NS_PER_S
        return f"within {self._bound_bps(hedge)} bps of the best prices now, for {left_s} s more"

    def texts(self) -> dict[str, str]:
        """Open hedge that is being closed -> how, and what keeps it, in words."""
        found = {name: self.goes_on(name) for name in self._asked}
        return {name: f"{how}; not yet: {self._why(name)}" for name, how in found.items() if how}

    def _why(self, hedge_id: str) -> str:
        answer = self.answers.get(hedge_id)
        return (answer.reason if answer is not None else "") or NOT_FILLED

    def _bound_bps(self, hedge: HedgeRecord) -> Decimal:
        asked, now_ns = self._asked.get(hedge.operation_id), self._context.now.mono_ns
        age_ns = 0 if asked is None else now_ns - asked.since_mono_ns
        return forced_bound_bps(self._context.config.detection.hedge.exit, age_ns)

    def _end(self) -> None:
        """Forgets what has left, and gives up what was tried for long enough."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        self.given_up = {name: why for name, why in self.given_up.items() if name in ledger.hedges}
        for hedge_id, asked in list(self._asked.items()):
            hedge = ledger.hedges.get(hedge_id)
            if hedge is None and hedge_id not in ledger.open_operations:
                del self._asked[hedge_id]
            elif hedge is None:  # its entry may wait for a proof, or for an operator, for longer than a close is tried
                self._asked[hedge_id] = Asked(now_ns, now_ns + self._tried_ns)
            elif now_ns > asked.until_mono_ns:
                del self._asked[hedge_id]
                why = self.given_up[hedge_id] = self._why(hedge_id)
                tried_s = self._tried_ns // NS_PER_S
                text = f"{named(hedge)} is not closed, tried for {tried_s} s: {why}; `arb close {hedge_id}` again"
                self._context.alert(2, "close_given_up", text)

    def due(self) -> Iterator[CloseAnswer]:
        """A new attempt for each hedge that is to be closed and is not being closed already. One at a time: the caller
        sends what it is given before it asks for the next, which must see its orders, reservations and operation."""
        self._end()
        for hedge_id in list(self._asked):
            hedge = self._context.ledger.hedges.get(hedge_id)
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
        return self._attempts.attempt(hedge, self._bound_bps(hedge))

    def foreseen(self, hedge: HedgeRecord) -> CloseAnswer:
        """What a close would send: within the first bound that lets anything leave now. Changes nothing."""
        for bound_bps in self._context.config.detection.hedge.exit.forced_slippage_bps:
            answer = self._attempts.attempt(hedge, bound_bps)
            if answer.plan is not None:
                break
        return answer
