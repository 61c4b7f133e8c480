"""Opportunities that the executor's gate refuses: what is written, what is sent to the detector, what is counted."""

from __future__ import annotations

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import Opportunity, Refused, Report
from pipeline.execution.plan import Rejected
from pipeline.execution.records import RefusalRecord
from pipeline.model.enums import Refusal, ReportOutcome

RECORDS_PER_S = 5  # refusals that become records; all are counted
PAUSE_NS = 5_000_000  # the detector may offer the same direction again after this


class Refusals:
    """``count``: of this run. ``last``: the newest one, as text; ``newest``: its gate."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self.count = 0
        self.last = ""
        self.newest = Refusal.NONE
        self._second = 0
        self._records = 0

    def refuse(self, opportunity: Opportunity, verdict: Rejected) -> None:
        """An opportunity is not taken for this reason."""
        context = self._context
        self.count += 1
        self.newest = verdict.refusal
        self.last = f"{verdict.refusal.name.lower()}: {verdict.detail}"
        second = context.now.mono_ns // 1_000_000_000
        if second != self._second:
            self._second, self._records = second, 0
        if self._records < RECORDS_PER_S:
            self._records += 1
            row = context.instruments.get(opportunity.legs[0].instrument_id) if opportunity.legs else None
            pair = row.spec.pair if row is not None else ""
            context.record(RefusalRecord(opportunity.opportunity_id, pair, verdict.refusal, verdict.detail[:200]))
        context.act(Refused(opportunity.opportunity_id, verdict.refusal, verdict.detail))
        context.act(
            Report(
                opportunity.opportunity_id,
                ReportOutcome.REFUSED,
                opportunity.direction_key,
                context.now.mono_ns + PAUSE_NS,
                verdict.refusal,
            )
        )
