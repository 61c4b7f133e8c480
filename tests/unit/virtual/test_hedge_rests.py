"""What is left of a hedge below a venue's minimum order: no plan leaves it, and where it is, the hedge ends."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.execution.events import CatalogueChanged, CommandKind
from pipeline.execution.hedging.margin_cuts import cut_plan
from pipeline.execution.plan import Plan
from pipeline.execution.records import HedgeRecord
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.hedged_world import FUTURES, MID, SPOT, is_flat, make, restore_depth

D = Decimal
LOT = D("0.0001")  # of the contract: 6.4 USDT


def set_minimum(world: VirtualWorld, usdt: Decimal) -> None:
    """The spot venue's minimum order rises: the simulator's venue refuses less, and the catalogue says so."""
    world.venues[SPOT[0]].instruments[SPOT[1]].min_notional = usdt
    row = next(row for row in world.instruments if (row.spec.venue, row.spec.symbol) == SPOT)
    spec = msgspec.structs.replace(row.spec, min_notional=usdt)
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))


def hedge_of(world: VirtualWorld) -> HedgeRecord:
    return next(iter(world.core.ledger.hedges.values()))


def forced(world: VirtualWorld) -> Plan | str:
    world.core.context.now = world.now()
    return world.core.hedges.exits.forced_plan(hedge_of(world), D(50))


def quote(world: VirtualWorld, qty: Decimal) -> None:
    for listing in (SPOT, FUTURES):  # one level within every bound
        world.market.quote(*listing, Quote(world.market.quotes[listing].mid, qty=qty, step_bps=D(100)))
    world.run(100)


def test_a_hedge_below_the_minimum_ends_and_its_coins_are_dust() -> None:
    world = make()
    restore_depth(world)
    held = hedge_of(world).qty
    set_minimum(world, held * MID + 10)
    before, dust = world.core.ledger.total_pnl, world.core.ledger.dust.get("BTC", D(0))
    world.command(CommandKind.CLOSE_HEDGES)
    assert world.run_until(lambda: is_flat(world), limit_ms=5000), world.core.forced_close.answers
    world.run(1000)
    ledger = world.core.ledger
    assert ledger.dust == {"BTC": dust + held}, "the coins are on the spot account, as dust"
    closing = next(iter(ledger.closings.values()))[-1]
    assert [leg.venue for leg in closing.record.legs] == [FUTURES[0]] and not closing.recovered
    assert not ledger.unsettled and not ledger.open_operations and not ledger.breakers
    assert abs(ledger.total_pnl - before) < held * MID / 1000, "the basis came back but for a fee"
    assert world.core.positions.delta().get("BTC", D(0)) == dust + held


def test_the_end_of_a_rest_that_does_not_fill_keeps_the_hedge_and_its_books_straight() -> None:
    world = make()
    restore_depth(world)
    held = hedge_of(world).qty
    dust = world.core.ledger.dust.get("BTC", D(0))
    set_minimum(world, held * MID + 10)
    world.command(CommandKind.CLOSE_HEDGES)
    assert world.core.ledger.unsettled
    world.market.move(*FUTURES, MID * D("1.012"))  # the asks leave before the order is there
    assert world.run_until(lambda: is_flat(world), limit_ms=20_000)
    world.run(1000)
    assert world.core.ledger.dust == {"BTC": dust + held} and not world.core.ledger.open_operations


def test_no_forced_exit_leaves_less_than_the_minimum() -> None:
    world = make()
    held = hedge_of(world).qty
    quote(world, held - LOT)
    set_minimum(world, D(15))  # three lots of the contract
    plan = forced(world)
    assert isinstance(plan, Plan)
    left = held - plan.legs[0].qty
    assert left * MID * D("0.99") >= 15 and left <= 3 * LOT + held % LOT


def test_no_exit_that_the_balance_cuts_leaves_less_than_the_minimum() -> None:
    world = make()
    restore_depth(world)
    world.run(100)
    held = hedge_of(world).qty
    set_minimum(world, D(15))
    world.core.context.now = world.now()
    plan = world.core.hedges.exits.forced_plan(hedge_of(world), D(50), held - LOT)
    assert isinstance(plan, Plan)
    assert (held - plan.legs[0].qty) * MID * D("0.99") >= 15


def test_no_cut_for_margin_leaves_less_than_the_minimum() -> None:
    world = make()
    restore_depth(world)
    world.run(100)
    held = hedge_of(world).qty
    set_minimum(world, D(15))
    context = world.core.context
    context.now = world.now()

    def cut(qty: Decimal) -> Decimal:
        plan = cut_plan(context, hedge_of(world), qty, D(50))
        assert isinstance(plan, Plan), plan
        return plan.legs[0].qty

    assert held - cut(held - LOT) < LOT, "all of it, where the books hold all of it"
    assert cut(LOT) == 3 * LOT, "nor is an order less than the venues take"
    assert cut(5 * LOT) == 5 * LOT


def test_a_rest_that_no_order_can_close_says_its_amounts() -> None:
    world = make()
    restore_depth(world)
    held = hedge_of(world).qty
    set_minimum(world, held * MID + 10)
    world.market.quote(*FUTURES, Quote(MID, qty=D(0)))
    world.run(100)
    text = forced(world)
    assert isinstance(text, str)
    assert "BTC (" in text and "USDT) is below gateio_spot's minimum order of" in text, text
