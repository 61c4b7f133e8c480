"""Books of simulated venues, set by hand: a price, a spread and a depth, now or along a path on virtual time.

Quotes are real levels in the simulator's order books: what the engine takes is gone until the next quote, and a quote
that crosses a user's resting order fills it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from pipeline.sim.exchange.latency import NS_PER_MS, ManualClock
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.scenarios.specs import ListingSpec, PairSpec, Scenario

BPS = Decimal(10_000)
LEVELS = 5
Changed = Callable[[str, str], None]  # venue, symbol


@dataclass(slots=True)
class Quote:
    """What a listing shows: ``mid`` in quote coins, ``qty`` base coins at each of ``LEVELS`` levels a side."""

    mid: Decimal
    half_spread_bps: Decimal = Decimal(1)
    step_bps: Decimal = Decimal(1)
    qty: Decimal = Decimal(2)


class ScriptedMarket:
    """The only maker of its venues. Prices change when :meth:`quote` or :meth:`follow` says so."""

    def __init__(self, venues: dict[str, SimVenue], clock: ManualClock) -> None:
        self._venues = venues
        self._clock = clock
        self.quotes: dict[tuple[str, str], Quote] = {}
        self.on_change: list[Changed] = []

    def quote(self, venue: str, symbol: str, quote: Quote) -> None:
        """Replaces every level of the listing."""
        self.quotes[venue, symbol] = quote
        sim = self._venues[venue]
        row, book = sim.instruments[symbol], sim.books[symbol]
        units = int(quote.qty / row.unit)
        wanted: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for level in range(LEVELS):
            away = quote.mid * (quote.half_spread_bps + quote.step_bps * level) / BPS
            bid = int(((quote.mid - away) / row.tick).to_integral_value(ROUND_FLOOR))
            ask = int(((quote.mid + away) / row.tick).to_integral_value(ROUND_CEILING))
            wanted[BID][bid] = wanted[BID].get(bid, 0) + units
            wanted[ASK][ask] = wanted[ASK].get(ask, 0) + units
        for side in (BID, ASK):
            for price in [price for price in book.levels[side] if price not in wanted[side]]:
                book.set_level(side, price, 0)
        for side in (BID, ASK):
            for price, qty in wanted[side].items():
                left, fills = book.cross(side, price, qty)
                if fills:
                    sim.settle_own(fills, symbol)
                book.set_level(side, price, left)
        for callback in self.on_change:
            callback(venue, symbol)

    def move(self, venue: str, symbol: str, mid: Decimal) -> None:
        """Another mid, everything else as it was."""
        old = self.quotes[venue, symbol]
        self.quote(venue, symbol, Quote(mid, old.half_spread_bps, old.step_bps, old.qty))

    def follow(
        self, listings: list[tuple[str, str]], path: Callable[[float], Decimal], *, seconds: float, step_ms: int = 100
    ) -> None:
        """Moves ``listings`` to ``path(seconds since now)`` every ``step_ms`` for ``seconds``, the end included."""
        began_ns = self._clock.mono_ns()

        def step() -> None:
            elapsed_s = (self._clock.mono_ns() - began_ns) / 1e9
            for venue, symbol in listings:
                self.move(venue, symbol, path(elapsed_s))
            if elapsed_s < seconds:
                self._clock.call_later(step_ms * NS_PER_MS, step)

        step()

    def follow_scenario(self, scenario: Scenario, *, seconds: float, step_ms: int = 100) -> None:
        """Every quoted listing follows its pair's price path and its own basis path, its mid now being their start."""
        starts = dict(self.quotes)
        for (venue, symbol), quote in starts.items():
            row = self._venues[venue].instruments[symbol]
            pair = scenario.pairs[row.pair]
            listing = pair.listings[venue]

            def path(
                at_s: float, quote: Quote = quote, pair: PairSpec = pair, listing: ListingSpec = listing
            ) -> Decimal:
                factor = pair.factor_at(at_s) / pair.factor_at(0.0)
                basis = (1.0 + listing.basis_at(at_s) * 1e-4) / (1.0 + listing.basis_at(0.0) * 1e-4)
                return quote.mid * Decimal(factor * basis)

            self.follow([(venue, symbol)], path, seconds=seconds, step_ms=step_ms)
