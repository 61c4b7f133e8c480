"""The book of one instrument: a visible book that the market moves, users' orders resting in it, and matching.

All integers: prices in ticks, quantities in units. ``BID``/``ASK`` index the sides. The synthetic part has no orders,
only a quantity per price; a user's order records how much of it was queued before it at its price, so that price-time
priority holds: a trade reaches the user's order only after what is ahead. Synthetic cancels are taken from behind the
user's order as long as possible. Users trade with each other, too, but never with themselves: a taker stops before its
own resting order.

What an own order consumes is gone: the consumed prices, and better ones, are barred to the market's makers until the
venue's refill time has passed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.sim.exchange.instruments import Level

BID = 0
ASK = 1


@dataclass(slots=True, eq=False)
class Resting:
    """A user's order in the book. ``ahead``: synthetic units before it at its price; ``owner``: whose it is."""

    order_id: int
    side: int
    price: int
    left: int
    ahead: int
    owner: int = 0


@dataclass(slots=True, frozen=True)
class Take:
    """One match of a taker: ``maker`` is a user's order, or None for the synthetic market."""

    price: int
    units: int
    maker: Resting | None


@dataclass(slots=True)
class Changes:
    """Net changed levels since the last ``clear``; one per aggregation stream."""

    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)

    def clear(self) -> None:
        """Begins the next interval."""
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
        """Highest bid in ticks; None for an empty side."""
        prices = self._prices[BID]
        return prices[-1] if prices else None

    def best_ask(self) -> int | None:
        """Lowest ask in ticks; None for an empty side."""
        prices = self._prices[ASK]
        return prices[0] if prices else None

    def best(self, side: int) -> int | None:
        """Best price of a side in ticks; None for an empty side."""
        return self.best_bid() if side == BID else self.best_ask()

    def best_level(self, side: int) -> Level | None:
        """(price in ticks, units) of the best level; None for an empty side."""
        price = self.best(side)
        return None if price is None else (price, self.visible(side, price))

    def visible(self, side: int, price: int) -> int:
        """Units at a price, users' orders included; 0 for none."""
        total = self.levels[side].get(price, 0)
        for resting in self._own[side].get(price, ()):
            total += resting.left
        return total

    def top(self, side: int, limit: int) -> list[Level]:
        """Best first."""
        prices = self._prices[side]
        chosen = prices[: -limit - 1 : -1] if side == BID else prices[:limit]
        return [(price, self.visible(side, price)) for price in chosen]

    def whole(self) -> tuple[list[Level], list[Level]]:
        """(bids, asks), every level, best first."""
        return self.top(BID, len(self._prices[BID])), self.top(ASK, len(self._prices[ASK]))

    def count(self, side: int) -> int:
        """Number of visible levels of a side."""
        return len(self._prices[side])

    def prices(self, side: int) -> list[int]:
        """Ascending; the book's own list: do not change it."""
        return self._prices[side]

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

        Returns (units left to rest, own fills). Synthetic levels of the other side that it crosses are left to the
        caller (the market's makers withdraw them first).
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
        """A synthetic taker consumes up to ``units`` at and beyond the best: (trades, own fills)."""
        side = ASK if taker_side == BID else BID
        trades: list[Level] = []
        fills: list[tuple[Resting, int]] = []
        while units > 0:
            price = self.best(side)
            if price is None or (limit is not None and (price > limit if side == ASK else price < limit)):
                break
            consumed = self._trade_at(side, price, units, fills)
            if consumed == 0:
                break
            trades.append((price, consumed))
            units -= consumed
        return trades, fills

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

    def take(self, side: int, units: int, limit: int | None, barred_until_ns: int, owner: int = 0) -> list[Take]:
        """A user's taker on ``side`` (BID buys) takes up to ``limit``, best price first, then by time.

        Stops before an order of the same ``owner`` (self-trade prevention). Consumed synthetic prices are barred to
        the makers.
        """
        other = ASK if side == BID else BID
        takes: list[Take] = []
        worst: int | None = None
        for price in self._reach(side, limit):
            wanted = units
            for take in self._matches_at(other, price, units, owner):
                takes.append(take)
                units -= take.units
                if take.maker is not None:
                    self._fill_own(take.maker, take.units)
                else:
                    worst = price
                    self._consume(other, price, take.units)
            if not units or (wanted == units) or self._is_held(other, price, owner):
                break
        if worst is not None:
            self._bar(other, worst, barred_until_ns)
        return takes

    def takeable(self, side: int, limit: int | None, owner: int = 0) -> int:
        """Units that ``take`` could get."""
        return sum(units for _, units in self.reachable(side, limit, owner))

    def reachable(self, side: int, limit: int | None, owner: int = 0) -> list[Level]:
        """(price, units) that a taker on ``side`` could get, best first, up to the first order of his own."""
        other = ASK if side == BID else BID
        found: list[Level] = []
        for price in self._reach(side, limit):
            got = sum(take.units for take in self._matches_at(other, price, None, owner))
            if got:
                found.append((price, got))
            if self._is_held(other, price, owner):
                break
        return found

    def _reach(self, side: int, limit: int | None) -> list[int]:
        """Prices of the other side within the limit, best first."""
        if side == BID:
            prices = self._prices[ASK]
            return prices[: bisect_right(prices, limit)] if limit is not None else list(prices)
        prices = self._prices[BID]
        return prices[bisect_left(prices, limit) :][::-1] if limit is not None else prices[::-1]

    def _is_held(self, side: int, price: int, owner: int) -> bool:
        return any(resting.owner == owner for resting in self._own[side].get(price, ()))

    def _matches_at(self, side: int, price: int, units: int | None, owner: int) -> list[Take]:
        """What up to ``units`` (None = all) meet at one price, by time, before the first order of ``owner``."""
        synthetic = self.levels[side].get(price, 0)
        left = synthetic + sum(one.left for one in self._own[side].get(price, ())) if units is None else units
        found: list[Take] = []
        passed = 0
        for resting in self._own[side].get(price, ()):
            before = min(left, max(0, min(resting.ahead, synthetic) - passed))
            if before:
                found.append(Take(price, before, None))
                passed += before
                left -= before
            if resting.owner == owner:
                return found
            filled = min(left, resting.left)
            if filled:
                found.append(Take(price, filled, resting))
                left -= filled
        rest = min(left, synthetic - passed)
        if rest:
            found.append(Take(price, rest, None))
        return found

    def _consume(self, side: int, price: int, units: int) -> None:
        """Synthetic units at a price are gone: those that stood first."""
        left = self.levels[side][price] - units
        if left:
            self.levels[side][price] = left
        else:
            del self.levels[side][price]
        for resting in self._own[side].get(price, ()):
            resting.ahead = max(0, resting.ahead - units)
        self._touch(side, price)

    def rest(self, order_id: int, side: int, price: int, units: int, owner: int = 0) -> Resting:
        """The order joins the queue at its price as the last."""
        resting = Resting(order_id, side, price, units, self.levels[side].get(price, 0), owner)
        self._own[side].setdefault(price, []).append(resting)
        self._touch(side, price)
        return resting

    def shrink(self, resting: Resting, left: int) -> None:
        """Less of an order stands (an amendment): it keeps its place in the queue."""
        resting.left = left
        self._touch(resting.side, resting.price)

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
        """True while a user's order rests in the book."""
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
