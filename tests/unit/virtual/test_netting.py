"""A hit on the contract of an open hedge, against another spot venue: the contract nets, and inventory moves.

The simulated venues' ledger judges quantities, money and profit.
"""

from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest

from pipeline.execution.events import CommandKind, Opportunity
from pipeline.execution.ledger import Operation
from pipeline.model.enums import InstrumentKind, OrderSide, OrderState, Refusal
from pipeline.virtual.market import Quote
from pipeline.virtual.world import ProcessKilled, VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, MID, external_world, hedge, judge, uids, venue_delta
from workers.demo.run_checker import venue_changes

D = Decimal
X, Y = ("gateio_spot", "BTC_USDT"), ("mexc_spot", "BTCUSDT")
LOT = D("0.0001")


def shared_hit(world: VirtualWorld, qty: Decimal) -> Opportunity:
    """The contract bought, coins sold at Y where they are dear: what holds coins at X against the contract shrinks."""
    world.market.move(*Y, MID * D("1.025"))
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))  # and what was taken is there again
    world.run(50)
    found = world.opportunity(FUTURES, Y[0], "BTC/USDT", qty=qty)
    assert found is not None
    return found


def settle(world: VirtualWorld) -> None:
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=3000), world.refusals
    world.run(300)


def exits(world: VirtualWorld) -> list[Operation]:
    return [operation for operation in world.core.ledger.operations.values() if operation.record.closes]


def profit_is_the_venues(world: VirtualWorld) -> None:
    """Hedges closed: what the engine counts as profit is the money that came, with what is left of coins at the price
    at which the engine counted it."""
    assert not world.core.ledger.hedges and not world.position(FUTURES, CONTRACT)
    changes = venue_changes(world.ledger.rows, uids(world))
    assert abs(changes.get("BTC", D(0))) < LOT
    counted = changes["USDT"] + changes.get("BTC", D(0)) * MID
    assert abs(world.core.ledger.total_pnl - counted) < D("0.05")


def test_the_contract_nets_and_the_coins_stay_where_they_were_bought() -> None:
    world = external_world()
    hedge(world, D("0.03"))
    held = -world.position(FUTURES, CONTRACT)
    coins = {name: world.wallet(name, "BTC") for name in (X[0], Y[0])}
    world.feed(shared_hit(world, D("0.03")))
    settle(world)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    assert world.wallet(X[0], "BTC") == coins[X[0]], "nothing is sold where it was bought"
    assert coins[Y[0]] - world.wallet(Y[0], "BTC") == held
    (left,) = exits(world)
    assert {leg.venue for leg in left.record.legs} == {FUTURES, Y[0]}
    orders = [world.core.ledger.orders[client_id] for client_id in left.orders]
    assert [o.intent.reduce_only for o in orders if o.intent.kind is InstrumentKind.PERPETUAL] == [True]
    assert abs(venue_delta(world, "BTC")) < LOT
    judge(world)
    profit_is_the_venues(world)


def test_a_hit_smaller_than_the_hedge_nets_whole_and_the_rest_of_the_hedge_leaves_later_as_ever() -> None:
    world = external_world()
    hedge(world, D("0.1"))
    world.feed(shared_hit(world, D("0.03")))
    settle(world)
    (left,) = world.core.ledger.hedges.values()
    assert left.qty == D("0.0999") - D("0.03") == -world.position(FUTURES, CONTRACT)
    assert (left.spot_venue, left.spot_side) == (X[0], OrderSide.BUY)
    judge(world)
    world.market.move(*X, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("0.99"))
    assert world.run_until(lambda: not world.core.ledger.hedges, limit_ms=5000)
    world.run(300)
    judge(world)
    profit_is_the_venues(world)


def test_a_hit_larger_than_the_hedge_nets_the_hedge_and_what_is_seen_again_is_an_entry() -> None:
    world = external_world(max_position_size_usd=D(50_000), max_total_exposure_usd=D(50_000))
    hedge(world, D("0.06"))
    held = -world.position(FUTURES, CONTRACT)
    world.feed(shared_hit(world, D("0.1")))
    settle(world)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    (left,) = exits(world)
    assert sum(fill.qty for fill in left.fills if fill.venue == FUTURES) == held
    world.feed(shared_hit(world, D("0.04")))
    settle(world)
    (entered,) = world.core.ledger.hedges.values()
    assert (entered.spot_venue, entered.spot_side) == (Y[0], OrderSide.SELL)
    judge(world)


def opposite_hit(world: VirtualWorld, qty: Decimal) -> Opportunity:
    """The contract bought and coins sold at X: the hedge's own two instruments, the other way round."""
    world.market.quote(*X, Quote(MID * D("1.025"), qty=D("0.5")))
    world.market.quote(FUTURES, CONTRACT, Quote(MID, qty=D("0.5")))
    world.run_until(lambda: world.opportunity(FUTURES, X[0], "BTC/USDT") is not None, limit_ms=100, step_ms=1)
    found = world.opportunity(FUTURES, X[0], "BTC/USDT", qty=qty)
    assert found is not None
    return found


@pytest.mark.parametrize(("open_qty", "hit_qty"), [("0.06", "0.1"), ("0.06", "0.06"), ("0.1", "0.03")])
def test_an_opposite_hit_is_the_exit_at_once_and_what_is_beyond_the_hedge_an_entry_when_it_is_seen_again(
    open_qty: str, hit_qty: str
) -> None:
    """The hedge leaves by the books of now, whatever part of them the hit would have taken: its own threshold says."""
    world = external_world(max_position_size_usd=D(50_000), max_total_exposure_usd=D(50_000))
    hedge(world, D(open_qty))
    world.run(1000)
    held = -world.position(FUTURES, CONTRACT)
    world.core.hedges.tick()  # the slow look has just been: the hit alone makes it leave
    hit = opposite_hit(world, D(hit_qty))
    assert not world.core.ledger.open_operations
    world.feed(hit)
    (left,) = exits(world)
    assert {leg.qty for leg in left.record.legs} == {held} and world.refusals[-1] is Refusal.NETS
    settle(world)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    judge(world)
    world.market.move(*X, MID * D("1.024"))
    world.market.move(FUTURES, CONTRACT, MID * D("1.0001"))
    world.run(50)  # books of after our fills
    world.feed(opposite_hit(world, D("0.04")))
    settle(world)
    (entered,) = world.core.ledger.hedges.values()
    assert (entered.spot_venue, entered.spot_side) == (X[0], OrderSide.SELL)
    judge(world)


def test_inventory_that_is_dearer_than_two_fees_keeps_both_hedges() -> None:
    world = external_world()
    hedge(world, D("0.03"))
    fee_bps = next(r for r in world.instruments if r.spec.venue == FUTURES and r.spec.symbol == CONTRACT)
    two_fees_bps = 2 * fee_bps.spec.taker_fee_ppm / 100
    ids = [next(r.instrument_id for r in world.instruments if (r.spec.venue, r.spec.symbol) == p) for p in (X, Y)]
    asked: list[tuple[int, int]] = []

    def price(buy: int, sell: int) -> float:
        asked.append((buy, sell))
        return two_fees_bps

    world.core.hedges.netting._price_bps = price
    world.feed(shared_hit(world, D("0.03")))
    settle(world)
    assert set(asked) == {(ids[0], ids[1])}, "coins are bought at X and sold at Y"
    assert len(world.core.ledger.hedges) == 2 and not exits(world)
    judge(world)


def test_a_hedge_with_an_unknown_order_does_not_net_until_it_is_proved() -> None:
    """The contract's order of an exit is lost: what the hedge still holds is not known."""
    world = external_world()
    hedge(world, D("0.03"))
    world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
    world.market.move(*X, MID)
    world.run(20)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(20)
    assert [order.state for order in world.core.ledger.unsettled.values()] == [OrderState.UNKNOWN]
    assert world.core.ledger.hedges and not world.core.hedges.netting._free()
    world.feed(shared_hit(world, D("0.03")))
    assert world.refusals[-1] is Refusal.INSTRUMENT_BLOCKED and len(exits(world)) == 1
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)
    world.run(2000)
    judge(world)


def test_limits_of_what_may_be_open_do_not_keep_a_hedge_from_netting() -> None:
    world = external_world(max_position_size_usd=D(2000), max_total_exposure_usd=D(2500))
    hedge(world, D("0.03"))
    world.feed(shared_hit(world, D("0.03")))
    settle(world)
    assert not world.core.ledger.hedges and len(exits(world)) == 1
    judge(world)


def test_a_hedge_that_must_leave_does_so_on_its_own_instruments() -> None:
    world = external_world()
    hedge(world, D("0.03"))
    world.market.move(*X, MID)
    offered = shared_hit(world, D("0.03"))
    (known,) = world.core.ledger.hedges.values()
    world.core.hedges.hard_exit(known, "as told")
    world.feed(offered)
    settle(world)
    assert {leg.venue for operation in exits(world) for leg in operation.record.legs} == {X[0], FUTURES}
    judge(world)


def test_the_fast_path_leaves_such_a_hit_to_the_core() -> None:
    world = external_world()
    hedge(world, D("0.03"))
    offered = shared_hit(world, D("0.03"))
    (contract,) = (r.instrument_id for r in world.instruments if (r.spec.venue, r.spec.symbol) == (FUTURES, CONTRACT))
    assert offered.direction_key // 4096 == contract  # it buys what the hedge has sold
    assert world.core.risk.gate.closing() == {(contract, 1)}


@pytest.mark.parametrize("lost", [FUTURES, Y[0]])
def test_a_leg_that_never_arrives_is_repaired_and_the_ledger_is_the_venues(lost: str) -> None:
    world = external_world()
    hedge(world, D("0.03"))
    offered = shared_hit(world, D("0.03"))
    world.arm(kind="drop_request", venue=lost, target="place", count=1)
    world.feed(offered)
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)
    world.run(2000)
    assert abs(venue_delta(world, "BTC")) < LOT
    judge(world)


@pytest.mark.parametrize("sold", [True, False])
def test_a_liquidation_while_it_nets_leaves_nothing_naked(sold: bool) -> None:
    """The venue closes the contract before our order arrives. Where the coins at Y were sold, those at X stay; where
    they were not, those at X are sold."""
    world = external_world()
    hedge(world, D("0.03"))
    held = -world.position(FUTURES, CONTRACT)
    offered = shared_hit(world, D("0.03"))
    if not sold:
        world.arm(kind="drop_request", venue=Y[0], target="place", count=1)
    before = world.wallet(X[0], "BTC")
    world.feed(offered)
    world.arm(kind="liquidate", venue=FUTURES, symbol=CONTRACT, amount="0")
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)
    world.run(3000)
    assert world.position(FUTURES, CONTRACT) == 0 and not world.core.ledger.hedges
    assert abs(venue_delta(world, "BTC")) < LOT
    assert before - world.wallet(X[0], "BTC") == (0 if sold else held)
    judge(world)


@pytest.mark.parametrize("actions", range(10))
def test_a_process_that_dies_while_it_nets_goes_on_where_it_was(actions: int) -> None:
    world = external_world()
    hedge(world, D("0.03"))
    offered = shared_hit(world, D("0.03"))
    world.crash_after = actions
    with contextlib.suppress(ProcessKilled):
        world.feed(offered)
    world.kill()
    world.run(20_000)
    assert not world.core.ledger.unsettled and not world.core.ledger.open_operations
    assert abs(venue_delta(world, "BTC")) < LOT
    judge(world)


def test_a_hedge_that_sold_its_coins_nets_where_they_are_bought() -> None:
    """The same the other way round: short spot at X, the contract bought; the hit sells it and buys at Y."""
    world = external_world()
    world.market.move(*X, MID * D("1.006"))
    world.run(50)
    offered = world.opportunity(FUTURES, X[0], "BTC/USDT", qty=D("0.03"))
    assert offered is not None
    world.feed(offered)
    settle(world)
    held = world.position(FUTURES, CONTRACT)
    assert held > 0 and len(world.core.ledger.hedges) == 1
    world.market.quote(*X, Quote(MID * D("1.006"), qty=D("0.5")))
    world.market.move(*Y, MID * D("0.98"))
    world.market.move(FUTURES, CONTRACT, MID)
    world.run(50)
    hit = world.opportunity(Y[0], FUTURES, "BTC/USDT", qty=D("0.03"))
    assert hit is not None
    world.feed(hit)
    settle(world)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    (left,) = exits(world)
    assert {leg.venue for leg in left.record.legs} == {FUTURES, Y[0]}
    assert abs(venue_delta(world, "BTC")) < LOT
    judge(world)
