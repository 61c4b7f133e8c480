"""Attacks on what the engine believes of its account: fills that cannot be, engines that are not this one.

| case (findings on faults, 64, 82, A9, A11, A12, A14) | tried by |
|---|---|
| stream tells more than the order's rest, spot; killed meanwhile | `test_evidence`: a fill beyond its order |
| the same on the futures leg of an entry; on the spot leg of an exit | here |
| wrong side, price beyond the limit, no fee asset | `test_evidence` |
| quantity zero or negative | here |
| a further fill of an order that is filled, in no list; killed meanwhile | `test_evidence`, here |
| names our order on another instrument | here |
| REST cannot be asked while a fill is held | here |
| second instance on the key, same host | `workers/control_plane/test_key_lock.py`, `tests/e2e/test_external.py` |
| second engine's executions | `test_evidence`: ids of another engine |
| second engine's order that rests; beside an unknown order of ours | here |
| id of this engine's own run that the journal lacks | here |
| engine's order that rests from before the journal | here |
| lost journal, older journal before an entry or an exit | `test_evidence`, `tests/e2e/test_external.py` |
| another client's orders, with and without the stream | `test_positions`, `test_money` |
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import HeldFillRecord
from pipeline.execution.records import FillRecord
from pipeline.model.enums import OrderKind, OrderSide, OrderState, Refusal, TimeInForce
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.virtual.venue_rows import fill_of
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    MID,
    account_of,
    external_world,
    hedge,
    judge,
    place,
    records,
    repairs,
    spot_trade,
    venue_delta,
)

D = Decimal


def fills_are_the_venues(world: VirtualWorld) -> None:
    ours = {(r.venue, r.trade_id): r.qty for r in records(world, FillRecord)}
    assert ours == {(r["venue"], r["trade_id"]): r["qty"] for r in world.ledger.of_kind("fill") if r["client_id"]}


def rest(world: VirtualWorld, venue: str, symbol: str, client_id: str, qty: str, price: str) -> None:
    """An order of somebody else that rests in the book."""
    sim = world.venues[venue]
    sim.place(
        account_of(world, venue),
        SimOrderRequest(
            symbol=symbol,
            side=OrderSide.BUY if D(qty) > 0 else OrderSide.SELL,
            kind=OrderKind.LIMIT,
            tif=TimeInForce.GTC,
            qty=abs(D(qty)),
            price=D(price),
            client_id=client_id,
        ),
    )


# --- fills that cannot be ---


@pytest.mark.parametrize("kill", [False, True])
def test_a_futures_fill_beyond_its_order_opens_nothing_and_repairs_nothing(kill: bool) -> None:
    world = external_world()
    world.market.move(FUTURES, CONTRACT, D(64000) * D("1.006"))
    world.run(50)
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=D("0.03"))
    assert offered is not None
    world.arm(kind="overfill", venue=FUTURES, target="private", count=1)
    world.feed(offered)
    assert world.run_until(lambda: bool(records(world, HeldFillRecord)), limit_ms=1000)
    if kill:
        world.kill()
    world.run(4000)
    assert "bad_fill" in world.core.ledger.breakers
    assert len(world.core.ledger.hedges) == 1 and not repairs(world) and not world.core.ledger.external.held
    fills_are_the_venues(world)
    judge(world)


def test_a_fill_beyond_the_order_that_leaves_a_hedge_buys_nothing_back() -> None:
    world = external_world()
    hedge(world)
    world.arm(kind="overfill", venue="gateio_spot", target="private", count=1)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(5000)
    assert records(world, HeldFillRecord) and "bad_fill" in world.core.ledger.breakers
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations and not repairs(world)
    fills_are_the_venues(world)
    judge(world)


@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("qty", ["0", "-0.01", "0.01"])
def test_a_fill_that_no_list_shows_is_denied_whatever_it_says(qty: str, kill: bool) -> None:
    world = external_world()
    spot_trade(world)
    world.run(2000)
    link = world.links["gateio_spot"]
    trade = next(t for rows in world.venues["gateio_spot"]._trades.values() for t in rows if t.client_id)
    world.feed(fill_of(link.venue, replace(trade, trade_id=1, qty=D(qty)), "ws"))
    assert [row.state for row in records(world, HeldFillRecord)] == ["held"]
    if kill:
        world.kill()
    world.run(12_000)
    assert [row.state for row in records(world, HeldFillRecord)] == ["held", "denied"]
    assert not world.core.ledger.unsettled and not repairs(world)
    fills_are_the_venues(world)
    judge(world)


def test_a_fill_that_names_our_order_on_another_instrument_is_nobodys() -> None:
    world = external_world()
    spot_trade(world)
    world.run(2000)
    link = world.links["gateio_spot"]
    trade = next(t for rows in world.venues["gateio_spot"]._trades.values() for t in rows if t.client_id)
    world.feed(fill_of(link.venue, replace(trade, trade_id=1, symbol="ETH_USDT"), "ws"))
    world.run(5000)
    fills_are_the_venues(world)
    assert not repairs(world) and not world.core.ledger.unsettled
    judge(world)


def test_a_held_fill_waits_as_long_as_rest_does_not_answer() -> None:
    world = external_world()
    for target in ("trades", "order", "finished_orders"):
        world.arm(kind="drop_response", venue="gateio_spot", target=target, count=0, duration_ms=15_000)
    world.arm(kind="overfill", venue="gateio_spot", target="private", count=1)
    spot_trade(world)
    world.run(8000)
    assert world.core.ledger.external.held and not repairs(world), "nothing is decided by it"
    assert "bad_fill" in world.core.ledger.breakers
    world.run(40_000)
    assert not world.core.ledger.external.held and not world.core.ledger.open_operations and not repairs(world)
    fills_are_the_venues(world)
    judge(world)


# --- engines that are not this one ---


def entries_are_stopped(world: VirtualWorld) -> bool:
    spot_trade(world)
    return world.refusals[-1:] == [Refusal.BREAKER]


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize(("qty", "price"), [("-0.1", "70000"), ("0.1", "60000")])
def test_an_order_of_a_second_engine_that_only_rests_halts(qty: str, price: str, heard: bool) -> None:
    """Without the stream the coins that it holds show it."""
    world = external_world()
    if not heard:
        world.arm(kind="drop_event", venue="gateio_spot", target="private", count=0)
    rest(world, "gateio_spot", CONTRACT, "a9z9x1", qty, price)
    assert world.run_until(lambda: "second_engine" in world.core.ledger.breakers, limit_ms=5000)
    assert entries_are_stopped(world) and not repairs(world)
    world.command(CommandKind.REARM, "second_engine")
    assert "second_engine" in world.core.ledger.breakers, "only adoption releases it"
    world.command(CommandKind.ADOPT, reason="the other one is stopped")
    assert "second_engine" not in world.core.ledger.breakers
    world.run(3000)
    assert "second_engine" not in world.core.ledger.breakers, "the same order halts once"
    judge(world)


def test_no_hedge_leaves_by_choice_whose_contract_a_second_engine_has_closed() -> None:
    """Its coins would be sold, and its contract opened the other way."""
    world = external_world()
    hedge(world)
    place(world, FUTURES, CONTRACT, -world.position(FUTURES, CONTRACT), client_id="a9z9x1")
    assert world.run_until(lambda: "second_engine" in world.core.ledger.breakers, limit_ms=5000)
    fills = len(world.ledger.of_kind("fill"))
    world.market.move("gateio_spot", CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("0.98"))  # far below any threshold
    world.run(8000)
    assert len(world.ledger.of_kind("fill")) == fills and world.position(FUTURES, CONTRACT) == 0
    assert world.core.hedges.exit_rows() == []
    judge(world)
    world.command(CommandKind.ADOPT, reason="the other one is stopped")
    world.run(3000)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    assert [row["side"] for row in world.ledger.of_kind("fill")[fills:]] == ["sell"], "its coins follow"
    judge(world)


def test_executions_of_a_second_engine_settle_no_unknown_order_of_ours() -> None:
    """The same side, price and quantity as ours, whose request was lost."""
    world = external_world()
    world.arm(kind="drop_request", venue="mexc_spot", target="place", count=1)
    spot_trade(world)
    world.run(20)
    ours = next(o for o in world.core.ledger.orders.values() if o.intent.venue == "mexc_spot")
    place(world, "mexc_spot", "BTCUSDT", ours.intent.qty, client_id="a9z9x1")
    world.run(10_000)
    assert world.core.ledger.orders[ours.client_id].state is OrderState.EXPIRED
    assert world.core.ledger.orders[ours.client_id].filled == 0
    assert "second_engine" in world.core.ledger.breakers and not world.core.ledger.unsettled
    assert venue_delta(world, "BTC") == world.core.positions.targets()["BTC"]
    judge(world)


def test_an_id_of_this_very_run_that_the_journal_lacks_halts() -> None:
    world = external_world()
    spot_trade(world)
    world.run(2000)
    known = next(iter(world.core.ledger.orders))
    place(world, FUTURES, CONTRACT, D("0.01"), client_id=known.partition("x")[0] + "x9zz")
    assert world.run_until(lambda: "unknown_past" in world.core.ledger.breakers, limit_ms=5000)
    assert entries_are_stopped(world) and not repairs(world)
    judge(world)


def test_an_engines_order_that_rests_since_before_the_journal_halts_a_new_one() -> None:
    world = external_world()
    rest(world, "gateio_spot", CONTRACT, "a9z9x1", "-0.1", "70000")
    world.entries.clear()
    world.kill()
    world.run(3000)
    assert "unknown_past" in world.core.ledger.breakers and entries_are_stopped(world)
    world.command(CommandKind.ADOPT, reason="cancelled by hand")
    world.run(3000)
    assert not world.core.ledger.breakers.keys() & {"unknown_past", "second_engine"}
