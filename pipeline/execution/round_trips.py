"""Gains and losses are counted by round trips: a hedge is entered by one operation and left by others.

An operation that opens a hedge has paid fees and earned nothing yet (its entry basis is realised at the exit), and the
one that closes it shows the whole basis as its gain. Counted one by one, every hedge would be a loss and a gain. So a
hedge and its closings are one round trip, counted once it is closed; every other operation is a round trip of its own.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal

from pipeline.model.structs import ZERO


def round_trips(
    pnl: Mapping[str, Decimal], closes: Mapping[str, str], open_hedges: Container[str]
) -> dict[str, Decimal]:
    """Operation that began the round trip -> P&L of the whole of it. Hedges that are still open are left out.

    ``pnl``: ended operations, in the numeraire. ``closes``: closing operation -> the one whose hedge it closes.
    """
    trips: dict[str, Decimal] = {}
    for operation_id, amount in pnl.items():
        began = closes.get(operation_id) or operation_id
        if began not in open_hedges:
            trips[began] = trips.get(began, ZERO) + amount
    return trips


def won_and_lost(trips: Mapping[str, Decimal]) -> tuple[int, int]:
    """(round trips that gained, that lost); one that came out at exactly 0 is neither."""
    return sum(1 for value in trips.values() if value > 0), sum(1 for value in trips.values() if value < 0)
