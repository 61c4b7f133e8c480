"""Entries leave of a venue's request budget what the legs that are open there may need: by the product's own throttle,
on virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from pipeline.chaos.link import BudgetedLink, Budgets
from pipeline.execution.events import CommandKind
from pipeline.execution.orchestrator import RECOVERY_HOLD
from pipeline.execution.records import OrderStateRecord, Purpose
from pipeline.model.config import DetectionConfig, ExecutionConfig, FeatureConfig, RiskLimits
from pipeline.model.enums import OrderState, Refusal
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.venue import SimVenue
from pipeline.virtual.market import Quote
from pipeline.virtual.venue_link import VenueLink
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, LISTINGS, MID, external_world, hedge, spot_trade
from tests.worlds.judging.naked_spans import naked_spans

D = Decimal
COINS = {"BTC": D(64000), "ETH": D(3000), "SOL": D(150), "XRP": D("0.6")}
NARROW, REFUSING = "mexc_spot", "gateio_spot"


def symbol(venue: str, coin: str) -> str:
    return f"{coin}USDT" if venue == NARROW else f"{coin}_USDT"


class BudgetedWorld(VirtualWorld):
    """MEXC takes five orders a second of us, and the core knows what is left of them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__("demo", 1, settings=settings)
        self.budgets = {
            name: Budgets(venue.orders_per_s, self.clock, random.Random(name)) for name, venue in self.venues.items()
        }

    def link(self, venue: SimVenue, account: SimAccount, emit: Callable[[Any], None]) -> VenueLink:
        return BudgetedLink(venue, account, emit, self.budgets[venue.name], None)

    def on_core(self) -> None:
        self.core.risk.gate.order_budget = lambda venue, orders: self.budgets[venue].can_place(orders)


def four_pairs(*, checks: bool = True) -> BudgetedWorld:
    """Four coins, each dearer on Gate.io than on MEXC, by more than fees."""
    limits = RiskLimits(
        min_profit_margin_bps=D(3),
        max_slippage_bps=D(50),
        max_position_size_usd=D(100_000),
        max_open_operations=20,
        max_orders_per_s=50,
    )
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": limits,
        "execution": ExecutionConfig(),
        "features": FeatureConfig(enable_risk_checks=checks),
    }
    world = BudgetedWorld(settings)
    assert world.venues[NARROW].orders_per_s == 5
    world.open(
        {
            (venue, symbol(venue, coin)): Quote(mid * gain, qty=D(30_000) / mid)
            for coin, mid in COINS.items()
            for venue, gain in ((NARROW, D(1)), (REFUSING, D("1.006")))
        }
    )
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(2000)
    return world


def offer_all(world: VirtualWorld) -> None:
    for coin, mid in COINS.items():
        offered = world.opportunity(NARROW, REFUSING, f"{coin}/USDT", qty=D(1000) / mid)
        assert offered is not None
        world.feed(offered)


@pytest.mark.parametrize("checks", [True, False])
def test_legs_whose_partners_are_refused_all_have_a_request_left(checks: bool) -> None:
    """Four opportunities at one moment, and the other venue takes no order: no leg waits for a window of requests."""
    world = four_pairs(checks=checks)
    world.arm(kind="reject", venue=REFUSING, target="place", count=0, reason="no_liquidity")
    for _ in range(20):
        offer_all(world)
        world.run(100)
        for breaker in [name for name in world.core.ledger.breakers if name.startswith("venue.")]:
            world.command(CommandKind.REARM, breaker)
    world.run(5000)
    assert not world.core.ledger.open_operations
    spans = naked_spans(world.ledger.rows, world.entries, world.clock.mono_ns())
    assert len(spans) >= 4 and max(spans.values()) < 1000
    unsent = [
        entry.record.reason
        for entry in world.entries
        if isinstance(entry.record, OrderStateRecord) and entry.record.state is OrderState.NOT_SENT
    ]
    assert not unsent
    assert Refusal.ORDER_RATE in world.refusals


def test_what_has_ended_keeps_no_room() -> None:
    """One after the other, entries use all of the budget but the last one's own repair."""
    world = four_pairs()
    for name in list(COINS)[:3]:
        offered = world.opportunity(NARROW, REFUSING, f"{name}/USDT", qty=D(1000) / COINS[name])
        assert offered is not None
        world.feed(offered)
        assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=200, step_ms=1)
    entries = [order for order in world.core.ledger.orders.values() if order.intent.purpose is Purpose.ENTRY]
    assert len([order for order in entries if order.intent.venue == NARROW]) == 3
    assert not world.refusals


def test_a_cut_of_margin_leaves_room_for_its_own_repair_and_for_no_other() -> None:
    """An operation that waits for an operator may need an order there some day; the position is liquidated before."""
    world = external_world()
    hedge(world)
    world.market.move(REFUSING, CONTRACT, MID)
    for venue, after in ((REFUSING, 0), (NARROW, 1)):
        world.arm(kind="reject", venue=venue, target="place", after=after, count=0, reason="too_many_orders")
    spot_trade(world)
    assert world.run_until(lambda: RECOVERY_HOLD in world.core.ledger.breakers, limit_ms=60_000)
    world.faults.clear()
    world.core.risk.gate.order_budget = lambda _venue, orders: orders <= 2
    free = world.core.balances.usable(FUTURES, "USDT")
    world.arm(kind="withdraw", venue=FUTURES, asset="USDT", amount=float(free))
    world.run(3000)
    for venue, listed in LISTINGS:
        world.market.move(venue, listed, MID * D("1.006" if venue == FUTURES else "1") * D("1.1"))
    assert world.run_until(lambda: world.core.margin.cuts > 0, limit_ms=20_000), [a.text for a in world.alerts][-5:]
    assert not world.core.margin.closes
