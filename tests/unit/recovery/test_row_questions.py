"""How often a row in question is asked for: what is open there waits for the answer, on virtual time."""

from __future__ import annotations

from decimal import Decimal

from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import LISTINGS, external_world, force, hedge, judge

D = Decimal
SUSPENDED_MS = 8_000


def suspended() -> VirtualWorld:
    """A hedge's contract is cut while every market is suspended."""
    world = external_world()
    hedge(world)
    for venue, symbol in LISTINGS:
        world.arm(kind="halt_symbol", venue=venue, symbol=symbol)
    force(world, "adl", D("0.01"))
    world.run(SUSPENDED_MS)
    assert world.core.ledger.open_operations and world.core.recovery.rows.texts()
    return world


def test_what_stands_alone_is_repaired_soon_after_its_market_opens_again_however_long_it_was_closed() -> None:
    world = suspended()
    world.arm(kind="resume_symbol")
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=2500)
    assert not world.core.ledger.unsettled and not world.core.recovery.rows.texts()
    world.run(3000)
    judge(world)
