"""A world that holds one hedge, and the market in which leaving it pays."""

from __future__ import annotations

from decimal import Decimal

from tests.worlds.execution_world import World


def hedged_world() -> World:
    """A world that holds one hedge: its entry has paid fees and earned nothing yet."""
    world = World(9)
    world.run(100)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(100)
    assert len(world.core.ledger.hedges) == 1
    return world


def leave(world: World) -> None:
    """Spot rises above the contract: leaving pays."""
    for name, bid, ask in (("gateio_spot", "100.60", "100.61"), ("gateio_futures", "100.20", "100.21")):
        world.venues[name].bid, world.venues[name].ask = Decimal(bid), Decimal(ask)
    world.run(1000)
    assert not world.core.ledger.hedges
