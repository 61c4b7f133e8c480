"""When a contract's margin counts as short: what free balance restores is not, what its venue does not take is."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import msgspec
import pytest

from pipeline.model.config import MarginConfig
from pipeline.virtual.margin_storm import FUTURES, SPOT, SYMBOL, Storm, storm_world

D = Decimal
TEN = Storm(10, D("0.25"), MarginConfig(trigger_pct=D(20), target_pct=D(25), out_pct=D(7)))


@pytest.mark.parametrize("taken", [True, False])
def test_margin_that_free_balance_restores_is_not_short(taken: bool) -> None:
    """Between the reading that shows it and the answer of the venue, orders keep their usual bound; where the venue
    takes none, or does not say, it is short."""
    world = storm_world(TEN, 1, up=True)
    state, storm = world.core.risk.gate.margin, TEN.margin
    if not taken:
        world.arm(kind="drop_request", target="leverage", venue=FUTURES, count=0)
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.06"))

    def below() -> bool:
        return state.below_trigger(FUTURES, SYMBOL)

    assert world.run_until(below, limit_ms=2000, step_ms=1)
    assert storm.out_pct < state.readings[FUTURES, SYMBOL].distance * 100
    assert not state.short(FUTURES, SYMBOL) and state.bound_bps(FUTURES, SYMBOL) == 0
    assert not world.core.hedges.exit_rows(), "an exit by choice would keep the watch from cutting"
    if taken:
        assert world.run_until(lambda: not below(), limit_ms=5000) and world.core.margin.cuts == 0
    else:
        assert world.run_until(lambda: bool(state.unheard), limit_ms=5000)
        assert below() and state.short(FUTURES, SYMBOL) and state.bound_bps(FUTURES, SYMBOL) > 500
        # asked again after a pause, it refuses again: short all the while, or an exit under way would be undone between
        assert world.run_until(lambda: not below() or not state.short(FUTURES, SYMBOL), limit_ms=30_000, step_ms=50)
        assert not below(), "cut until it is not"


def test_a_venue_that_sees_the_liquidation_nearer_than_we_do_is_believed() -> None:
    world = storm_world(TEN, 1, up=True)
    assert world.run_until(lambda: bool(world.core.risk.gate.margin.readings), limit_ms=5000)
    state, key = world.core.risk.gate.margin, (FUTURES, SYMBOL)
    reading = state.readings[key]
    near = (TEN.margin.trigger_pct + TEN.margin.out_pct) / 200  # between the two, while our formula lacks nothing
    position = msgspec.structs.replace(reading.position, margin=reading.value)
    state.readings[key] = dataclasses.replace(reading, position=position, distance=near)
    assert state.readings[key].shortfall(state.target) == 0 and state.short(*key)
