"""Dislocations: short price gaps between venues, rivals that close them, and a record of what was offered.

A dislocation begins when a trader sweeps one venue's book and leaves a stray quote so far off that taking it and the
best price of another venue (or two other legs of a triangle) earns ``edge_bps`` after both taker fees. It ends when
rivals come, on a survival curve 1 / (1 + t / half-life), fitted to recorded captures: half of the dislocations gone
after one half-life, 83 % after five. Mostly they take the stray quote itself; else the counter leg moves away first
and the stray quote goes a little later, which is how a slow taker is left with one leg. Sometimes a rival takes a part
early. A stray quote that an own order has consumed stays consumed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.market.fair_price import BPS
from pipeline.sim.market.makers import Maker
from pipeline.sim.scenarios.specs import DislocationSpec

RECORDS_MAX = 50_000
NEVER_NS = 1 << 62
COUNTER_LEG_HOLD_MS = 150.0  # how long the counter leg stays away


@dataclass(slots=True, eq=False)
class Dislocation:
    """One offered dislocation. ``side``: the stray quote's (ASK = cheap here, sell elsewhere)."""

    number: int
    pair: str
    kind: str  # spot_spot, spot_futures, triangular
    stray: Maker
    counters: list[Maker]
    side: int
    price: int  # ticks, the stray quote's best
    units: int
    edge_bps: float
    born_ns: int  # market time
    dies_ns: int
    attractive_first: bool
    ended_ns: int = 0
    end: str = ""  # rivals, counter_leg, captured
    captured_units: int = 0
    counter_units: int = 0
    rival_units: int = 0

    def describe(self) -> dict[str, Any]:
        """JSON-ready row of ``GET /dislocations?all=1``. Times are market time in ms."""
        row = self.stray.instrument
        return {
            "number": self.number,
            "pair": self.pair,
            "kind": self.kind,
            "venue": self.stray.venue.name,
            "symbol": row.symbol,
            "side": "ask" if self.side == ASK else "bid",
            "price": row.price_text(self.price),
            "qty": row.qty_text(self.units),
            "edge_bps": round(self.edge_bps, 3),
            "counter_venues": [maker.venue.name for maker in self.counters],
            "born_ms": round(self.born_ns / NS_PER_MS, 3),
            "life_ms": round((self.ended_ns - self.born_ns) / NS_PER_MS, 3) if self.end else None,
            "end": self.end,
            "captured_qty": row.qty_text(self.captured_units),
            "counter_qty": "0" if not self.counter_units else str(self.counter_units),
        }


@dataclass
class Dislocations:
    """Begins and ends dislocations, counts what was offered and captured.

    ``schedule(delay_ns, action)`` runs on market time.
    """

    spec: DislocationSpec
    makers: dict[str, list[Maker]]  # by pair
    triangles: list[tuple[Maker, Maker, Maker]]  # cross, over (cross base / quote), under
    weights: dict[str, float]
    seed: int
    schedule: Callable[[int, Callable[[int], None]], None]
    records: list[Dislocation] = field(default_factory=list)
    offered: int = 0
    captured: int = 0
    ends: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(f"{self.seed}:dislocations")
        self._active: dict[tuple[str, str], Dislocation] = {}  # (venue, symbol) of the stray quote
        self._counter_of: dict[tuple[str, str], Dislocation] = {}
        self._pair_free_ns: dict[str, int] = {}
        self._pairs = [pair for pair, rows in self.makers.items() if len(rows) > 1 and self.weights.get(pair, 0) > 0]

    def start(self) -> None:
        if self.spec.rate_per_s > 0 and (self._pairs or self.triangles):
            self.schedule(int(self.spec.start_after_s * NS_PER_S) + self._next_ns(), self._birth)

    def summary(self) -> dict[str, Any]:
        """Counts; ``captured``: dislocations whose stray quote an own order has hit while it stood."""
        return {"offered": self.offered, "captured": self.captured, "alive": len(self._active), "ends": self.ends}

    def on_own_fill(self, venue: str, symbol: str, taker_side: int, price: int, units: int) -> None:
        """An own fill: is it a capture of a stray quote or its other leg?"""
        found = self._active.get((venue, symbol))
        if found is not None and taker_side != found.side and found.stray._is_stray(found.side, price):
            if found.captured_units == 0:
                self.captured += 1
            found.captured_units += units
            if found.captured_units + found.rival_units >= found.units:
                self.schedule(0, lambda now_ns: self._end(found, now_ns, "captured"))
            return
        other = self._counter_of.get((venue, symbol))
        if other is not None and taker_side == other.side:
            other.counter_units += units

    def plant(self, pair: str, edge_bps: float, usd: float, life_ms: float, now_ns: int) -> bool:
        """Makes one dislocation now, at the first pair of listings that is free; False if there is none."""
        rows = self.makers.get(pair, [])
        for stray in rows:
            for counter in rows:
                if stray is counter or self._is_busy(stray) or self._is_busy(counter):
                    continue
                before = self.offered
                self._between(stray, counter, ASK, edge_bps, usd, now_ns, life_ms)
                if self.offered > before:
                    return True
        return False

    # --- birth ---

    def _next_ns(self) -> int:
        return max(1, int(self.rng.expovariate(self.spec.rate_per_s) * NS_PER_S))

    def _birth(self, now_ns: int) -> None:
        self.schedule(self._next_ns(), self._birth)
        edge = self.rng.uniform(*self.spec.edge_bps)
        low, high = self.spec.notional_usd
        usd = low * (high / low) ** self.rng.random()
        side = self.rng.choice((BID, ASK))
        if self.triangles and self.rng.random() < self.spec.triangle_share:
            cross, over, under = self.rng.choice(self.triangles)
            if self._is_busy(cross) or self._is_busy(over) or self._is_busy(under):
                return
            reference = _implied(over, under, side)
            self._open(cross, [over, under], side, reference, edge, usd, now_ns, "triangular", self._life_ms())
            return
        if not self._pairs:
            return
        pair = self.rng.choices(self._pairs, weights=[self.weights[name] for name in self._pairs])[0]
        if self.spec.pair_gap_ms and now_ns < self._pair_free_ns.get(pair, 0):
            return
        stray, counter = self.rng.sample(self.makers[pair], 2)
        if self._is_busy(stray) or self._is_busy(counter):
            return
        self._between(stray, counter, side, edge, usd, now_ns, self._life_ms())

    def _between(
        self, stray: Maker, counter: Maker, side: int, edge: float, usd: float, now_ns: int, life_ms: float
    ) -> None:
        best = counter.book.best(BID if side == ASK else ASK)
        if best is None:
            return
        factor = _net(counter, selling=side == ASK)
        kind = "spot_futures" if stray.instrument.is_futures or counter.instrument.is_futures else "spot_spot"
        reference = float(counter.instrument.price(best)) * factor
        self._open(stray, [counter], side, reference, edge, usd, now_ns, kind, life_ms)

    def _is_busy(self, maker: Maker) -> bool:
        key = (maker.venue.name, maker.instrument.symbol)
        return key in self._active or key in self._counter_of or maker.book.has_own

    def _open(
        self,
        stray: Maker,
        counters: list[Maker],
        side: int,
        reference: float | None,
        edge_bps: float,
        usd: float,
        now_ns: int,
        kind: str,
        life_ms: float,
    ) -> None:
        """``reference``: what the other legs yield (side ASK) or cost (BID) per base coin, fees included."""
        if reference is None:
            return
        tick, book = float(stray.instrument.tick), stray.book
        own = _net(stray, selling=side == BID)
        if side == ASK:
            price = int(reference * (1.0 - edge_bps * BPS) / own / tick)
        else:
            price = -int(-(reference * (1.0 + edge_bps * BPS) / own / tick)) + 1
        units = stray.units_of(usd)
        gap = max(1, round(price * 0.3 * BPS))
        # A trader sweeps everything up to the stray price and quotes there.
        stray.stray = (side, price, price + 2 * gap if side == ASK else price - 2 * gap)
        if side == ASK:
            stray.bid_cap = price - max(1, gap)
            stray.sweep(ASK, 1 << 60, price)
            stray.restore(BID)
        else:
            stray.ask_floor = price + max(1, gap)
            stray.sweep(BID, 1 << 60, price)
            stray.restore(ASK)
        best = book.best(side)
        if best is not None and (best <= price if side == ASK else best >= price):
            stray.stray = stray.bid_cap = stray.ask_floor = None
            return  # its own side already offers more than this: no dislocation
        first = max(stray.instrument.lot_units, units * 6 // 10)
        book.set_level(side, price, first)
        second = price + gap if side == ASK else price - gap
        if units > first and second > 0:
            book.set_level(side, second, units - first)
        else:
            units = first
        dislocation = Dislocation(
            number=self.offered + 1,
            pair=stray.instrument.pair,
            kind=kind,
            stray=stray,
            counters=counters,
            side=side,
            price=price,
            units=units,
            edge_bps=edge_bps,
            born_ns=now_ns,
            dies_ns=now_ns + int(life_ms * NS_PER_MS),
            attractive_first=self.rng.random() < self.spec.attractive_first,
        )
        self.offered += 1
        if len(self.records) < RECORDS_MAX:
            self.records.append(dislocation)
        self._active[(stray.venue.name, stray.instrument.symbol)] = dislocation
        self._pair_free_ns[dislocation.pair] = NEVER_NS
        for counter in counters:
            self._counter_of[(counter.venue.name, counter.instrument.symbol)] = dislocation
        if self.rng.random() < self.spec.nibble_share:
            share = self.rng.uniform(0.2, 0.7)
            self.schedule(int(life_ms * self.rng.random() * NS_PER_MS), lambda now: self._take_part(dislocation, share))
        self.schedule(int(life_ms * NS_PER_MS), lambda now: self._rivals(dislocation, now))

    def _life_ms(self) -> float:
        draw = self.rng.random()
        return min(self.spec.life_max_ms, self.spec.half_life_ms * draw / max(1e-9, 1.0 - draw))

    # --- death ---

    def _take_part(self, dislocation: Dislocation, share: float) -> None:
        if not dislocation.end:
            dislocation.rival_units += self._take_stray(dislocation, int(dislocation.units * share))

    def _take_stray(self, dislocation: Dislocation, units: int) -> int:
        if units <= 0 or dislocation.stray.stray is None:
            return 0
        return dislocation.stray.sweep(BID if dislocation.side == ASK else ASK, units, dislocation.stray.stray[2])

    def _rivals(self, dislocation: Dislocation, now_ns: int) -> None:
        if dislocation.end:
            return
        if dislocation.attractive_first:
            self._end(dislocation, now_ns, "rivals")
            return
        if dislocation.edge_bps <= 0:
            self._end(dislocation, now_ns, "counter_leg")
            return
        # The counter leg goes first: its best levels are taken and its makers stay away for a while.
        for counter in dislocation.counters:
            self._shift_counter(dislocation, counter)
        delay_ns = int(self.rng.uniform(20.0, 100.0) * NS_PER_MS)
        self.schedule(delay_ns, lambda now: self._end(dislocation, now, "counter_leg"))

    def _shift_counter(self, dislocation: Dislocation, counter: Maker) -> None:
        """Moves the counter leg's best by the edge (for a triangle each leg by its share)."""
        away = (dislocation.edge_bps + 1.0) / len(dislocation.counters) * BPS
        cross = len(dislocation.counters) > 1 and counter is dislocation.counters[1]
        selling = (dislocation.side == ASK) != cross  # the leg that sells hits bids
        if selling:
            best = counter.book.best_bid()
            if best is not None:
                counter.bid_cap = int(best * (1.0 - away))
                counter.sweep(ASK, 1 << 60, counter.bid_cap + 1)
                counter.restore(BID)
        else:
            best = counter.book.best_ask()
            if best is not None:
                counter.ask_floor = int(best * (1.0 + away)) + 1
                counter.sweep(BID, 1 << 60, counter.ask_floor - 1)
                counter.restore(ASK)
        hold_ns = int(self.rng.expovariate(1.0 / COUNTER_LEG_HOLD_MS) * NS_PER_MS)

        def release(now_ns: int) -> None:
            counter.bid_cap = counter.ask_floor = None
            counter.reprice(now_ns)

        self.schedule(hold_ns, release)

    def _end(self, dislocation: Dislocation, now_ns: int, reason: str) -> None:
        if dislocation.end:
            return
        stray = dislocation.stray
        if reason != "captured":
            dislocation.rival_units += self._take_stray(dislocation, 1 << 60)
        dislocation.end, dislocation.ended_ns = reason, now_ns
        self.ends[reason] = self.ends.get(reason, 0) + 1
        stray.stray = stray.bid_cap = stray.ask_floor = None
        self._active.pop((stray.venue.name, stray.instrument.symbol), None)
        for counter in dislocation.counters:
            self._counter_of.pop((counter.venue.name, counter.instrument.symbol), None)
        self._pair_free_ns[dislocation.pair] = now_ns + int(self.spec.pair_gap_ms * NS_PER_MS)
        # Makers return after a moment, not in the same instant.
        delay_ns = int(self.rng.uniform(5.0, 30.0) * NS_PER_MS)
        self.schedule(delay_ns, stray.reprice)


def _net(maker: Maker, *, selling: bool) -> float:
    """What one unit of price is worth after the taker fee: 1 - fee when selling, 1 + fee when buying."""
    fee = maker.instrument.taker_fee_ppm * 1e-6
    return 1.0 - fee if selling else 1.0 + fee


def _implied(over: Maker, under: Maker, side: int) -> float | None:
    """Cross price that the two other legs give: sell base for quote and buy the cross quote (ASK), or back (BID)."""
    if side == ASK:
        sell, buy = over.book.best_bid(), under.book.best_ask()
    else:
        sell, buy = under.book.best_bid(), over.book.best_ask()
    if sell is None or buy is None:
        return None
    if side == ASK:
        gained = float(over.instrument.price(sell)) * _net(over, selling=True)
        return gained / (float(under.instrument.price(buy)) * _net(under, selling=False))
    cost = float(over.instrument.price(buy)) * _net(over, selling=False)
    return cost / (float(under.instrument.price(sell)) * _net(under, selling=True))
