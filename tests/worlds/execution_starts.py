"""Execution worlds in the states that tests begin from: ready, with half an operation filled, held for an operator."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

from tests.worlds.execution_world import Faults, World, make_config


def ready_world(seed: int = 1, faults: Faults | None = None, **config: Any) -> World:
    """A world whose core is ready; ``faults`` begin now, ``config`` as :func:`make_config` takes it."""
    world = World(seed, config=make_config(**config))
    world.run(100)
    assert world.core.ready
    if faults is not None:
        world.faults = faults
    return world


def half_filled(world: World) -> None:
    """One leg of an operation filled at its venue; the other's price is gone before it arrives."""
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["gateio_spot"].bid = Decimal("90")
    for _ in range(20):
        if world.venues["mexc_spot"].fills:
            return
        world.run(0.5)


def held_world() -> World:
    """One leg filled, every repair refused until the ladder is at its end."""
    world = ready_world(2)
    half_filled(world)
    world.faults = Faults(reject=1.0)
    world.run(30_000)
    return world


def trade(world: World, rounds: int, rng: random.Random) -> None:
    """Opportunities between random venues at random pauses; the process may die in any."""
    for _ in range(rounds):
        buy, sell = rng.sample(list(world.venues), 2)
        qty = Decimal(rng.randint(10, 150)) / 100
        world.feed_safely(world.offer(buy, sell, qty))
        world.run(rng.choice([3, 30, 300, 900]))
