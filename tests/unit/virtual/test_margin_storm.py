"""The margin watch through the real core and the simulator's venues: storms of 60 % in 60 s on virtual time.

``python -m bench.margin_storm`` runs 200 seeds a row.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.model.config import MarginConfig
from pipeline.virtual.margin_storm import FUTURES, MID, QTY, SLOW, SPOT, SYMBOL, Storm, run_storm, storm_world

D = Decimal
ASLEEP = MarginConfig(trigger_pct=D("0.02"), target_pct=D("0.03"), out_pct=D("0.01"))
TEN = Storm(10, D("0.25"), MarginConfig(trigger_pct=D(20), target_pct=D(25), out_pct=D(7)))


@pytest.mark.parametrize("seed", range(20))
def test_a_fast_venue_liquidates_nothing_at_three_times(seed: int) -> None:
    end = run_storm(Storm(), seed, up=seed % 2 == 0)
    assert end.entered and not end.liquidated
    assert end.cuts > 0 and end.added > 0 and end.left < D("0.3")
    assert abs(end.left - end.spot_left) < D("0.01"), "the legs are cut together"


@pytest.mark.parametrize("seed", range(4))
def test_a_slow_venue_liquidates_nothing_either(seed: int) -> None:
    end = run_storm(Storm(venue=SLOW), seed, up=seed % 2 == 0)
    assert end.entered and not end.liquidated and end.cuts > 0


@pytest.mark.parametrize("seed", range(4))
def test_ten_times_lives_on_its_buffer(seed: int) -> None:
    end = run_storm(TEN, seed, up=seed % 2 == 0)
    assert end.entered and not end.liquidated and end.added > 0


@pytest.mark.parametrize("up", [True, False])
def test_without_the_watch_the_same_storm_liquidates(up: bool) -> None:
    assert run_storm(Storm(margin=ASLEEP), 1, up=up).liquidated


def test_ten_times_without_a_buffer_does_not_enter() -> None:
    assert not run_storm(Storm(10, D("0.05")), 1, up=True).entered
    assert run_storm(Storm(10, D("0.12")), 1, up=True).entered


def test_free_balance_is_added_before_anything_is_cut() -> None:
    world = storm_world(Storm(buffer=D("0.3")), 1, up=True)
    watch = world.core.margin
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.2"))
    world.run(5000)
    reading = world.core.risk.gate.margin.readings[FUTURES, SYMBOL]
    assert watch.added > 0 and watch.cuts == 0
    assert abs(reading.distance - D("0.20")) < D("0.001")
    assert -reading.position.qty == next(iter(world.core.ledger.hedges.values())).qty


def test_a_jump_below_the_last_bound_closes_both_legs() -> None:
    world = storm_world(Storm(), 1, up=True)
    for name in (SPOT, FUTURES):
        quote = world.market.quotes[name, SYMBOL]
        world.market.move(name, SYMBOL, quote.mid * D("1.29"))
    world.run(10_000)
    assert not world.core.ledger.hedges and world.core.margin.closes == 1
    assert world.position(FUTURES, SYMBOL) == 0 and not world.ledger.of_kind("forced")
    assert abs(world.core.positions.delta().get("BTC", D(0))) < D("0.0001")


def test_a_watch_that_can_cut_nothing_says_why_once() -> None:
    world = storm_world(Storm(), 1, up=True)
    world.stalled.add(SPOT)  # no book: no price to bound the spot leg with
    mid = world.market.quotes[FUTURES, SYMBOL].mid
    world.run(6000)
    world.market.move(FUTURES, SYMBOL, mid * D("1.25"))
    world.run(3000)
    texts = [alert.text for alert in world.alerts if alert.code == "margin" and "nothing can be cut" in alert.text]
    assert len(texts) == 1 and f"{SPOT} {SYMBOL}: no live book" in texts[0]


def test_exposure_is_valued_at_mark_and_its_loss_counts() -> None:
    world = storm_world(Storm(), 1, up=True)
    gate = world.core.risk.gate
    before = gate.exposure().hedges
    world.market.move(FUTURES, SYMBOL, MID * D("1.1"))  # the contract alone: a loss of the hedge
    world.run(2500)
    assert abs(gate.exposure().hedges / (QTY * MID * D("1.1")) - 1) < D("0.01") and gate.exposure().hedges > before
    lost = QTY * MID * D("0.09375")  # from the entry's basis of 0.00625 to 0.1
    assert abs(-gate.unrealised / lost - 1) < D("0.05")
    assert gate.day_loss() > -gate.unrealised  # fees besides
    limits = world.config.risk_limits
    assert gate.day_loss() < limits.max_daily_loss_usd and "daily_loss" not in world.core.ledger.breakers
