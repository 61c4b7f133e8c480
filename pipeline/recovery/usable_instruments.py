"""Whether an instrument may be used now: for entries, exits, and repairs, of its own operations and of others."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.bounds.repair_terms import Obstacle
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import InstrumentSpec
from pipeline.recovery.manager import RecoveryManager
from pipeline.risk.gate import Gate


@dataclass(slots=True)
class Usable:
    """Asks those who know."""

    balances: BalanceMonitor
    recovery: RecoveryManager
    gate: Gate

    def doubtful(self, spec: InstrumentSpec) -> str:
        """Why no entry may be made on an instrument: its account, that one's modes, or its row; "" where all are
        known."""
        account, rows = self.recovery.account, self.recovery.rows
        return account.doubtful(spec) or rows.doubtful(spec) or self.gate.settings.refusal(spec.venue)

    def doubts(self) -> set[tuple[str, str]]:
        """(venue, symbol or coin) of everything for which :meth:`doubtful` says no, but for a venue's modes."""
        account, rows = self.recovery.account, self.recovery.rows
        return {*account.doubts, *account.unreadable.places(), *rows.places()}

    def questioned(self, venue: str, symbol: str) -> bool:
        """Whether nothing is to be decided about an instrument: its position is being looked up, or its row read."""
        return self.recovery.questioned(venue, symbol)

    def in_question(self, venue: str, symbol: str) -> bool:
        """Whether its row is being read anew: nothing is sent there meanwhile."""
        return self.recovery.rows.in_question(venue, symbol)

    def row(self, row: InstrumentRow) -> InstrumentRow:
        """The row with the steps and bounds that the venue has now."""
        return self.recovery.rows.row(row)

    def besides(self, spec: InstrumentSpec) -> bool:
        """Whether an instrument that is no leg of an operation may repair it."""
        return self.barred(spec) is None

    def barred(self, spec: InstrumentSpec) -> Obstacle | None:
        """Why an instrument that is no leg of an operation may not repair it; None where it may."""
        if not self.balances.session_up(spec.venue) or spec.venue not in self.recovery:
            return Obstacle("its session is down")
        stopped, first = self.gate.stopped_alone(spec)
        if stopped:  # before what ends by itself: it waits for an operator
            return Obstacle(stopped, first)
        doubt = self.doubtful(spec)
        return Obstacle(doubt) if doubt else None

    def asked_about(self, operation_id: str) -> bool:
        """Whether an operator is asked if orders of an operation never executed."""
        return operation_id in self.recovery.unproved
