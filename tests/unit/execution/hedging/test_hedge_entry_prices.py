"""Prices of hedge entries over a large catalogue: the fast sum and the exact one, all pairs known, no long event."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.spot_futures import HedgeTerms, assumed_cost
from pipeline.execution.hedging.entry_price import KEPT_MBPS, assumed_cost_bps, direction_keys, entry_price_mbps
from pipeline.model.config import HedgeConfig
from tests.worlds.hedge_catalogue import HedgeCatalogue, contract

D = Decimal
HOURS = st.decimals(D("0.1"), D(240), places=1)


@given(
    rate_ppb=st.integers(-7_500_000, 7_500_000),
    interval_s=st.sampled_from([0, 3600, 7200, 14_400, 28_800, 86_400]),
    s=st.sampled_from([1, -1]),
    basis=st.none() | st.decimals(-5000, 5000, places=2),
    holding_hours=HOURS,
    carry=st.decimals(0, 100, places=2),
)
def test_the_fast_sum_of_what_is_assumed_is_the_exact_one(
    rate_ppb: int, interval_s: int, s: int, basis: Decimal | None, holding_hours: Decimal, carry: Decimal
) -> None:
    hedge = HedgeConfig(expected_exit_basis_bps=basis, holding_hours=holding_hours, carry_bps_per_day=carry)
    terms = HedgeTerms(
        spot_taker_ppm=1000,
        futures_taker_ppm=500,
        funding_rate_ppb=rate_ppb,
        funding_interval_s=interval_s,
        short_futures=s > 0,
    )
    exact = float(assumed_cost(terms, hedge) * 10_000)
    found = assumed_cost_bps(contract("BTC", funding_rate_ppb=rate_ppb, funding_interval_s=interval_s), s, hedge)
    assert found == pytest.approx(exact, abs=1e-6), "a thousandth of the milli-bps that prices are written in"


def test_every_pair_of_a_large_catalogue_becomes_known() -> None:
    """Two looks a tick were 20 a second: of 600 pairs none had five samples that were young enough."""
    world = HedgeCatalogue(700)
    world.run(4)
    assert world.known() == 0 and len(world.prices.not_known()) == 700
    assert world.prices.not_known_text().startswith("700 of 700 spot-futures pairs take no entry")
    world.run(12)
    assert world.known() == 1400 and world.prices.not_known_text() == ""


def test_a_small_catalogue_is_known_after_five_seconds() -> None:
    world = HedgeCatalogue(3)
    world.run(5.5)
    assert world.known() == 6


def test_samples_are_kept_for_as_long_as_slow_rounds_need_and_no_longer_than_a_look_after_a_sleep() -> None:
    """An executor that ticks every three seconds."""
    slow = HedgeCatalogue(400)
    slow.run(400, tick_ns=3_000_000_000)
    assert slow.known() == 800
    slept = HedgeCatalogue(3)
    slept.run(10)
    slept.run(3600, tick_ns=3_600_000_000_000)
    slept.run(1)
    assert slept.known() == 0, "what was seen an hour ago is no basis"


def test_a_pair_without_books_is_named_and_one_with_a_configured_basis_needs_none() -> None:
    world = HedgeCatalogue(3)
    world.dead = {2}
    world.run(8)
    assert world.prices.not_known_text().endswith("of both: gateio_spot C1_USDT / gateio_futures")
    assert world.known() == 4
    configured = HedgeCatalogue(3, expected_exit_basis_bps=D(0))
    assert configured.known() == 6 and configured.prices.not_known_text() == ""


def test_no_tick_and_no_change_of_the_catalogue_looks_at_many_books() -> None:
    world = HedgeCatalogue(700)
    for _ in range(40):
        before = world.looks
        world.run(0.1)
        assert world.looks - before <= 64


def test_a_changed_rate_has_no_price_until_its_turn_and_then_that_of_a_new_computation() -> None:
    world = HedgeCatalogue(700)
    world.run(16)
    world.change(funding_rate_ppb=1_000_000)
    assert world.known() == 0, "an old price would correct a cost that has moved"
    world.run(0.1)
    assert 0 < world.known() <= 64, "some in each tick"
    world.run(2.2)
    assert world.known() == 1400
    fresh = {**world.prices.changed}
    for pair in world.watch.pairs.values():
        seen = world.watch.sample(pair)
        assert seen is not None
        mean, hedge = (seen[0], (seen[1] + seen[2]) / 2), world.context.config.detection.hedge
        for s, key in zip((1, -1), direction_keys(pair), strict=True):
            exact = entry_price_mbps(pair, s, mean, hedge, world.context.now.wall_ns)
            assert abs(fresh[key] - exact) <= KEPT_MBPS


def test_other_facts_of_a_row_leave_its_prices_in_force() -> None:
    world = HedgeCatalogue(20)
    world.run(8)
    world.change(reference_price=D(100), funding_next_wall_s=1_700_003_600)
    assert world.known() == 40
