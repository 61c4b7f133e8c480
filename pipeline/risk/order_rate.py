"""How many orders of ours were written down to be sent in the last second: in all, and to each venue.

Every order counts once, from the moment of its intent and whatever becomes of it (RTS 6, 15(2)): entries of both paths,
exits, repairs, orders that were never sent. The limits (``max_orders_per_s``) refuse entries only: what reduces risk is
counted and never held up. After a restart the orders of the ledger count as they did before it.
"""

from __future__ import annotations

from collections import deque

from pipeline.model.units import NS_PER_S

NEVER_NS = 2**62


class SendTimes:
    """When orders of the last second were written down, on the monotonic clock. What the limits compare stands in the
    gate."""

    def __init__(self) -> None:
        self._all: deque[int] = deque()
        self._by_venue: dict[str, deque[int]] = {}

    def note(self, venue: str, mono_ns: int) -> None:
        """The intent of an order was written at ``mono_ns``, not before any other that was noted."""
        for sends in (self._all, self._by_venue.setdefault(venue, deque())):
            _forget_old(sends, mono_ns)
            sends.append(mono_ns)

    def recall(self, venue: str, intent_mono_ns: int, mono_ns: int) -> None:
        """An order of the run before, in the order of their times: a restart does not open a new second."""
        if mono_ns - NS_PER_S < intent_mono_ns <= mono_ns:
            self.note(venue, intent_mono_ns)

    def last_second(self, mono_ns: int, venue: str = "") -> int:
        """Orders of the second before ``mono_ns``, to ``venue`` or ("") to all."""
        sends = self._by_venue.get(venue) if venue else self._all
        if sends is None:
            return 0
        _forget_old(sends, mono_ns)
        return len(sends)

    def free_mono_ns(self, orders: int, a_second: int) -> int:
        """From when on ``orders`` more are within ``a_second`` to all venues together; 0 = now."""
        over = len(self._all) + orders - a_second
        if over <= 0:
            return 0
        return self._all[over - 1] + NS_PER_S if over <= len(self._all) else NEVER_NS


def _forget_old(sends: deque[int], mono_ns: int) -> None:
    while sends and sends[0] <= mono_ns - NS_PER_S:
        sends.popleft()
