"""Operations that wait for an operator, or that he has taken over: what ends them, and that nothing of them is left
when they have ended. On virtual time; the simulator's ledger judges."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.execution.orchestrator import RECOVERY_HOLD
from pipeline.execution.records import Outcome
from pipeline.model.enums import OrderState
from pipeline.takeover import Takeover
from pipeline.trade_state import Effect, executor_reasons
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    MID,
    external_world,
    hedge,
    held_world,
    judge,
    place,
    records,
    repairs,
    sale_in_doubt,
    venue_delta,
)

D = Decimal
QTY = D("0.01")
HEDGED = D("0.0099")  # of it, when the fee was taken in coins: contracts come in steps of 0.0001
MEXC, GATEIO = ("mexc_spot", "BTCUSDT"), ("gateio_spot", "BTC_USDT")


def is_over(world: VirtualWorld, operation_id: str, outcome: Outcome) -> None:
    ledger = world.core.ledger
    result = ledger.operations[operation_id].result
    assert operation_id not in ledger.open_operations and result is not None and result.outcome is outcome
    assert ledger.recoveries[f"r{operation_id}"].state == "done"
    assert not world.core.recovery.waiting() and RECOVERY_HOLD not in ledger.breakers
    world.core.context.now = world.now()
    left = [r.what for r in executor_reasons(world.core) if operation_id in r.what]
    assert not [text for text in left if not text.startswith("moved by others: ")], "but for what he has traded"
    assert abs(venue_delta(world, "BTC")) < D("0.0001")
    judge(world)


def said(world: VirtualWorld, operation_id: str) -> str:
    """How `arb status` names it, and what solves it."""
    world.core.context.now = world.now()
    (reason,) = [r for r in executor_reasons(world.core) if f"recovery r{operation_id}" in r.what]
    return f"{reason.what} | {reason.solve} | {reason.effect.name}"


@pytest.mark.parametrize("venue", [MEXC, GATEIO])
def test_what_an_operator_trades_by_hand_ends_what_he_has_taken_over(venue: tuple[str, str]) -> None:
    """Undone where it was bought, or completed where it should have been sold."""
    world, operation_id = held_world()
    world.command(CommandKind.CANCEL_RECOVERY, f"r{operation_id}", "mine")
    assert "by hand" in said(world, operation_id) and Effect.NOTE.name in said(world, operation_id)
    world.run(3000)
    place(world, *venue, -QTY)
    world.run(8000)
    is_over(world, operation_id, Outcome.RECOVERED)
    assert not world.core.ledger.breakers, "an order that an operator has announced stops nothing"
    assert not world.core.ledger.external.trades.coins and world.core.risk.gate.exposure().total == 0
    world.kill()
    world.run(3000)
    is_over(world, operation_id, Outcome.RECOVERED)


def test_a_part_by_hand_leaves_the_rest_to_the_operator_and_what_is_more_to_others() -> None:
    world, operation_id = held_world()
    world.command(CommandKind.CANCEL_RECOVERY, f"r{operation_id}", "mine")
    place(world, *MEXC, -QTY * D("0.4"))
    world.run(8000)
    assert world.core.ledger.open_operations[operation_id].exposure()["BTC"] == QTY * D("0.6")
    assert "taken over" in said(world, operation_id)
    place(world, *MEXC, -QTY)
    world.run(8000)
    ledger = world.core.ledger
    assert operation_id not in ledger.open_operations and ledger.recoveries[f"r{operation_id}"].state == "done"
    assert ledger.external.trades.coins["mexc_spot", "BTC"].qty == -QTY * D("0.4"), "more than it lacked"
    assert "venue.mexc_spot" in ledger.breakers
    judge(world)


def test_an_order_by_hand_while_a_recovery_waits_is_an_order_of_others() -> None:
    """Nobody has said that he repairs it: the engine still would, and both would sell."""
    world, operation_id = held_world()
    place(world, *MEXC, -QTY)
    world.run(8000)
    assert world.core.ledger.open_operations[operation_id].exposure()["BTC"] == QTY
    assert "venue.mexc_spot" in world.core.ledger.breakers and "--approve" in said(world, operation_id)


def test_an_approval_outlives_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladder begins again in the next life too; without, it would be at its end at once and wait again."""
    monkeypatch.setattr("pipeline.execution.orchestrator.REPAIRS_MAX", 2)
    world, operation_id = held_world()
    assert "2 repairs" in world.core.ledger.recoveries[f"r{operation_id}"].reason
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="reject", venue=venue, target="place", count=0, reason="too_many_orders")
    world.command(CommandKind.APPROVE, f"r{operation_id}", "the market is fine")
    assert world.run_until(lambda: len(repairs(world)) == 3 and not world.core.ledger.unsettled, limit_ms=2000)
    world.kill()
    world.faults.clear()
    assert world.run_until(lambda: operation_id not in world.core.ledger.open_operations, limit_ms=30_000)
    is_over(world, operation_id, Outcome.RECOVERED)


def test_an_approval_forgives_no_repair_that_was_made_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the process dies: else no number of refused repairs would ever ask an operator again."""
    monkeypatch.setattr("pipeline.execution.orchestrator.REPAIRS_MAX", 2)
    world, operation_id = held_world()
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="reject", venue=venue, target="place", count=0, reason="too_many_orders")
    world.command(CommandKind.APPROVE, f"r{operation_id}", "the market is fine")
    assert world.run_until(lambda: len(repairs(world)) == 3, limit_ms=5000, step_ms=1)
    world.kill()
    assert world.run_until(lambda: len(repairs(world)) == 4, limit_ms=5000, step_ms=1)
    world.kill()
    world.run(10_000)
    assert f"r{operation_id}" in world.core.recovery.waiting() and RECOVERY_HOLD in world.core.ledger.breakers
    assert [order.intent.attempt for order in repairs(world)] == [0, 1, 0, 1]


@pytest.mark.parametrize("how", ["approve", "rearm", "flatten", "takeover"])
def test_what_lets_repairs_begin_again_says_nothing_of_orders_that_become_unknown_later(how: str) -> None:
    """The order may have sold the coins: sent once more, it would sell them twice."""
    world, operation_id = held_world()
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="drop_request", venue=venue, target="place", count=0)
    if how == "takeover":
        world.take_over()
        takeover = Takeover(world.core, None)
        assert world.run_until(lambda: world.core.recovery.ready(), limit_ms=5000)
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
    else:
        kind, argument = {
            "approve": (CommandKind.APPROVE, f"r{operation_id}"),
            "rearm": (CommandKind.REARM, RECOVERY_HOLD),
            "flatten": (CommandKind.FLATTEN, ""),
        }[how]
        world.command(kind, argument, "the market is fine")
    client_id = sale_in_doubt(world, operation_id)
    assert world.core.ledger.orders[client_id].state is OrderState.UNKNOWN
    venue = world.core.ledger.orders[client_id].intent.venue
    newest = [order for order in repairs(world) if order.intent.venue == venue][-1]
    assert newest.client_id == client_id, "nothing more is sold there while it is not known what was"
    assert [a.code for a in world.alerts].count("unknown_unproved") == 1
    (row,) = world.core.recovery.get_active_recoveries()
    assert row["requires_manual_approval"] and client_id in str(row["reason"])
    if how == "takeover":
        assert takeover.done and takeover.result().ended, "it waits for an operator, and so does all that is open"
        return
    world.faults.clear()
    world.command(CommandKind.APPROVE, f"r{operation_id}", "I have withdrawn them")
    assert world.run_until(lambda: world.core.ledger.orders[client_id].settled, limit_ms=40_000)
    assert world.core.ledger.orders[client_id].state is OrderState.EXPIRED


def test_coins_that_an_exit_has_sold_are_not_gone_when_they_are_bought_back_in_parts() -> None:
    """There are no other coins at the spot venue: between his two orders it holds less than the hedge was."""
    world = external_world()
    hedge(world, QTY)
    world.market.move(FUTURES, CONTRACT, MID)
    world.arm(kind="withdraw", venue="gateio_spot", asset="BTC", amount=float(world.wallet("gateio_spot", "BTC") - QTY))
    world.run(3000)
    world.command(CommandKind.REARM, "venue.gateio_spot", "mine")
    (hedged,) = world.core.ledger.hedges.values()
    assert hedged.qty == HEDGED
    world.arm(kind="reject", venue=FUTURES, target="place", count=0, reason="too_many_orders")
    world.arm(kind="reject", venue="gateio_spot", target="place", after=1, count=0, reason="too_many_orders")
    world.arm(kind="reject", venue="mexc_spot", target="place", count=0, reason="too_many_orders")
    world.command(CommandKind.CLOSE_HEDGES, "", "test")
    assert world.run_until(lambda: RECOVERY_HOLD in world.core.ledger.breakers, limit_ms=60_000)
    (operation_id,) = world.core.ledger.open_operations
    world.faults.clear()
    world.command(CommandKind.CANCEL_RECOVERY, f"r{operation_id}", "mine")
    place(world, "gateio_spot", CONTRACT, HEDGED * D("0.6"))
    world.run(3000)
    place(world, "gateio_spot", CONTRACT, HEDGED * D("0.4"))
    world.run(8000)
    assert not [r for r in records(world, ExternalFlowRecord) if r.cause == "shortage"]
    judge(world)


def half_hedge(world: VirtualWorld, refuses: tuple[tuple[str, int], ...]) -> str:
    """An entry of which one leg has filled, taken over by an operator. ``refuses``: (venue, orders that it takes
    before). The operation's id."""
    world.market.move("gateio_spot", CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    for venue, after in refuses:
        world.arm(kind="reject", venue=venue, target="place", after=after, count=0, reason="too_many_orders")
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=QTY)
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: RECOVERY_HOLD in world.core.ledger.breakers, limit_ms=60_000)
    (operation_id,) = world.core.ledger.open_operations
    world.faults.clear()
    for name in list(world.core.ledger.breakers):
        if name != RECOVERY_HOLD:
            world.command(CommandKind.REARM, name, "it takes orders again")
    world.command(CommandKind.CANCEL_RECOVERY, f"r{operation_id}", "mine")
    world.run(3000)
    return operation_id


def test_a_hedge_that_an_operator_completes_by_hand_is_a_hedge() -> None:
    """Its coins were bought and its contract never sold; he sells it, and `arb close` knows of it."""
    world = external_world()
    operation_id = half_hedge(world, (("mexc_spot", 0), ("gateio_spot", 1), (FUTURES, 0)))
    assert world.position(FUTURES, CONTRACT) == 0 and venue_delta(world, "BTC") > HEDGED
    place(world, FUTURES, CONTRACT, -HEDGED)
    world.run(8000)
    ledger = world.core.ledger
    is_over(world, operation_id, Outcome.RECOVERED)
    (one,) = ledger.hedges.values()
    assert (one.qty, one.spot_side.name) == (HEDGED, "BUY")
    assert MID * D("1.005") < one.entry_futures_price < MID * D("1.007"), "what he sold it at, not what was planned"
    result = ledger.operations[operation_id].result
    assert result is not None and result.hedge_open and abs(result.pnl_numeraire) < 2, "the basis is not earned yet"
    world.command(CommandKind.CLOSE_HEDGES)
    assert world.run_until(lambda: not ledger.hedges and not ledger.open_operations, limit_ms=20_000)
    world.run(1000)
    assert world.position(FUTURES, CONTRACT) == 0 and abs(venue_delta(world, "BTC")) < D("0.0001")
    judge(world)


def test_a_basis_that_is_not_earned_yet_is_no_profit_of_what_waits_for_an_operator() -> None:
    """The peak of the profit would keep it for ever, and the limit of the total loss is judged from there."""
    world = external_world()
    operation_id = half_hedge(world, (("mexc_spot", 0), ("gateio_spot", 0), (FUTURES, 1)))
    ledger = world.core.ledger
    result = ledger.operations[operation_id].result
    assert result is not None and result.outcome is Outcome.UNRESOLVED
    assert world.position(FUTURES, CONTRACT) == -HEDGED and result.carried < -3 and abs(result.pnl_numeraire) < 1
    assert ledger.total_pnl == result.pnl_numeraire and ledger.peak_pnl < 1


def test_an_order_by_hand_larger_than_what_stands_alone_takes_the_rest_of_another_hedge() -> None:
    """A contract stands alone, a hedge holds as much; he buys both back in one order: the hedge's coins are sold."""
    world = external_world()
    hedge(world, QTY)
    operation_id = half_hedge(world, (("mexc_spot", 0), ("gateio_spot", 0), (FUTURES, 1)))
    assert world.position(FUTURES, CONTRACT) == -2 * HEDGED
    place(world, FUTURES, CONTRACT, 2 * HEDGED)
    world.run(8000)
    ledger = world.core.ledger
    (fill,) = records(world, ExternalFillRecord)
    assert {share.operation_id for share in fill.taken} == {operation_id, *ledger.operations} and len(fill.taken) == 2
    assert ledger.operations[operation_id].result is not None and not ledger.open_operations
    assert not ledger.hedges and not ledger.external.unowned
    assert f"venue.{FUTURES}" in ledger.breakers, "more than what was announced"
    assert abs(venue_delta(world, "BTC")) < D("0.0001")
    judge(world)


def test_more_by_hand_than_stands_alone_trips_also_where_the_same_operation_holds_the_rest() -> None:
    """A hedge's closing has sold its coins and waits with the contract. He buys a part of the coins again, and then the
    whole contract back: only what stood alone of it was announced, and those coins stand alone now."""
    world = external_world()
    hedge(world, QTY)
    for venue, after in (("mexc_spot", 0), ("gateio_spot", 1), (FUTURES, 0)):
        world.arm(kind="reject", venue=venue, target="place", after=after, count=0, reason="too_many_orders")
    world.command(CommandKind.CLOSE_HEDGES)
    assert world.run_until(lambda: RECOVERY_HOLD in world.core.ledger.breakers, limit_ms=60_000)
    (operation_id,) = world.core.ledger.open_operations
    world.faults.clear()
    for name in [name for name in world.core.ledger.breakers if name != RECOVERY_HOLD]:
        world.command(CommandKind.REARM, name, "it takes orders again")
    world.command(CommandKind.CANCEL_RECOVERY, f"r{operation_id}", "mine")
    world.run(3000)
    place(world, *GATEIO, QTY * D("0.6"))
    world.run(8000)
    assert not world.core.ledger.breakers
    place(world, FUTURES, CONTRACT, HEDGED)
    world.run(8000)
    alone = world.core.ledger.open_operations[operation_id].exposure()["BTC"]
    assert alone > QTY / 2 and abs(alone - venue_delta(world, "BTC")) < D("0.0000001")
    assert f"venue.{FUTURES}" in world.core.ledger.breakers, "more than what was announced"


def guarded(world: VirtualWorld, hedges: tuple[str, ...] | None) -> Takeover:
    """The executor is lost; the guard does what a takeover wants, and gives back."""
    world.take_over()
    takeover = Takeover(world.core, hedges)

    def turn() -> bool:
        for command in takeover.commands(world.clock.mono_ns(), "test"):
            world.feed(command)
        return takeover.done

    assert world.run_until(turn, limit_ms=60_000), takeover.result()
    world.give_back()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(3000)
    return takeover


def test_what_waited_and_a_guard_has_closed_with_everything_is_over_by_itself() -> None:
    world, operation_id = held_world()
    assert guarded(world, None).result().flat
    is_over(world, operation_id, Outcome.RECOVERED)


def test_what_a_guard_cannot_close_waits_again_and_is_named() -> None:
    world, operation_id = held_world()
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="reject", venue=venue, target="place", count=0, reason="too_many_orders")
    assert guarded(world, None).result().held == (operation_id,)
    assert "waits for an operator" in said(world, operation_id) and RECOVERY_HOLD in world.core.ledger.breakers
    world.faults.clear()
    world.command(CommandKind.APPROVE, f"r{operation_id}", "it takes orders again")
    world.run(8000)
    assert RECOVERY_HOLD not in world.core.ledger.breakers and not world.core.ledger.open_operations


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_guard_that_is_to_keep_what_is_open_leaves_to_the_operator_what_waits_for_him(taken_over: bool) -> None:
    world, operation_id = held_world()
    if taken_over:
        world.command(CommandKind.CANCEL_RECOVERY, f"r{operation_id}", "mine")
    takeover = guarded(world, None if taken_over else ())
    assert takeover.result().held == (operation_id,) and not takeover.result().orders
    assert operation_id in world.core.ledger.open_operations
    assert ("taken over" if taken_over else "waits for an operator") in said(world, operation_id)
