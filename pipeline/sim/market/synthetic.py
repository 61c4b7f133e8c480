"""The synthetic market: fair prices, the makers of every listing, dislocations, all on one schedule of market time.

Market time starts at 0 with ``start``. The order of events depends on the seed and, after an own order has touched a
book, on that; never on how fast this process runs: a late process catches up through the same events. Decimals are
built for nothing here.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.faults import BadFault
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S, ManualClock
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.paths import PathClock
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.market.dislocation import Dislocations
from pipeline.sim.market.fair_price import DerivedPrice, FairPrice
from pipeline.sim.market.makers import Maker
from pipeline.sim.scenarios.specs import Scenario

Action = Callable[[int], None]  # takes market time in ns
FOLLOW_NS = 50 * NS_PER_MS  # how often makers look at a price that moves by hand, beside their own events


class SyntheticMarket:
    """Drives the books of all venues of a scenario."""

    def __init__(self, scenario: Scenario, venues: dict[str, SimVenue], clock: ManualClock, seed: int) -> None:
        self._clock = clock
        self._origin_ns = 0
        self.paths = PathClock()
        self._heap: list[tuple[int, int, Action]] = []
        self._seq = 0
        self._now_ns = 0
        self._wake_ns: int | None = None
        self._running = False
        self.steps = 0
        self.fair: dict[str, FairPrice | DerivedPrice] = {}
        self._walks: list[FairPrice] = []
        self.makers: dict[str, list[Maker]] = {}
        self._derived_from: dict[str, list[str]] = {}  # plain pair -> derived pairs that move with it
        self._make_fair(scenario, seed)
        for pair, spec in scenario.pairs.items():
            for venue_name, listing in spec.listings.items():
                venue = venues[venue_name]
                maker = Maker(
                    venue,
                    venue.instruments[listing.symbol],
                    spec,
                    listing,
                    self.fair[pair],
                    scenario.venue(venue_name).lag_ms,
                    seed,
                    clock.mono_ns,
                    self.paths,
                )
                quote_pair = f"{pair.split('/')[1]}/USDT"
                if quote_pair in self.fair:
                    maker.set_quote_value(self.fair[quote_pair].now)
                self.makers.setdefault(pair, []).append(maker)
        self.dislocations = Dislocations(
            spec=scenario.dislocations,
            makers={pair: [m for m in rows if m.instrument.status == 0] for pair, rows in self.makers.items()},
            triangles=self._triangles(scenario),
            weights={pair: spec.dislocation_weight for pair, spec in scenario.pairs.items()},
            seed=seed,
            schedule=lambda delay_ns, action: self.call_at(self._now_ns + delay_ns, action),
        )
        for venue in venues.values():
            venue.on_own_fill.append(self._own_fill_listener(venue.name))

    def _make_fair(self, scenario: Scenario, seed: int) -> None:
        for pair, spec in scenario.pairs.items():
            if spec.derived is None:
                walk = FairPrice(pair, spec, seed, self.paths)
                self._walks.append(walk)
                self.fair[pair] = walk
        for pair, spec in scenario.pairs.items():
            if spec.derived is not None:
                for name in spec.derived:
                    self._derived_from.setdefault(name, []).append(pair)
                over, under = self.fair[spec.derived[0]], self.fair[spec.derived[1]]
                if isinstance(over, FairPrice) and isinstance(under, FairPrice):
                    self.fair[pair] = DerivedPrice(over, under)

    def _triangles(self, scenario: Scenario) -> list[tuple[Maker, Maker, Maker]]:
        found = []
        for pair, spec in scenario.pairs.items():
            if spec.derived is None:
                continue
            for cross in self.makers.get(pair, ()):  # nobody lists it where venues were left out
                others = [
                    maker
                    for name in spec.derived
                    for maker in self.makers.get(name, [])
                    if maker.venue is cross.venue and not maker.instrument.is_futures
                ]
                if len(others) == 2:
                    found.append((cross, others[0], others[1]))
        return found

    def _own_fill_listener(self, venue: str) -> Callable[[str, OrderSide, int, int], None]:
        def listen(symbol: str, side: OrderSide, price: int, units: int) -> None:
            self.dislocations.on_own_fill(venue, symbol, BID if side is OrderSide.BUY else ASK, price, units)

        return listen

    # --- schedule ---

    def call_at(self, when_ns: int, action: Action) -> None:
        """Runs ``action`` at market time ``when_ns``."""
        self._seq += 1
        heapq.heappush(self._heap, (when_ns, self._seq, action))
        if self._running and self._heap[0][1] == self._seq:
            self._wake_at(when_ns)

    def start(self) -> None:
        """Fills the books and begins; from here on time passes."""
        for rows in self.makers.values():
            for maker in rows:
                maker.fill_book(0)
                self._plan_step(maker, 0)
        for walk in self._walks:
            self.call_at(walk.next_delay_ns(), self._fair_mover(walk))
        self.dislocations.start()
        self._origin_ns = self._clock.mono_ns()
        self._running = True
        if self._heap:
            self._wake_at(self._heap[0][0])

    def begin_paths(self) -> None:
        """The scenario's paths of prices and bases begin now."""
        self.paths.began_ns = self._clock.mono_ns() - self._origin_ns

    def stop(self) -> None:
        """Ends the market; the books stay as they are."""
        self._running = False
        self._heap.clear()

    def _wake_at(self, when_ns: int) -> None:
        """Asks for a wake-up, unless one at or before that moment is already pending."""
        if self._wake_ns is not None and self._wake_ns <= when_ns:
            return
        self._wake_ns = when_ns
        self._clock.call_at(self._origin_ns + when_ns, lambda: self._pump(when_ns))

    def _pump(self, token_ns: int) -> None:
        """Runs what is due. A wake-up that an earlier one has overtaken finds little and asks for nothing."""
        if not self._running:
            return
        if token_ns == self._wake_ns:
            self._wake_ns = None
        due_ns = self._clock.mono_ns() - self._origin_ns
        heap = self._heap
        self._running = False  # what is scheduled meanwhile needs no wake-up of its own
        try:
            while heap and heap[0][0] <= due_ns:
                self._now_ns, _, action = heapq.heappop(heap)
                action(self._now_ns)
        finally:
            self._running = True
        if heap:
            self._wake_at(heap[0][0])

    # --- events ---

    def _plan_step(self, maker: Maker, now_ns: int) -> None:
        delay_ns = int(maker.hawkes.next_delay_s() * NS_PER_S)
        self.call_at(now_ns + delay_ns, lambda when_ns: self._step(maker, when_ns))

    def _step(self, maker: Maker, now_ns: int) -> None:
        self.steps += 1
        maker.step(now_ns)
        self._plan_step(maker, now_ns)

    def _fair_mover(self, walk: FairPrice) -> Action:
        def move(now_ns: int) -> None:
            size_bps = walk.move(now_ns)
            if abs(size_bps) > 0.5:
                self._react(walk.pair, now_ns)
            self.call_at(now_ns + walk.next_delay_ns(), move)

        return move

    def _react(self, pair: str, now_ns: int) -> None:
        """A large move: each venue's makers follow as soon as they perceive it, before their next event."""
        for name in (pair, *self._derived_from.get(pair, ())):
            for maker in self.makers.get(name, ()):
                self.call_at(now_ns + maker.lag_ns + 1, maker.reprice)

    def plant(self, pair: str, edge_bps: float, usd: float, life_ms: float) -> bool:
        """One dislocation now, for a test of liveness; False if every listing of the pair is busy."""
        now_ns = self._clock.mono_ns() - self._origin_ns
        self._now_ns = max(self._now_ns, now_ns)
        return self.dislocations.plant(pair, edge_bps, usd, life_ms, self._now_ns)

    def burst(self, venue: str, events: int) -> int:
        """``events`` market events at once on every listing of a venue ("*" = all); returns how many ran."""
        now_ns = self._clock.mono_ns() - self._origin_ns
        count = 0
        for rows in self.makers.values():
            for maker in rows:
                if venue in ("*", maker.venue.name):
                    for _ in range(events):
                        maker.step(now_ns)
                        count += 1
        return count

    def move_price(self, venue: str, symbol: str, factor: float, lasts_ns: int) -> int:
        """Multiplies a price along the time from now on: a pair's fair one ("*" = all venues), or a listing's own.
        ``symbol``: a pair, or as a venue writes it. How many listings follow; raises ``BadFault``."""
        found = {
            pair: [one for one in rows if venue in ("*", one.venue.name) and symbol in (pair, one.instrument.symbol)]
            for pair, rows in self.makers.items()
        }
        found = {pair: rows for pair, rows in found.items() if rows}
        self._now_ns = now_ns = max(self._now_ns, self._clock.mono_ns() - self._origin_ns)
        for pair, rows in found.items():
            fair = self.fair[pair]
            if venue != "*":
                for maker in rows:
                    maker.moves.add(now_ns, lasts_ns, factor)
            elif isinstance(fair, FairPrice):
                fair.moves.add(now_ns, lasts_ns, factor)
                rows[:] = [
                    one for name in (pair, *self._derived_from.get(pair, ())) for one in self.makers.get(name, ())
                ]
            else:
                raise BadFault(
                    f"move_price: found {pair}, which follows two other pairs on all venues; wanted one of those, or a "
                    "venue",
                    "move_price",
                )
            self._follow(rows, now_ns, now_ns + lasts_ns)
        return sum(map(len, found.values()))

    def _follow(self, makers: list[Maker], now_ns: int, until_ns: int) -> None:
        """The makers reprice along a move, and once more when each has perceived its end."""
        last_ns = until_ns + max(maker.lag_ns for maker in makers) + 1

        def follow(at_ns: int) -> None:
            for maker in makers:
                maker.reprice(at_ns)
            if at_ns < last_ns:
                self.call_at(min(at_ns + FOLLOW_NS, last_ns), follow)

        self.call_at(now_ns, follow)

    def describe(self) -> dict[str, Any]:
        """Events so far and market time in seconds."""
        return {"steps": self.steps, "market_s": round(self._now_ns / NS_PER_S, 3)}
