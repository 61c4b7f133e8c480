"""Evidence that comes late or out of order while something else happens to the account: money and positions are what
the venue's ledger says, and nothing is left naked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import AdoptedRecord, FillRecord
from pipeline.execution.settled.checkpoint import ledger_of, state_of
from pipeline.model.enums import OrderState
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    MID,
    external_world,
    hedge,
    judge,
    place,
    records,
    venue_delta,
)

D = Decimal
SPOT, OTHER = "gateio_spot", "mexc_spot"
LISTS = ("finished_orders", "trades", "order", "open_orders")
LOT = D("0.0001")


def lists_lag(world: VirtualWorld, venue: str, seconds: int) -> None:
    """The stream is silent, and for so long the venue's lists show nothing new."""
    world.arm(kind="drop_event", venue=venue, target="private", count=0)
    for target in LISTS:
        world.arm(kind="stale", venue=venue, target=target, delay_ms=seconds * 1000)


def lists_are_true(world: VirtualWorld) -> None:
    world.faults.clear()


def enter(world: VirtualWorld, buy: str, sell: str, qty: str = "0.01") -> None:
    offered = world.opportunity(buy, sell, "BTC/USDT", qty=D(qty))
    assert offered is not None
    world.feed(offered)


def replay_is_the_live_state(world: VirtualWorld) -> None:
    """So is a checkpoint."""
    ledger, replayed = world.core.ledger, Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == ledger.digest()
    assert ledger_of(state_of(ledger)).external == ledger.external


def every_fill_is_booked(world: VirtualWorld) -> None:
    ours = {(r.venue, r.trade_id): r.qty for r in records(world, FillRecord)}
    rows = [row for row in world.ledger.of_kind("fill") if row["client_id"] in world.core.ledger.orders]
    assert ours == {(row["venue"], row["trade_id"]): row["qty"] for row in rows}


def booked_fills(world: VirtualWorld, venue: str) -> Decimal:
    return sum((row.qty for row in records(world, FillRecord) if row.venue == venue), D(0))


@pytest.mark.parametrize("venue", [SPOT, FUTURES])
def test_a_late_fill_that_no_list_shows_yet_is_no_movement_of_others(venue: str) -> None:
    """An order ended with nothing filled, its leg was repaired elsewhere, then the venue finds an execution of it."""
    world = external_world()
    sell = OTHER if venue == SPOT else SPOT
    world.arm(kind="late_fill", venue=venue, target="place", count=1, delay_ms=3000)
    world.market.move(sell, "BTCUSDT" if sell == OTHER else CONTRACT, MID * D("1.006"))
    world.run(50)
    enter(world, venue, sell)
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=2500), world.refusals
    before = booked_fills(world, venue)
    lists_lag(world, venue, 8)
    world.run(8_000)
    flows = [row for row in records(world, ExternalFlowRecord) if row.venue == venue]
    assert not flows and not records(world, ExternalPositionRecord), "an execution of ours may explain it"
    assert booked_fills(world, venue) == before
    lists_are_true(world)
    assert world.run_until(lambda: booked_fills(world, venue) == before + D("0.01"), limit_ms=20_000)
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=10_000)
    world.run(1000)
    every_fill_is_booked(world)
    assert not records(world, ExternalPositionRecord) and not records(world, ExternalFlowRecord)
    judge(world)
    replay_is_the_live_state(world)


def test_money_that_moved_like_an_execution_and_is_listed_nowhere_is_booked_at_last() -> None:
    """Another client's trade that the venue never lists: certain once its lists cannot lag any more."""
    world = external_world()
    world.arm(kind="drop_event", venue=SPOT, target="private", count=0)
    uid = next(iter(world.venues[SPOT].accounts.values())).uid
    known = len(world.venues[SPOT]._trades.get(uid, ()))
    place(world, SPOT, CONTRACT, D("0.01"))
    del world.venues[SPOT]._trades[uid][known:]
    world.run(3000)
    assert not records(world, ExternalFlowRecord)
    assert world.core.recovery.account.doubtful(next(r.spec for r in world.instruments if r.spec.venue == SPOT))
    assert world.run_until(lambda: len(records(world, ExternalFlowRecord)) == 2, limit_ms=90_000)
    assert {row.asset for row in records(world, ExternalFlowRecord)} == {"BTC", "USDT"}


def close_at_the_venue(world: VirtualWorld, kind: str) -> None:
    if kind == "order":
        place(world, FUTURES, CONTRACT, -world.position(FUTURES, CONTRACT))
    else:
        world.arm(kind=kind, venue=FUTURES, symbol=CONTRACT)


@pytest.mark.parametrize("kind", ["liquidate", "adl", "order"])
def test_a_leg_that_was_closed_before_its_fill_was_known_leaves_nothing_naked(kind: str) -> None:
    """The venue counts the contract's order as filled; its trades come late; meanwhile others close the position."""
    world = external_world()
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)
    world.arm(kind="drop_response", venue=FUTURES, target="place", count=1)
    world.arm(kind="stale", venue=FUTURES, target="trades", delay_ms=4000)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    enter(world, SPOT, FUTURES)
    world.run(100)
    lists_are_true(world)
    world.arm(kind="stale", venue=FUTURES, target="trades", delay_ms=4000)
    close_at_the_venue(world, kind)  # of this the stream tells
    assert world.position(FUTURES, CONTRACT) == 0
    world.run(3000)
    assert records(world, ExternalFillRecord) and not booked_fills(world, FUTURES)
    lists_are_true(world)
    assert world.run_until(lambda: not world.core.ledger.unsettled, limit_ms=20_000)
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=20_000)
    world.run(1000)
    every_fill_is_booked(world)
    assert not world.core.ledger.hedges and not world.core.ledger.external.unowned
    assert abs(venue_delta(world, "BTC")) < LOT
    judge(world)
    replay_is_the_live_state(world)


def test_what_others_hold_on_a_contract_is_not_taken_from_a_later_entry() -> None:
    """A position of another client is his, whatever we open afterwards."""
    world = external_world()
    place(world, FUTURES, CONTRACT, D("0.02"))
    world.run(3000)
    for name in list(world.core.ledger.breakers):
        world.command(CommandKind.REARM, name)
    world.run(3000)
    hedge(world, D("0.01"))
    assert world.core.ledger.external.unowned == {(FUTURES, CONTRACT): D("0.02")}
    assert not records(world, AdoptedRecord) and len(world.core.ledger.hedges) == 1
    replay_is_the_live_state(world)


def test_a_wallet_that_realised_in_another_order_than_we_heard_of_has_lost_nothing() -> None:
    """A hedge is liquidated; before its trades are listed the next one is opened at a price far away: the venue has
    closed the first at its own cost, the ledger both at their average."""
    world = external_world(max_position_size_usd=D(50_000), max_total_exposure_usd=D(50_000))
    hedge(world, D("0.1"))
    for venue, symbol in ((SPOT, CONTRACT), (OTHER, "BTCUSDT"), (FUTURES, CONTRACT)):
        world.market.move(venue, symbol, MID * (D("1.05") if venue != FUTURES else D("1.06")))
    world.run(20)
    world.arm(kind="liquidate", venue=FUTURES, symbol=CONTRACT)
    enter(world, SPOT, FUTURES, "0.05")
    assert world.run_until(lambda: len(world.core.ledger.hedges) == 2, limit_ms=200), world.refusals
    world.run(5000)
    flows = [row for row in records(world, ExternalFlowRecord) if row.amount]
    assert not flows
    replay_is_the_live_state(world)


def refused_exit(world: VirtualWorld, kind: str, **rule: Any) -> None:
    """A hedge leaves by command; its contract's order is refused twice."""
    world.arm(kind=kind, venue=FUTURES, target="place", count=2, **rule)
    world.market.move(SPOT, CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(20)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(20)


def test_a_rate_limit_says_nothing_about_a_position() -> None:
    world = external_world()
    hedge(world, D("0.01"))
    refused_exit(world, "rate_limit", retry_after_s=0.1)
    refused = [o for o in world.core.ledger.orders.values() if o.state is OrderState.REJECTED]
    assert refused and not any(order.refused_to_reduce for order in refused)
    assert not world.core.recovery.account.open_questions()
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=10_000)
    world.run(2000)
    assert abs(venue_delta(world, "BTC")) < LOT and abs(sum(world.core.ledger.dust.values())) < LOT
    judge(world)
    replay_is_the_live_state(world)


def test_coins_that_were_sold_on_another_venue_are_not_bought_back_when_the_position_may_be_gone() -> None:
    """The exit nets the contract against coins elsewhere: the position is gone, so selling them has closed all."""
    world = external_world()
    hedge(world, D("0.01"))
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)
    world.arm(kind="reject", venue=FUTURES, target="place", count=3, reason="reduce_only")
    world.market.move(OTHER, "BTCUSDT", MID * D("1.025"))
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    enter(world, FUTURES, OTHER)
    world.run(4000)
    bought = [o for o in world.core.ledger.orders.values() if o.intent.venue == OTHER and int(o.intent.side) > 0]
    assert not bought
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=10_000)
    assert abs(venue_delta(world, "BTC")) < LOT
    judge(world)


def test_an_exit_that_sold_too_much_buys_coins_back_and_opens_no_contract_the_other_way() -> None:
    """Its order on spot ended empty and was repaired, then it executed after all; the order that buys the coins back
    comes back empty as well."""
    world = external_world()
    hedge(world, D("0.01"))
    world.arm(kind="late_fill", venue=SPOT, target="place", count=1, delay_ms=400)
    world.arm(kind="late_fill", venue=SPOT, target="place", count=1, after=1, delay_ms=3000)
    world.market.move(SPOT, CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(20)
    world.command(CommandKind.CLOSE_HEDGES)
    assert world.run_until(lambda: not world.core.ledger.hedges, limit_ms=2000)
    world.run(8000)
    sold = [row["qty"] for row in world.ledger.of_kind("fill") if (row["venue"], row["side"]) == (SPOT, "sell")]
    assert len(sold) >= 2, "the case: it sold twice"
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=10_000)
    assert not [row for row in world.ledger.of_kind("position") if row["venue"] == FUTURES and row["qty"] > 0]
    held = sum((one.qty for one in world.core.ledger.hedges.values()), D(0))  # it may have undone a part of the exit
    assert world.position(FUTURES, CONTRACT) == -held and abs(venue_delta(world, "BTC")) < LOT
    judge(world)
