"""Forced closes as a venue lists them: each row explains one movement of a position, once for ever.

A row is booked with the executions of its order, or with the position that it made where the venue lists none; a
position that was booked before its row was listed claims the row when that one appears. Each of these is in the
journal, so that no row explains a later movement, in this run or the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.external import LISTED
from pipeline.execution.records import ExternalRecord
from pipeline.model.structs import ForcedClose
from pipeline.recovery.history import SAME_MOVE_MS, STAMP_MS


class ForcedRows:
    """What the last sweep of each venue listed and no record has taken."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._rows: dict[str, list[ForcedClose]] = {}

    def listed(self, venue: str, rows: Iterable[ForcedClose]) -> None:
        """A complete sweep's rows, of all contracts of a venue."""
        self._rows[venue] = [row for row in rows if not self._booked(row) and not self._claims(row)]

    def of(self, venue: str, symbol: str, since_wall_ms: int) -> list[ForcedClose]:
        """Rows of a contract that no record has taken, stamped at ``since_wall_ms`` or later, in the list's order."""
        rows = [row for row in self._rows.get(venue, ()) if row.symbol == symbol and not self._booked(row)]
        return [row for row in rows if row.venue_wall_ms >= since_wall_ms - STAMP_MS]

    def _booked(self, row: ForcedClose) -> bool:
        external = self._context.ledger.external
        return (row.venue, row.witness) in external.witnesses or external.booked_order(row.venue, row.order_id)

    def _claims(self, row: ForcedClose) -> bool:
        """Whether a position that was booked before any list showed why is this row's; an operator is alerted."""
        waiting = self._context.ledger.external.unlisted_positions.get((row.venue, row.symbol), ())
        booked = [(qty, at_ms) for qty, at_ms in waiting if -STAMP_MS <= at_ms - row.venue_wall_ms <= SAME_MOVE_MS]
        if not booked:
            return False
        qty, at_ms = booked[0]
        text = f"{row.symbol} {qty:+} is listed now: {row.cause}, {row.witness}"
        self._context.record(ExternalRecord(row.venue, LISTED, text, row.order_id, row.witness, row.symbol, qty, at_ms))
        self._context.alert(1, "external", f"{row.venue} {text}")
        return True


def cause_of(rows: Sequence[ForcedClose], before: Decimal, after: Decimal) -> ForcedClose | None:
    """The row that names the cause of a position's change; None where no forced close leaves that: it only reduces."""
    if not rows or after * before < 0 or abs(after) >= abs(before):
        return None
    return next((row for row in reversed(rows) if row.cause == "liquidation"), rows[-1])
