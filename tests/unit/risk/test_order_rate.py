"""Orders of the last second: each order of ours counts once, whatever it is for, live and after a restart alike."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.execution.records import OrderIntentRecord, Purpose
from pipeline.model.config import HedgeConfig, HedgeExitConfig
from pipeline.model.enums import Refusal
from tests.worlds.execution_starts import half_filled, ready_world
from tests.worlds.execution_world import World

D = Decimal
SECOND_NS = 1_000_000_000


def written(world: World, venue: str = "") -> int:
    """Orders that the journal says were meant to be sent in the last second, to ``venue`` or ("") to all."""
    return sum(
        1
        for entry in world.entries
        if isinstance(entry.record, OrderIntentRecord)
        and world.now_ns - SECOND_NS < entry.mono_ns <= world.now_ns
        and venue in ("", entry.record.venue)
    )


def counted(world: World, venue: str = "") -> int:
    return world.core.risk.gate.sends.last_second(world.now_ns, venue)


def purposes(world: World) -> list[Purpose]:
    return [entry.record.purpose for entry in world.entries if isinstance(entry.record, OrderIntentRecord)]


def repaired() -> World:
    """A leg that did not fill, and its repair."""
    world = ready_world()
    half_filled(world)
    world.run(200)
    assert Purpose.REPAIR in purposes(world)
    return world


def closed_twice() -> World:
    """Two hedges that one command closes, one after the other."""
    never = HedgeConfig(exit=HedgeExitConfig(max_loss_bps=D(100_000)))  # not by the engine's own decision
    world = ready_world(9, detection={"hedge": never})
    for qty in ("0.5", "0.7"):
        world.feed(world.offer("gateio_spot", "gateio_futures", D(qty)))
        world.run(1100)
    assert len(world.core.ledger.hedges) == 2 and not counted(world)
    before = len(purposes(world))
    world.feed(Command(CommandKind.CLOSE_HEDGES, "", "test"))
    world.run(500)
    assert len(purposes(world)) == before + 4
    return world


SCENES: dict[str, Callable[[], World]] = {"a repair": repaired, "two hedges by one command": closed_twice}


@pytest.mark.parametrize("scene", SCENES)
def test_every_order_counts_once_and_after_a_restart_alike(scene: str) -> None:
    world = SCENES[scene]()
    live = {venue: counted(world, venue) for venue in ("", *world.venues)}
    assert live == {venue: written(world, venue) for venue in live} and live[""]
    world.kill()
    assert {venue: counted(world, venue) for venue in live} == live


def test_the_rate_refuses_entries_and_never_a_repair() -> None:
    """``max_orders_per_s`` orders are used up by the entry: its broken leg is repaired all the same, and the repair
    counts against the next entry."""
    world = ready_world(limits={"max_orders_per_s": 2})
    half_filled(world)
    world.run(200)
    assert Purpose.REPAIR in purposes(world) and counted(world) > 2
    world.venues["gateio_spot"].bid = D("99.95")
    world.feed(world.offer("gateio_spot", "mexc_spot"))
    assert world.refusals[-1] is Refusal.ORDER_RATE
