"""Worlds that hold one hedge: a tiny one with the market in which leaving it pays, and one of simulated venues."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec

from pipeline.model.config import DetectionConfig, ExecutionConfig, HedgeConfig, HedgeExitConfig, RiskLimits
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_world import World
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.state_folder import instance_dir

D = Decimal
SPOT, FUTURES = ("gateio_spot", "BTC_USDT"), ("gateio_futures", "BTC_USDT")
MID = D("64000")


def hedged_world() -> World:
    """A world that holds one hedge: its entry has paid fees and earned nothing yet."""
    world = World(9)
    world.run(100)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(100)
    assert len(world.core.ledger.hedges) == 1
    return world


def leave(world: World) -> None:
    """Spot rises above the contract: leaving pays."""
    for name, bid, ask in (("gateio_spot", "100.60", "100.61"), ("gateio_futures", "100.20", "100.21")):
        world.venues[name].bid, world.venues[name].ask = Decimal(bid), Decimal(ask)
    world.run(1000)
    assert not world.core.ledger.hedges


def make(**exit_settings: object) -> VirtualWorld:
    """A world whose core holds one hedge: long spot, short futures, entered at a basis of about 60 bps that is there
    still."""
    hedge = HedgeConfig(exit=HedgeExitConfig(**exit_settings))  # type: ignore[arg-type]
    settings = {
        "detection": DetectionConfig(cooldown_ms=5, hedge=hedge),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
        "execution": ExecutionConfig(),
    }
    world = VirtualWorld("demo", 1, settings=settings)
    world.open({listing: Quote(MID, qty=D("0.05")) for listing in (("mexc_spot", "BTCUSDT"), SPOT, FUTURES)})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.market.move(*FUTURES, MID * D("1.006"))
    world.run(50)
    offer = world.opportunity(SPOT[0], FUTURES[0], "BTC/USDT")
    assert offer is not None
    world.feed(offer)
    world.run(2500)
    assert len(world.core.ledger.hedges) == 1 and not world.core.ledger.unsettled
    return world


def restore_depth(world: VirtualWorld) -> None:
    """What the entry took from the books is there again."""
    for listing in (SPOT, FUTURES):
        world.market.move(*listing, world.market.quotes[listing].mid)


def is_flat(world: VirtualWorld) -> bool:
    return not world.core.ledger.hedges and world.position(*FUTURES) == 0


def stopped(world: VirtualWorld, instance: str) -> Path:
    """The state folder of ``instance`` as an orderly stop of ``world`` leaves it."""
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"state": "stopped", "mode": "sim"}))
    (folder / "lock").touch()
    write_executor_state(folder, Publisher(world.core, folder, lambda level, text: None).state(stopped=True))
    return folder
