"""An unknown order is not proved empty by a balance that another order of ours may have moved back."""

from __future__ import annotations

import msgspec
import pytest

from pipeline.execution.events import Sent
from pipeline.execution.ledger import Order
from pipeline.model.enums import OrderSide, OrderState
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import Faults, World
from tests.worlds.venue_messages import order_on

MS = 1_000_000


def sent_beside(world: World, order: Order, side: OrderSide) -> Order:
    """Another order on the instrument, of as much, whose request is lost as well."""
    name = world.core.context.ids.next()
    expiry_ms = world.now().wall_ms + world.core.ledger.orders[order.client_id].window_ms
    intent = msgspec.structs.replace(order.intent, client_id=name, side=side, expiry_wall_ms=expiry_ms)
    world.core.context.now = world.now()
    world.core.context.record(intent)
    world.feed(Sent(name, world.now_ns))
    return world.core.ledger.orders[name]


@pytest.mark.parametrize("venue", ["mexc_spot", "gateio_futures"])
@pytest.mark.parametrize("opposite", [True, False])
def test_an_order_of_the_other_side_is_waited_for_and_one_of_the_same_is_not(venue: str, opposite: bool) -> None:
    world = ready_world(faults=Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_futures"))
    recovery, unknown = world.core.recovery, order_on(world, venue)
    while world.now_ns < recovery.provable_at(unknown) - 100 * MS:
        world.run(10)
    assert unknown.state is OrderState.UNKNOWN
    side = unknown.intent.side
    beside = sent_beside(world, unknown, OrderSide(-side) if opposite else side)
    known_at = recovery.provable_at(beside)
    while unknown.state is OrderState.UNKNOWN:
        assert world.now_ns < known_at + 30_000 * MS
        world.run(10)
    assert unknown.state is OrderState.EXPIRED
    assert (world.now_ns >= known_at) == opposite
