"""Core and simulated exchanges on one virtual clock."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.config import DetectionConfig, ExecutionConfig, HedgeConfig, MarginConfig, RiskLimits
from pipeline.model.enums import OrderState, ReportOutcome
from pipeline.model.structs import Fill, OrderUpdate
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
SETTINGS = {
    "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
    "execution": ExecutionConfig(),
}


#: The margin watch sleeps: positions reach their liquidation price.
UNWATCHED = MarginConfig(trigger_pct=D("0.0002"), target_pct=D("0.0003"), out_pct=D("0.0001"))


def make(seed: int = 1, scenario: str | dict[str, Any] = "demo", margin: MarginConfig | None = None) -> VirtualWorld:
    detection = DetectionConfig(cooldown_ms=5, hedge=HedgeConfig(margin=margin or MarginConfig()))
    world = VirtualWorld(scenario, seed, settings=SETTINGS | {"detection": detection})
    mid = D("64000")
    world.open(
        {
            ("mexc_spot", "BTCUSDT"): Quote(mid, qty=D("0.05")),
            ("gateio_spot", "BTC_USDT"): Quote(mid, qty=D("0.05")),
            ("gateio_futures", "BTC_USDT"): Quote(mid, qty=D("0.05")),
        }
    )
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    return world


def trade(world: VirtualWorld) -> None:
    """MEXC becomes 40 bps cheaper; the finder offers it."""
    world.finder_on = True
    world.market.move("mexc_spot", "BTCUSDT", D("63744"))
    world.run(2000)
    world.finder_on = False


def test_an_edge_between_venues_is_taken_and_settled() -> None:
    world = make()
    trade(world)
    assert [report.outcome for report in world.reports].count(ReportOutcome.COMPLETED) >= 1
    assert not world.core.ledger.unsettled
    changes = world.ledger.changes()
    for (venue, asset), amount in world.core.ledger.accounts.flows.items():
        if not venue.endswith("futures"):
            assert changes[venue].get(asset, D(0)) == amount


def test_the_same_seed_gives_the_same_run() -> None:
    rows = []
    for _ in range(2):
        world = make(7)
        world.arm(kind="drop_response", venue="mexc_spot", target="place", probability=0.5, count=0)
        trade(world)
        rows.append([(row["kind"], row["venue"], row["mono_ns"]) for row in world.ledger.rows])
    assert rows[0] == rows[1]


def test_a_core_that_dies_at_any_action_is_born_again_with_every_fill() -> None:
    for action in (0, 3, 7, 12):
        world = make(3)
        world.crash_after = action
        trade(world)
        world.run(20_000)
        fills = {(row["venue"], row["trade_id"]) for row in world.ledger.of_kind("fill")}
        assert {(venue, trade_id) for venue, _, trade_id in world.core.ledger.fills_seen} == fills
        assert not world.core.ledger.unsettled


def hedged(seed: int = 1, scenario: str | dict[str, Any] = "demo", margin: MarginConfig | None = None) -> VirtualWorld:
    """A world with one open hedge: spot bought, futures sold."""
    world = make(seed, scenario, margin)
    world.market.move("gateio_futures", "BTC_USDT", D("64400"))
    world.run(50)
    offered = world.opportunity("gateio_spot", "gateio_futures", "BTC/USDT")
    assert offered is not None
    world.feed(offered)
    world.run(2000)
    assert world.position("gateio_futures", "BTC_USDT") < 0
    return world


def test_a_liquidation_takes_the_futures_leg_of_a_hedge() -> None:
    world = hedged()
    world.arm(kind="liquidate", venue="gateio_futures", symbol="BTC_USDT")
    world.run(100)
    assert world.position("gateio_futures", "BTC_USDT") == 0


def test_a_rising_mark_liquidates_the_short_and_the_core_is_told_as_by_the_codec() -> None:
    twenty = {"extends": "demo", "exchanges": {"gateio": {"venues": {"futures": {"leverage": 20}}}}}
    world = hedged(scenario=twenty, margin=UNWATCHED)
    reported: list[Any] = []
    link = world.links["gateio_futures"]
    emit = link._emit
    link._emit = lambda event: (reported.append(event), emit(event))[1]
    account = next(iter(world.venues["gateio_futures"].accounts.values()))
    position = world.venues["gateio_futures"].position(account, "BTC_USDT")
    price = world.venues["gateio_futures"].liquidation_price(account, position)
    assert price is not None
    world.market.move("gateio_spot", "BTC_USDT", price - 400)  # as at the entry: the hedge has no other reason to end
    world.market.move("gateio_futures", "BTC_USDT", price - 10)
    world.run(1000)
    assert position.qty < 0
    world.market.move("gateio_futures", "BTC_USDT", price + 10)
    world.run(300)
    assert position.qty == 0
    (update,) = [one for one in reported if isinstance(one, OrderUpdate) and one.reason == "liquidated"]
    assert (update.client_id, update.state) == ("", OrderState.CANCELLED)
    fills = [one for one in reported if isinstance(one, Fill) and one.order_id == update.order_id]
    assert fills and sum(one.qty for one in fills) == update.filled_qty and {one.client_id for one in fills} == {""}
    (row,) = world.ledger.of_kind("forced")
    assert row["qty"] == update.filled_qty


def test_a_part_is_deleveraged_at_its_time() -> None:
    world = hedged()
    before = world.position("gateio_futures", "BTC_USDT")
    world.arm(kind="adl", venue="gateio_futures", symbol="BTC_USDT", amount="0.01", text="60000", at_s=2)
    world.run(1900)
    assert world.position("gateio_futures", "BTC_USDT") == before
    world.run(200)
    assert world.position("gateio_futures", "BTC_USDT") == before + D("0.01")


def test_a_scenarios_paths_and_funding_pass_on_virtual_time() -> None:
    world = make(scenario="funding_turn")
    venue = world.venues["gateio_futures"]
    world.run(65_000)
    rates = [rate for _, rate in venue.funding_paid["BTC_USDT"]]
    assert len(rates) == 13 and (rates[0], min(rates)) == (
        D("0.0004"),
        D("-0.0015"),
    )  # every five seconds, and it turns
    world = make(scenario="liquidation")
    world.follow_scenario(seconds=92)
    world.run(78_000)
    assert abs(world.venues["gateio_spot"].mark_price("BTC_USDT") / D(64_000) - D("1.6")) < D("0.001")
