"""The price of every direction, whatever its reason: inventory that a spot-spot trade moves, the exit of a hedge.

Detector, gate and fast path judge with these numbers: an entry needs so much more edge.
"""

from __future__ import annotations

from typing import Protocol

from pipeline.execution.hedging.entry_price import HedgeEntryPrices
from pipeline.execution.inventory.prices import MBPS, InventoryPrices, direction_key
from pipeline.execution.plan import DirectionPrice


class PricedGate(Protocol):
    """What judges entries with the prices."""

    direction_price_bps: DirectionPrice


class DirectionPrices:
    """Both sources as one, and what of them the inventory page does not have yet."""

    def __init__(self, inventory: InventoryPrices, hedges: HedgeEntryPrices, gate: PricedGate) -> None:
        """``gate``: judges with these prices from now on."""
        gate.direction_price_bps = self.price_bps
        self._inventory = inventory
        self._of_spots = inventory.prices
        self._hedges = hedges
        self._places: dict[int, int] = {}  # direction key -> its row on the page, in the order of first sight
        self._written: dict[int, int] = {}

    def price_bps(self, buy: int, sell: int) -> float:
        """What a trade of this direction (instrument ids) needs beyond the execution edge."""
        key = direction_key(buy, sell)
        price_mbps = self._of_spots.get(key)  # asked first: two spot listings are no direction of a hedge
        if price_mbps is None:
            price_mbps = self._hedges.price_mbps(key) or 0
        return price_mbps / MBPS

    def changes(self) -> list[tuple[int, int, int]]:
        """(row of the page, direction key, milli-bps) of every price that moved since the last call."""
        moved, self._hedges.changed = self._hedges.changed, {}
        if self._inventory.changed:
            self._inventory.changed = False
            moved.update(self._inventory.published())
        found = []
        for key, price_mbps in moved.items():
            if self._written.get(key) != price_mbps:
                self._written[key] = price_mbps
                found.append((self._places.setdefault(key, len(self._places)), key, price_mbps))
        return found
