"""What an operator is asked to do before he approves a recovery: never to wait for what only he can end."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.events import CatalogueChanged, CommandKind
from pipeline.model.enums import OrderState, TradingStatus
from pipeline.trade_state import Reason, executor_reasons
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, HEDGE_QTY, external_world, force, hedge, held_world, sale_in_doubt

D = Decimal


def waiting(world: VirtualWorld) -> Reason:
    """The one recovery that waits for an operator, as `arb status` names it."""
    assert world.run_until(lambda: bool(world.core.recovery.waiting()), limit_ms=60_000)
    (name,) = world.core.recovery.waiting()
    world.core.context.now = world.now()
    (reason,) = [one for one in executor_reasons(world.core) if one.what.startswith(f"recovery {name} waits")]
    return reason


@pytest.mark.parametrize("status", [TradingStatus.HALTED, TradingStatus.BUY_ONLY])
def test_a_symbol_that_is_halted_until_its_steps_are_confirmed_is_not_waited_for(status: TradingStatus) -> None:
    world = external_world()
    hedge(world)
    row = world.core.context.instruments.find("gateio_spot", CONTRACT)
    assert row is not None
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, status=status)),)))
    force(world, "liquidate", HEDGE_QTY)
    solve, by_itself = waiting(world).solve, "wait until that ends by itself (arb status shows it); then arb recoveries"
    if status is TradingStatus.HALTED:
        assert solve.startswith(f"arb symbols add gateio_spot {CONTRACT} where its tick, lot or multiplier has changed")
        assert f", else {by_itself}" in solve
    else:
        assert solve.startswith(by_itself)


def test_an_order_of_which_an_operator_says_that_it_never_executed_is_not_waited_for() -> None:
    """The approval itself says so: before it nothing ends, whatever keeps the other venue."""
    world, operation_id = held_world()
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="drop_request", venue=venue, target="place", count=0)
    world.command(CommandKind.APPROVE, f"r{operation_id}", "the market is fine")
    client_id = sale_in_doubt(world, operation_id)
    asked_there = world.core.ledger.orders[client_id].intent.venue
    other = "mexc_spot" if asked_there == "gateio_spot" else "gateio_spot"
    world.links[other].disconnect("gone")
    solve = waiting(world).solve
    assert world.core.ledger.orders[client_id].state is OrderState.UNKNOWN and world.core.recovery.unproved
    assert solve == f"arb recoveries --approve r{operation_id} (or --cancel r{operation_id})"
