"""Cycles: found once each way, exact at the threshold, no leg spends what the leg before did not bring."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.cycle_size import CYCLE_WALK, cycle_exceeds, cycle_row
from pipeline.detection.cycles import CYCLE, cycle_constant, find_cycles
from pipeline.detection.edge import NUMBER_LIMIT
from pipeline.detection.memory import DETECTOR_COUNTERS
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType, Refusal
from pipeline.rehearsal.detection_world import NOW, Levels, Listing, World, catalogue_rows, terms
from shm.atomics import bits_to_f64
from shm.layout import LEG, OPPORTUNITY
from tests.naive.detection import CycleLeg, Fees, cycle_balance, cycle_edge

PAIRS = ("BTC/USDT", "ETH/USDT", "ETH/BTC")
EXPONENTS = {"BTC/USDT": (2, 6), "ETH/USDT": (2, 6), "ETH/BTC": (6, 6)}
RATES = {"BTC": 60_000.0, "ETH": 3_000.0}


def triangle(
    *,
    fee_ppm: int = 0,
    rule: FeeAssetRule = FeeAssetRule.QUOTE,
    lots: tuple[int, int, int] = (1, 1, 1),
    maxima: tuple[int, int, int] = (0, 0, 0),
    **changes: object,
) -> World:
    """``lots``, ``maxima``: of BTC/USDT, ETH/USDT, ETH/BTC, in millionths of a coin; 0 = none."""
    listings = [
        Listing(
            feed=0, pair=pair, fee_ppm=fee_ppm, rule=rule, lot=lots[number], max_qty=maxima[number],
            price_exp=EXPONENTS[pair][0], qty_exp=EXPONENTS[pair][1], pair_id=number,
        )
        for number, pair in enumerate(PAIRS)
    ]  # fmt: skip
    return World(listings, usd_rates=RATES, **changes)  # type: ignore[arg-type]


def fees_of(listing: Listing) -> Fees:
    in_base = listing.rule is FeeAssetRule.RECEIVED
    return Fees(listing.fee_ppm, listing.fee_ppm if in_base else 0, 0 if in_base else listing.fee_ppm)


def cycle_listings() -> list[Listing]:
    return [Listing(feed=0, pair=pair, pair_id=number) for number, pair in enumerate(PAIRS)]


def test_each_triangle_of_a_venue_is_found_once_each_way() -> None:
    listings = [*cycle_listings(), Listing(feed=0, pair="SOL/USDT"), Listing(feed=0, pair="SOL/ETH")]
    found = list(find_cycles(catalogue_rows(listings)))
    assert sorted(sorted(ids) for ids, _ in found) == [[0, 1, 2], [0, 1, 2], [1, 3, 4], [1, 3, 4]]
    for ids, sides in found[:2]:
        assert sides[0] == 1  # from USDT: the first leg buys
        assert (sides[ids.index(2)] == 1) == (ids[0] == 0)  # with bitcoin in hand ether is bought


def test_triangles_of_different_venues_or_of_contracts_are_none() -> None:
    listings = cycle_listings()
    listings[2].feed = 1
    assert list(find_cycles(catalogue_rows(listings))) == []
    listings = cycle_listings()
    listings[2].kind = InstrumentKind.PERPETUAL
    assert list(find_cycles(catalogue_rows(listings))) == []


def test_the_strategy_is_off_unless_it_is_named() -> None:
    w = World(cycle_listings(), terms=terms(types=(OpportunityType.SPOT_SPOT,)))
    assert len(w.topology.cycles) == 0


prices = st.one_of(st.integers(1, NUMBER_LIMIT - 1), st.integers(1, 10**10))


@given(
    st.tuples(prices, prices, prices),
    st.integers(0, 1),
    st.sampled_from([0, 777, 1000]),
    st.sampled_from(list(FeeAssetRule)),
    st.fractions(Fraction(-1, 100), Fraction(1, 100), max_denominator=10**5),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_a_cycle_gains_exactly_when_the_fraction_does(
    fp: tuple[int, int, int], which: int, fee: int, rule: FeeAssetRule, threshold: Fraction, boundary: bool
) -> None:
    w = triangle(fee_ppm=fee, rule=rule, terms=terms(min_edge=threshold, execute_edge=threshold))
    cycle = w.topology.cycles[which]
    ids = [int(cycle[CYCLE.instruments + k]) for k in range(3)]
    sides = [int(cycle[CYCLE.sides + k]) for k in range(3)]
    chosen = list(fp)
    if boundary:  # put the last price as near to the threshold as integers are
        constant = cycle_constant([w.rows[i] for i in ids], sides, threshold)
        value = constant
        for k in range(2):
            value = value * chosen[k] if sides[k] < 0 else value / chosen[k]
        wanted = 1 / value if sides[2] < 0 else value
        chosen[2] = min(max(round(wanted), 1), NUMBER_LIMIT - 1)
    legs = []
    for k in range(3):
        w.mem[CYCLE_WALK.best + k] = chosen[k]
        listing = w.listings[ids[k]]
        legs.append((sides[k], Fraction(chosen[k], 10**listing.price_exp), fees_of(listing)))
    gains = cycle_edge(legs) > threshold
    for column in (CYCLE.num, CYCLE.exec_num):
        assert bool(cycle_exceeds(w.mem, int(cycle_row(w.mem, which)), CYCLE_WALK.best, column)) is gains


def publish_triangle(
    w: World, btc: tuple[Levels, Levels], eth: tuple[Levels, Levels], cross: tuple[Levels, Levels]
) -> None:
    for instrument, (bids, asks) in enumerate((btc, eth, cross)):
        w.publish(instrument, bids, asks)


# buy BTC at 60000, buy ETH with it at 0.05, sell ETH at 3030: 1 % more than what went in
GAINING = (
    ([(5_999_000, 10**6)], [(6_000_000, 2 * 10**6)]),
    ([(303_000, 30 * 10**6)], [(303_100, 10**6)]),
    ([(49_900, 10**6)], [(50_000, 50 * 10**6)]),
)


def test_a_gaining_cycle_is_pushed_with_three_legs_in_order() -> None:
    w = triangle()
    publish_triangle(w, *GAINING)
    (record,) = w.scan()
    assert record[OPPORTUNITY.type] == OpportunityType.TRIANGULAR and record[OPPORTUNITY.leg_count] == 3
    assert record[OPPORTUNITY.direction_key] < 0
    legs = [record[OPPORTUNITY.legs + k * LEG.WORDS :][: LEG.WORDS] for k in range(3)]
    assert [(int(leg[LEG.instrument]), int(leg[LEG.side])) for leg in legs] == [(0, 1), (2, 1), (1, -1)]
    btc, eth_bought, eth_sold = (int(leg[LEG.qty_fp]) for leg in legs)
    # 30 ETH can be sold: 1.5 BTC are needed
    assert 29_999_900 <= eth_sold <= eth_bought <= 30 * 10**6
    assert 1_499_990 <= btc <= 1_500_000
    assert float(bits_to_f64(record[OPPORTUNITY.edge_bps])) == pytest.approx(100.0, abs=0.01)
    assert float(bits_to_f64(record[OPPORTUNITY.profit_quote])) == pytest.approx(900.0, abs=0.1)


def test_the_cycle_walks_into_depth_only_while_it_gains() -> None:
    w = triangle()
    btc = ([(5_999_000, 10**6)], [(6_000_000, 10**6), (6_050_000, 10**6), (6_100_000, 10**6)])
    publish_triangle(w, btc, GAINING[1], GAINING[2])
    (record,) = w.scan()
    leg = record[OPPORTUNITY.legs :]
    # at 60500 the cycle still gains 0.16 %, at 61000 it loses: and 1.5 BTC is all that the last leg takes
    assert leg[LEG.limit_price_fp] == 6_050_000
    assert 1_499_900 <= leg[LEG.qty_fp] <= 1_500_000


level_lists = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 10**8)), min_size=1, max_size=4)


def stacked(start: int, steps: Levels, sign: int) -> Levels:
    out = []
    for step, qty in steps:
        start += sign * step
        out.append((start, qty))
    return out


def legs_of(w: World, record: np.ndarray, books: list[Levels]) -> list[CycleLeg]:
    """The record's legs in real numbers; ``books``: by instrument, the levels that the leg meets."""
    legs = []
    for k in range(3):
        leg = record[OPPORTUNITY.legs + k * LEG.WORDS :]
        instrument = int(leg[LEG.instrument])
        listing = w.listings[instrument]
        price_unit, qty_unit = 10**listing.price_exp, 10**listing.qty_exp
        legs.append(
            CycleLeg(
                side=int(leg[LEG.side]),
                levels=[(Fraction(price, price_unit), Fraction(qty, qty_unit)) for price, qty in books[instrument]],
                lot=Fraction(listing.lot, qty_unit),
                qty=Fraction(int(leg[LEG.qty_fp]), qty_unit),
                fees=fees_of(listing),
            )
        )
    return legs


ROUNDED = Fraction(1, 10**9)  # the kernel's float64


@given(level_lists, level_lists, level_lists, st.sampled_from([0, 100, 1000]),
       st.tuples(*[st.sampled_from([1, 1000, 700_000, 5_000_000])] * 3),
       st.tuples(*[st.sampled_from([0, 900_000, 40_000_000])] * 3), st.sampled_from(list(FeeAssetRule)))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_no_leg_is_short_of_what_the_leg_before_it_brings_nor_leaves_a_lot_of_it(
    btc: Levels,
    eth: Levels,
    cross: Levels,
    fee: int,
    lots: tuple[int, int, int],
    maxima: tuple[int, int, int],
    rule: FeeAssetRule,
) -> None:
    w = triangle(fee_ppm=fee, rule=rule, lots=lots, maxima=maxima, terms=terms(max_notional_usd=50_000.0))
    books = [stacked(6_000_000, btc, 1), stacked(303_000, eth, -1), stacked(50_000, cross, 1)]
    publish_triangle(w, ([], books[0]), (books[1], []), ([], books[2]))
    for record in w.scan():
        legs = legs_of(w, record, books)
        gain, over, fewer = cycle_balance(legs)
        for k in range(2):
            brought = legs[k].flows(legs[k].qty)[1]
            assert -ROUNDED * brought <= over[k] <= brought / 100 + ROUNDED
            assert fewer[k] < ROUNDED * brought  # with one lot less it would be short
        stated = float(bits_to_f64(record[OPPORTUNITY.profit_quote]))
        assert stated == pytest.approx(float(gain), rel=1e-6, abs=1e-6)
        assert stated >= -1e-6
        for k, leg in enumerate(legs):
            words = record[OPPORTUNITY.legs + k * LEG.WORDS :]
            listing = w.listings[int(words[LEG.instrument])]
            assert leg.qty > 0 and leg.qty % leg.lot == 0
            assert not listing.max_qty or words[LEG.qty_fp] <= listing.max_qty
            dollars = {"USDT": 1, "BTC": 60_000}[listing.pair.split("/")[1]]
            best = Fraction(int(words[LEG.best_price_fp]), 10**listing.price_exp)
            assert leg.qty * best * dollars <= 50_000 * (1 + Fraction(1, 10**9))


def test_a_maximum_of_the_last_leg_cuts_the_first() -> None:
    w = triangle(maxima=(0, 1_000_000, 0))
    publish_triangle(w, *GAINING)
    (record,) = w.scan()
    quantities = [int(record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.qty_fp]) for k in range(3)]
    assert quantities == [50_000, 1_000_000, 1_000_000]  # 0.05 BTC for 1 ETH, all of it sold
    assert float(bits_to_f64(record[OPPORTUNITY.profit_quote])) == pytest.approx(30.0)


def test_a_lot_of_the_last_leg_cuts_the_first() -> None:
    w = triangle(lots=(1, 20_000_000, 1))
    publish_triangle(w, *GAINING)
    (record,) = w.scan()
    quantities = [int(record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.qty_fp]) for k in range(3)]
    assert quantities == [1_000_000, 20_000_000, 20_000_000]


def test_lots_that_do_not_fit_each_other_make_no_opportunity() -> None:
    w = triangle(lots=(700_000, 20_000_000, 1))  # 1 BTC buys 20 ETH, but 0.7 or 1.4 is what can be bought
    publish_triangle(w, *GAINING)
    assert w.scan() == []
    w.now(NOW + 5)
    w.publish(1, [(300_000, 10**6)], [(303_100, 10**6)])  # the episode ends: its refusal is counted
    w.scan()
    assert w.counter(DETECTOR_COUNTERS.refused + Refusal.BELOW_MINIMUM) == 1


def test_a_cycle_episode_ends_when_the_gain_is_gone_and_is_refused_under_its_gate() -> None:
    w = triangle(terms=terms(execute_edge=Fraction(2, 100)))
    publish_triangle(w, *GAINING)
    assert w.scan() == []
    w.now(NOW + 5)
    w.publish(1, [(300_000, 10**6)], [(303_100, 10**6)])
    w.scan()
    assert w.counter(DETECTOR_COUNTERS.refused + Refusal.BELOW_THRESHOLD) == 1
    assert (
        w.counter(DETECTOR_COUNTERS.opened),
        w.counter(DETECTOR_COUNTERS.pushed),
        w.counter(DETECTOR_COUNTERS.ended),
    ) == (1, 0, 1)


def test_a_cycle_is_bounded_by_what_each_venue_balance_allows() -> None:
    w = triangle(inventory=True)
    publish_triangle(w, *GAINING)
    assert w.scan() == []
    for instrument in range(3):
        w.set_inventory(instrument, buy=30_000.0, sell=5 * 10**6)
    w.now(NOW + 2_000_000)
    (record,) = w.scan()
    quantities = [int(record[OPPORTUNITY.legs + k * LEG.WORDS + LEG.qty_fp]) for k in range(3)]
    assert quantities[2] <= 5 * 10**6 and quantities[0] <= 250_000
    assert quantities[2] >= 4_999_000


def test_one_leg_without_a_proof_refuses_the_cycle() -> None:
    w = triangle()
    publish_triangle(w, *GAINING)
    w.now(NOW + 101_000_000)
    assert w.scan() == []
    w.frame(0, NOW + 101_000_000)
    assert len(w.scan()) == 1


def test_absent_sides_make_no_cycle() -> None:
    w = triangle()
    publish_triangle(w, (GAINING[0][0], []), GAINING[1], GAINING[2])
    assert w.scan() == [] and w.counter(DETECTOR_COUNTERS.opened) == 0
    assert np.count_nonzero(w.memory.episodes[:, 0]) == 0
