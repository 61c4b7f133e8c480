"""Coins of a hedge that must leave are sold beside an unknown order of another hedge on the same market."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.events import CommandKind
from pipeline.model.enums import OrderState
from pipeline.takeover import Takeover
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import FUTURES, external_world, hedge, judge, venue_delta

D = Decimal
SPOT = "gateio_spot"


def one_exit_lost(world: VirtualWorld, kind: str) -> tuple[str, str]:
    """Two hedges, of which one leaves and the request (or the answer) of its spot order is lost: (that order, the other
    hedge)."""
    hedge(world)
    hedge(world)
    leaves, stays = world.core.ledger.hedges
    world.arm(kind=kind, venue=SPOT, target="place", count=1)
    if kind == "drop_response":  # it executes, and neither the stream nor, for a while, the lists show it
        world.arm(kind="drop_event", venue=SPOT, target="private", count=6)
        for target in ("finished_orders", "trades", "order", "open_orders"):
            world.arm(kind="stale", venue=SPOT, target=target, delay_ms=2500, duration_ms=2500)
    world.command(CommandKind.CLOSE_HEDGES, leaves)
    world.run(20)
    (lost,) = [o for o in world.core.ledger.unsettled.values() if o.intent.venue == SPOT]
    return lost.client_id, stays


@pytest.mark.parametrize("kind", ["drop_request", "drop_response"])
@pytest.mark.parametrize("by_guard", [True, False])
def test_a_hedge_leaves_beside_anothers_unknown_spot_order_and_nothing_is_sold_twice(kind: str, by_guard: bool) -> None:
    world = external_world()
    client_id, stays = one_exit_lost(world, kind)
    takeover = None
    if by_guard:
        world.take_over()
        takeover = Takeover(world.core, None)
    else:
        world.command(CommandKind.CLOSE_HEDGES, stays)

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test") if takeover is not None else ():
            world.feed(command)
        return stays not in world.core.ledger.hedges

    assert world.run_until(turn, limit_ms=1500), world.core.forced_close.answers
    order = world.core.ledger.orders[client_id]
    assert not order.settled, "its proof takes longer than the other hedge"

    def ended() -> bool:
        return turn() and not world.core.ledger.open_operations and not world.core.ledger.unsettled

    assert world.run_until(ended, limit_ms=60_000), takeover and takeover.why_left()
    assert world.core.ledger.orders[client_id].state is (
        OrderState.EXPIRED if kind == "drop_request" else OrderState.FILLED
    )
    assert abs(venue_delta(world, "BTC")) < D("0.001") and world.position(FUTURES, "BTC_USDT") == 0
    if by_guard:
        world.give_back()
        assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    judge(world)


@pytest.mark.parametrize("before_ms", [1000, 700, 500, 300, 150, 50])
def test_a_balance_that_is_older_than_another_sale_proves_no_order_empty(before_ms: int) -> None:
    """It shows the coins that the unknown order has sold, and not yet those of the other one: as many."""
    world = external_world()
    client_id, stays = one_exit_lost(world, "drop_response")
    for target in ("finished_orders", "trades", "order", "open_orders"):
        world.arm(kind="stale", venue=SPOT, target=target, delay_ms=9000, duration_ms=9000)
    world.arm(kind="stale", venue=SPOT, target="balances", delay_ms=900, duration_ms=9000)
    order = world.core.ledger.orders[client_id]
    provable_ns = world.core.recovery.provable_at(order)
    assert world.run_until(lambda: world.clock.mono_ns() > provable_ns - before_ms * 10**6, limit_ms=5000)
    world.command(CommandKind.CLOSE_HEDGES, stays)
    ledger = world.core.ledger
    assert world.run_until(lambda: not (ledger.hedges or ledger.open_operations), limit_ms=60_000)
    assert ledger.orders[client_id].state is OrderState.FILLED
    judge(world)
