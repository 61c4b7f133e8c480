"""Deposits, withdrawals and spot orders of others, on virtual time; the simulator's ledger judges."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.events import CommandKind, MoneyAnswer
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.model.enums import OrderState, Refusal
from pipeline.model.structs import MoneyMove
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    account_of,
    external_world,
    hedge,
    judge,
    moved_unlisted,
    naked_ms,
    place,
    records,
    venue_delta,
)

D = Decimal


def flows(world: VirtualWorld) -> list[tuple[str, str, Decimal, str, str]]:
    return [(r.venue, r.asset, r.amount, r.cause, r.witness) for r in records(world, ExternalFlowRecord)]


def newest_booking(world: VirtualWorld, venue: str) -> str:
    """Witness of the venue's newest booking."""
    return f"account_book {account_of(world, venue).book[-1].entry_id}"


def unknown_order(world: VirtualWorld) -> str:
    """An order on MEXC whose request is lost; its id."""
    world.arm(kind="drop_request", venue="mexc_spot", target="place", count=1)
    world.market.move("mexc_spot", "BTCUSDT", D("63680"))
    world.run(50)
    offered = world.opportunity("mexc_spot", "gateio_spot", "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    world.run(20)
    return next(o.client_id for o in world.core.ledger.orders.values() if o.intent.venue == "mexc_spot")


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("heard", [True, False])
def test_a_deposit_moves_the_baseline_and_an_unknown_order_is_decided(heard: bool, kill: bool) -> None:
    world = external_world()
    client_id = unknown_order(world)
    if not heard:
        world.arm(kind="drop_event", venue="mexc_spot", target="private", count=0)
    world.arm(kind="deposit", venue="mexc_spot", asset="BTC", amount=1)
    witness = newest_booking(world, "mexc_spot")
    if kill:
        world.kill()
    assert world.run_until(lambda: bool(flows(world)), limit_ms=5000)
    world.run(8000)
    assert flows(world) == [("mexc_spot", "BTC", D(1), "deposit", witness)]
    assert world.core.ledger.orders[client_id].state is OrderState.EXPIRED
    assert not world.core.ledger.unsettled and not world.core.ledger.open_operations
    assert "venue.mexc_spot" not in world.core.ledger.breakers
    judge(world)


def test_a_deposit_of_quote_is_noticed_while_an_order_is_unknown() -> None:
    world = external_world()
    client_id = unknown_order(world)
    world.arm(kind="drop_event", venue="mexc_spot", target="private", count=0)
    world.arm(kind="deposit", venue="mexc_spot", asset="USDT", amount=5000)
    witness = newest_booking(world, "mexc_spot")
    world.run(5000)
    assert flows(world) == [("mexc_spot", "USDT", D(5000), "deposit", witness)]
    world.run(5000)
    assert world.core.ledger.orders[client_id].state is OrderState.EXPIRED
    judge(world)


@pytest.mark.parametrize(
    ("amount", "heard", "listed", "halts"),
    [(30_000, True, True, False), (30_000, False, True, False), (30, False, False, False), (60, False, False, True)],
)
def test_a_withdrawal_stops_its_venue_and_a_loss_that_nothing_explains_halts(
    amount: int, heard: bool, listed: bool, halts: bool
) -> None:
    world = external_world()
    if not heard:
        world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    if listed:
        world.arm(kind="withdraw", venue="gateio_spot", asset="USDT", amount=amount)
        cause, witness = "withdrawal", newest_booking(world, "gateio_spot")
    else:
        moved_unlisted(world, "withdraw", "gateio_spot", "USDT", amount)
        cause, witness = "unexplained", "poll"
    assert world.run_until(lambda: bool(flows(world)), limit_ms=5000)
    assert flows(world) == [("gateio_spot", "USDT", D(-amount), cause, witness)]
    assert ("unexplained_loss" in world.core.ledger.breakers) is halts
    assert "venue.gateio_spot" in world.core.ledger.breakers
    world.market.move("mexc_spot", "BTCUSDT", D("63680"))
    world.run(50)
    offered = world.opportunity("mexc_spot", "gateio_spot", "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    assert world.refusals[-1] is Refusal.BREAKER
    judge(world)


def test_losses_add_up_until_they_are_re_armed() -> None:
    world = external_world()
    for _ in range(2):
        moved_unlisted(world, "withdraw", "gateio_spot", "USDT", 40)
        world.run(4000)
    assert "unexplained_loss" in world.core.ledger.breakers
    world.command(CommandKind.REARM, "unexplained_loss")
    moved_unlisted(world, "withdraw", "gateio_spot", "USDT", 40)
    world.run(4000)
    assert "unexplained_loss" not in world.core.ledger.breakers
    assert len(flows(world)) == 3


def test_money_of_a_futures_wallet_is_noticed_too() -> None:
    world = external_world()
    hedge(world)
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)
    world.arm(kind="withdraw", venue=FUTURES, asset="USDT", amount=1000)
    witness = newest_booking(world, FUTURES)
    world.run(5000)
    assert flows(world) == [(FUTURES, "USDT", D(-1000), "transfer", witness)]
    assert "venue.gateio_futures" in world.core.ledger.breakers
    assert "unexplained_loss" not in world.core.ledger.breakers
    moved_unlisted(world, "withdraw", FUTURES, "USDT", 500)
    world.run(5000)
    flow = flows(world)[-1]
    assert flow[:2] == (FUTURES, "USDT") and abs(flow[2] + 500) < D("0.01") and flow[3:] == ("unexplained", "poll")
    assert "unexplained_loss" in world.core.ledger.breakers


def test_what_the_lists_leave_of_a_difference_is_unexplained() -> None:
    """A deposit and an untold loss between two readings: each is booked as what it was."""
    world = external_world()
    world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    world.arm(kind="deposit", venue="gateio_spot", asset="USDT", amount=1500)
    witness = newest_booking(world, "gateio_spot")
    moved_unlisted(world, "withdraw", "gateio_spot", "USDT", 60)
    world.run(5000)
    assert flows(world) == [
        ("gateio_spot", "USDT", D(1500), "deposit", witness),
        ("gateio_spot", "USDT", D(-60), "unexplained", "poll"),
    ]
    assert "unexplained_loss" in world.core.ledger.breakers
    judge(world)


def test_lists_that_do_not_answer_delay_the_booking_and_do_not_forbid_it() -> None:
    world = external_world()
    world.arm(kind="drop_response", venue="gateio_spot", target="account_book", count=0)
    world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    world.arm(kind="withdraw", venue="gateio_spot", asset="USDT", amount=60)
    assert world.run_until(lambda: bool(flows(world)), limit_ms=5000)
    assert flows(world) == [("gateio_spot", "USDT", D(-60), "unexplained", "poll")]
    asked = [r for r in world.ledger.of_kind("request") if r["operation"] == "account_book"]
    assert len([r for r in asked if r["venue"] == "gateio_spot"]) >= 3
    judge(world)


def test_a_row_from_before_the_journals_first_balances_explains_nothing() -> None:
    """A list may reach further back than was asked: its rows are stamped long before coins are credited."""
    world = external_world()
    first = next(entry for entry in account_of(world, "mexc_spot").book if entry.asset == "USDT")
    account_of(world, "mexc_spot").book.remove(first)  # booked in the millisecond in which the balances were asked for
    row = MoneyMove(
        venue="mexc_spot",
        asset="USDT",
        amount=first.change,
        reason="deposit",
        listed_in="deposits",
        event_id="what the account began with",
        venue_wall_ms=first.ts_ms - 60_000,
    )
    world.feed(MoneyAnswer("mexc_spot", (row,)))
    moved_unlisted(world, "deposit", "mexc_spot", "USDT", float(first.change))
    world.run(5000)
    assert flows(world) == [("mexc_spot", "USDT", first.change, "unexplained", "poll")]
    judge(world)


def test_a_row_stamped_in_whole_seconds_explains_what_came_right_after_the_first_balances() -> None:
    world = external_world()
    row = MoneyMove(
        venue=FUTURES,
        asset="USDT",
        amount=D(700),
        reason="transfer",
        listed_in="account_book",
        event_id="17",
        venue_wall_ms=world.core.ledger.based_wall_ms[FUTURES] // 1000 * 1000,
    )
    world.feed(MoneyAnswer(FUTURES, (row,)))
    moved_unlisted(world, "deposit", FUTURES, "USDT", 700)
    world.run(5000)
    assert flows(world) == [(FUTURES, "USDT", D(700), "transfer", "account_book 17")]


def test_a_stale_list_leaves_a_loss_unexplained_until_it_shows_it() -> None:
    """The halt stands: an operator is told what it was, and decides."""
    world = external_world()
    world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    world.arm(kind="stale", venue="gateio_spot", target="account_book", delay_ms=20_000, count=0)
    world.arm(kind="withdraw", venue="gateio_spot", asset="USDT", amount=60)
    witness = newest_booking(world, "gateio_spot")
    world.run(5000)
    assert flows(world) == [("gateio_spot", "USDT", D(-60), "unexplained", "poll")]
    world.run(60_000)
    assert [a.text for a in world.alerts if "is listed now" in a.text] == [
        f"gateio_spot USDT -60 is listed now: withdraw, {witness}"
    ]
    assert len(flows(world)) == 1 and "unexplained_loss" in world.core.ledger.breakers
    judge(world)


def test_a_list_that_shows_a_movement_late_moves_nothing_again() -> None:
    """The stream tells of a deposit before the list does; later as much is lost, and that is not the old row."""
    world = external_world()
    world.arm(kind="drop_response", venue="gateio_spot", target="account_book", count=6)
    world.arm(kind="deposit", venue="gateio_spot", asset="USDT", amount=60)
    assert world.run_until(lambda: bool(flows(world)), limit_ms=5000)
    assert flows(world) == [("gateio_spot", "USDT", D(60), "deposit", "push")]
    world.run(60_000)
    moved_unlisted(world, "deposit", "gateio_spot", "USDT", 60)
    world.run(8000)
    assert flows(world)[1:] == [("gateio_spot", "USDT", D(60), "unexplained", "poll")]
    world.kill()
    world.run(5000)
    assert len(flows(world)) == 2
    judge(world)


@pytest.mark.parametrize("killed", ["after the row was claimed", "before it is listed"])
def test_a_row_of_a_booked_movement_explains_no_later_loss_of_another_run(killed: str) -> None:
    """The withdrawal is booked before any list shows it; the loss after the restart is as large and has no row."""
    world = external_world()
    world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    world.arm(kind="stale", venue="gateio_spot", target="account_book", delay_ms=8000, count=0)
    world.arm(kind="withdraw", venue="gateio_spot", asset="USDT", amount=40)
    assert world.run_until(lambda: bool(flows(world)), limit_ms=5000)
    assert "unexplained_loss" not in world.core.ledger.breakers
    if killed == "after the row was claimed":
        assert world.run_until(lambda: any("is listed now" in a.text for a in world.alerts), limit_ms=60_000)
    world.kill()
    world.run(40_000 if killed == "before it is listed" else 5000)
    assert len([a for a in world.alerts if "is listed now" in a.text]) == 1
    moved_unlisted(world, "withdraw", "gateio_spot", "USDT", 40)
    world.run(8000)
    assert flows(world) == [("gateio_spot", "USDT", D(-40), "unexplained", "poll")] * 2
    assert "unexplained_loss" in world.core.ledger.breakers
    judge(world)


def test_funding_that_nobody_reported_is_no_unexplained_money() -> None:
    world = external_world()
    hedge(world)
    world.venues[FUTURES].instruments[CONTRACT].funding_rate = D("0.003")
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)
    world.arm(kind="funding", venue=FUTURES)
    world.run(5000)
    assert not flows(world) and len(world.core.ledger.funding_seen) == 1
    judge(world)


def test_a_spot_order_of_another_client_is_booked_and_stays_his() -> None:
    world = external_world()
    place(world, "gateio_spot", "BTC_USDT", D("0.5"))
    assert world.run_until(lambda: bool(records(world, ExternalFillRecord)), limit_ms=5000)
    world.run(2000)
    assert not flows(world)
    assert "venue.gateio_spot" in world.core.ledger.breakers
    assert world.core.positions.targets()["BTC"] == venue_delta(world, "BTC") > D("0.499")
    judge(world)
    world.kill()
    world.run(3000)
    judge(world)


def test_an_unheard_spot_order_is_found_by_its_balances() -> None:
    world = external_world()
    world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    place(world, "gateio_spot", "BTC_USDT", D("-0.2"))
    assert world.run_until(lambda: bool(records(world, ExternalFillRecord)), limit_ms=5000)
    world.run(2000)
    assert not flows(world)
    assert {row.witness for row in records(world, ExternalFillRecord)} == {
        f"my_trades {row.trade_id}" for row in records(world, ExternalFillRecord)
    }
    judge(world)


def test_coins_of_a_hedge_that_are_withdrawn_close_its_futures_leg() -> None:
    """All coins of the spot venue but 0.0099 go: what the hedge had bought is among them. A contract is 0.0001."""
    world = external_world()
    hedge(world)
    at_ns = world.clock.mono_ns()
    there = account_of(world, "gateio_spot").wallet("BTC").free
    world.arm(kind="withdraw", venue="gateio_spot", asset="BTC", amount=float(there - D("0.0099")))
    world.run(5000)
    assert account_of(world, "gateio_spot").wallet("BTC").total < D("0.01")
    left = sum((h.qty for h in world.core.ledger.hedges.values()), D(0))
    assert left == D("0.0099") and world.position(FUTURES, CONTRACT) == -left, "as many as there are coins"
    assert naked_ms(world, at_ns) <= 5000
    judge(world)


def test_sweeps_for_an_order_that_cannot_be_decided_become_rare() -> None:
    """Both coins have moved as the order would have moved them, and the venue lists neither order nor trade."""
    world = external_world()
    client_id = unknown_order(world)
    price = world.core.ledger.orders[client_id].intent.price
    moved_unlisted(world, "deposit", "mexc_spot", "BTC", 0.01)
    moved_unlisted(world, "withdraw", "mexc_spot", "USDT", float(price * D("0.01")))
    world.run(60_000)
    assert world.core.ledger.orders[client_id].state is OrderState.UNKNOWN
    asked = [r for r in world.ledger.of_kind("request") if r["operation"] == "finished_orders"]
    recent = [r for r in asked if r["venue"] == "mexc_spot" and r["mono_ns"] > world.clock.mono_ns() - 30_000_000_000]
    assert len(recent) <= 3
    assert [a.code for a in world.alerts].count("unknown_unproved") == 1
