"""Held recoveries: what an operator is shown before he decides, and that each decision ends the hold."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.execution.events import Command, CommandKind
from pipeline.trade_state import TradeState
from tests.worlds.execution_starts import Operator, held_world, ready_world
from tests.worlds.execution_world import Faults, World
from workers.audit_log import FILE_NAME as AUDIT


def market_again(world: World) -> None:
    """Venues that take orders at fair prices; the breaker of the one that had refused them is re-armed."""
    world.faults = Faults()
    world.feed(Command(CommandKind.REARM, "venue.mexc_spot", "it takes orders again"))
    for venue in world.venues.values():
        venue.bid, venue.ask = Decimal("99.95"), Decimal("100.05")


def test_approving_the_last_held_recovery_ends_the_hold(tmp_path: Path) -> None:
    world = held_world()
    operator = Operator(world, tmp_path)
    (row,) = operator.ask("recoveries")["recoveries"]
    assert row["requires_manual_approval"] and row["unmatched"]
    assert any(what.startswith(f"recovery {row['recovery_id']} waits") for what in operator.reasons())
    market_again(world)
    reply = operator.ask("approve", id=row["operation_id"], reason="market is fine")  # with or without the r
    assert reply["breakers"] == []
    world.calm(3000)
    assert world.core.idle and operator.state() is TradeState.READY


def test_a_recovery_that_is_taken_over_stops_nothing_and_can_be_handed_back(tmp_path: Path) -> None:
    world = held_world()
    operator = Operator(world, tmp_path)
    (row,) = operator.ask("recoveries")["recoveries"]
    operator.ask("cancel", id=row["recovery_id"], reason="mine")
    market_again(world)
    world.run(2000)
    assert operator.state() is TradeState.READY, operator.reasons()
    assert world.core.idle, "a drain does not wait for what the operator does himself"
    assert world.core.risk.get_current_risk_metrics().total_exposure_usd > 90, "its exposure stays counted"
    (still,) = operator.ask("recoveries")["recoveries"]
    assert still["state"] == "cancelled"
    operator.ask("approve", id=row["recovery_id"], reason="yours again")
    world.calm(3000)
    assert operator.ask("recoveries")["recoveries"] == [] and not world.core.ledger.open_operations


def test_what_a_decision_would_send_is_shown_before_it_is_made(tmp_path: Path) -> None:
    world = held_world()
    world.faults = Faults()
    market_again(world)
    operator, ledger = Operator(world, tmp_path), world.core.ledger
    (row,) = operator.ask("recoveries")["recoveries"]
    known, breakers = set(ledger.orders), dict(ledger.breakers)
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("approve", {"id": row["recovery_id"]}),
        ("rearm", {"name": "recovery_hold", "reason": "r"}),
        ("flatten", {}),
    )
    shown = [operator.ask(op, **fields, dry_run=True)["repairs"] for op, fields in asked]
    assert operator.ask("cancel", id=row["recovery_id"], dry_run=True)["repairs"] == []
    assert set(ledger.orders) == known and ledger.breakers == breakers and not (tmp_path / AUDIT).exists()
    ((order,),) = [one["orders"] for one in shown[0]]
    assert shown[0] == shown[1] == shown[2] and shown[0][0]["reason"] is None
    operator.ask("approve", id=row["recovery_id"], reason="as shown")
    (sent,) = [ledger.orders[name].intent for name in ledger.orders if name not in known]
    assert (sent.venue, sent.symbol, sent.qty, sent.price) == tuple(
        order[name] for name in ("venue", "symbol", "qty", "limit_price")
    )
    assert sent.side.name.lower() == order["side"]


def test_an_approval_that_no_venue_can_follow_is_said_to_wait_again_and_does(tmp_path: Path) -> None:
    world = held_world()
    world.faults, world.blind = Faults(), True
    world.run(60_000)
    operator = Operator(world, tmp_path)
    (row,) = operator.ask("recoveries")["recoveries"]
    (shown,) = operator.ask("approve", id=row["recovery_id"], dry_run=True)["repairs"]
    assert not shown["orders"] and shown["reason"].endswith("it is tried for 10 s, then it waits for you again")
    operator.ask("approve", id=row["recovery_id"], reason="as shown")
    world.run(9_500)
    assert not world.core.recovery.waiting()
    world.run(1_500)
    assert world.core.recovery.waiting() == [row["recovery_id"]]


def test_a_hold_survives_a_restart_and_is_solved_after_it(tmp_path: Path) -> None:
    world = held_world()
    world.faults = Faults()
    world.kill()
    world.run(2000)
    operator = Operator(world, tmp_path)
    assert any(what.startswith("recovery ") for what in operator.reasons())
    market_again(world)
    operator.ask("rearm", name="recovery_hold", reason="after the restart")
    world.calm(3000)
    assert world.core.idle and operator.state() is TradeState.READY


def order_without_a_trace(world: World, *, as_executed: bool) -> None:
    """Both requests of an operation are lost. Coins come in at one venue; ``as_executed``: the price has left it too,
    as the order would have moved both."""
    world.faults = Faults(drop_request=1.0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["mexc_spot"].balances["BTC"] += Decimal("0.5")
    if as_executed:
        world.venues["mexc_spot"].balances["USDT"] -= Decimal("0.5") * Decimal("99.95")
    world.faults = Faults()


def test_an_order_without_a_trace_needs_nobody_once_the_deposit_is_booked(tmp_path: Path) -> None:
    world = ready_world(3)
    order_without_a_trace(world, as_executed=False)
    operator = Operator(world, tmp_path)
    for _ in range(80):
        world.run(50)
        assert not [row for row in operator.ask("recoveries")["recoveries"] if row["requires_manual_approval"]]
    assert not world.core.ledger.unsettled and operator.ask("recoveries")["recoveries"] == []
    assert world.core.ledger.accounts.external == {("mexc_spot", "BTC"): Decimal("0.5")}


def test_an_order_without_a_trace_is_settled_by_the_word_of_an_operator_where_both_coins_have_moved(
    tmp_path: Path,
) -> None:
    world = ready_world(3)
    order_without_a_trace(world, as_executed=True)
    world.run(4000)
    operator = Operator(world, tmp_path)
    (row,) = [r for r in operator.ask("recoveries")["recoveries"] if r["requires_manual_approval"]]
    assert "no trace" in row["reason"]
    assert any("no trace" in what for what in operator.reasons())
    operator.ask("approve", id=row["recovery_id"], reason="a friend's trade")
    world.run(5000)
    assert not world.core.ledger.unsettled
    assert not any("no trace" in what for what in operator.reasons())
