"""What one event offers: nothing worth less than the least profit, and the greatest expected net profit first."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.detection.detector import OpportunityDetector
from pipeline.detection.kernel_arrays import private_ports
from pipeline.detection.memory import DETECTOR_COUNTERS, DETECTOR_SETTINGS, HELD_CAPACITY
from pipeline.execution.plan import Plan
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.enums import FeeAssetRule, Refusal
from pipeline.rehearsal.detection_world import QTY_EXP, Levels, Listing, World, terms
from pipeline.rehearsal.entry_world import EntryWorld
from shm.atomics import bits_to_f64
from shm.layout import NOTICE_CAPACITY, OPPORTUNITY
from shm.layout_pages import CATALOGUE_CAPACITY
from shm.queue import pop
from tests.naive.detection import Fees, LegLimits, best_size, net_worth_usd
from tests.worlds.fast_entry_world import a_world, exact, levels

SCALE = Fraction(1, 10**6)  # of the world's exponents: price 2, quantity 4
FAR = 1e-9  # relative: where floats and fractions may disagree
UNIT = 10**QTY_EXP


@dataclass(frozen=True)
class Venue:
    fee_ppm: int
    in_base: bool
    bids: Levels
    asks: Levels

    def listing(self, feed: int, pair: str) -> Listing:
        rule = FeeAssetRule.RECEIVED if self.in_base else FeeAssetRule.QUOTE
        return Listing(feed=feed, pair=pair, fee_ppm=self.fee_ppm, rule=rule)

    def fees_with(self, buyer: Venue) -> Fees:
        return Fees(self.fee_ppm, buyer.fee_ppm if buyer.in_base else 0, 0 if buyer.in_base else buyer.fee_ppm)


@st.composite
def venues(draw: st.DrawFn) -> Venue:
    bids = sorted(draw(st.sets(st.integers(9_950, 10_060), min_size=1, max_size=3)), reverse=True)
    asks = sorted(draw(st.sets(st.integers(9_940, 10_050), min_size=1, max_size=3)))
    quantities = st.integers(1, 12)
    return Venue(
        draw(st.sampled_from([0, 500, 2_000])),
        draw(st.booleans()),
        [(price, draw(quantities)) for price in bids],
        [(price, draw(quantities)) for price in asks],
    )


def worth_of(buyer: Venue, seller: Venue, threshold: Fraction, price: Fraction, usd: float) -> Fraction | None:
    """USD of the largest trade that clears the threshold; None where there is none."""
    fees = seller.fees_with(buyer)
    limits, cap = LegLimits(qty_unit=UNIT), 1e9 / usd
    size = best_size(
        buyer.asks, seller.bids, fees, threshold + price, limits, limits, buy_cap=cap, sell_cap=cap, scale=1e-6
    )
    if size is None:
        return None
    return net_worth_usd(buyer.asks, seller.bids, fees, size, scale=SCALE, price=price, usd=Fraction(usd))


def key_of(record: Any) -> tuple[int, int]:
    return divmod(int(record[OPPORTUNITY.direction_key]), CATALOGUE_CAPACITY)


@given(
    st.lists(venues(), min_size=2, max_size=4),
    st.sampled_from([Fraction(0), Fraction(5, 10_000)]),
    st.sampled_from([0, 0, 12_000, -7_500]),
    st.sampled_from([1.0, 40_000.0]),
    st.one_of(st.just(-math.inf), st.sampled_from([0.0, 0.0001, 0.001, 20.0])),
)
@settings(max_examples=200, deadline=None)
def test_an_event_offers_what_the_plain_twin_finds_worth_it_best_first(
    books: list[Venue], threshold: Fraction, price_mbps: int, usd: float, least: float
) -> None:
    """Venues publish one after the other. The price of inventory is on the way from the first to the second."""
    pair = "ETH/USDT" if usd == 1.0 else "ETH/BTC"
    w = World(
        [venue.listing(feed, pair) for feed, venue in enumerate(books)],
        terms=terms(min_edge=threshold, execute_edge=threshold, min_profit_usd=least),
        usd_rates={"BTC": usd},
    )
    for buy, sell, sign in ((0, 1, 1), (1, 0, -1)):
        w.memory.set_price(buy * CATALOGUE_CAPACITY + sell, sign * price_mbps, w.rows, w.terms)
    prices = {(0, 1): Fraction(price_mbps, 10_000_000), (1, 0): Fraction(-price_mbps, 10_000_000)}
    w.scan()
    for last, venue in enumerate(books):
        w.publish(last, venue.bids, venue.asks)
        pushed = [key_of(record) for record in w.scan()]
        wanted: dict[tuple[int, int], Fraction] = {}
        for other in range(last):
            for buy, sell in ((last, other), (other, last)):
                price = prices.get((buy, sell), Fraction(0))
                worth = worth_of(books[buy], books[sell], threshold, price, usd)
                if worth is not None:
                    assume(least == -math.inf or abs(worth - Fraction(least)) > FAR)
                    if worth >= least:
                        wanted[buy, sell] = worth
        assert sorted(pushed) == sorted(wanted)
        ranks = [float(wanted[key]) for key in pushed]
        assert all(first >= second - FAR * abs(second) for first, second in itertools.pairwise(ranks))


def chain(*bids: int, least: float = -math.inf, quantity: int = 100 * UNIT) -> World:
    """One venue asks 100.00, the venues behind it in the catalogue bid; every book is in place but the first one's."""
    w = World([Listing(feed=feed) for feed in range(1 + len(bids))], terms=terms(min_profit_usd=least))
    for feed, bid in enumerate(bids, start=1):
        w.publish(feed, [(bid, quantity)], [(10_900, quantity)])
    w.scan()
    w.publish(0, [(9_000, quantity)], [(10_000, quantity)])
    return w


def test_the_better_hit_is_pushed_first_though_it_is_later_in_the_catalogue() -> None:
    first, second, third = chain(10_010, 10_050, 10_020).scan()
    assert [key_of(record) for record in (first, second, third)] == [(0, 2), (0, 3), (0, 1)]
    ids = [int(record[OPPORTUNITY.id]) for record in (first, second, third)]
    assert ids == sorted(ids), "the executor takes a record only if its id is later than the last one's"


def test_equal_hits_keep_the_order_of_the_catalogue() -> None:
    assert [key_of(record)[1] for record in chain(10_020, 10_020, 10_020).scan()] == [1, 2, 3]


def test_more_hits_than_can_be_held_are_all_pushed_once() -> None:
    count = HELD_CAPACITY + 8
    found = chain(*range(10_001, 10_001 + count)).scan()
    sold = [key_of(record)[1] for record in found]
    assert sold == [*range(HELD_CAPACITY, 0, -1), *range(count, HELD_CAPACITY, -1)]


def test_a_hit_of_both_its_books_is_pushed_once() -> None:
    w = World([Listing(feed=0), Listing(feed=0, venue=1), Listing(feed=1, pair="X/USDT")])
    w.scan()
    w.publish(0, [(9_000, UNIT)], [(10_000, UNIT)])
    w.publish(1, [(10_050, UNIT)], [(10_900, UNIT)])
    for _ in range(NOTICE_CAPACITY + 1):  # a lap: every book of the feed is looked at, and each hits the direction
        w.publish(0, [(9_000, UNIT)], [(10_000, UNIT)])
    assert [key_of(record) for record in w.scan()] == [(0, 1)]
    assert w.counter(DETECTOR_COUNTERS.laps) == 1 and w.scan() == []


@pytest.mark.parametrize(("least", "taken"), [(0.49, True), (0.51, False)])
def test_what_is_worth_less_than_the_least_profit_is_refused_under_its_own_gate(least: float, taken: bool) -> None:
    """One coin bought at 100.00 and sold at 100.50: half a dollar, 50 bps."""
    w = chain(10_050, least=least, quantity=UNIT)
    assert [key_of(record) for record in w.scan()] == ([(0, 1)] if taken else [])
    w.publish(0, [(9_000, UNIT)], [(10_100, UNIT)])
    w.scan()
    assert w.counter(DETECTOR_COUNTERS.refused + Refusal.BELOW_MIN_PROFIT) == int(not taken)


@pytest.mark.parametrize("rates", [{"BTC": 50_000.0}, {}])
def test_a_quote_without_a_rate_is_not_worth_anything(rates: dict[str, float]) -> None:
    """An unknown rate counts as nothing, never as one: here even one dollar would do."""
    w = World(
        [Listing(feed=0, pair="ETH/BTC"), Listing(feed=1, pair="ETH/BTC")],
        terms=terms(min_profit_usd=0.0001),
        usd_rates=rates,
    )
    w.memory.caps[:] = 1e9  # whatever the cap would say
    w.publish(0, [(9_000, UNIT)], [(10_000, UNIT)])
    w.publish(1, [(10_050, UNIT)], [(10_900, UNIT)])
    assert len(w.scan()) == len(rates)


# --- the executor takes them in that order ---


def two_offers(world: EntryWorld) -> list[Any]:
    """What the detector pushes when MEXC becomes cheap: 50 bps to Gate.io spot, 100 bps to its futures, which stand
    behind it in the catalogue."""
    ports = private_ports(world.words)
    detector = OpportunityDetector(world.config, ports)
    detector.set_rows(np.array([row_to_words(row) for row in world.rows]))
    for feed, offset in enumerate(world.offsets):
        detector.set_feed(feed, offset=offset)
    detector.memory.mem[DETECTOR_SETTINGS.now_ns] = world.now_ns
    world.publish(1, levels("100.50", "-0.05", "0.5"), levels("101.20", "0.05", "5"))
    world.publish(2, levels("101.00", "-0.05", "0.5"), levels("101.10", "0.05", "5"))
    detector.step(idle_ns=0)
    world.publish(0, levels("99.90", "-0.05", "5"), levels("100.00", "0.05", "0.5"))
    detector.step(idle_ns=0)
    record, found = np.zeros(OPPORTUNITY.WORDS, np.int64), []
    while pop(ports.opps, 0, ports.opps_cursor, 0, record):
        found.append(record.copy())
    return found


def test_a_balance_that_is_enough_for_one_hit_goes_to_the_better_one() -> None:
    with a_world() as world:
        world.fund_all()
        world.fund({("mexc_spot", "USDT"): Decimal(60)})
        better, worse = two_offers(world)
        assert key_of(worse) == (0, 1) and key_of(better) == (0, 2)
        assert bits_to_f64(better[OPPORTUNITY.profit_quote]) > bits_to_f64(worse[OPPORTUNITY.profit_quote])
        assert isinstance(exact(world, worse), Plan), "alone it would be taken"
    with a_world() as world:
        world.fund_all()
        world.fund({("mexc_spot", "USDT"): Decimal(60)})
        for record in two_offers(world):
            world.feed(decode_opportunity(record, world.now_ns))
        (operation,) = world.core.ledger.operations.values()
        assert {leg.venue for leg in operation.record.legs} == {"mexc_spot", "gateio_futures"}
