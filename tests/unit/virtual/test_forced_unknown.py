"""A venue or another client moves a position while an order of ours on the contract is unknown: booked once, as what it
was, and the unknown order stays decidable."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord
from pipeline.model.enums import OrderState
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, MID, external_world, hedge, judge, place, records

D = Decimal


def lost_order(world: VirtualWorld) -> str:
    """The futures order that was placed last, whose request is lost."""
    world.run(20)
    orders = [order for order in world.core.ledger.unsettled.values() if order.intent.venue == FUTURES]
    assert [order.state for order in orders] == [OrderState.UNKNOWN]
    return orders[0].client_id


def lost_exit(world: VirtualWorld) -> str:
    """A hedge of 0.0299 leaves, and the request that buys its contract back is lost."""
    hedge(world)
    world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
    world.command(CommandKind.CLOSE_HEDGES)
    return lost_order(world)


def lost_entry(world: VirtualWorld) -> str:
    """Beside an open hedge a second one is entered, and the request that sells its contract is lost."""
    hedge(world)
    world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
    world.market.move("gateio_spot", CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    return lost_order(world)


def booked_once(world: VirtualWorld) -> None:
    """The executions of others, each as what it was, and nothing else."""
    theirs = {row["trade_id"] for row in world.ledger.of_kind("fill") if not row["client_id"]}
    assert theirs and {row.trade_id for row in records(world, ExternalFillRecord)} == theirs
    assert not records(world, ExternalPositionRecord) and not records(world, ExternalFlowRecord)
    judge(world)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("lost", [lost_exit, lost_entry])
@pytest.mark.parametrize(("kind", "amount"), [("adl", "0"), ("adl", "0.01"), ("liquidate", "0"), ("liquidate", "0.01")])
def test_a_forced_close_beside_an_unknown_order_is_booked_once(
    kind: str, amount: str, lost: object, kill: bool
) -> None:
    world = external_world()
    client_id = lost(world)  # type: ignore[operator]
    price = {"text": "63000"} if kind == "adl" else {}
    world.arm(kind=kind, venue=FUTURES, symbol=CONTRACT, amount=amount, **price)
    if kill:
        world.kill()
    world.run(15_000)
    assert world.core.ledger.orders[client_id].state is OrderState.EXPIRED
    assert not world.core.ledger.open_operations
    booked_once(world)


@pytest.mark.parametrize("kill", [False, True])
def test_an_execution_of_others_on_the_other_side_than_the_unknown_order_is_booked_once(kill: bool) -> None:
    world = external_world()
    client_id = lost_entry(world)
    place(world, FUTURES, CONTRACT, D("0.01"))
    if kill:
        world.kill()
    world.run(15_000)
    assert world.core.ledger.orders[client_id].state is OrderState.EXPIRED
    booked_once(world)


def test_an_execution_of_others_that_may_be_the_unknown_orders_waits_for_the_operator_and_is_booked_once() -> None:
    world = external_world()
    client_id = lost_exit(world)
    place(world, FUTURES, CONTRACT, D("0.01"))
    world.run(15_000)
    orders = world.core.ledger.orders
    assert orders[client_id].state is OrderState.UNKNOWN and not records(world, ExternalFillRecord)
    assert not records(world, ExternalFlowRecord)
    world.command(CommandKind.APPROVE, f"r{orders[client_id].intent.operation_id}")
    world.run(40_000)
    assert orders[client_id].state is OrderState.EXPIRED
    booked_once(world)


def test_more_than_the_unknown_order_in_two_executions_waits_and_is_booked_once() -> None:
    """Each of them may be the unknown order's; both together are more than it wanted."""
    world = external_world()
    client_id = lost_exit(world)
    for _ in range(2):
        place(world, FUTURES, CONTRACT, D("0.02"))
    world.run(15_000)
    orders = world.core.ledger.orders
    assert orders[client_id].state is OrderState.UNKNOWN and not records(world, ExternalPositionRecord)
    world.command(CommandKind.APPROVE, f"r{orders[client_id].intent.operation_id}")
    world.run(40_000)
    assert orders[client_id].state is OrderState.EXPIRED
    booked_once(world)
