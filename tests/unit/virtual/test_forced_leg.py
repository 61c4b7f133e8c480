"""The leg whose partner the venue has closed: how fast it leaves a slow and thin market, and never more than is held.

Judged by the stamps of the simulated venues' ledger. At the slow venues an order takes 2 s, and their books show 30 %
of the hedge.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.ledger import Order
from pipeline.execution.records import Purpose
from pipeline.model.config import MarginConfig
from pipeline.model.enums import OrderSide, TimeInForce
from pipeline.virtual.margin_storm import FUTURES, QTY, SLOW, SPOT, SYMBOL, Storm, run_storm, storm_world
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import judge

D = Decimal
ASLEEP = MarginConfig(trigger_pct=D("0.02"), target_pct=D("0.03"), out_pct=D("0.01"))
LOT = D("0.0001")


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 68])  # 68 upwards: an exit is being undone when the venue comes
@pytest.mark.parametrize("up", [True, False])
def test_a_slow_venue_sells_the_whole_other_leg_within_five_seconds(up: bool, seed: int) -> None:
    end = run_storm(Storm(margin=ASLEEP, venue=SLOW), seed, up=up)
    assert end.liquidated and 0 < end.naked_s <= 5
    assert end.left == 0 and end.spot_left < LOT / QTY


def slow_world() -> VirtualWorld:
    """One hedge, long spot, at the slow venues; prices stand still and nothing comes back to the books."""
    return storm_world(Storm(margin=ASLEEP, venue=SLOW), 1, up=True)


def take(world: VirtualWorld, amount: Decimal) -> None:
    """The venue closes so many base coins of the contract."""
    world.arm(kind="liquidate", venue=FUTURES, symbol=SYMBOL, amount=str(amount))


def repairs(world: VirtualWorld) -> list[Order]:
    orders = world.core.ledger.orders.values()
    return [order for order in orders if order.intent.purpose is Purpose.REPAIR]


def refill(world: VirtualWorld) -> None:
    world.market.move(SPOT, SYMBOL, world.market.quotes[SPOT, SYMBOL].mid)


def sold(world: VirtualWorld) -> Decimal:
    """Base coins sold on spot by the venue's ledger; since the venue's first act nothing was bought there."""
    since_ns = world.ledger.of_kind("forced")[0]["mono_ns"]
    fills = [row for row in world.ledger.of_kind("fill") if row["venue"] == SPOT]
    assert not [row for row in fills if row["side"] == "buy" and row["mono_ns"] > since_ns]
    return sum((row["qty"] for row in fills if row["side"] == "sell"), D(0))


def ends_with_sold(world: VirtualWorld, amount: Decimal) -> None:
    """The books come back again and again: in the end just ``amount`` is sold, but for what a lot leaves."""
    for _ in range(40):
        refill(world)
        world.run(500)
    assert not world.core.ledger.open_operations and not world.core.ledger.unsettled
    assert abs(sold(world) - amount) <= LOT and sold(world) <= amount
    judge(world)


def test_what_is_taken_while_an_order_is_on_its_way_is_sold_without_waiting_for_it() -> None:
    world = slow_world()
    take(world, D("0.01"))
    assert world.run_until(lambda: len(repairs(world)) == 1, limit_ms=5000)
    take(world, D("0.02"))
    assert world.run_until(lambda: len(repairs(world)) == 2, limit_ms=1500)
    assert [order.settled for order in repairs(world)] == [False, False]
    assert sum(order.intent.qty for order in repairs(world)) == D("0.03")
    ends_with_sold(world, D("0.03"))


def test_an_order_whose_outcome_is_unknown_is_counted_as_filled_by_the_next_ones() -> None:
    world = slow_world()
    world.arm(kind="drop_response", venue=SPOT, target="place", count=1)
    take(world, D("0.01"))
    assert world.run_until(lambda: len(repairs(world)) == 1, limit_ms=5000)
    take(world, D("0.02"))
    assert world.run_until(lambda: len(repairs(world)) == 2, limit_ms=1500)
    assert sum(order.intent.qty for order in repairs(world)) == D("0.03")
    ends_with_sold(world, D("0.03"))


def resting(world: VirtualWorld) -> list[Order]:
    return [order for order in repairs(world) if order.intent.tif is TimeInForce.GTC and not order.settled]


def rests_at_the_venue(world: VirtualWorld) -> bool:
    account = next(iter(world.venues[SPOT].accounts.values()))
    return account.wallet("BTC").locked > 0 and bool(resting(world))


@pytest.mark.parametrize("dies", [False, True])
def test_what_the_book_does_not_show_rests_and_is_cancelled_before_anything_else_is_sold(dies: bool) -> None:
    world = slow_world()
    held = -world.position(FUTURES, SYMBOL)
    take(world, held)
    assert world.run_until(lambda: rests_at_the_venue(world), limit_ms=8000)
    if dies:
        world.kill()
    assert len(resting(world)) == 1, "what is on its way is not sent again"
    world.run(12_000)
    cancelled = [
        row for row in world.ledger.of_kind("request") if row["operation"] == "cancel" and row["venue"] == SPOT
    ]
    assert cancelled and not rests_at_the_venue(world)
    ends_with_sold(world, held)


def test_a_resting_repair_gives_away_no_more_than_the_first_bound() -> None:
    world = slow_world()
    best = world.market.quotes[SPOT, SYMBOL].mid
    take(world, QTY)
    assert world.run_until(lambda: bool(resting(world)), limit_ms=5000)
    (order,) = resting(world)
    bound_bps = world.core.context.config.execution.unwind_slippage_bps
    assert order.intent.side is OrderSide.SELL and 0 <= (1 - order.intent.price / best) * 10_000 <= bound_bps + 2


def test_a_book_that_holds_all_of_it_gets_an_order_that_ends_at_once() -> None:
    world = slow_world()
    world.market.quote(SPOT, SYMBOL, Quote(world.market.quotes[SPOT, SYMBOL].mid, qty=QTY))
    world.run(100)
    held = -world.position(FUTURES, SYMBOL)
    take(world, held)
    assert world.run_until(lambda: bool(repairs(world)), limit_ms=5000)
    assert {order.intent.tif for order in repairs(world)} == {TimeInForce.IOC}
    ends_with_sold(world, held)
