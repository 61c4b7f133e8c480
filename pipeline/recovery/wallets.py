"""Futures wallets against the ledger in two views: as they are, and without what a venue realised in another order.

What a venue has realised of a position because it saw the same executions in another order, it leaves open at another
entry price; entry prices may differ for other causes as well. Which view is the right one a wallet says itself, while
nothing has moved it: the view that agreed last is the one by which it is judged when something has.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.model.structs import ZERO, Balance, Position
from pipeline.recovery.differences import Key, realised_elsewhere

WALLET_TOLERANCE = Decimal(1)  # entry prices, by which profit is open or realised, are rounded
SETTLED_TOLERANCE = Decimal(
    "0.001"
)  # while a position that was booked without its execution must have brought something


class WalletViews:
    """How far each futures wallet is off the ledger; in memory only, a run learns it anew."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._as_it_is: set[Key] = set()  # agreed last as they are, and not without what was realised in another order
        self._others: dict[Key, Decimal] = {}

    def off(self, balance: Balance, expected: Decimal, listed: Mapping[Key, Position]) -> Decimal:
        """How far a wallet is off in the view that agreed last; 0 where one of them agrees now. ``listed``: the
        positions of its venue, as they were read last."""
        key = (balance.venue, balance.asset)
        off = balance.free + balance.locked - expected
        adjusted = off - realised_elsewhere(self._context, balance, listed)
        settles = self._context.ledger.external.settles(*key, off, self._context.now.wall_ms)
        tolerance = SETTLED_TOLERANCE if off and settles else WALLET_TOLERANCE
        agree = [abs(one) <= tolerance for one in (off, adjusted)]
        if any(agree):
            if agree == [True, False]:
                self._as_it_is.add(key)
            else:
                self._as_it_is.discard(key)
            self._others.pop(key, None)
            return ZERO
        judged, self._others[key] = (off, adjusted) if key in self._as_it_is else (adjusted, off)
        return judged

    def other(self, key: Key, off: Decimal) -> Decimal:
        """What the other view says of a wallet that is ``off``; ``off`` itself where nothing has another view."""
        return self._others.get(key, off)
