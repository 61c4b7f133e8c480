"""How operations are counted, and the rates that follow: the one definition for engine, report, status and demo.

``total = completed + failed + recovered + unresolved`` and ``total = entries + exits`` always hold. Rates are over
what has ended; None where nothing has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from pipeline.execution.ledger import Ledger
from pipeline.execution.records import Outcome
from pipeline.execution.results.round_trips import RoundTrips


class EndedOperation(NamedTuple):
    """What counts of one operation. ``outcome`` None: it has no result yet. ``closes``: the hedge's entry, or ""."""

    outcome: Outcome | None
    closes: str


class OpenTrips(NamedTuple):
    """Open hedges by what leaving would bring now (V of ``economics/hedge_exit.py``): above 0, below 0, not known."""

    won: int = 0
    lost: int = 0
    unknown: int = 0

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]]) -> OpenTrips:
        """Of open hedges as the executor shows them."""
        said = [row.get("value_of_leaving_bps") for row in rows]
        known = [Decimal(str(value)) for value in said if value is not None]
        return cls(sum(v > 0 for v in known), sum(v < 0 for v in known), len(said) - len(known))


NONE_OPEN = OpenTrips()


class OperationCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Operations by how they ended, and round trips by how they came out.

    ``entries``: operations that took an opportunity; ``exits``: those that close a hedge. ``completed``: every leg
    filled. ``recovered``: a leg broke, and the exposure was repaired. ``failed``: nothing filled, or less than any
    venue trades. ``unresolved``: under way, or waiting for proof or for an operator. ``won``, ``lost``: closed round
    trips (a hedge's entry and exits are one) that gained, that lost.
    """

    entries: int = 0
    exits: int = 0
    completed: int = 0
    failed: int = 0
    recovered: int = 0
    unresolved: int = 0
    won: int = 0
    lost: int = 0

    @property
    def total(self) -> int:
        """All operations."""
        return self.entries + self.exits

    @property
    def success_rate(self) -> float | None:
        """Completed per ended operation: a broken leg is no success, whatever its repair cost."""
        return _rate(self.completed, self.completed + self.failed + self.recovered)

    @property
    def win_rate(self) -> float | None:
        """Closed round trips that gained, of those that gained or lost: it leaves out what stays open because it
        loses."""
        return _rate(self.won, self.won + self.lost)

    def win_rate_with(self, open_: OpenTrips) -> float | None:
        """The same, with the open hedges by what leaving would bring now."""
        won = self.won + open_.won
        return _rate(won, won + self.lost + open_.lost)

    @classmethod
    def of(cls, fields: Mapping[str, int]) -> OperationCounts:
        """The counts that :meth:`fields` has shown."""
        return cls(**{name: fields.get(name, 0) for name in cls.__struct_fields__})

    def fields(self) -> dict[str, Any]:
        """The counts as ``arb`` prints them under ``operations``."""
        return {"total": self.total, **msgspec.structs.asdict(self)}

    def trips_text(self, open_: OpenTrips) -> str:
        """Round trips won and lost, and beside the win rate of the closed ones that with the open ones."""
        text = f"{self.won} won, {self.lost} lost, win rate {share(self.win_rate)}"
        if open_ == NONE_OPEN:
            return text
        value = f"{open_.won} would win, {open_.lost} lose" + (f", {open_.unknown} not known" if open_.unknown else "")
        return f"{text} of the closed, {share(self.win_rate_with(open_))} with the {sum(open_)} open ({value})"

    def text(self, open_: OpenTrips = NONE_OPEN) -> str:
        """The counts in one line."""
        return (
            f"{self.total} ({self.entries} entries, {self.exits} hedge exits): {self.completed} completed, "
            f"{self.failed} failed, {self.recovered} recovered, {self.unresolved} unresolved; success "
            f"{share(self.success_rate)}; round trips {self.trips_text(open_)}"
        )


def share(value: float | None) -> str:
    """A rate as text in per cent; ``-`` where there is none."""
    return "-" if value is None else f"{value * 100:.1f} %"


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def counts_of(ledger: Ledger) -> OperationCounts:
    """The counts of an execution ledger: its whole journal."""
    outcomes = ledger.outcomes
    completed, failed, recovered = (outcomes[o] for o in (Outcome.COMPLETED, Outcome.FAILED, Outcome.RECOVERED))
    total = len(ledger.operations) + ledger.retired_operations
    return OperationCounts(
        entries=total - ledger.exits,
        exits=ledger.exits,
        completed=completed,
        failed=failed,
        recovered=recovered,
        unresolved=total - completed - failed - recovered,
        won=ledger.round_trips.won,
        lost=ledger.round_trips.lost,
    )


def counts_from(operations: Iterable[EndedOperation], trips: RoundTrips) -> OperationCounts:
    """The counts of operations that were read from somewhere else than a ledger in memory."""
    rows = list(operations)
    ended = [row.outcome for row in rows]
    completed, failed, recovered = (ended.count(o) for o in (Outcome.COMPLETED, Outcome.FAILED, Outcome.RECOVERED))
    exits = sum(1 for row in rows if row.closes)
    return OperationCounts(
        entries=len(rows) - exits,
        exits=exits,
        completed=completed,
        failed=failed,
        recovered=recovered,
        unresolved=len(rows) - completed - failed - recovered,
        won=trips.won,
        lost=trips.lost,
    )
