"""Contracts that the margin watch closes alone, below ``out``: the venues' own ledger says that nothing was opened
again."""

from __future__ import annotations

import dataclasses
import random
from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import CommandKind
from pipeline.execution.external_shares import A_HAIR
from pipeline.execution.hedging import margin_cuts
from pipeline.execution.hedging.margin_cuts import contract_alone_plan, cut_plan, unclaimed
from pipeline.execution.plan import Plan
from pipeline.execution.records import HedgeRecord
from pipeline.execution.settle import hedge_left
from pipeline.risk.margin_state import MarginReading
from pipeline.virtual.margin_storm import FUTURES, MID, PAIR, QTY, SPOT, SYMBOL, Storm, storm_world
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
LOT = D("0.0001")  # of the contract
OTHER, OTHER_SYMBOL = "mexc_spot", "BTCUSDT"  # takes the coins of nobody, though it could


def jump(world: VirtualWorld, factor: str) -> None:
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D(factor))


def filled(world: VirtualWorld, venue: str, side: str, since: int = 0) -> Decimal:
    """Base coins that the venue's own ledger has of our fills on one side, of all but the first ``since`` fills."""
    rows = [row for row in world.ledger.of_kind("fill")[since:] if row["venue"] == venue and row["side"] == side]
    return sum((row["qty"] for row in rows), D(0))


def lost_answers(world: VirtualWorld) -> None:
    """From now on only this: no question about an order at the spot venue is answered."""
    world.faults.clear()
    for question in ("order", "finished_orders", "trades"):
        world.arm(kind="drop_request", venue=SPOT, target=question, count=0)


def closed_to_the_end(world: VirtualWorld, since: int) -> None:
    """Runs until nothing is open, and holds the venues' ledger against what must not have happened on the way."""
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=60_000)
    assert filled(world, FUTURES, "sell", since) == 0, "the contract is not opened again"
    assert filled(world, SPOT, "buy", since) == 0, "no coins are bought back"


def nothing_is_left(world: VirtualWorld) -> bool:
    """What one exit has closed too much is dust that another's dust cancels."""
    delta = world.core.positions.delta().get("BTC", D(0))
    return world.position(FUTURES, SYMBOL) == 0 and not world.core.ledger.hedges and abs(delta) < D("0.0001")


def cut_whose_spot_answer_is_lost(world: VirtualWorld) -> None:
    """A cut of both legs: the contract's order fills in part, the spot one whole; the answer of that one is lost."""
    (hedge_id,) = world.core.ledger.hedges
    since = len(world.ledger.of_kind("fill"))
    quote = world.market.quotes[FUTURES, SYMBOL]
    jump(world, "1.19")
    assert world.run_until(lambda: bool(world.core.ledger.closings.get(hedge_id)), limit_ms=5000)
    lost_answers(world)
    world.market.quote(FUTURES, SYMBOL, Quote(quote.mid * D("1.19"), qty=D("0.001")))
    assert world.run_until(lambda: filled(world, SPOT, "sell", since) > 0, limit_ms=5000, step_ms=1)
    world.links[SPOT].disconnect("gone")
    assert world.run_until(lambda: filled(world, FUTURES, "buy", since) > 0, limit_ms=5000)
    world.run(2000)
    assert 0 < filled(world, FUTURES, "buy", since) < filled(world, SPOT, "sell", since)
    world.market.quote(FUTURES, SYMBOL, quote)
    world.market.move(FUTURES, SYMBOL, world.market.quotes[SPOT, SYMBOL].mid)


def test_an_order_that_may_have_sold_the_coins_is_waited_for_only_while_its_answer_may_come() -> None:
    """Then its venue is away, and the rest of the contract would be liquidated."""
    world = storm_world(Storm(), 1, up=True)
    since = len(world.ledger.of_kind("fill"))
    ((hedge_id, hedge),) = world.core.ledger.hedges.items()
    cut_whose_spot_answer_is_lost(world)
    (order,) = [o for o in world.core.ledger.unsettled.values() if o.intent.venue == SPOT]
    context = world.core.context
    left = hedge_left(context.ledger, context.ledger.operations[hedge_id])
    assert answer_expected(context, order) and unclaimed(context, hedge, alone=True) < left
    assert world.run_until(lambda: not answer_expected(context, order), limit_ms=10_000)
    assert unclaimed(context, hedge, alone=False) < left == unclaimed(context, hedge, alone=True)
    jump(world, "1.13")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000)
    world.faults.clear()
    world.links[SPOT].connect()
    closed_to_the_end(world, since)
    assert nothing_is_left(world)


def test_a_late_answer_sends_no_second_order_beside_the_one_that_closes_the_contract() -> None:
    """Its coins were sold, so that it had the contract to close; where other hedges share the position, the second of
    two orders that only reduce would close what is theirs."""
    world = storm_world(Storm(), 1, up=True)
    since, (hedge_id,) = len(world.ledger.of_kind("fill")), world.core.ledger.hedges
    cut_whose_spot_answer_is_lost(world)
    ledger, context = world.core.ledger, world.core.context
    (sale,) = [order for order in ledger.unsettled.values() if order.intent.venue == SPOT]
    assert world.run_until(lambda: not answer_expected(context, sale), limit_ms=10_000)
    jump(world, "1.13")
    assert world.run_until(lambda: any(ledger.unsettled_of_symbol(FUTURES, SYMBOL)), limit_ms=10_000, step_ms=1)
    (closing,) = ledger.unsettled_of_symbol(FUTURES, SYMBOL)
    first, second = ledger.closings[hedge_id]
    assert closing.client_id in second.orders and closing.intent.qty > hedge_left(ledger, second) == 0
    world.faults.clear()
    world.links[SPOT].connect()
    assert world.run_until(lambda: sale.settled, limit_ms=5000, step_ms=1)
    assert first.exposure()["BTC"] < -LOT and not closing.settled
    assert world.run_until(lambda: closing.settled, limit_ms=5000, step_ms=1)
    closed_to_the_end(world, since)
    here = [ledger.orders[name].intent for name in first.orders if ledger.orders[name].intent.venue == FUTURES]
    assert len(here) == 1, "what is on its way closes the contract"
    assert nothing_is_left(world)


def test_coins_that_an_exit_may_have_sold_elsewhere_are_not_sold_here_when_the_venue_ends_the_contract() -> None:
    """The first exit sells at another venue than the hedge has bought at, its answer is lost; the next one has closed
    some of the contract when the venue closes the rest of it, so that all is only reduced from then on."""
    world = storm_world(Storm(), 1, up=True)
    ((_, hedge),) = world.core.ledger.hedges.items()
    quotes, since = dict(world.market.quotes), len(world.ledger.of_kind("fill"))
    for name, symbol, like in ((SPOT, SYMBOL, SPOT), (FUTURES, SYMBOL, FUTURES), (OTHER, OTHER_SYMBOL, SPOT)):
        world.market.quote(name, symbol, Quote(quotes[like, SYMBOL].mid, qty=QTY))
    world.run(500)
    for question in ("order", "finished_orders", "trades"):
        world.arm(kind="drop_request", venue=OTHER, target=question, count=0)
    world.arm(kind="drop_response", venue=OTHER, target="place", count=1)
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    elsewhere = world.core.context.instruments.find(OTHER, OTHER_SYMBOL)
    plan = cut_plan(world.core.context, hedge, hedge.qty, D(50))
    assert isinstance(plan, Plan) and elsewhere is not None
    plan.opportunity = msgspec.structs.replace(plan.opportunity, manual=False)
    plan.legs[1] = dataclasses.replace(plan.legs[1], row=elsewhere)
    assert world.core._leave(plan, hedge) is not None
    assert world.run_until(lambda: filled(world, OTHER, "sell", since) > 0, limit_ms=5000, step_ms=1)
    world.links[OTHER].disconnect("gone")
    assert world.run_until(lambda: not any(world.core.ledger.unsettled_of_symbol(FUTURES, SYMBOL)), limit_ms=5000)
    world.faults.clear()
    for question in ("order", "finished_orders", "trades"):
        world.arm(kind="drop_request", venue=OTHER, target=question, count=0)
    (sale,) = [order for order in world.core.ledger.unsettled.values() if order.intent.venue == OTHER]
    assert world.run_until(lambda: not answer_expected(world.core.context, sale), limit_ms=10_000)
    most = contract_alone_plan(world.core.context, hedge, hedge.qty * D("0.6"), D(50))
    assert isinstance(most, Plan) and world.core._leave(most, hedge) is not None
    assert world.run_until(lambda: filled(world, FUTURES, "buy", since) > 0, limit_ms=5000)
    world.arm(kind="liquidate", venue=FUTURES, symbol=SYMBOL)
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=5000)
    world.run(5000)
    assert filled(world, SPOT, "sell", since) == 0
    world.faults.clear()
    world.links[OTHER].connect()
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=60_000)
    assert sum((filled(world, name, "sell", since) for name in (SPOT, OTHER)), D(0)) <= hedge.qty * A_HAIR
    assert nothing_is_left(world)


@pytest.mark.parametrize("seed", range(12))
def test_an_exit_by_choice_is_not_undone_once_a_later_one_has_closed_its_contract(seed: int) -> None:
    """Its order for the coins was taken or lost, and nobody knows; of the contract it has closed nothing or some. The
    later one sells no coins before that is known, at no venue, and from its beginning nothing is bought back."""
    rng = random.Random(f"choice {seed}")
    world = storm_world(Storm(), seed, up=True)
    ((_, hedge),) = world.core.ledger.hedges.items()
    quotes = dict(world.market.quotes)
    for name in (SPOT, FUTURES):
        world.market.quote(name, SYMBOL, Quote(quotes[name, SYMBOL].mid, qty=QTY))
    world.run(500)
    since, taken, some = len(world.ledger.of_kind("fill")), seed % 2, seed % 3
    lost_answers(world)
    world.arm(kind="drop_response" if taken else "drop_request", venue=SPOT, target="place", count=1)
    if not some:
        world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    plan = cut_plan(world.core.context, hedge, hedge.qty * D(rng.choice(("0.4", "0.8", "1"))), D(50))
    assert isinstance(plan, Plan)
    plan.opportunity = msgspec.structs.replace(plan.opportunity, manual=False)
    exit_ = world.core._leave(plan, hedge)
    assert exit_ is not None and not exit_.record.manual
    if some:
        world.market.quote(FUTURES, SYMBOL, Quote(quotes[FUTURES, SYMBOL].mid, qty=D("0.001")))
    if taken:
        assert world.run_until(lambda: filled(world, SPOT, "sell", since) > 0, limit_ms=5000, step_ms=1)
    else:
        world.run(300)
    world.links[SPOT].disconnect("gone")
    world.run(rng.choice((500, 3000, 12_000)))
    lost_answers(world)
    for name, symbol in ((SPOT, SYMBOL), (FUTURES, SYMBOL), *([] if some else [(OTHER, OTHER_SYMBOL)])):
        world.market.quote(name, symbol, Quote(quotes[FUTURES, SYMBOL].mid * D("1.31"), qty=QTY))
    closings = world.core.ledger.closings[hedge.operation_id]
    assert world.run_until(lambda: len(closings) > 1, limit_ms=10_000, step_ms=1)
    begun = len(world.ledger.of_kind("fill"))
    assert world.run_until(lambda: -world.position(FUTURES, SYMBOL) <= LOT, limit_ms=20_000), "a lot, by fees in coins"
    world.run(rng.choice((0, 5000)))
    assert not [fill for later in closings[1:] for fill in later.fills if fill.venue != FUTURES]
    world.faults.clear()
    world.links[SPOT].connect()
    closed_to_the_end(world, begun)
    assert filled(world, OTHER, "buy", begun) == 0 and nothing_is_left(world)
    assert sum((filled(world, name, "sell", since) for name in (SPOT, OTHER)), D(0)) <= hedge.qty * A_HAIR


def test_exits_that_have_closed_too_much_together_buy_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a fill comes late: the second exit has closed what the first one had already sold the coins of."""

    def all_of_it(context: CoreContext, hedge: HedgeRecord, *, alone: bool) -> Decimal:
        assert alone
        return hedge_left(context.ledger, context.ledger.operations[hedge.operation_id])

    monkeypatch.setattr(margin_cuts, "unclaimed", all_of_it)
    world = storm_world(Storm(), 1, up=True)
    since = len(world.ledger.of_kind("fill"))
    cut_whose_spot_answer_is_lost(world)
    jump(world, "1.13")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000)
    world.faults.clear()
    world.links[SPOT].connect()
    closed_to_the_end(world, since)
    assert nothing_is_left(world)


def test_an_exit_that_waits_for_an_operator_with_the_contract_to_close_goes_on_before_it_is_liquidated() -> None:
    world = storm_world(Storm(), 1, up=True)
    since = len(world.ledger.of_kind("fill"))
    (hedge_id,) = world.core.ledger.hedges
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    jump(world, "1.19")
    held = "recovery_hold"
    assert world.run_until(lambda: held in world.core.ledger.breakers, limit_ms=60_000)
    world.faults.clear()
    world.links[SPOT].disconnect("gone")
    sold = filled(world, SPOT, "sell", since)
    assert sold > 0 == filled(world, FUTURES, "buy", since)
    first = world.core.ledger.closings[hedge_id][0]
    jump(world, "1.10")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000)
    assert sum((f.qty for f in first.fills if f.venue == FUTURES), D(0)) == sold, "by that exit, and no other"
    assert held not in world.core.ledger.breakers and any("goes on by itself" in alert.text for alert in world.alerts)
    world.links[SPOT].connect()
    closed_to_the_end(world, since)
    assert nothing_is_left(world)


HOLD = "recovery_hold"


def lent_world() -> tuple[VirtualWorld, str]:
    """An exit by choice has sold its coins, its contract's orders are refused, and no coins can be bought back: an
    operator is asked. The price rises until it goes on by itself, and its orders are refused still. Its recovery."""
    world = storm_world(Storm(), 1, up=True)
    since = len(world.ledger.of_kind("fill"))
    (hedge_id,) = world.core.ledger.hedges
    for venue, after in ((FUTURES, 0), (SPOT, 1), ("mexc_spot", 0)):
        refuse(world, venue, after)
    world.market.move(FUTURES, SYMBOL, MID)
    assert world.run_until(lambda: HOLD in world.core.ledger.breakers, limit_ms=60_000)
    (waiting,), (exit_,) = world.core.recovery.waiting(), world.core.ledger.closings[hedge_id]
    assert not exit_.record.manual and filled(world, SPOT, "sell", since) > 0 == filled(world, FUTURES, "buy", since)
    world.faults.clear()
    for name in [name for name in world.core.ledger.breakers if name != HOLD]:
        world.command(CommandKind.REARM, name, "it takes orders again")
    refuse(world, FUTURES)
    jump(world, "1.29")
    assert world.run_until(lambda: not world.core.recovery.waiting(), limit_ms=10_000, step_ms=1)
    world.run(400)
    return world, waiting


def refuse(world: VirtualWorld, venue: str, after: int = 0) -> None:
    """All orders at a venue but the first ones; for no reason that speaks of a position."""
    world.arm(kind="reject", target="place", venue=venue, after=after, count=0, reason="side_barred")


@pytest.mark.parametrize("kill", [False, True])
def test_an_exit_that_went_on_for_its_margin_waits_again_when_that_is_not_short_any_more(kill: bool) -> None:
    """It left by choice, so that it may be undone: the operator was asked and has not decided."""
    world, waiting = lent_world()
    since = len(world.ledger.of_kind("fill"))
    jump(world, "0.78")
    if kill:
        world.kill()
    world.run(10_000)
    assert world.core.recovery.waiting() == [waiting] and HOLD in world.core.ledger.breakers
    assert filled(world, SPOT, "buy", since) == 0
    world.faults.clear()
    world.command(CommandKind.APPROVE, waiting, "undo it or end it")
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=60_000)
    assert HOLD not in world.core.ledger.breakers


def test_what_went_on_for_its_margin_waits_for_nobody_once_all_is_to_be_closed() -> None:
    world, _ = lent_world()
    world.command(CommandKind.FLATTEN, "", "everything")
    jump(world, "0.78")
    world.faults.clear()
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=60_000)


def test_an_exit_is_urgent_beyond_the_price_of_liquidation_too() -> None:
    world, waiting = lent_world()
    margin, exit_ = world.core.risk.gate.margin, world.core.ledger.operations[waiting.removeprefix("r")]
    assert margin.urgent_bps(exit_) > 0
    seen = margin.readings[FUTURES, SYMBOL]
    margin.readings[FUTURES, SYMBOL] = MarginReading(
        seen.position, seen.side, seen.required, seen.own_liquidation, D("-0.01")
    )
    assert margin.urgent_bps(exit_) > 0


def test_what_an_operator_has_taken_over_stays_his_below_out_too() -> None:
    world = storm_world(Storm(), 1, up=True)
    since = len(world.ledger.of_kind("fill"))
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    jump(world, "1.19")
    assert world.run_until(lambda: "recovery_hold" in world.core.ledger.breakers, limit_ms=60_000)
    (waiting,) = world.core.recovery.waiting()
    world.command(CommandKind.CANCEL_RECOVERY, waiting)
    world.faults.clear()
    jump(world, "1.10")
    world.run(5000)
    assert -world.position(FUTURES, SYMBOL) == filled(world, SPOT, "sell", since) - filled(world, FUTURES, "buy", since)


def test_margin_that_only_an_operators_word_can_restore_says_which_command_that_is() -> None:
    """The contract of an exit that waits for him has to be closed, and nothing else can be cut."""
    world = storm_world(Storm(), 1, up=True)
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    jump(world, "1.19")
    assert world.run_until(lambda: "recovery_hold" in world.core.ledger.breakers, limit_ms=60_000)
    (waiting,) = world.core.recovery.waiting()
    world.stalled.add(SPOT)
    jump(world, "1.05")
    assert world.run_until(lambda: any("nothing can be cut" in one.text for one in world.alerts), limit_ms=20_000)
    texts = [one.text for one in world.alerts if "nothing can be cut" in one.text]
    assert all(f"arb recoveries --approve {waiting}" in text for text in texts), texts
    (hold,) = [one.text for one in world.alerts if one.code == "recovery" and "waits for an operator" in one.text]
    assert hold.endswith(f"arb recoveries --approve {waiting} (or --cancel {waiting})")


def test_coins_whose_feed_is_dead_wait_for_it_while_their_session_is_up() -> None:
    """No order goes out by the contract's price, no rung is used up, and what the coins cost later is no matter."""
    world = storm_world(Storm(), 1, up=True)
    since, (hedge_id,) = len(world.ledger.of_kind("fill")), world.core.ledger.hedges
    feeds = [name for name in world.links if name != FUTURES]
    world.stalled.update(feeds)
    world.run(6000)
    jump(world, "1.29")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000)
    world.run(20_000)
    (operation,) = world.core.ledger.closings[hedge_id]
    orders = [world.core.ledger.orders[name].intent for name in operation.orders]
    assert {intent.venue for intent in orders} == {FUTURES}
    assert world.core.orders.repairs.waits_for_venue(operation) == f"{SPOT} {SYMBOL}: no live book of it"
    assert "recovery_hold" not in world.core.ledger.breakers
    (spot,) = [leg for leg in operation.record.legs if leg.venue == SPOT]
    assert (spot.update_id, spot.proof_mono_ns) == (0, 0)
    world.stalled.difference_update(feeds)
    jump(world, "0.95")
    closed_to_the_end(world, since)
    assert not world.core.ledger.hedges and abs(world.core.positions.delta().get("BTC", D(0))) < D("0.0001")


def test_both_legs_leave_beside_an_exit_that_has_only_some_of_the_contract_to_close() -> None:
    """Its coins are sold and the spot leg can be traded: it closes what it claims, the rest is cut as always."""
    world = storm_world(Storm(), 1, up=True)
    since = len(world.ledger.of_kind("fill"))
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    jump(world, "1.19")
    assert world.run_until(lambda: "recovery_hold" in world.core.ledger.breakers, limit_ms=60_000)
    world.faults.clear()
    sold = filled(world, SPOT, "sell", since)
    jump(world, "1.10")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000)
    texts = [alert.text for alert in world.alerts if "are being closed" in alert.text]
    assert len(texts) == 1 and texts[0].endswith("on both legs")
    closed_to_the_end(world, since)
    assert filled(world, SPOT, "sell", since) > sold and nothing_is_left(world)


def test_of_two_hedges_on_a_contract_the_one_that_no_exit_is_to_close_is_closed() -> None:
    world = storm_world(Storm(buffer=D(1)), 1, up=True)
    ledger = world.core.ledger
    ((older, first),) = ledger.hedges.items()
    world.run(1000)
    offered = world.opportunity(SPOT, FUTURES, PAIR, qty=QTY / 2)
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: len(ledger.hedges) == 2 and not ledger.open_operations, limit_ms=10_000)
    (newer,) = ledger.hedges.keys() - {older}
    since = len(world.ledger.of_kind("fill"))
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    world.core.hedges.hard_exit(first, "as told")
    assert world.run_until(lambda: "recovery_hold" in ledger.breakers, limit_ms=60_000)
    assert filled(world, SPOT, "sell", since) >= first.qty and filled(world, FUTURES, "buy", since) == 0
    world.faults.clear()
    world.links[SPOT].disconnect("gone")
    world.stalled.add(SPOT)
    world.run(6000)
    jump(world, "1.30")
    assert world.run_until(lambda: -world.position(FUTURES, SYMBOL) == first.qty, limit_ms=10_000)
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=60_000), (
        "the price of its plan is old"
    )
    assert not world.ledger.of_kind("forced")
    assert len(ledger.closings[older]) == 1 and len(ledger.closings[newer]) == 1
    world.stalled.discard(SPOT)
    jump(world, "1.001")
    world.links[SPOT].connect()
    closed_to_the_end(world, since)
