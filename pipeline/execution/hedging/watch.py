"""What is known of every spot-futures pair and open hedge: the basis model, the funding clock, the exit threshold.

A slow loop in floats (once a second for pairs with an open hedge, once a minute for all others). The comparison that
decides is exact, on the integer threshold (:func:`pipeline.economics.hedge_exit.leaves`, and the detector's kernel).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial

import msgspec

from pipeline.economics.basis_model import DECAY, BasisModel
from pipeline.economics.hedge_exit import (
    RATE_PERSISTENCE,
    exit_threshold_bps,
    flipped,
    funding_time_counts,
    threshold_milli_bps,
    value_of_leaving_bps,
)
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import BookView
from pipeline.execution.market import Instruments, best_price_fp, tradable
from pipeline.execution.records import HedgeRecord
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.model.trading_times import ending_text
from pipeline.model.units import NS_PER_HOUR, NS_PER_S, PPM_PER_BPS, S_PER_HOUR
from shm.layout import BOOK
from shm.layout_pages import CATALOGUE_CAPACITY

MINUTE_NS = 60 * NS_PER_S
MEAN_OF_S = 120  # the basis now is the mean of so many seconds
LOSS_HOLDS_S = 10  # a loss counts at prices that the books have shown for so long
LOSS_GAP_S = 3  # without a fresh book for longer, they have shown nothing
QUANTILE_99 = 2.576  # standard deviations that 99 % of a normal variable's moves stay within, either way
PAIRS_PER_TICK = 4  # pairs whose minute is observed in one tick, so that no tick grows with the catalogue
INTERVAL_UNKNOWN_S = 8 * S_PER_HOUR
PPB_PER_BPS = 100_000

PairKey = tuple[str, str, str, str]  # spot venue and symbol, futures venue and symbol


class PairState(msgspec.Struct, frozen=True):
    """A pair's model as it is kept over restarts. ``rate_bps``: exponential mean of the indicated funding rate."""

    model: list[float]
    rate_bps: float
    rate_weight: float


@dataclass(slots=True)
class Pair:
    """One spot and one futures instrument of the same coins."""

    spot: InstrumentRow
    futures: InstrumentRow
    model: BasisModel = field(default_factory=BasisModel)
    rate_bps: float = 0.0  # long mean of the indicated rate, as a short position receives it
    rate_weight: float = 0.0
    minute: int = -1  # wall minute that was observed last
    seconds: deque[tuple[int, float, float, float]] = field(default_factory=lambda: deque(maxlen=MEAN_OF_S))
    # (mono ns, basis of mids, y of a hedge long spot, y of one short spot)
    settled: deque[tuple[int, float, float]] = field(default_factory=lambda: deque(maxlen=MEAN_OF_S))
    # (mono ns, y long spot, y short spot) of books that both came after our own last fill there
    settled_since_ns: int = 0  # since when such books came without a gap

    def take_settled(self, now_ns: int, long: float, short: float) -> None:
        """One more reading of books that our own fills have not just emptied."""
        if not self.settled or now_ns - self.settled[-1][0] > LOSS_GAP_S * NS_PER_S:
            self.settled.clear()
            self.settled_since_ns = now_ns
        self.settled.append((now_ns, long, short))

    def lasting_y_bps(self, s: int, now_ns: int) -> float | None:
        """The cheapest ``y`` that the books have shown in ``LOSS_HOLDS_S``; None where they have not for so long."""
        if not self.settled or now_ns - self.settled[-1][0] > LOSS_GAP_S * NS_PER_S:
            return None
        if now_ns - self.settled_since_ns < LOSS_HOLDS_S * NS_PER_S:
            return None
        place = 1 if s > 0 else 2
        return min(row[place] for row in self.settled if now_ns - row[0] <= LOSS_HOLDS_S * NS_PER_S)

    def state(self) -> PairState:
        return PairState(self.model.state(), self.rate_bps, self.rate_weight)


class FundingClock(msgspec.Struct, frozen=True):
    """The contract's next funding time. ``rate_bps``: indicated, as the hedge's futures leg receives it (negative:
    pays)."""

    next_funding_h: float
    interval_h: float
    rate_bps: float


class HedgeReading(msgspec.Struct, frozen=True, kw_only=True):
    """One open hedge at this second, bps of its notional. ``y_bps``: basis at leaving prices, a smaller one is cheaper;
    ``lasting_value_bps``: the best ``value_bps`` of the last seconds, None while it is not known;
    ``threshold_milli_bps``: leave when 1000 y is at or below it (None: never by choice)."""

    y_bps: float
    value_bps: float
    lasting_value_bps: float | None
    threshold_milli_bps: int | None
    clock: FundingClock
    age_h: float
    funding_bps: float

    @property
    def leaves_at_bps(self) -> float | None:
        """The threshold in bps."""
        return None if self.threshold_milli_bps is None else self.threshold_milli_bps / 1000


def side_of(hedge: HedgeRecord) -> int:
    """+1: long spot and short futures; -1: the reverse."""
    return int(hedge.spot_side)


def pair_key(hedge: HedgeRecord) -> PairKey:
    return hedge.spot_venue, hedge.spot_symbol, hedge.futures_venue, hedge.futures_symbol


def exit_key(spot_id: int, futures_id: int, s: int) -> int:
    """Direction key of leaving: what was bought is sold, what was sold is bought."""
    buy, sell = (futures_id, spot_id) if s > 0 else (spot_id, futures_id)
    return buy * CATALOGUE_CAPACITY + sell


def exit_key_of(hedge: HedgeRecord, instruments: Instruments) -> int:
    """The same of an open hedge, with the instruments' numbers of this run; -1 where the catalogue lacks one."""
    spot = instruments.find(hedge.spot_venue, hedge.spot_symbol)
    futures = instruments.find(hedge.futures_venue, hedge.futures_symbol)
    if spot is None or futures is None:
        return -1
    return exit_key(spot.instrument_id, futures.instrument_id, side_of(hedge))


def round_trip_bps(spot: InstrumentRow, futures: InstrumentRow) -> float:
    """Taker fees of entry and exit together."""
    return 2 * (spot.spec.taker_fee_ppm + futures.spec.taker_fee_ppm) / PPM_PER_BPS


def funding_clock(futures: InstrumentRow, s: int, wall_ns: int) -> FundingClock:
    """The next funding time after ``wall_ns``. One that the catalogue has from before is carried on by whole intervals;
    an unknown one lies on whole intervals of UTC, as the venues have it."""
    interval_s = futures.spec.funding_interval_s or INTERVAL_UNKNOWN_S
    now_s = wall_ns / NS_PER_S
    ahead_s = (futures.spec.funding_next_wall_s - now_s) % interval_s
    if futures.spec.funding_next_wall_s > now_s:
        ahead_s = futures.spec.funding_next_wall_s - now_s
    return FundingClock(ahead_s / S_PER_HOUR, interval_s / S_PER_HOUR, s * futures.spec.funding_rate_ppb / PPB_PER_BPS)


def counted_funding(clock: FundingClock, mean_rate_bps: float, window_s: float) -> tuple[float, float]:
    """(hours to it, rate) of the next funding time that counts: a receipt within ``window_s`` does not."""
    if funding_time_counts(clock.next_funding_h * S_PER_HOUR, clock.rate_bps, window_s):
        return clock.next_funding_h, clock.rate_bps
    rate = mean_rate_bps + RATE_PERSISTENCE * (clock.rate_bps - mean_rate_bps)
    return clock.next_funding_h + clock.interval_h, rate


def leaving_bps(spot: BookView, futures: BookView, s: int) -> float | None:
    """``y`` at the best prices of leaving; None where a side is empty. Both books share one exponent of prices."""
    spot_fp = best_price_fp(spot, OrderSide.SELL if s > 0 else OrderSide.BUY)
    futures_fp = best_price_fp(futures, OrderSide.BUY if s > 0 else OrderSide.SELL)
    if not spot_fp or not futures_fp:
        return None
    return s * (futures_fp - spot_fp) / spot_fp * 1e4


class HedgeWatch:
    """Models of all pairs and readings of all open hedges. :meth:`tick` moves it on; everything else only reads."""

    def __init__(self, context: CoreContext, last_fill: Callable[[str, str], tuple[int, int]]) -> None:
        """``last_fill``: (receive mono ns, venue wall ms) of our last fill on a venue's symbol; zeros: none."""
        self._context = context
        self._last_fill = last_fill
        self._pairs: dict[PairKey, Pair] = {}
        self._kept: dict[PairKey, PairState] = {}  # of an earlier run, for pairs that the catalogue has not shown yet
        self._turn: Iterator[Pair] = iter(())
        self._second_ns = 0
        self.readings: dict[str, HedgeReading] = {}  # operation id of the open hedge -> reading
        self._take_catalogue()

    # --- life ---

    def restore(self, states: Mapping[str, PairState]) -> None:
        """Models of an earlier run, as :meth:`states` gave them. One that does not fit is left out: it is learned."""
        for text, state in states.items():
            names = text.split(" ")
            if len(names) == 4:
                self._kept[names[0], names[1], names[2], names[3]] = state
        self._pairs.clear()
        self._take_catalogue()

    def states(self) -> dict[str, PairState]:
        """Every model that has seen a minute, by ``"spot_venue symbol futures_venue symbol"``."""
        known = {" ".join(key): pair.state() for key, pair in self._pairs.items() if pair.minute >= 0}
        return {" ".join(key): state for key, state in self._kept.items()} | known

    def basis_move(self) -> Decimal:
        """99 % quantile of how far the basis of an open hedge moves, as a share of the price: the widest of their
        models; a pair that is not known has the width of the unknown."""
        widths = [
            pair.model.view(0.0).sd_bps
            for key in {pair_key(hedge) for hedge in self._context.ledger.hedges.values()}
            if (pair := self._pairs.get(key)) is not None
        ]
        return Decimal(repr(max(widths, default=0.0) * QUANTILE_99 / 10_000))

    def rows_changed(self) -> None:
        """The catalogue has new or changed rows: instruments, rates, funding times. Open hedges are read anew at
        once."""
        self._take_catalogue()
        self.read_hedges()

    @property
    def pairs(self) -> Mapping[PairKey, Pair]:
        """Every pair of the catalogue."""
        return self._pairs

    def _take_catalogue(self) -> None:
        rows = [row for row in self._context.instruments if row.tradable_pair]
        contracts: dict[int, list[InstrumentRow]] = {}
        for row in rows:
            if row.spec.kind is InstrumentKind.PERPETUAL:
                contracts.setdefault(row.pair_id, []).append(row)
        for spot in rows:
            if spot.spec.kind is not InstrumentKind.SPOT:
                continue
            for futures in contracts.get(spot.pair_id, ()):
                if (spot.price_exp, spot.qty_exp) == (futures.price_exp, futures.qty_exp):
                    self._take_rows(spot, futures)

    def _take_rows(self, spot: InstrumentRow, futures: InstrumentRow) -> None:
        key = (spot.spec.venue, spot.spec.symbol, futures.spec.venue, futures.spec.symbol)
        pair = self._pairs.get(key)
        if pair is not None:
            pair.spot, pair.futures = spot, futures
            return
        pair = self._pairs[key] = Pair(spot, futures)
        kept = self._kept.pop(key, None)
        if kept is not None:
            try:
                pair.model = BasisModel(kept.model)
            except ValueError:  # of another build
                return
            pair.rate_bps, pair.rate_weight, pair.minute = kept.rate_bps, kept.rate_weight, 0

    # --- time ---

    def tick(self) -> None:
        """Observes what is due: a few pairs' minutes, and once a second every open hedge."""
        minute = self._context.now.wall_ns // MINUTE_NS
        for _ in range(min(PAIRS_PER_TICK, len(self._pairs))):
            pair = next(self._turn, None)
            if pair is None:
                self._turn = iter(list(self._pairs.values()))
                break
            if pair.minute != minute:
                self._observe_minute(pair, minute)
        now_ns = self._context.now.mono_ns
        fresh = not self.readings.keys() >= self._context.ledger.hedges.keys()  # the basis it was entered at counts
        if fresh or now_ns - self._second_ns >= NS_PER_S:
            self._second_ns = now_ns
            self.read_hedges()

    def _observe_minute(self, pair: Pair, minute: int) -> None:
        found = self.sample(pair)
        if found is None:
            return
        pair.minute = minute
        pair.model.observe(found[0])
        pair.rate_weight = pair.rate_weight * DECAY + 1.0
        pair.rate_bps += (pair.futures.spec.funding_rate_ppb / PPB_PER_BPS - pair.rate_bps) / pair.rate_weight

    def sample(self, pair: Pair) -> tuple[float, float, float] | None:
        """(basis of mids, y long spot, y short spot) of proved books; None where one is missing or old."""
        views = [self.proved(row) for row in (pair.spot, pair.futures)]
        if views[0] is None or views[1] is None:
            return None
        long, short = leaving_bps(views[0], views[1], 1), leaving_bps(views[0], views[1], -1)
        return None if long is None or short is None else ((long - short) / 2, long, short)

    def proved(self, row: InstrumentRow) -> BookView | None:
        """The row's book where it may be traded on by our own choice (flags, age); else None."""
        view = self._context.market.book(row.instrument_id)
        if view is None or not tradable(view, row) or not view.proof_mono_ns:
            return None
        limit_ns = self._context.config.detection.max_age_to_trade_ms * 1_000_000
        return view if self._context.now.mono_ns - view.proof_mono_ns <= limit_ns else None

    def read_hedges(self) -> None:
        """A fresh reading of every open hedge; one without proved books keeps its last reading for two minutes."""
        ledger = self._context.ledger
        sampled: set[PairKey] = set()
        readings: dict[str, HedgeReading] = {}
        for name, hedge in ledger.hedges.items():
            key = pair_key(hedge)
            pair = self._pairs.get(key)
            if pair is None:
                continue
            if key not in sampled:
                sampled.add(key)
                self._observe_second(pair)
            reading = self._reading(pair, hedge)
            if reading is not None:
                readings[name] = reading
        self.readings = readings

    def _observe_second(self, pair: Pair) -> None:
        now_ns, found = self._context.now.mono_ns, self.sample(pair)
        if found is not None:
            pair.seconds.append((now_ns, *found))
            if self._after_own_fills(pair):
                pair.take_settled(now_ns, *found[1:])
        while pair.seconds and now_ns - pair.seconds[0][0] > MEAN_OF_S * NS_PER_S:
            pair.seconds.popleft()

    def _after_own_fills(self, pair: Pair) -> bool:
        """Whether both books came after our own last fill on them: before, they still show what we have taken, or show
        nothing where we took it."""
        for row in (pair.spot, pair.futures):
            view = self._context.market.book(row.instrument_id)
            if view is None or view.words[BOOK.recv_mono_ns] <= self._last_fill(row.spec.venue, row.spec.symbol)[0]:
                return False
        return True

    def _reading(self, pair: Pair, hedge: HedgeRecord) -> HedgeReading | None:
        if not pair.seconds:
            return None
        s, count = side_of(hedge), len(pair.seconds)
        place = 2 if s > 0 else 3
        y_mean = sum(row[place] for row in pair.seconds) / count
        basis_mean = sum(row[1] for row in pair.seconds) / count
        y = pair.seconds[-1][place]
        clock = funding_clock(pair.futures, s, self._context.now.wall_ns)
        age_h, funding_bps = self.age_h(hedge), self.funding_bps(hedge)
        fees = round_trip_bps(pair.spot, pair.futures)
        hedging = self._context.config.detection.hedge
        entry = s * (hedge.entry_futures_price - hedge.entry_spot_price) / hedge.entry_spot_price * 10_000
        carry_bps_per_h = float(hedging.carry_bps_per_day) / 24
        threshold = self._threshold_bps(pair, s, y_mean, basis_mean, clock, fees)
        value_at = partial(
            value_of_leaving_bps,
            entry_basis_bps=float(entry),
            entry_fees_bps=fees / 2,
            exit_fees_bps=fees / 2,
            funding_bps=funding_bps,
            carry_bps_per_h=carry_bps_per_h,
            age_h=age_h,
        )
        lasting = None  # a book that its own entry has emptied says nothing of what a hedge is worth
        if age_h * S_PER_HOUR >= LOSS_HOLDS_S:
            lasting = pair.lasting_y_bps(s, self._context.now.mono_ns)
        return HedgeReading(
            y_bps=y,
            value_bps=value_at(y_bps=y),
            lasting_value_bps=None if lasting is None else value_at(y_bps=lasting),
            threshold_milli_bps=threshold_milli_bps(threshold),
            clock=clock,
            age_h=age_h,
            funding_bps=funding_bps,
        )

    def _threshold_bps(
        self, pair: Pair, s: int, y_mean: float, basis_mean: float, clock: FundingClock, fees: float
    ) -> float:
        hedging = self._context.config.detection.hedge
        view = pair.model.view(basis_mean, s)
        spread = y_mean - s * basis_mean  # what the best prices of leaving cost beyond the mids
        mean_rate = s * pair.rate_bps
        funding_h, rate = counted_funding(clock, mean_rate, float(hedging.exit.stamp_window_s))
        return exit_threshold_bps(
            basis_mean_now_bps=y_mean,
            mu_bps=view.mu_bps + spread,
            sd_bps=view.sd_bps,
            half_life_h=view.half_life_h,
            next_funding_h=funding_h,
            next_rate_bps=rate,
            mean_rate_bps=mean_rate,
            carry_bps_per_h=float(hedging.carry_bps_per_day + hedging.exit.capital_bps_per_day) / 24,
            interval_h=clock.interval_h,
            round_trip_bps=fees,
        )

    # --- one hedge ---

    def age_h(self, hedge: HedgeRecord) -> float:
        """Hours since its first record, by the wall clock (it outlives the host's monotonic one)."""
        opened_ns = self._context.ledger.since_wall_ns.get(hedge.operation_id, self._context.now.wall_ns)
        return max(0, self._context.now.wall_ns - opened_ns) / NS_PER_HOUR

    def funding_since_entry(self, hedge: HedgeRecord) -> list[Decimal]:
        """What each payment that its contract booked since it opened was to the hedge's quantity, in quote, + =
        received. Venues book by contract: a payment is taken per base coin of the position that it was booked on."""
        ledger = self._context.ledger
        opened_ms = ledger.since_wall_ns.get(hedge.operation_id, 0) // 1_000_000
        held = -side_of(hedge) * hedge.qty
        payments = ledger.payments_of.get((hedge.futures_venue, hedge.futures_symbol), ())
        return [per_coin * held for wall_ms, per_coin in payments if wall_ms >= opened_ms]

    def funding_bps(self, hedge: HedgeRecord) -> float:
        """All of them, in bps of the hedge's notional at entry."""
        notional = hedge.qty * hedge.entry_futures_price
        return float(sum(self.funding_since_entry(hedge), ZERO) / notional * 10_000) if notional else 0.0

    def ending_reason(self, hedge: HedgeRecord) -> str:
        """Which leg's trading ends, as its venue has announced; "" when none does, or none does any more."""
        for leg in ((hedge.spot_venue, hedge.spot_symbol), (hedge.futures_venue, hedge.futures_symbol)):
            row = self._context.instruments.find(*leg)
            if row is not None and row.spec.ending and not row.spec.unreadable:
                return ending_text(row.spec)
        return ""

    def hard_reason(self, hedge: HedgeRecord) -> str:
        """Why the hedge must leave whole now: deadline, loss, funding that turned; "" when nothing says so."""
        reading, limits = self.readings.get(hedge.operation_id), self._context.config.detection.hedge.exit
        age_h = self.age_h(hedge)
        if age_h > limits.deadline_hours:
            return f"deadline: open for {age_h:.1f} h, at most {limits.deadline_hours}"
        if reading is None:
            return ""
        value_bps = reading.lasting_value_bps
        if value_bps is not None and value_bps < -float(limits.max_loss_bps):
            return f"loss: {-value_bps:.1f} bps or more for {LOSS_HOLDS_S} s, at most {limits.max_loss_bps} are borne"
        pair = self._pairs.get(pair_key(hedge))
        paid = self.funding_since_entry(hedge)[-2:]
        notional = hedge.qty * hedge.entry_futures_price
        if pair is not None and len(paid) == 2 and notional:
            first, second = (float(amount / notional * 10_000) for amount in paid)
            if flipped((first, second), reading.clock.rate_bps, round_trip_bps(pair.spot, pair.futures)):
                return f"funding turned: paid {-first - second:.1f} bps at two funding times, and pays again"
        return ""

    def may_choose(self, reading: HedgeReading) -> bool:
        """Not so near a funding time that pays us that it is uncertain who holds the position at it."""
        window_s = float(self._context.config.detection.hedge.exit.stamp_window_s)
        return funding_time_counts(reading.clock.next_funding_h * S_PER_HOUR, reading.clock.rate_bps, window_s)
