"""A leg that may only be reduced, repairs that rest, and orders of unknown outcome, all at once.

Drawn by seed: the venue closes parts of the contract again and again while requests and answers of the repairs are
lost, the process dies, and the book comes back. A slow twin counts at each moment what was sold at most, by every
order that was ever sent and the venues' ledger.
"""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from pipeline.execution.ledger import Order
from pipeline.execution.records import Purpose
from pipeline.model.config import MarginConfig
from pipeline.model.enums import OrderSide, TimeInForce
from pipeline.virtual.margin_storm import FUTURES, SLOW, SPOT, SYMBOL, Storm, storm_world
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import judge

D = Decimal
ASLEEP = MarginConfig(trigger_pct=D("0.02"), target_pct=D("0.03"), out_pct=D("0.01"))
LOT = D("0.0001")
STEP_MS = 100


def repairs(world: VirtualWorld) -> list[Order]:
    orders = world.core.ledger.orders.values()
    return [order for order in orders if order.intent.purpose is Purpose.REPAIR]


def traded(world: VirtualWorld, venue: str, side: OrderSide, *, forced: bool) -> dict[str, Decimal]:
    """Base coins by the venues' ledger, by client id ("" = the venue's own order)."""
    found: dict[str, Decimal] = {}
    for row in world.ledger.of_kind("fill"):
        if row["venue"] == venue and row["side"] == side.name.lower() and forced is not bool(row["client_id"]):
            found[row["client_id"]] = found.get(row["client_id"], D(0)) + row["qty"]
    return found


def most_sold(world: VirtualWorld) -> Decimal:
    """The twin: every repair that was sent with what the venue executed of it, and whole where it is not settled."""
    filled = traded(world, SPOT, OrderSide.SELL, forced=False)
    return sum(
        (filled.get(o.client_id, D(0)) if o.settled else o.intent.qty for o in repairs(world)),
        D(0),
    )


def taken(world: VirtualWorld) -> Decimal:
    return sum(traded(world, FUTURES, OrderSide.BUY, forced=True).values(), D(0))


def refill(world: VirtualWorld) -> None:
    world.market.move(SPOT, SYMBOL, world.market.quotes[SPOT, SYMBOL].mid)


def act(world: VirtualWorld, rng: random.Random) -> None:
    """One thing that happens."""
    what = rng.choice(("take", "take", "drop_request", "drop_response", "refill", "refill", "kill"))
    if what == "take":
        left = -world.position(FUTURES, SYMBOL)
        part = min(left, D(rng.randint(30, 150)) * LOT)
        if part > 0:
            world.arm(kind="liquidate", venue=FUTURES, symbol=SYMBOL, amount=str(part))
    elif what == "refill":
        refill(world)
    elif what == "kill":
        world.kill()
    else:
        world.arm(kind=what, venue=SPOT, target="place", count=1)


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_lost_no_more_is_sold_than_was_taken_and_in_the_end_all_of_it(seed: int) -> None:
    world, rng = storm_world(Storm(margin=ASLEEP, venue=SLOW), 1, up=True), random.Random(seed)
    bought = sum(traded(world, SPOT, OrderSide.BUY, forced=False).values(), D(0))
    seen: set[str] = set()

    def passes(ms: int) -> None:
        for _ in range(ms // STEP_MS):
            world.run(STEP_MS)
            assert most_sold(world) <= taken(world) + LOT, "together the orders may sell more than was taken"
            unknown = {o.client_id for o in repairs(world) if o.state.name == "UNKNOWN"}
            rests = [o for o in repairs(world) if o.intent.tif is TimeInForce.GTC and not o.settled]
            seen.update(("unknown",) if unknown else (), ("rests",) if rests else ())

    world.arm(kind="liquidate", venue=FUTURES, symbol=SYMBOL, amount="0.012")
    for _ in range(8):
        passes(rng.choice((300, 900, 2500)))
        act(world, rng)
    passes(2500)
    world.faults.clear()
    for _ in range(120):
        refill(world)
        passes(500)
        if not world.core.ledger.open_operations and not world.core.ledger.unsettled:
            break
    assert not world.core.ledger.open_operations and not world.core.ledger.unsettled
    sold = sum(traded(world, SPOT, OrderSide.SELL, forced=False).values(), D(0))
    assert 0 <= taken(world) - sold <= LOT
    assert sum(traded(world, SPOT, OrderSide.BUY, forced=False).values(), D(0)) == bought, "nothing is bought back"
    judge(world)
    assert seen, "something was unknown, or rested"
