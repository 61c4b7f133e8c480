"""Gains and losses are counted by round trips: a hedge is entered by one operation and left by others.

An operation that opens a hedge has paid fees and earned nothing yet (its entry basis is realised at the exit), and the
one that closes it shows the whole basis as its gain. Counted one by one, every hedge would be a loss and a gain. So a
hedge and its closings are one round trip, counted once it is closed; every other operation is a round trip of its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal

from pipeline.model.structs import ZERO


class RoundTrips:
    """P&L of every round trip by the operation that began it, and how many gained and lost.

    ``won``, ``lost``: round trips that are closed; one that came out at exactly 0 is neither. ``pnl``: of every round
    trip, ``open``: those whose hedge is open, both by the operation that began it.
    """

    def __init__(
        self, won: int = 0, lost: int = 0, pnl: dict[str, Decimal] | None = None, open_hedges: set[str] | None = None
    ) -> None:
        self.won = won
        self.lost = lost
        self.pnl: dict[str, Decimal] = {} if pnl is None else pnl
        self.open: set[str] = set() if open_hedges is None else open_hedges

    def add(self, operation_id: str, closes: str, amount: Decimal) -> None:
        """An operation ended with ``amount`` (numeraire); ``closes``: the operation whose hedge it closed, or ""."""
        began = closes or operation_id
        self._count(began, -1)
        self.pnl[began] = self.pnl.get(began, ZERO) + amount
        self._count(began, 1)

    def hedge(self, began: str, *, is_open: bool) -> None:
        """The hedge that operation ``began`` opened is open, or closed."""
        self._count(began, -1)
        if is_open:
            self.open.add(began)
        else:
            self.open.discard(began)
        self._count(began, 1)

    def forget(self, began: str) -> None:
        """A closed round trip stays counted; nothing will be added to it."""
        self.pnl.pop(began, None)

    def _count(self, began: str, step: int) -> None:
        amount = self.pnl.get(began)
        if amount is None or began in self.open:
            return
        self.won += step if amount > 0 else 0
        self.lost += step if amount < 0 else 0

    def closed(self) -> dict[str, Decimal]:
        """Operation that began the round trip -> P&L of the whole of it. Hedges that are still open are left out."""
        return {began: amount for began, amount in self.pnl.items() if began not in self.open}


def round_trips(pnl: Mapping[str, Decimal], closes: Mapping[str, str], open_hedges: Container[str]) -> RoundTrips:
    """The round trips of ended operations.

    ``pnl``: in the numeraire, by operation. ``closes``: closing operation -> the one whose hedge it closes.
    """
    found = RoundTrips()
    for operation_id, amount in pnl.items():
        began = closes.get(operation_id, "")
        if (began or operation_id) in open_hedges:
            found.hedge(began or operation_id, is_open=True)
        found.add(operation_id, began, amount)
    return found
