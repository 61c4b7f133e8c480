"""What the change of a position is valued at whose executions its venue does not list.

What was opened costs the venue's entry price. What was closed went at about the mark: the venue's last one, else the
mid of our book. At the ledger's own entry price nothing would be lost by it, whatever the market did: it comes last.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.market import mid_price, tradable
from pipeline.model.structs import ZERO, Position
from pipeline.recovery.differences import Key

FRESH_NS = 60_000_000_000  # an older mark comes after the mid of a living book


class PositionPrices:
    """Keeps the last mark of every position that a venue has sent in this run, also of those that are gone."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._marks: dict[Key, tuple[int, Decimal]] = {}  # -> (mono ns, quote per base)

    def note(self, positions: Iterable[Position]) -> None:
        """Rows of a venue's list or stream."""
        for row in positions:
            if row.mark_price:
                self._marks[row.venue, row.symbol] = (row.recv_mono_ns, row.mark_price)

    def closing(self, key: Key) -> Decimal:
        """Quote per base for what is closed now; 0 where neither venue nor book gives a price."""
        at_ns, mark = self._marks.get(key, (0, ZERO))
        if mark and self._context.now.mono_ns - at_ns <= FRESH_NS:
            return mark
        return self._mid(key) or mark

    def of(self, key: Key, qty: Decimal, position: Position | None, pushed: Position | None) -> Decimal:
        """Quote per base for a position that becomes ``qty``: ``position`` as REST lists it, ``pushed`` as the stream
        sent it last; None where they do not."""
        ledger = self._context.ledger
        expected, held = ledger.expected_position(*key), ledger.accounts.futures.get(key)
        opened = qty * expected < 0 or abs(qty) > abs(expected)
        if opened and pushed is not None and pushed.mark_price:
            return pushed.mark_price
        if opened and position is not None and position.entry_price:
            return position.entry_price
        return self.closing(key) or (held.entry_price if held is not None else ZERO)

    def _mid(self, key: Key) -> Decimal | None:
        """Mid of a living book."""
        row = self._context.instruments.find(*key)
        view = None if row is None else self._context.market.book(row.instrument_id)
        oldest_ns = self._context.now.mono_ns - self._context.config.detection.dead_after_ms * 1_000_000
        if row is None or view is None or view.proof_mono_ns < oldest_ns or not tradable(view, row):
            return None
        return mid_price(view, row)
