"""Markouts: the mid of a fill's own book some seconds after the fill, looked at when the time has come.

What a fill was worth is known only afterwards: a price that goes on in the order's direction says that the edge was
real, one that turns says that we were the last to know. A look that comes too late, or finds no book that can be
traded on, is left out: the report says of how many fills it speaks. What was noted is in memory alone: fills of the
last minute before a restart have no later looks.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from decimal import Decimal

from pipeline.execution.journal import JournalEntry
from pipeline.execution.market import mid_price, tradable
from pipeline.execution.records import FillRecord
from pipeline.market_data import MarketDataAggregator
from pipeline.model.units import NS_PER_S
from workers.recorder.sqlite_ledger import Markout

HORIZONS_S = (1, 10, 60)
LATE_NS_MAX = 500_000_000  # a look that comes later than this speaks of another time
PENDING_MAX = 100_000  # looks that are waited for; beyond it new fills have none


class Markouts:
    """Notes fills as they come, and looks at their books later. ``dead_after_ms``: a book without a proof for so long
    tells no price."""

    def __init__(self, market: MarketDataAggregator, dead_after_ms: int) -> None:
        self._market = market
        self._dead_ns = dead_after_ms * 1_000_000
        self._pending: list[tuple[int, int, str, str, str]] = []  # due (monotonic), horizon, venue, symbol, trade

    def note(self, entries: Iterable[JournalEntry], mono_ns: int, wall_ns: int) -> None:
        """Take the fills of the engine among ``entries``, read at ``mono_ns`` and ``wall_ns``. Records of long ago (a
        journal that is read again) are too late for every look."""
        for entry in entries:
            fill = entry.record
            if not isinstance(fill, FillRecord) or len(self._pending) >= PENDING_MAX:
                continue
            age_ns = max(0, wall_ns - entry.wall_ns)  # monotonic stamps of an earlier boot say nothing
            for horizon_s in HORIZONS_S:
                left_ns = horizon_s * NS_PER_S - age_ns
                if left_ns >= 0:
                    due = (mono_ns + left_ns, horizon_s, fill.venue, fill.symbol, fill.trade_id)
                    heapq.heappush(self._pending, due)

    def measured(self, mono_ns: int) -> list[Markout]:
        """What is due at ``mono_ns`` and could be measured; what could not is forgotten."""
        found = []
        while self._pending and self._pending[0][0] <= mono_ns:
            due_ns, horizon_s, venue, symbol, trade_id = heapq.heappop(self._pending)
            mid = self._mid(venue, symbol, mono_ns) if mono_ns - due_ns <= LATE_NS_MAX else None
            if mid is not None:
                found.append(Markout(venue, symbol, trade_id, horizon_s, mid))
        return found

    def _mid(self, venue: str, symbol: str, mono_ns: int) -> Decimal | None:
        row = self._market.instruments.find(venue, symbol)
        view = None if row is None else self._market.book(row.instrument_id)
        if row is None or view is None or not tradable(view, row) or mono_ns - view.proof_mono_ns > self._dead_ns:
            return None
        return mid_price(view, row)
