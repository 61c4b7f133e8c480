"""The book of one instrument: a synthetic visible book that the market moves, own orders resting in it, and matching.

All integers: prices in ticks, quantities in units. ``BID``/``ASK`` index the sides. The synthetic part has no
orders of its own, only quantity per price; an own order remembers how much of it stood before it at its price, so
that price-time priority holds: a trade reaches the own order only through what stood ahead. Synthetic cancels are
taken from behind the own order as long as they can be.

What an own order consumes is gone: the consumed prices, and better ones, are barred to the market's makers until the
venue's refill time has passed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.sim.types import Level

BID = 0
ASK = 1


@dataclass(slots=True, eq=False)
class Resting:
    """An own order in the book. ``ahead``: synthetic units before it at its price."""

    order_id: int
    side: int
    price: int
    left: int
    ahead: int


@dataclass(slots=True)
class Changes:
    """Net changed levels since the last ``clear``; one per aggregation stream."""

    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.bids = {}
        self.asks = {}

    def __bool__(self) -> bool:
        return bool(self.bids or self.asks)


class SimBook:
    """Both sides of one instrument. ``update_id`` grows by one per changed level."""

    def __init__(self, first_update_id: int) -> None:
        self.update_id = first_update_id
        self.levels: tuple[dict[int, int], dict[int, int]] = ({}, {})  # synthetic units by price
        self._prices: tuple[list[int], list[int]] = ([], [])  # visible prices, ascending
        self._own: tuple[dict[int, list[Resting]], dict[int, list[Resting]]] = ({}, {})
        self.sinks: list[Changes] = []
        self._barred: list[tuple[int, int]] = [(0, 0), (0, 0)]  # per side: worst consumed price, until monotonic ns
        self.on_change: Callable[[], None] | None = None  # first change since the owner last looked
        self.dirty = False

    # --- reading ---

    def best_bid(self) -> int | None:
        prices = self._prices[BID]
        return prices[-1] if prices else None

    def best_ask(self) -> int | None:
        prices = self._prices[ASK]
        return prices[0] if prices else None

    def best(self, side: int) -> int | None:
        return self.best_bid() if side == BID else self.best_ask()

    def best_level(self, side: int) -> Level | None:
        price = self.best(side)
        return None if price is None else (price, self.visible(side, price))

    def visible(self, side: int, price: int) -> int:
        total = self.levels[side].get(price, 0)
        for resting in self._own[side].get(price, ()):
            total += resting.left
        return total

    def top(self, side: int, limit: int) -> list[Level]:
        """Best first."""
        prices = self._prices[side]
        chosen = prices[: -limit - 1 : -1] if side == BID else prices[:limit]
        return [(price, self.visible(side, price)) for price in chosen]

    def count(self, side: int) -> int:
        return len(self._prices[side])

    def prices(self, side: int) -> list[int]:
        """Ascending; the book's own list: do not change it."""
        return self._prices[side]

    def own_at_best(self, side: int) -> bool:
        price = self.best(side)
        return price is not None and price in self._own[side]

    # --- writing: synthetic part ---

    def set_level(self, side: int, price: int, units: int) -> None:
        """Sets the synthetic quantity at a price (0 removes it). The caller has made sure that it does not cross."""
        levels = self.levels[side]
        if levels.get(price, 0) == units:
            return
        if units > 0:
            levels[price] = units
        else:
            levels.pop(price, None)
        for resting in self._own[side].get(price, ()):
            resting.ahead = min(resting.ahead, max(0, units))
        self._touch(side, price)

    def cross(self, side: int, price: int, units: int) -> tuple[int, list[tuple[Resting, int]]]:
        """Synthetic interest on ``side`` arrives at ``price``: it first fills own orders that it crosses.

        Returns (units left to rest, own fills). Synthetic levels of the other side that it crosses are the
        caller's business (the market's makers withdraw them first).
        """
        other = ASK if side == BID else BID
        fills: list[tuple[Resting, int]] = []
        while units > 0:
            best = self._best_own(other)
            if best is None or (best > price if side == BID else best < price):
                break
            for resting in list(self._own[other][best]):
                filled = min(units, resting.left)
                if filled <= 0:
                    break
                units -= filled
                self._fill_own(resting, filled)
                fills.append((resting, filled))
        return units, fills

    def trade(
        self, taker_side: int, units: int, limit: int | None = None
    ) -> tuple[list[Level], list[tuple[Resting, int]]]:
        """A synthetic taker consumes up to ``units`` at and beyond the best: (prints, own fills)."""
        side = ASK if taker_side == BID else BID
        prints: list[Level] = []
        fills: list[tuple[Resting, int]] = []
        while units > 0:
            price = self.best(side)
            if price is None or (limit is not None and (price > limit if side == ASK else price < limit)):
                break
            consumed = self._trade_at(side, price, units, fills)
            if consumed == 0:
                break
            prints.append((price, consumed))
            units -= consumed
        return prints, fills

    def _trade_at(self, side: int, price: int, units: int, fills: list[tuple[Resting, int]]) -> int:
        synthetic = self.levels[side].get(price, 0)
        left, passed = units, 0
        queue = self._own[side].get(price)
        if queue:
            for resting in list(queue):
                before = min(left, max(0, resting.ahead - passed))
                passed += before
                left -= before
                filled = min(left, resting.left)
                if filled > 0:
                    left -= filled
                    self._fill_own(resting, filled)
                    fills.append((resting, filled))
        rest = min(left, synthetic - passed)
        passed += rest
        left -= rest
        if passed:
            for resting in self._own[side].get(price, ()):
                resting.ahead = max(0, resting.ahead - passed)
            remaining = synthetic - passed
            if remaining:
                self.levels[side][price] = remaining
            else:
                self.levels[side].pop(price, None)
            self._touch(side, price)
        return units - left

    # --- writing: own orders ---

    def take(self, side: int, units: int, limit: int | None, barred_until_ns: int) -> list[Level]:
        """An own taker on ``side`` (BID buys) takes synthetic units up to ``limit``: fills, best first.

        Stops before an own resting order (self-trade prevention). Consumed prices are barred to the makers.
        """
        other = ASK if side == BID else BID
        fills: list[Level] = []
        levels = self.levels[other]
        while units > 0:
            price = self.best(other)
            if price is None or price in self._own[other]:
                break
            if limit is not None and (price > limit if other == ASK else price < limit):
                break
            available = levels[price]
            filled = min(units, available)
            units -= filled
            fills.append((price, filled))
            if filled == available:
                del levels[price]
            else:
                levels[price] = available - filled
            self._touch(other, price)
        if fills:
            self._bar(other, fills[-1][0], barred_until_ns)
        return fills

    def takeable(self, side: int, limit: int | None) -> int:
        """Units that ``take`` could get."""
        return sum(units for _, units in self.reachable(side, limit))

    def reachable(self, side: int, limit: int | None) -> list[Level]:
        """Synthetic levels that a taker on ``side`` could reach, best first, up to the first own order."""
        other = ASK if side == BID else BID
        prices = self._prices[other]
        found: list[Level] = []
        for price in prices if other == ASK else reversed(prices):
            if price in self._own[other] or (limit is not None and (price > limit if other == ASK else price < limit)):
                break
            found.append((price, self.levels[other][price]))
        return found

    def rest(self, order_id: int, side: int, price: int, units: int) -> Resting:
        resting = Resting(order_id, side, price, units, self.levels[side].get(price, 0))
        self._own[side].setdefault(price, []).append(resting)
        self._touch(side, price)
        return resting

    def withdraw(self, resting: Resting) -> None:
        """Takes an own order out (cancel)."""
        self._drop_own(resting)
        self._touch(resting.side, resting.price)

    def is_barred(self, side: int, price: int, now_ns: int) -> bool:
        """True while makers may not quote here: an own taker has consumed this price or a worse one."""
        worst, until_ns = self._barred[side]
        if now_ns >= until_ns:
            return False
        return price <= worst if side == ASK else price >= worst

    def _bar(self, side: int, price: int, until_ns: int) -> None:
        worst, previous_ns = self._barred[side]
        if previous_ns > until_ns:
            worst = max(worst, price) if side == ASK else min(worst, price)
            self._barred[side] = (worst, previous_ns)
        else:
            self._barred[side] = (price, until_ns)

    @property
    def has_own(self) -> bool:
        return bool(self._own[BID] or self._own[ASK])

    # --- inside ---

    def _best_own(self, side: int) -> int | None:
        own = self._own[side]
        if not own:
            return None
        return max(own) if side == BID else min(own)

    def _fill_own(self, resting: Resting, filled: int) -> None:
        resting.left -= filled
        if resting.left == 0:
            self._drop_own(resting)
        self._touch(resting.side, resting.price)

    def _drop_own(self, resting: Resting) -> None:
        queue = self._own[resting.side].get(resting.price)
        if queue is not None and resting in queue:
            queue.remove(resting)
            if not queue:
                del self._own[resting.side][resting.price]

    def _touch(self, side: int, price: int) -> None:
        units = self.visible(side, price)
        prices = self._prices[side]
        at = bisect_left(prices, price)
        present = at < len(prices) and prices[at] == price
        if units and not present:
            insort(prices, price)
        elif not units and present:
            del prices[at]
        self.update_id += 1
        for sink in self.sinks:
            (sink.bids if side == BID else sink.asks)[price] = units
        if not self.dirty:
            self.dirty = True
            if self.on_change is not None:
                self.on_change()
