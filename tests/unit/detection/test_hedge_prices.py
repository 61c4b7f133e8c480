"""A hedge's direction with a price for its exit: the kernel against a plain twin in fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.model.config import HedgeConfig
from pipeline.model.enums import InstrumentKind
from pipeline.rehearsal.detection_world import QTY_EXP, Levels, Listing, World, terms
from shm.layout import LEG, OPPORTUNITY
from shm.layout_pages import CATALOGUE_CAPACITY
from tests.naive.detection import Fees, LegLimits, best_size

SPOT, FUTURES = 0, 1
BPS = Fraction(1, 10_000)
UNIT = 10**QTY_EXP
HOURS = 8


def charged(config: HedgeConfig, fees_ppm: tuple[int, int], funding_ppb: int, interval_h: int, short: bool) -> Fraction:
    """What the direction itself takes beyond the entry's fees: both exit fees, basis, funding, carry."""
    sign = 1 if short else -1
    times = min(Fraction(HOURS, interval_h), Fraction(8)) if interval_h else Fraction(0)
    basis = Fraction(config.expected_exit_basis_bps or 0) * BPS
    return (
        Fraction(sum(fees_ppm), 10**6)
        + sign * basis
        - sign * Fraction(funding_ppb, 10**9) * times
        + Fraction(config.carry_bps_per_day) * BPS * Fraction(HOURS, 24)
    )


@st.composite
def sides(draw: st.DrawFn) -> tuple[Levels, Levels]:
    """(bids, asks) around 100.00, sometimes far apart from another book's."""
    middle = draw(st.integers(9_900, 10_100))
    bids = sorted(draw(st.sets(st.integers(middle - 40, middle - 1), min_size=1, max_size=3)), reverse=True)
    asks = sorted(draw(st.sets(st.integers(middle, middle + 40), min_size=1, max_size=3)))
    quantities = st.integers(1, 12)
    return [(price, draw(quantities)) for price in bids], [(price, draw(quantities)) for price in asks]


@given(
    spot=sides(),
    futures=sides(),
    fees_ppm=st.tuples(st.sampled_from([0, 200, 1_000]), st.sampled_from([0, 200, 500])),
    basis_bps=st.sampled_from([None, "0", "15", "-40"]),
    funding=st.tuples(st.sampled_from([0, 100_000, -700_000]), st.sampled_from([0, 1, 4, 8])),
    prices_mbps=st.tuples(*[st.one_of(st.just(0), st.integers(-90_000, 90_000))] * 2),
    execute_bps=st.sampled_from([0, 3]),
)
@example(  # sold 60 bps dearer, no fees: a price of 59.999 bps is paid, the whole edge is not
    spot=([(9_990, 5)], [(10_000, 5)]),
    futures=([(10_060, 5)], [(10_070, 5)]),
    fees_ppm=(0, 0),
    basis_bps=None,
    funding=(0, 0),
    prices_mbps=(59_999, 0),
    execute_bps=0,
)
@example(
    spot=([(9_990, 5)], [(10_000, 5)]),
    futures=([(10_060, 5)], [(10_070, 5)]),
    fees_ppm=(0, 0),
    basis_bps=None,
    funding=(0, 0),
    prices_mbps=(60_000, 0),
    execute_bps=0,
)
@example(  # the direction's own assumption of 15 bps is taken back by a price below zero
    spot=([(9_990, 5)], [(10_000, 5)]),
    futures=([(10_010, 5)], [(10_070, 5)]),
    fees_ppm=(0, 0),
    basis_bps="15",
    funding=(0, 0),
    prices_mbps=(-15_000, 0),
    execute_bps=0,
)
@settings(max_examples=200, deadline=None)
def test_the_kernel_offers_what_the_plain_twin_finds_above_the_price_of_its_exit(
    spot: tuple[Levels, Levels],
    futures: tuple[Levels, Levels],
    fees_ppm: tuple[int, int],
    basis_bps: str | None,
    funding: tuple[int, int],
    prices_mbps: tuple[int, int],
    execute_bps: int,
) -> None:
    """Both directions of one pair; each has a price of its own."""
    rate_ppb, interval_h = funding
    config = HedgeConfig(
        expected_exit_basis_bps=None if basis_bps is None else Decimal(basis_bps),
        holding_hours=Decimal(HOURS),
        carry_bps_per_day=Decimal(1),
    )
    execute = execute_bps * BPS
    w = World(
        [
            Listing(feed=0, fee_ppm=fees_ppm[0]),
            Listing(
                feed=1,
                kind=InstrumentKind.PERPETUAL,
                fee_ppm=fees_ppm[1],
                funding_ppb=rate_ppb,
                funding_interval_s=interval_h * 3600,
            ),
        ],
        terms=terms(entry_only=False, hedge=config, min_edge=execute, execute_edge=execute),
    )
    directions = ((SPOT, FUTURES, prices_mbps[0]), (FUTURES, SPOT, prices_mbps[1]))
    for buy, sell, price_mbps in directions:
        w.memory.set_price(buy * CATALOGUE_CAPACITY + sell, price_mbps, w.rows, w.terms)
    books = (spot, futures)
    w.publish(SPOT, *spot)
    w.scan()
    w.publish(FUTURES, *futures)
    pushed = {
        int(record[OPPORTUNITY.direction_key]): (
            int(record[OPPORTUNITY.legs + LEG.qty_fp]),
            int(record[OPPORTUNITY.legs + LEG.WORDS + LEG.qty_fp]),
        )
        for record in w.scan()
    }
    wanted: dict[int, tuple[int, int]] = {}
    for buy, sell, price_mbps in directions:
        cost = charged(config, fees_ppm, rate_ppb, interval_h, short=sell == FUTURES)
        size = best_size(
            books[buy][1],
            books[sell][0],
            Fees(sell=fees_ppm[sell], buy_quote=fees_ppm[buy]),
            execute + cost + Fraction(price_mbps, 10_000_000),
            LegLimits(qty_unit=UNIT),
            LegLimits(qty_unit=UNIT),
            buy_cap=1e9,
            sell_cap=1e9,
            scale=1e-6,
        )
        if size is not None:
            wanted[buy * CATALOGUE_CAPACITY + sell] = size[:2]
    assert pushed == wanted
