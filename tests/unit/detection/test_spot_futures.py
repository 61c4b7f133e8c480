"""What a hedge is charged beyond its entry: both exits, the basis, funding by the contract's own interval, carry."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from pipeline.detection.edge import edge_exceeds
from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.detection.topology import DIRECTION, build_topology
from pipeline.model.config import HedgeConfig
from pipeline.model.enums import InstrumentKind, OpportunityType
from pipeline.rehearsal.detection_world import Listing, catalogue_rows, terms

BPS = Fraction(1, 10_000)
NOTHING = HedgeConfig(expected_exit_basis_bps=Decimal(0), holding_hours=Decimal(8), carry_bps_per_day=Decimal(0))


def contract(**changes: object) -> HedgeTerms:
    values: dict[str, object] = {
        "spot_taker_ppm": 0,
        "futures_taker_ppm": 0,
        "funding_rate_ppb": 0,
        "funding_interval_s": 28_800,
        "short_futures": True,
    }
    values.update(changes)
    return HedgeTerms(**values)  # type: ignore[arg-type]


def test_both_exit_fees_are_charged() -> None:
    assert hedge_cost(contract(spot_taker_ppm=1000, futures_taker_ppm=500), NOTHING) == 15 * BPS


@pytest.mark.parametrize(
    ("short", "rate_ppb", "interval_s", "bps"),
    [
        (True, 100_000, 28_800, -1),  # longs pay 1 bp per 8 h: the short earns it once in 8 h
        (False, 100_000, 28_800, 1),
        (True, -100_000, 28_800, 1),
        (True, 100_000, 14_400, -2),  # the same rate every 4 h: twice
        (True, 100_000, 3_600, -8),
        (True, 100_000, 10, -8),  # no rate stays for longer than eight funding times
        (False, 100_000, 10, 8),
        (False, 50_000, 57_600, Fraction(1, 4)),
        (True, 100_000, 0, 0),  # interval unknown: nothing is expected
    ],
)
def test_funding_follows_side_sign_and_interval(short: bool, rate_ppb: int, interval_s: int, bps: Fraction) -> None:
    terms_ = contract(short_futures=short, funding_rate_ppb=rate_ppb, funding_interval_s=interval_s)
    assert hedge_cost(terms_, NOTHING) == bps * BPS


def test_expected_exit_basis_costs_the_short_and_pays_the_long() -> None:
    config = HedgeConfig(expected_exit_basis_bps=Decimal("2.5"), carry_bps_per_day=Decimal(0))
    assert hedge_cost(contract(short_futures=True), config) == Fraction(5, 2) * BPS
    assert hedge_cost(contract(short_futures=False), config) == -Fraction(5, 2) * BPS


def test_carry_is_charged_by_the_day() -> None:
    config = HedgeConfig(holding_hours=Decimal(12), carry_bps_per_day=Decimal(3))
    assert hedge_cost(contract(), config) == Fraction(3, 2) * BPS


def test_the_direction_clears_only_after_all_four_fees() -> None:
    rows = catalogue_rows([Listing(feed=0, fee_ppm=1000), Listing(feed=1, kind=InstrumentKind.PERPETUAL, fee_ppm=500)])
    charged = build_topology(rows, terms(entry_only=False, hedge=NOTHING), feed_count=2, book_capacity=4)
    entry = build_topology(rows, terms(), feed_count=2, book_capacity=4)
    direction = 0 * 2 + 1  # buy spot, sell the contract
    assert charged.directions[direction, DIRECTION.type] == OpportunityType.SPOT_FUTURES_HEDGE
    # 20 bps of entry spread pay the two entry fees, 40 bps pay all four
    for bid, entry_clears, all_clear in ((100_100, False, False), (100_200, True, False), (100_400, True, True)):
        for topology, wanted in ((entry, entry_clears), (charged, all_clear)):
            num, den = topology.directions[direction, DIRECTION.num], topology.directions[direction, DIRECTION.den]
            assert bool(edge_exceeds(bid, 100_000, num, den)) is wanted


def test_two_contracts_are_no_strategy_of_ours() -> None:
    rows = catalogue_rows([Listing(feed=f, kind=InstrumentKind.PERPETUAL) for f in range(2)])
    topology = build_topology(rows, terms(), feed_count=2, book_capacity=4)
    assert (topology.directions[:, DIRECTION.type] == -1).all()


def test_two_instruments_of_one_market_are_never_compared() -> None:
    rows = catalogue_rows([Listing(feed=0, venue=3), Listing(feed=1, venue=3)])
    topology = build_topology(rows, terms(), feed_count=2, book_capacity=4)
    assert (topology.directions[:, DIRECTION.type] == -1).all()
