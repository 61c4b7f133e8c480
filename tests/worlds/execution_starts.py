"""Execution worlds in the states that tests begin from: ready, with half an operation filled, held for an operator; and
the operator, who asks their core what the commands ask the executor's control socket."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.equity_watch import EquityWatch
from pipeline.trade_state import Effect, Reason, TradeState, executor_reasons, state_of
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_world import Faults, World, make_config
from workers.control_socket import Say
from workers.executor.control import ExecutorControl
from workers.executor.views import CoreViews


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


class WorldPerformer:
    """What the control socket needs of the performer, on virtual time."""

    def __init__(self, world: World | VirtualWorld) -> None:
        self._world = world

    def feed(self, event: Any) -> None:
        self._world.feed(event)

    def now(self) -> Any:
        return self._world.now()


async def nothing() -> None:
    """Nobody reads what is published here."""


class Operator:
    """Asks as the commands do."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        return self.ask_of(self.control(), op, **request)

    @staticmethod
    def ask_of(control: ExecutorControl, op: str, **request: Any) -> dict[str, Any]:
        """The reply of a control socket that stands already."""
        return asyncio.run(control.handle({"op": op, "uid": 0, **request}))

    def control(self, say: Say = print) -> ExecutorControl:
        """The executor's control socket over this world's core."""
        performer: Any = WorldPerformer(self.world)
        core = self.world.core
        return ExecutorControl(self.folder, core, performer, CoreViews(core, EquityWatch(core)), nothing, say)

    def all_reasons(self) -> list[Reason]:
        self.world.core.context.now = self.world.now()
        return executor_reasons(self.world.core)

    def reasons(self) -> list[str]:
        """Those that keep something from trading."""
        return [reason.what for reason in self.all_reasons() if reason.effect > Effect.NOTE]

    def state(self) -> TradeState:
        self.world.core.context.now = self.world.now()
        return state_of(executor_reasons(self.world.core))
