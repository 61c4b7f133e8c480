"""What entering a hedge is charged for its exit: an integer per direction; detector, gate and fast path judge with it.

The direction's own cost (:func:`pipeline.detection.spot_futures.hedge_cost`) takes one expected basis for all pairs and
funding pro rata: what detection can know. The executor knows each pair's model and funding clock; the difference of
both (:mod:`pipeline.economics.hedge_entry`) is the direction's price, added to the edge that an entry needs.

The basis now is the mean of two minutes, of proved books. A pair that has shown fewer than ``SEEN_MIN`` has
no known basis: nothing is entered there, unless ``expected_exit_basis_bps`` is configured, which then stands for what
the model does not know.
A basis that is far from the mean of the two minutes is an edge also where the model is not trusted yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from pipeline.economics.hedge_entry import expected_exit_bps
from pipeline.economics.hedge_exit import FUNDING_TIMES_AHEAD
from pipeline.execution.core_context import CoreContext
from pipeline.execution.hedging.watch import (
    MEAN_OF_S,
    PPB_PER_BPS,
    HedgeWatch,
    Pair,
    PairKey,
    counted_funding,
    funding_clock,
)
from pipeline.model.config import HedgeConfig
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import InstrumentSpec
from pipeline.model.units import NS_PER_S, S_PER_HOUR
from shm.layout_pages import CATALOGUE_CAPACITY

SEEN_MIN = 5  # samples, a second apart, before a mean is one: a single one may be of a moment that is gone
LOOKS_MIN, LOOKS_MAX = 2, 32  # pairs that are looked at or priced in one tick: none grows with the catalogue
TICKS_PER_S = 10  # of an executor that has nothing else to do
MBPS = 1000  # milli-bps per bps
KEPT_MBPS = 200  # a price that moved by no more stays as it is: its number is written for the detector, and judged with
UNKNOWN_MBPS = 5_000_000  # half the notional: no entry has such an edge


@dataclass(slots=True)
class Recent:
    """What a pair's books showed in the last two minutes: (mono ns, basis of mids, its excess at leaving prices), bps.

    The excess is what both half spreads cost, alike for both directions.
    """

    seen: deque[tuple[int, float, float]] = field(default_factory=lambda: deque(maxlen=MEAN_OF_S))
    looked_mono_ns: int = -NS_PER_S
    funding: tuple[int, int] | None = None  # rate and interval that the price was computed from

    def mean(self) -> tuple[float, float] | None:
        """(basis, excess); None where too little was seen."""
        count = len(self.seen)
        if count < SEEN_MIN:
            return None
        return sum(row[1] for row in self.seen) / count, sum(row[2] for row in self.seen) / count


def assumed_cost_bps(futures: InstrumentSpec, s: int, hedge: HedgeConfig) -> float:
    """What :func:`pipeline.detection.spot_futures.assumed_cost` is, in floats and bps: that one is exact, and too slow
    for every direction of a large catalogue. ``s`` 1: long spot, short futures."""
    holding_h, funding = float(hedge.holding_hours), 0.0
    if futures.funding_interval_s > 0:
        times = min(holding_h * S_PER_HOUR / futures.funding_interval_s, float(FUNDING_TIMES_AHEAD))
        funding = -s * futures.funding_rate_ppb / PPB_PER_BPS * times
    return s * float(hedge.expected_exit_basis_bps or 0) + funding + float(hedge.carry_bps_per_day) * holding_h / 24


def entry_price_mbps(pair: Pair, s: int, mean: tuple[float, float] | None, hedge: HedgeConfig, wall_ns: int) -> int:
    """The price of one direction in milli-bps. ``mean``: (basis of mids, excess at leaving prices) now, in bps."""
    prior = hedge.expected_exit_basis_bps
    if mean is None and prior is None:
        return UNKNOWN_MBPS
    basis_now, excess = mean or (0.0, 0.0)
    view = pair.model.view(basis_now if prior is None else float(prior), s)
    mean_rate = s * pair.rate_bps
    clock = funding_clock(pair.futures, s, wall_ns)
    funding_h, rate = counted_funding(clock, mean_rate, float(hedge.exit.stamp_window_s))
    expected = expected_exit_bps(
        mu_bps=view.mu_bps + excess,
        half_life_h=view.half_life_h,
        next_funding_h=funding_h,
        next_rate_bps=rate,
        mean_rate_bps=mean_rate,
        carry_bps_per_h=float(hedge.carry_bps_per_day + hedge.exit.capital_bps_per_day) / 24,
        interval_h=clock.interval_h,
    )
    price = expected - assumed_cost_bps(pair.futures.spec, s, hedge)
    return max(-UNKNOWN_MBPS, min(UNKNOWN_MBPS, round(price * MBPS)))


def direction_keys(pair: Pair) -> tuple[int, int]:
    """Of entering long spot, and of entering short spot."""
    spot, futures = pair.spot.instrument_id, pair.futures.instrument_id
    return spot * CATALOGUE_CAPACITY + futures, futures * CATALOGUE_CAPACITY + spot


def _funding(pair: Pair) -> tuple[int, int]:
    """What of the rows goes into the direction's own cost, which a price corrects."""
    return pair.futures.spec.funding_rate_ppb, pair.futures.spec.funding_interval_s


class HedgeEntryPrices:
    """Prices of all directions of all pairs. Each pair is looked at in turn, at most once a second, the more in a tick
    the more pairs there are, at most ``LOOKS_MAX``: 600 pairs are known ten seconds after their books.

    A pair whose rate has changed has no price until its turn, some ticks later: the direction's own cost has moved
    with the row at once, and the old price may correct it the wrong way. The page still has the old one meanwhile:
    what the detector finds by it the gate refuses.
    """

    def __init__(self, context: CoreContext, watch: HedgeWatch) -> None:
        self._context = context
        self._watch = watch
        self._recent: dict[PairKey, Recent] = {}
        self._turn: Iterator[PairKey] = iter(())
        self._round_mono_ns = 0  # when it began
        self._rounds_ns: deque[int] = deque(maxlen=2)  # how long the last two took
        self._prices: dict[int, int] = {}  # direction key -> milli-bps
        self._due: dict[PairKey, tuple[int, int]] = {}  # pairs to price before all others -> their direction keys
        self._outdated: set[int] = set()  # all of those direction keys
        self.changed: dict[int, int] = {}  # what the inventory page does not have yet
        for key, pair in watch.pairs.items():  # at the start, when nothing waits for it
            self._price(pair, self._recent_of(key))

    def rows_changed(self) -> None:
        """New listings, or other rates: they are priced in the next ticks."""
        for key, pair in self._watch.pairs.items():
            if self._recent_of(key).funding != _funding(pair):
                self._due[key] = direction_keys(pair)
                self._outdated.update(self._due[key])

    def tick(self) -> None:
        """Prices pairs that are due, then looks at the next pairs' books."""
        pairs, now_ns = self._watch.pairs, self._context.now.mono_ns
        looks = min(len(pairs), max(LOOKS_MIN, min(LOOKS_MAX, len(pairs) // TICKS_PER_S + 1)))
        due = list(islice(self._due, looks))
        for key in due:
            self._outdated.difference_update(self._due.pop(key))
            if key in pairs:
                self._price(pairs[key], self._recent_of(key))
        for _ in range(looks - len(due)):
            next_key = next(self._turn, None)
            if next_key is None:
                self._begin_round(now_ns)
                break
            recent = self._recent_of(next_key)
            if next_key in pairs and now_ns - recent.looked_mono_ns >= NS_PER_S:
                recent.looked_mono_ns = now_ns
                self._look(pairs[next_key], recent, now_ns)

    def _recent_of(self, key: PairKey) -> Recent:
        recent = self._recent.get(key)
        if recent is None:
            recent = self._recent[key] = Recent()
        return recent

    def _begin_round(self, now_ns: int) -> None:
        if self._round_mono_ns:
            self._rounds_ns.append(now_ns - self._round_mono_ns)
        self._round_mono_ns = now_ns
        self._turn = iter(list(self._watch.pairs))

    def _kept_ns(self) -> int:
        """How old a sample may be: two minutes, longer where rounds take so long that too few would be left. The
        shorter of two rounds counts: one that the host has slept through is no round."""
        return max(MEAN_OF_S * NS_PER_S, 2 * SEEN_MIN * min(self._rounds_ns, default=0))

    def _look(self, pair: Pair, recent: Recent, now_ns: int) -> None:
        found = self._watch.sample(pair)
        if found is not None:
            basis, long, short = found
            recent.seen.append((now_ns, basis, (long + short) / 2))
        kept_ns = self._kept_ns()
        while recent.seen and now_ns - recent.seen[0][0] > kept_ns:
            recent.seen.popleft()
        self._price(pair, recent)

    def _price(self, pair: Pair, recent: Recent) -> None:
        hedge, mean = self._context.config.detection.hedge, recent.mean()
        recent.funding = _funding(pair)
        for s, key in zip((1, -1), direction_keys(pair), strict=True):
            price, before = entry_price_mbps(pair, s, mean, hedge, self._context.now.wall_ns), self._prices.get(key)
            if before is None or abs(price - before) > KEPT_MBPS:
                self._prices[key] = self.changed[key] = price

    def not_known(self) -> list[PairKey]:
        """Pairs on which nothing is entered because their books were not seen often enough, yet or any more."""
        if self._context.config.detection.hedge.expected_exit_basis_bps is not None:
            return []
        return [key for key in self._watch.pairs if len(self._recent_of(key).seen) < SEEN_MIN]

    def not_known_text(self) -> str:
        """The same for the operator; "" where every pair is known."""
        found = self.not_known()
        if not found:
            return ""
        names = ", ".join(f"{spot} {symbol} / {futures}" for spot, symbol, futures, _ in found[:3])
        return (
            f"{len(found)} of {len(self._watch.pairs)} spot-futures pairs take no entry: a basis is known after "
            f"{SEEN_MIN} looks at proved books of both: {names}{', ...' if len(found) > 3 else ''}"
        )

    def price_mbps(self, key: int) -> int | None:
        """Of a direction key; None where it is no direction of a hedge. A direction with a contract that is no pair's
        (identity not confirmed, other exponents) has no known exit."""
        if key in self._outdated:
            return UNKNOWN_MBPS
        price = self._prices.get(key)
        if price is not None:
            return price
        instruments = self._context.instruments
        buy, sell = instruments.get(key // CATALOGUE_CAPACITY), instruments.get(key % CATALOGUE_CAPACITY)
        contract = InstrumentKind.PERPETUAL
        hedge = (buy and buy.spec.kind is contract) or (sell and sell.spec.kind is contract)
        return UNKNOWN_MBPS if hedge else None
