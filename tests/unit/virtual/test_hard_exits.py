"""Exits that must be, and that something keeps: paced, with the venue's words, and given up when their reason is."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.events import CatalogueChanged, CommandKind
from pipeline.model.enums import OrderState, TradingStatus
from pipeline.trade_state import Effect, executor_reasons
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.hedged_world import FUTURES, MID, SPOT, is_flat, make, restore_depth

D = Decimal
REFUSED = {"kind": "reject", "target": "place", "reason": "insufficient_margin", "count": 1_000_000}


def must_leave(world: VirtualWorld) -> str:
    """The hedge must leave, as for a margin or a leg that is gone; its id."""
    hedge = next(iter(world.core.ledger.hedges.values()))
    world.core.hedges.hard_exit(hedge, "as told")
    return hedge.operation_id


def refuse(world: VirtualWorld) -> list[int]:
    return [world.arm(**REFUSED, venue=venue) for venue in (SPOT[0], FUTURES[0])]


def announce(world: VirtualWorld, *, ending: bool) -> None:
    """The catalogue's next refresh: the contract's delisting is announced, or not any more."""
    row = next(row for row in world.instruments if (row.spec.venue, row.spec.symbol) == FUTURES)
    spec = msgspec.structs.replace(row.spec, ending=ending)
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))


def empty_books(world: VirtualWorld) -> None:
    for listing in (SPOT, FUTURES):
        world.market.quote(*listing, Quote(MID, qty=D("0")))


def test_an_exit_that_the_venue_refuses_is_paced_and_says_what_the_venue_said() -> None:
    world = make()
    restore_depth(world)
    rules, before = refuse(world), len(world.core.ledger.orders)
    hedge_id = must_leave(world)
    world.run(90_000)
    sent = len(world.core.ledger.orders) - before
    assert 10 < sent < 100
    assert "insufficient_margin" in world.core.hedges.exits.hard[hedge_id].why
    (reason,) = [r for r in executor_reasons(world.core) if r.what.startswith(f"hedge {hedge_id} must leave")]
    assert "insufficient_margin" in reason.what and "arb hedges" in reason.solve and reason.effect is Effect.DEGRADES
    said = [alert.text for alert in world.alerts if alert.code == "hedge_exit_blocked"]
    assert said and "insufficient_margin" in said[0]
    for rule in rules:
        world.faults.remove(rule)
    restore_depth(world)
    assert world.run_until(lambda: is_flat(world), limit_ms=10_000)


def test_an_exit_in_slices_is_a_note_once_what_kept_it_has_ended() -> None:
    world = make()
    empty_books(world)
    hedge_id = must_leave(world)

    def kept() -> tuple[bool, Effect]:
        reason = next(r for r in executor_reasons(world.core) if r.what.startswith(f"hedge {hedge_id} must leave"))
        return "not yet" in reason.what, reason.effect

    world.run(1000)
    assert kept() == (True, Effect.NOTE)
    world.run(5000)
    assert kept() == (True, Effect.DEGRADES)
    whole = world.core.ledger.hedges[hedge_id].qty
    for listing in (SPOT, FUTURES):
        world.market.quote(*listing, Quote(MID, qty=whole / 200))
    assert world.run_until(lambda: world.core.ledger.hedges[hedge_id].qty < whole, limit_ms=10_000)
    for _ in range(16):
        world.run(400)
        assert kept()[1] is Effect.NOTE, "it leaves"
        restore_depth(world)
    empty_books(world)
    world.run(1000)
    assert kept() == (True, Effect.NOTE), "kept since now, not since it had to leave"
    world.run(5000)
    assert kept() == (True, Effect.DEGRADES)


def test_an_exit_that_is_refused_again_and_again_degrades_all_the_time() -> None:
    world = make()
    restore_depth(world)
    refuse(world)
    hedge_id = must_leave(world)
    world.run(10_000)
    for _ in range(400):
        world.run(25)
        (reason,) = [r for r in executor_reasons(world.core) if r.what.startswith(f"hedge {hedge_id} must leave")]
        assert reason.effect is Effect.DEGRADES


def test_a_close_by_command_that_the_venue_refuses_answers_with_the_venues_words() -> None:
    world = make()
    restore_depth(world)
    refuse(world)
    hedge_id = next(iter(world.core.ledger.hedges))
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(8000)
    assert "insufficient_margin" in world.core.forced_close.answers[hedge_id].reason
    assert world.core.forced_close.answers[hedge_id].left == world.core.ledger.hedges[hedge_id].qty


def test_an_exit_sells_as_many_coins_as_the_balance_covers() -> None:
    """Somebody has taken half of them."""
    world = make()
    restore_depth(world)
    (hedge,) = world.core.ledger.hedges.values()
    free = world.core.balances.usable(SPOT[0], "BTC", reducing=True)
    world.core.balances.set_aside("mine", SPOT[0], "BTC", free)  # a way out may use what is only kept from new risk
    taken = free - hedge.qty / 2
    world.arm(kind="withdraw", venue=SPOT[0], asset="BTC", amount=float(taken))
    world.run(400)
    plan = world.core.hedges.attempts.attempt(hedge, D(50)).plan
    assert plan is not None and D(0) < plan.legs[0].qty <= hedge.qty / 2
    assert [leg.qty for leg in plan.legs] == [plan.legs[0].qty] * 2


@pytest.mark.parametrize("command", [False, True], ids=["by rule", "by command"])
def test_a_market_that_only_sells_lets_a_hedge_leave_after_it_has_refused_a_buy(command: bool) -> None:
    world = make()
    restore_depth(world)
    world.run(3000)
    spot = world.venues[SPOT[0]].instruments[SPOT[1]]
    spot.status = TradingStatus.SELL_ONLY
    offer = world.opportunity(SPOT[0], FUTURES[0], "BTC/USDT", qty=D("0.01"))
    assert offer is not None
    world.feed(offer)
    world.run(60)
    assert [o for o in world.core.ledger.orders.values() if o.state is OrderState.REJECTED]
    world.run(3000)
    assert world.core.recovery.rows.texts(), "no entry until the catalogue has it"
    restore_depth(world)
    if command:
        world.command(CommandKind.CLOSE_HEDGES)
    else:
        must_leave(world)
    assert world.run_until(lambda: is_flat(world), limit_ms=8000), world.core.hedges.exits.hard
    spot.status = TradingStatus.TRADING
    row = next(row for row in world.instruments if (row.spec.venue, row.spec.symbol) == SPOT)
    world.feed(CatalogueChanged((row,)))
    assert not world.run(2000) and not world.core.recovery.rows.texts()


def test_an_exit_says_that_a_row_is_being_read_and_not_a_position() -> None:
    world = make()
    restore_depth(world)
    world.arm(kind="halt_symbol", venue=SPOT[0], symbol=SPOT[1])
    world.run(3000)
    offer = world.opportunity(SPOT[0], FUTURES[0], "BTC/USDT", qty=D("0.01"))
    assert offer is not None
    world.feed(offer)
    assert world.run_until(lambda: bool(world.core.recovery.rows.texts()), limit_ms=1000)
    hedge_id = must_leave(world)
    world.run(1000)
    assert "its row is being read" in world.core.hedges.exits.hard[hedge_id].why
    world.arm(kind="resume_symbol", venue=SPOT[0], symbol=SPOT[1])
    assert world.run_until(lambda: is_flat(world), limit_ms=40_000)


def test_a_delisting_that_is_withdrawn_lets_a_hedge_stay_that_has_not_begun_to_leave() -> None:
    world = make()
    empty_books(world)
    announce(world, ending=True)
    world.run(1000)
    (hedge_id,) = world.core.hedges.exits.hard
    assert not is_flat(world)
    announce(world, ending=False)
    world.run(1000)
    assert not world.core.hedges.exits.hard
    assert any("withdrawn" in alert.text and hedge_id in alert.text for alert in world.alerts)
    for listing in (SPOT, FUTURES):
        world.market.quote(*listing, Quote(MID if listing == SPOT else MID * D("1.006"), qty=D("0.05")))
    world.run(3000)
    assert list(world.core.ledger.hedges) == [hedge_id]


def test_one_that_has_begun_to_leave_leaves_whole() -> None:
    world = make()
    for listing in (SPOT, FUTURES):
        mid = world.market.quotes[listing].mid
        world.market.quote(*listing, Quote(mid, qty=D("0.0005")))
    announce(world, ending=True)
    (held,) = [hedge.qty for hedge in world.core.ledger.hedges.values()]
    assert world.run_until(lambda: any(hedge.qty < held for hedge in world.core.ledger.hedges.values()), limit_ms=5000)
    announce(world, ending=False)
    for _ in range(20):
        restore_depth(world)
        world.run(1000)
    assert is_flat(world)


@pytest.mark.parametrize("skew_ms", [-30_000, 30_000])
def test_an_exit_refused_for_its_time_is_looked_up_and_leaves_with_the_clock_measured_anew(skew_ms: int) -> None:
    """However far the clocks are apart: the bound is for entries."""
    world = make()
    restore_depth(world)
    world.run(1000)
    for venue in (SPOT[0], FUTURES[0]):
        world.arm(kind="clock_skew", venue=venue, delay_ms=skew_ms)
    before = len([row for row in world.ledger.of_kind("request") if row["operation"] == "finished_orders"])
    must_leave(world)
    assert world.run_until(lambda: is_flat(world), limit_ms=12_000), world.core.hedges.exits.hard
    asked = len([row for row in world.ledger.of_kind("request") if row["operation"] == "finished_orders"])
    refused = [o for o in world.core.ledger.orders.values() if o.state.name == "REJECTED"]
    assert bool(refused) <= (asked > before), "a venue that refused an exit is asked what stands there"
    world.run(6000)
    assert any("its clock is" in reason.what for reason in executor_reasons(world.core))
