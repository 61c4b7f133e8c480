"""Edge arithmetic: exact where it decides, and a screen that never drops an edge."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.edge import (
    NUMBER_LIMIT,
    common_lot,
    edge_exceeds,
    edge_ratio,
    has_ask,
    has_bid,
    needed,
    product_exceeds,
    received,
    screen_ask,
    screen_bid,
    screen_factor,
)
from shm.layout import ABSENT_ASK, ABSENT_BID
from tests.naive.detection import Fees, clears, delivered, edge

numbers = st.one_of(
    st.integers(0, NUMBER_LIMIT - 1),
    st.integers(0, 1000),
    st.builds(lambda k, d: min(max((1 << k) + d, 0), NUMBER_LIMIT - 1), st.integers(0, 62), st.integers(-2, 2)),
)
prices = st.one_of(st.integers(1, NUMBER_LIMIT - 1), st.integers(1, 10**9))
fees = st.builds(Fees, st.integers(-1000, 5000), st.integers(0, 5000), st.integers(-1000, 5000))
thresholds = st.fractions(Fraction(-1, 100), Fraction(1, 100), max_denominator=10**6)


def ratio_of(fee: Fees, threshold: Fraction) -> tuple[int, int]:
    return edge_ratio(sell_ppm=fee.sell, buy_base_ppm=fee.buy_base, buy_quote_ppm=fee.buy_quote, threshold=threshold)


@given(numbers, numbers, numbers, numbers)
def test_products_are_compared_exactly(a: int, b: int, c: int, d: int) -> None:
    assert bool(product_exceeds(a, b, c, d)) == (a * b > c * d)


@given(numbers.filter(lambda n: n > 0), numbers.filter(lambda n: n > 0))
def test_equal_products_do_not_exceed_and_one_more_does(a: int, b: int) -> None:
    assert not product_exceeds(a, b, b, a)
    assert product_exceeds(a, b, a, b - 1)


@given(prices, prices, fees, thresholds)
def test_edge_is_above_the_threshold_exactly_when_the_fraction_is(
    bid: int, ask: int, fee: Fees, threshold: Fraction
) -> None:
    num, den = ratio_of(fee, threshold)
    assert bool(edge_exceeds(bid, ask, num, den)) == clears(bid, ask, fee, threshold)


@given(prices, fees, thresholds, st.integers(-3, 3))
@settings(max_examples=300)
def test_the_screen_never_drops_an_edge_and_its_surplus_is_bounded(
    ask: int, fee: Fees, threshold: Fraction, nudge: int
) -> None:
    num, den = ratio_of(fee, threshold)
    bid = min(max(ask * den // num + nudge, 1), NUMBER_LIMIT - 1)  # as close to the boundary as integers are
    kept = screen_bid(bid) >= screen_ask(ask) * screen_factor(num, den)
    if bid * num > ask * den:
        assert kept
    if kept:
        assert Fraction(bid * num, ask * den) > 1 - Fraction(1, 2**48)


def test_a_threshold_that_does_not_fit_is_rounded_up() -> None:
    fine = Fraction(1, 10**4) + Fraction(1, 10**17 + 3)
    num, den = ratio_of(Fees(1001, 997, 0), fine)
    assert num < NUMBER_LIMIT and den < NUMBER_LIMIT
    kept = Fraction(1_000_000 - 1001, 1_000_000) * Fraction(1_000_000 - 997, 1_000_000)
    assert kept / Fraction(num, den) - 1 >= fine


@pytest.mark.parametrize("fee", [Fees(sell=1_000_000), Fees(buy_base=1_000_000), Fees(buy_quote=-1_000_000)])
def test_absurd_fees_are_refused(fee: Fees) -> None:
    with pytest.raises(ValueError, match="fee out of range"):
        ratio_of(fee, Fraction(0))


@pytest.mark.parametrize(
    ("bid", "ask"),
    [
        (ABSENT_BID, 100),
        (100, ABSENT_ASK),
        (ABSENT_BID, ABSENT_ASK),
        (0, 100),
        (100, 0),
        (-5, 100),
        (NUMBER_LIMIT, 100),
        (100, NUMBER_LIMIT),
        (100, ABSENT_BID),
        (ABSENT_ASK, 100),
    ],
)
def test_absent_and_impossible_prices_never_make_an_edge(bid: int, ask: int) -> None:
    assert not edge_exceeds(bid, ask, 1, 1)
    if not has_bid(bid):
        assert screen_bid(bid) == -1.0
    if not has_ask(ask):
        assert screen_ask(ask) == math.inf


def test_fees_are_taken_in_their_asset() -> None:
    # bought at 100 with 0.1 % in base: 0.999 arrives; sold at 101 with 0.2 %: 100.697... for 100 paid
    assert edge(101, 100, Fees(2000, 1000, 0)) == Fraction(101 * 999 * 998, 100 * 10**6) - 1
    # the same fee in quote costs less: 1 - f < 1 / (1 + f)
    assert edge(101, 100, Fees(2000, 0, 1000)) > edge(101, 100, Fees(2000, 1000, 0))


@given(st.integers(0, NUMBER_LIMIT - 1), st.integers(0, 100_000))
def test_received_is_never_more_than_the_venue_delivers(qty: int, fee: int) -> None:
    assert received(qty, fee) == delivered(qty, fee)


@given(st.integers(0, 2**60), st.integers(0, 100_000))
def test_needed_is_the_smallest_purchase_that_delivers(qty: int, fee: int) -> None:
    bought = needed(qty, fee)
    assert received(bought, fee) >= qty
    assert bought == 0 or received(bought - 1, fee) < qty


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_common_lot_is_the_least_common_multiple(a: int, b: int) -> None:
    assert common_lot(a, b) == math.lcm(a, b)


def test_lots_without_a_common_multiple_in_range_have_none() -> None:
    assert common_lot(2**61 - 1, 2**61 - 3) == 0
