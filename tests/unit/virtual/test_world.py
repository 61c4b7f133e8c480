"""Core and simulated exchanges on one virtual clock."""

from __future__ import annotations

from decimal import Decimal

from pipeline.model.config import DetectionConfig, ExecutionConfig, RiskLimits
from pipeline.model.enums import ReportOutcome
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
SETTINGS = {
    "detection": DetectionConfig(cooldown_ms=5),
    "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
    "execution": ExecutionConfig(),
}


def make(seed: int = 1) -> VirtualWorld:
    world = VirtualWorld("demo", seed, settings=SETTINGS)
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


def test_a_liquidation_takes_the_futures_leg_of_a_hedge() -> None:
    world = make()
    offered = None
    world.market.move("gateio_futures", "BTC_USDT", D("64400"))
    world.run(50)
    offered = world.opportunity("gateio_spot", "gateio_futures", "BTC/USDT")
    assert offered is not None
    world.feed(offered)
    world.run(2000)
    assert world.position("gateio_futures", "BTC_USDT") < 0
    world.arm(kind="liquidate", venue="gateio_futures", symbol="BTC_USDT")
    world.run(100)
    assert world.position("gateio_futures", "BTC_USDT") == 0
