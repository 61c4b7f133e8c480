"""The makers and takers of one synthetic book: one ``step`` is one market event.

A step looks at the fair price as this venue perceives it, withdraws quotes that have become wrong, improves the best
where it lags by more than half a spread, edits a few deeper levels, and sometimes is a trade. Prices and quantities
are integers (ticks, units); floats appear only where a target is computed. Own orders that the makers' new quotes
cross, and that a trade reaches, are filled; where an own order has just consumed liquidity the makers stay away until
the venue's refill time is over.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.sim.exchange.order_book import ASK, BID, SimBook
from pipeline.sim.exchange.paths import Moves, PathClock
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.market.fair_price import BPS, DerivedPrice, FairPrice, Hawkes
from pipeline.sim.scenarios.specs import ListingSpec, PairSpec

SIZE_SIGMA = 1.1  # log-normal sizes of levels
TIGHT_SIGMA = 0.25  # slow variation of the spread
RESTORED = 12  # levels behind a swept book
NOISE_DECAY_S = 0.5  # memory of a venue's own deviation from the fair price
RANDOM_SIDE = (BID, ASK)


class Maker:
    """Everything that moves one book but our own orders."""

    def __init__(
        self,
        venue: SimVenue,
        instrument: SimInstrument,
        pair: PairSpec,
        listing: ListingSpec,
        fair: FairPrice | DerivedPrice,
        lag_ms: float,
        seed: int,
        mono_ns: Callable[[], int],
        paths: PathClock,
    ) -> None:
        self.venue = venue
        self.instrument = instrument
        self.book: SimBook = venue.books[instrument.symbol]
        self.spec = pair
        self.rng = random.Random(f"{seed}:{venue.name}:{instrument.symbol}:makers")
        self.hawkes = Hawkes(self.rng, pair.rate_per_s * listing.rate, pair.clustering)
        self.lag_ns = int(lag_ms * NS_PER_MS)
        self._mono_ns = mono_ns
        self._fair = fair
        self._tick = float(instrument.tick)
        self._unit = float(instrument.unit)
        self._listing = listing
        self._paths = paths
        self.moves = Moves()  # by hand, of this book alone
        self._offset = 1.0 + listing.basis_at(0.0) * BPS
        self._half_spread_bps = pair.spread_bps * listing.spread / 2.0
        self._tightness = 1.0
        self._noise_bps = 0.0
        self._stepped_ns = 0
        self._numeraire = 1.0  # value of one quote coin in the scenario's sizes (derived pairs quote in a coin)
        # A dislocation's hold on this book: makers of a side stay at or behind these prices (None = free).
        self.bid_cap: int | None = None
        self.ask_floor: int | None = None
        self.stray: tuple[int, int, int] | None = None  # side, best price, worst price of a stray quote

    # --- quantities and prices ---

    def set_quote_value(self, quote_value: float) -> None:
        """Sets what one quote coin is worth in the unit of ``top_usd`` (1 for USDT quotes)."""
        self._numeraire = quote_value

    def units_of(self, usd: float) -> int:
        """Units worth ``usd`` at the fair price, at least one lot."""
        price = self._fair.now * self._offset * self._numeraire
        return max(self.instrument.lot_units, int(usd / price / self._unit))

    def perceived_ticks(self, now_ns: int) -> float:
        """Fair price, in ticks, as this venue sees it at market time ``now_ns``."""
        return self._fair.at(now_ns - self.lag_ns) * self._offset * (1.0 + self._noise_bps * BPS) / self._tick

    def targets(self, now_ns: int) -> tuple[int, int]:
        """(bid, ask) at which the makers would quote without a dislocation."""
        mid = self.perceived_ticks(now_ns)
        half = max(0.5, mid * self._half_spread_bps * BPS * self._tightness)
        bid = math.floor(mid - half)
        return bid, max(bid + 1, math.ceil(mid + half))

    def _size(self, best: bool) -> int:
        usd = self.spec.top_usd if best else self.spec.level_usd
        return self.units_of(usd * self.rng.lognormvariate(0.0, SIZE_SIGMA))

    def _gap(self) -> int:
        """Ticks to the next level outwards."""
        mean = self._fair.now * self.spec.gap_bps * BPS / self._tick
        return 1 + (int(self.rng.expovariate(1.0 / mean)) if mean > 0.05 else 0)

    # --- life ---

    def fill_book(self, now_ns: int) -> None:
        """The first book: both sides to full depth."""
        bid, ask = self.targets(now_ns)
        for side, best in ((BID, bid), (ASK, ask)):
            price = best
            for index in range(self.spec.depth):
                if price <= 0:
                    break
                self.book.set_level(side, price, self._size(index == 0))
                price += self._gap() if side == ASK else -self._gap()

    def restore(self, side: int) -> None:
        """Quotes ``RESTORED`` levels from the cap outwards behind a sweep, if the side is thin."""
        cap = self.bid_cap if side == BID else self.ask_floor
        if cap is None or self.book.count(side) >= RESTORED:
            return
        price = cap
        for _ in range(RESTORED):
            if self._may_quote(side, price):
                self.book.set_level(side, price, self._size(False))
            price += self._gap() if side == ASK else -self._gap()

    def step(self, now_ns: int) -> None:
        """One market event at market time ``now_ns``."""
        rng = self.rng
        keep = math.exp(-max(0, now_ns - self._stepped_ns) / (NOISE_DECAY_S * NS_PER_S))
        self._stepped_ns = max(self._stepped_ns, now_ns)  # a burst is of now, and steps may be late
        draw = self.spec.noise_bps * rng.gauss(0.0, 1.0)
        self._noise_bps = self._noise_bps * keep + draw * math.sqrt(1.0 - keep * keep)
        self._tightness = math.exp(0.98 * math.log(self._tightness) + 0.2 * TIGHT_SIGMA * rng.gauss(0.0, 1.0))
        self.reprice(now_ns)
        if rng.random() < self.spec.trade_share:
            self._trade()
        for _ in range(self._edit_count()):
            self._edit(rng.choice(RANDOM_SIDE))

    def _edit_count(self) -> int:
        """Geometric number of further edits, mean ``spec.edits``."""
        mean = self.spec.edits
        return int(math.log(max(1e-12, self.rng.random())) / math.log(mean / (1.0 + mean))) if mean > 0 else 0

    def reprice(self, now_ns: int) -> None:
        """Withdraws quotes beyond the target, improves a best that lags behind it."""
        if self.moves or isinstance(self._listing.basis_bps, tuple):
            basis = 1.0 + self._listing.basis_at(self._paths.at_s(now_ns)) * BPS
            self._offset = basis * self.moves.factor_at(now_ns)
        bid, ask = self.targets(now_ns)
        slack = (ask - bid) // 4
        if self.bid_cap is not None:
            bid = min(bid, self.bid_cap)
        if self.ask_floor is not None:
            ask = max(ask, self.ask_floor)
        self._withdraw(BID, bid + slack)
        self._withdraw(ASK, ask - slack)
        if self.book.has_own:
            self._meet_own(BID, bid)
            self._meet_own(ASK, ask)
        self._improve(BID, bid, slack)
        self._improve(ASK, ask, slack)
        self._trim(BID)
        self._trim(ASK)

    def _withdraw(self, side: int, limit: int) -> None:
        levels = self.book.levels[side]
        prices = self.book.prices(side)
        withdrawn = []
        for price in reversed(prices) if side == BID else prices:
            if price <= limit if side == BID else price >= limit:
                break
            if price in levels and not self._is_stray(side, price):
                withdrawn.append(price)
        for price in withdrawn:
            self.book.set_level(side, price, 0)

    def _meet_own(self, side: int, price: int) -> None:
        """Before makers quote through a user's resting order they take it."""
        _, fills = self.book.cross(side, price, self._size(True))
        if fills:
            self.venue.settle_own(fills, self.instrument.symbol)

    def _improve(self, side: int, target: int, slack: int) -> None:
        best = self._best_of_makers(side)
        if best is not None and (best >= target - slack if side == BID else best <= target + slack):
            return
        price = target
        for _ in range(3):
            if self._may_quote(side, price):
                self.book.set_level(side, price, self._size(price == target))
            if self.rng.random() < 0.6:
                return
            price += self._gap() if side == ASK else -self._gap()

    def _best_of_makers(self, side: int) -> int | None:
        levels = self.book.levels[side]
        prices = self.book.prices(side)
        for price in reversed(prices) if side == BID else prices:
            if price in levels and not self._is_stray(side, price):
                return price
        return None

    def _may_quote(self, side: int, price: int) -> bool:
        if price <= 0 or self.book.is_barred(side, price, self._mono_ns()):
            return False
        other = self.book.best(ASK if side == BID else BID)
        return other is None or (price < other if side == BID else price > other)

    def _is_stray(self, side: int, price: int) -> bool:
        stray = self.stray
        return stray is not None and stray[0] == side and min(stray[1:]) <= price <= max(stray[1:])

    def _trim(self, side: int) -> None:
        """Keeps the depth near its target by adding or removing far levels."""
        prices = self.book.prices(side)
        surplus = len(prices) - self.spec.depth
        if surplus > 4:
            for price in list(prices[:surplus] if side == BID else prices[-surplus:]):
                if not self._is_stray(side, price):
                    self.book.set_level(side, price, 0)
        elif surplus < -4:
            for _ in range(min(6, -surplus)):
                edge = (prices[0] if side == BID else prices[-1]) if prices else self._edge(side)
                price = edge + self._gap() if side == ASK else edge - self._gap()
                if self._may_quote(side, price):
                    self.book.set_level(side, price, self._size(False))

    def _edge(self, side: int) -> int:
        """Where an empty side begins: behind the other side's best."""
        other = self.book.best(ASK if side == BID else BID)
        if other is None:
            return int(self._fair.now * self._offset / self._tick)
        return other - 1 if side == BID else other + 1

    def _edit(self, side: int) -> None:
        """One change near the top: a new quantity, a cancel, or a new level between two."""
        prices = self.book.prices(side)
        if len(prices) < 3:
            return
        rng = self.rng
        index = min(len(prices) - 1, int(rng.expovariate(0.18)))
        price = prices[-1 - index] if side == BID else prices[index]
        if self._is_stray(side, price):
            return
        kind = rng.random()
        if kind < 0.6 or index == 0:
            if price in self.book.levels[side] and not self.book.is_barred(side, price, self._mono_ns()):
                self.book.set_level(side, price, self._size(index == 0))
        elif kind < 0.8:
            if price in self.book.levels[side]:
                self.book.set_level(side, price, 0)
        else:
            inner = prices[-index] if side == BID else prices[index - 1]
            low, high = min(inner, price) + 1, max(inner, price) - 1
            if low <= high:
                between = rng.randint(low, high)
                if self._may_quote(side, between):
                    self.book.set_level(side, between, self._size(False))

    def _trade(self) -> None:
        rng = self.rng
        taker = rng.choice(RANDOM_SIDE)
        best = self.book.best_level(ASK if taker == BID else BID)
        if best is None or self._is_stray(ASK if taker == BID else BID, best[0]):
            return
        self.sweep(taker, max(1, int(best[1] * rng.random() ** 2)), best[0])

    def sweep(self, taker: int, units: int, limit: int | None) -> int:
        """A rival takes up to ``units`` to ``limit``; trades, fills own resting orders. Returns units taken."""
        side = OrderSide.BUY if taker == BID else OrderSide.SELL
        trades, fills = self.book.trade(taker, units, limit)
        own = sum(filled for _, filled in fills)
        for price, taken in trades:
            # Settlement publishes the trades of own parts.
            rest = taken - min(own, taken)
            own -= taken - rest
            if rest:
                self.venue.publish_trade(self.instrument.symbol, price, rest, side)
        if fills:
            self.venue.settle_own(fills, self.instrument.symbol)
        return sum(taken for _, taken in trades)
