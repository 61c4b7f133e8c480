"""The depth walk finds the largest executable size, and never one that pays worse than computed."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.detection.depth_walk import LEG_LIMITS, MONEY, SIZE, quantity_for, saturating_add, size_legs, walked_value
from pipeline.detection.edge import NUMBER_LIMIT, edge_ratio
from pipeline.rehearsal.detection_world import book_record
from shm.layout import BOOK, BOOK_DEPTH
from tests.naive.detection import Fees, LegLimits, Levels, best_size, clears, delivered, worst_price

BUY = 0
SELL = BOOK.WORDS
BUY_LIMITS = 2 * BOOK.WORDS
SELL_LIMITS = BUY_LIMITS + LEG_LIMITS.WORDS
OUT = SELL_LIMITS + LEG_LIMITS.WORDS
FREE = LegLimits()
NO_FEES = Fees()
HUGE = 1e30


def size(
    asks: Levels,
    bids: Levels,
    fees: Fees = NO_FEES,
    threshold: Fraction = Fraction(0),
    buy: LegLimits = FREE,
    sell: LegLimits = FREE,
    *,
    buy_cap: float = HUGE,
    sell_cap: float = HUGE,
    scale: float = 1.0,
) -> tuple[int, int, int, int] | None:
    """The kernel's answer in the twin's form."""
    mem = np.zeros(OUT + SIZE.WORDS, dtype=np.int64)
    mem[BUY : BUY + BOOK.WORDS] = book_record([], asks)
    mem[SELL : SELL + BOOK.WORDS] = book_record(bids, [])
    for at, limits in ((BUY_LIMITS, buy), (SELL_LIMITS, sell)):
        mem[at + LEG_LIMITS.lot_fp], mem[at + LEG_LIMITS.min_qty_fp], mem[at + LEG_LIMITS.max_qty_fp] = (
            limits.lot,
            limits.min_qty,
            limits.max_qty,
        )
        mem[at + LEG_LIMITS.min_notional_fp], mem[at + LEG_LIMITS.qty_unit] = limits.min_notional, limits.qty_unit
    money = np.zeros(MONEY.WORDS)
    money[MONEY.buy_cap], money[MONEY.sell_cap], money[MONEY.scale] = buy_cap, sell_cap, scale
    money[MONEY.buy_cost] = 1 + fees.buy_quote / 1e6
    num, den = edge_ratio(
        sell_ppm=fees.sell, buy_base_ppm=fees.buy_base, buy_quote_ppm=fees.buy_quote, threshold=threshold
    )
    if not size_legs(mem, money, BUY, SELL, num, den, fees.buy_base, BUY_LIMITS, SELL_LIMITS, 0, OUT):
        return None
    found = [
        int(mem[OUT + word])
        for word in (SIZE.buy_qty_fp, SIZE.sell_qty_fp, SIZE.buy_limit_price_fp, SIZE.sell_limit_price_fp)
    ]
    return found[0], found[1], found[2], found[3]


@st.composite
def sides(draw: st.DrawFn) -> tuple[Levels, Levels]:
    """Asks rising, bids falling, overlapping most of the time."""
    asks = sorted(draw(st.sets(st.integers(90, 112), min_size=1, max_size=6)))
    bids = sorted(draw(st.sets(st.integers(92, 115), min_size=1, max_size=6)), reverse=True)
    quantities = st.integers(1, 40)
    return [(p, draw(quantities)) for p in asks], [(p, draw(quantities)) for p in bids]


limit_sets = st.builds(
    LegLimits,
    lot=st.sampled_from([1, 2, 3, 5, 7]),
    min_qty=st.sampled_from([0, 0, 4, 30]),
    max_qty=st.sampled_from([NUMBER_LIMIT, NUMBER_LIMIT, 25]),
    min_notional=st.sampled_from([0, 0, 150, 4000]),
    qty_unit=st.sampled_from([1, 1, 2]),
)
fee_sets = st.sampled_from(
    [Fees(), Fees(1000, 1000, 0), Fees(500, 0, 500), Fees(20_000, 30_000, 0), Fees(0, 0, 10_000), Fees(700, 1, 0)]
)


@given(
    sides(),
    fee_sets,
    st.sampled_from([Fraction(0), Fraction(1, 100), Fraction(-2, 100)]),
    limit_sets,
    limit_sets,
    st.sampled_from([HUGE, 2000.0, 333.0]),
    st.sampled_from([HUGE, 1500.0]),
)
@settings(max_examples=500, deadline=None)
def test_size_is_that_of_trying_every_quantity(
    books: tuple[Levels, Levels],
    fees: Fees,
    threshold: Fraction,
    buy: LegLimits,
    sell: LegLimits,
    buy_cap: float,
    sell_cap: float,
) -> None:
    asks, bids = books
    caps = {"buy_cap": buy_cap, "sell_cap": sell_cap, "scale": 1.0}
    wanted = best_size(asks, bids, fees, threshold, buy, sell, **caps)
    assert size(asks, bids, fees, threshold, buy, sell, **caps) == wanted


big_levels = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 2**61)), min_size=1, max_size=20)


@given(
    big_levels,
    big_levels,
    fee_sets,
    st.integers(1, 10**12),
    st.integers(1, 10**12),
    st.floats(1e-3, 1e12),
    st.sampled_from([1e-8, 1e-12, 1e-16]),
)
@settings(max_examples=300, deadline=None)
def test_any_size_keeps_every_promise_exactly(
    ask_steps: Levels, bid_steps: Levels, fees: Fees, buy_lot: int, sell_lot: int, cap: float, scale: float
) -> None:
    asks, bids = [], []
    price = 6_000_000_000
    for step, qty in ask_steps:
        price += step
        asks.append((price, qty))
    price = 6_200_000_000
    for step, qty in bid_steps:
        price -= step
        bids.append((price, qty))
    found = size(asks, bids, fees, Fraction(1, 10_000), LegLimits(lot=buy_lot), LegLimits(lot=sell_lot),
                 buy_cap=cap, scale=scale)  # fmt: skip
    if found is None:
        return
    buy_qty, sell_qty, ask, bid = found
    assert buy_qty % buy_lot == 0 and sell_qty % sell_lot == 0
    assert 0 < sell_qty <= delivered(buy_qty, fees.buy_base)  # never short
    assert (ask, bid) == (worst_price(asks, buy_qty), worst_price(bids, sell_qty))
    assert clears(bid, ask, fees, Fraction(1, 10_000))  # the worst pair clears
    cost = Fraction(buy_qty) * ask * Fraction(scale) * (1 + Fraction(fees.buy_quote, 10**6))
    assert cost <= Fraction(cap) * (1 + Fraction(1, 2**51))


def test_sell_leg_sells_what_was_received() -> None:
    found = size([(100, 1000)], [(110, 1000)], Fees(buy_base=10_000), buy=LegLimits(lot=10), sell=LegLimits(lot=5))
    # 1000 bought deliver 990; 990 is on the sell lot
    assert found == (1000, 990, 100, 110)
    found = size([(100, 1000)], [(110, 500)], Fees(buy_base=10_000), buy=LegLimits(lot=10), sell=LegLimits(lot=5))
    # 500 sold need 505.05...: 510 on the buy lot
    assert found == (510, 500, 100, 110)


def test_levels_beyond_the_record_are_not_used() -> None:
    asks = [(100 + k, 1) for k in range(BOOK_DEPTH)]
    bids = [(500 - k, 1) for k in range(BOOK_DEPTH)]
    assert size(asks, bids) == (20, 20, 119, 481)


@pytest.mark.parametrize(
    ("asks", "bids"), [([], [(110, 5)]), ([(100, 5)], []), ([], []), ([(110, 5)], [(110, 5)]), ([(111, 5)], [(110, 5)])]
)
def test_no_size_without_an_edge(asks: Levels, bids: Levels) -> None:
    assert size(asks, bids) is None


def test_sums_that_would_overflow_saturate() -> None:
    assert saturating_add(2**61, 2**61) == NUMBER_LIMIT
    assert saturating_add(NUMBER_LIMIT, 5) == NUMBER_LIMIT
    assert size([(100, 2**61)] * 3, [(110, 2**61)] * 3) == (NUMBER_LIMIT, NUMBER_LIMIT, 100, 110)


@given(st.floats(1e-9, 1e18), st.floats(1e-12, 1e9))
def test_a_cap_is_never_exceeded(notional: float, unit_cost: float) -> None:
    qty = quantity_for(notional, unit_cost)
    assert Fraction(qty) * Fraction(unit_cost) <= Fraction(notional) or qty == 0


@pytest.mark.parametrize("notional", [0.0, -1.0, float("nan")])
def test_no_money_buys_nothing(notional: float) -> None:
    assert quantity_for(notional, 1.0) == 0
    assert quantity_for(1.0, notional) == 0


def test_walked_value_sums_price_times_quantity() -> None:
    mem = book_record([], [(100, 3), (101, 4), (105, 9)])
    assert walked_value(mem, 0, BOOK.ask_price_fp, BOOK.ask_qty_fp, 5) == 3 * 100 + 2 * 101
