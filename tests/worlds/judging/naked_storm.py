"""Storms of entries and exits on virtual time, and for how long their fills stood alone by the venues' ledger.

``python -m tests.worlds.judging.naked_storm`` prints the spans without an injected loss, and with one lost request
(or answer) an operation.
"""

from __future__ import annotations

import random
from decimal import Decimal

from pipeline.execution.events import CommandKind
from pipeline.model.config import DetectionConfig, ExecutionConfig, RiskLimits
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.judging.naked_spans import change_of, naked_ms, quantile

D = Decimal
MID, QTY, DUST = D(64000), D("0.03"), D("0.0005")
LISTINGS = {"mexc_spot": "BTCUSDT", "gateio_spot": "BTC_USDT", "gateio_futures": "BTC_USDT"}
WAYS = (("mexc_spot", "gateio_spot"), ("gateio_spot", "mexc_spot"), ("gateio_spot", "gateio_futures"))
REJECTS = ("price_band", "no_liquidity", "too_many_orders")


def storm(seed: int, operations: int, *, loss: str = "") -> list[float]:
    """Milliseconds for which each operation left more than dust alone, production windows. Half of the operations meet
    a refusal or a price that has gone; with ``loss`` (kind of a fault) one request of each is lost besides."""
    rng = random.Random(f"{seed}:{loss}:naked")
    limits = RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50), max_position_size_usd=D(100_000))
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": limits,
        "execution": ExecutionConfig(),
    }
    world = VirtualWorld("demo", seed, settings=settings)
    world.open({listing: Quote(MID, qty=D("0.5")) for listing in LISTINGS.items()})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(1000)
    for _ in range(operations):
        _one(world, rng, loss)
    return [span for name in world.core.ledger.operations if (span := operation_ms(world, name)) >= 0]


def _one(world: VirtualWorld, rng: random.Random, loss: str) -> None:
    """One operation and all that follows from it."""
    buy, sell = rng.choice(WAYS)
    if world.core.ledger.hedges:
        buy, sell = "gateio_futures", "gateio_spot"  # out again
    for name, symbol in LISTINGS.items():
        world.market.quote(name, symbol, Quote(MID, qty=D("0.5")))
    if not world.core.ledger.hedges:
        world.market.move(sell, LISTINGS[sell], MID * D("1.006"))
    world.run(50)
    if rng.random() < 0.5:
        late = rng.choice((buy, sell))
        if rng.random() < 0.5:
            world.arm(kind="reject", venue=late, target="place", count=1, reason=rng.choice(REJECTS))
        else:  # the price of one leg goes while the orders are on their way
            away = MID * (D("1.008") if late == buy else D("0.992"))
            world.clock.call_later(400_000, lambda: world.market.move(late, LISTINGS[late], away))
    if loss:
        world.arm(kind=loss, venue=rng.choice((buy, sell)), target="place", count=1, after=rng.choice((0, 0, 1)))
    if world.core.ledger.hedges:
        world.command(CommandKind.CLOSE_HEDGES)
    else:
        offered = world.opportunity(buy, sell, "BTC/USDT", qty=QTY)
        if offered is not None:
            world.feed(offered)
    world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=40_000, step_ms=50)
    world.faults.clear()
    for name in [name for name in world.core.ledger.breakers if name.startswith("venue.")]:
        world.command(CommandKind.REARM, name)  # so many faults in a row are the storm's
    world.run(300)


def operation_ms(world: VirtualWorld, operation_id: str) -> float:
    """By the stamps of the venues' ledger; -1 for an operation without a fill."""
    ours = set(world.core.ledger.operations[operation_id].orders)
    rows = [row for row in world.ledger.of_kind("fill") if row["client_id"] in ours]
    changes = [(row["mono_ns"], change_of(row, "BTC", "USDT")) for row in rows]
    return naked_ms(changes, {"BTC": DUST}, world.clock.mono_ns()) if rows else -1.0


def main() -> None:
    for loss in ("", "drop_request", "drop_response"):
        spans = [span for seed in range(10) for span in storm(seed, 40, loss=loss)]
        p50, p99 = quantile(spans, 0.5), quantile(spans, 0.99)
        print(f"{loss or 'none':14} n={len(spans)} p50={p50:.1f} p99={p99:.1f} max={max(spans):.1f} ms")


if __name__ == "__main__":
    main()
