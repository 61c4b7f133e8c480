"""Trades of others in a pair that is not quoted in a USD coin move two coins: both count in limits and losses, at their
marks, and what hedges hold of either is missed. On virtual time; the simulator's ledger judges."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.model.enums import Refusal
from pipeline.trade_state import Effect, executor_reasons
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, HEDGE_QTY, MID, external_world, hedge, judge, place, records

D = Decimal
GATEIO = "gateio_spot"
ETH_MID, CROSS = D(3200), D("0.05")
ETH_USDT, ETH_BTC = (GATEIO, "ETH_USDT"), (GATEIO, "ETH_BTC")
ETH = D(2)  # bought for 0.1 BTC


def crossed_world(**limits: object) -> VirtualWorld:
    return external_world(quotes={ETH_USDT: Quote(ETH_MID, qty=D(50)), ETH_BTC: Quote(CROSS, qty=D(50))}, **limits)


def by_hand(world: VirtualWorld, symbol: str, signed: Decimal) -> None:
    """Somebody's order, booked and valued."""
    moves = world.core.ledger.external.trades.moves
    place(world, GATEIO, symbol, signed)
    assert world.run_until(lambda: world.core.ledger.external.trades.moves > moves, limit_ms=8000)
    world.run(2500)


def held(world: VirtualWorld) -> dict[str, Decimal]:
    return {coin: one.qty for (_, coin), one in world.core.ledger.external.trades.coins.items()}


@pytest.mark.parametrize("signed", [ETH, -ETH])
def test_both_coins_count_in_the_limits_and_the_loss_is_that_of_the_two(signed: Decimal) -> None:
    world = crossed_world()
    by_hand(world, "ETH_BTC", signed)
    assert held(world)["ETH"] == pytest.approx(signed, rel=D("0.01"))
    assert held(world)["BTC"] == pytest.approx(-signed * CROSS, rel=D("0.01"))
    gate = world.core.risk.gate
    value = ETH * ETH_MID
    assert gate.exposure().by_asset == {
        "ETH": pytest.approx(value, rel=D("0.01")),
        "BTC": pytest.approx(value, rel=D("0.01")),
    }
    assert gate.exposure().by_position[GATEIO, "BTC"] == pytest.approx(value, rel=D("0.01"))
    assert gate.exposure().foreign == pytest.approx(2 * value, rel=D("0.01"))
    assert gate.worth.day_loss() < value / 100, "spread and fee"
    against = D("1.05") if signed > 0 else D("0.95")
    for listing in ((GATEIO, CONTRACT), ("mexc_spot", "BTCUSDT"), (FUTURES, CONTRACT)):
        world.market.move(*listing, MID * against)
    world.market.move(*ETH_BTC, CROSS / against)  # ETH is worth what it was
    world.run(2500)
    assert gate.worth.day_loss() == pytest.approx(value * D("0.05"), rel=D("0.1")), "what was paid with is dearer now"
    judge(world)


def test_what_was_paid_with_is_in_the_position_limit_of_its_coin() -> None:
    world = crossed_world(max_position_size_usd=ETH * ETH_MID)
    by_hand(world, "ETH_BTC", ETH)
    world.command(CommandKind.REARM, f"venue.{GATEIO}", "looked at it")
    world.market.move("mexc_spot", "BTCUSDT", MID * D("0.994"))
    world.run(50)
    offered = world.opportunity("mexc_spot", GATEIO, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    assert world.refusals[-1:] == [Refusal.POSITION_LIMIT]


def test_coins_that_go_round_leave_nothing_but_what_they_cost() -> None:
    """USDT into BTC, BTC into ETH, ETH into USDT."""
    world = crossed_world()
    by_hand(world, CONTRACT, D("0.1"))
    by_hand(world, "ETH_BTC", ETH)
    assert abs(held(world).get("BTC", D(0))) < D("0.001"), "bought and paid with"
    by_hand(world, "ETH_USDT", -held(world)["ETH"].quantize(D("0.0001")))
    worth = world.core.risk.gate.worth
    assert world.core.risk.gate.exposure().foreign < 100
    assert 0 < worth.day_loss() < ETH * ETH_MID / 100
    judge(world)


def test_a_coin_paid_with_that_nothing_values_stops_entries_and_is_said() -> None:
    world = crossed_world()
    by_hand(world, "ETH_BTC", ETH)
    world.core.rates.rate_since = lambda asset, mono_ns: D(1) if asset == "USDT" else None  # type: ignore[method-assign]
    world.run(2500)
    assert {f"BTC of others at {GATEIO}", f"ETH of others at {GATEIO}"} <= world.core.risk.gate.worth.unknown.keys()
    world.core.context.now = world.now()
    found = [r for r in executor_reasons(world.core) if "is not known" in r.what]
    assert found and all(reason.effect is Effect.STOPS and reason.solve for reason in found)


def test_a_hedge_whose_coins_others_have_paid_with_shrinks_to_what_is_there() -> None:
    world = crossed_world()
    hedge(world)
    stock = world.wallet(GATEIO, "BTC")
    take = stock - HEDGE_QTY / 2  # all that lies there but half of the hedge's coins
    world.market.quote(GATEIO, "ETH_BTC", Quote(CROSS, qty=D(500)))
    place(world, GATEIO, "ETH_BTC", (take / CROSS).quantize(D("0.001")))
    assert world.run_until(lambda: bool(records(world, ExternalFlowRecord)), limit_ms=8000)
    (gone,) = [r for r in records(world, ExternalFlowRecord) if r.cause == "shortage"]
    assert gone.asset == "BTC" and gone.price == pytest.approx(MID, rel=D("0.01"))
    assert sum(share.qty for share in gone.taken) == pytest.approx(HEDGE_QTY / 2, rel=D("0.2"))
    world.run(8000)
    assert -world.position(FUTURES, CONTRACT) <= HEDGE_QTY * D("0.7"), "the contract is reduced too"


def test_coins_of_a_hedge_that_others_sold_for_another_coin_are_valued_in_money() -> None:
    world = crossed_world()
    world.market.quote(FUTURES, "ETH_USDT", Quote(ETH_MID * D("1.006"), qty=D(50)))
    world.run(50)
    offered = world.opportunity(GATEIO, FUTURES, "ETH/USDT", qty=D("0.5"))
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: bool(world.core.ledger.hedges), limit_ms=2000), world.refusals
    world.run(300)
    world.market.quote(GATEIO, "ETH_BTC", Quote(CROSS, qty=D(5000)))
    place(world, GATEIO, "ETH_BTC", -world.wallet(GATEIO, "ETH").quantize(D("0.0001"), rounding=ROUND_DOWN))
    assert world.run_until(lambda: bool(records(world, ExternalFlowRecord)), limit_ms=8000)
    (gone,) = [r for r in records(world, ExternalFlowRecord) if r.cause == "shortage"]
    assert gone.price == pytest.approx(ETH_MID, rel=D("0.02")), "not what they cost in BTC"
    world.run(8000)
    assert abs(world.position(FUTURES, "ETH_USDT")) <= D("0.01"), "a lot of it at most"
    assert world.core.risk.gate.worth.day_loss() < 100
