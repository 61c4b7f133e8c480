"""One hedge in a margin storm on virtual time: its price goes 60 % up or down in 60 s, with noise and jumps of 2 %.

``run_storm`` opens a hedge through the real gate (the contract sold where the price will rise, bought where it will
fall), lets the storm pass, and says whether the venue liquidated the contract and how much of the hedge is left.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.records import HedgeRecord
from pipeline.model.config import (
    DetectionConfig,
    ExecutionConfig,
    HedgeConfig,
    HedgeExitConfig,
    MarginConfig,
    RiskLimits,
)
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.virtual.market import LEVELS, Quote
from pipeline.virtual.world import VirtualWorld

SPOT, FUTURES, SYMBOL, PAIR = "gateio_spot", "gateio_futures", "BTC_USDT", "BTC/USDT"
MID = Decimal(64_000)
QTY = Decimal("0.05")  # base coins of the hedge; one lot is 0.0001
BASIS = Decimal("1.00625")  # futures over spot at a storm upwards, the reverse downwards: what the gate lets in
STORM_S, AFTER_S, STEP_MS = 60.0, 10.0, 100
NOISE_PER_ROOT_S = 0.002
JUMP, JUMPS_PER_S = 0.02, 1 / 20
EQUAL_SHARE = Decimal("0.01")  # of the hedge: legs that differ by less are equal
MARGIN_FEES = Decimal("0.005")  # of the notional: what an entry takes beyond its margin


@dataclass(frozen=True, slots=True)
class Venue:
    """How fast both venues are: order, REST question; the part of the hedge that one order can take."""

    order_ms: int
    rest_ms: int
    share: Decimal = Decimal(10)


FAST = Venue(order_ms=500, rest_ms=50)
DEFAULTS = MarginConfig()
SLOW = Venue(order_ms=2000, rest_ms=200, share=Decimal("0.3"))


@dataclass(frozen=True, slots=True)
class Storm:
    """``buffer``: free futures balance at the entry, as a part of the notional; ``risk_tiers``: of the contract, as a
    scenario has them."""

    leverage: int = 3
    buffer: Decimal = Decimal(0)
    margin: MarginConfig = DEFAULTS
    venue: Venue = FAST
    risk_tiers: tuple[dict[str, str | int], ...] = ()


class StormWorld(VirtualWorld):
    """Accounts are read as often as the product's poller reads them: what it sees late decides here."""

    account_poll_ns = ExecutionConfig().balance_refresh_interval_ms * NS_PER_MS // 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """``left``: part of the hedge's contract that is open at the end; ``spot_left``: of its spot leg. ``naked_s``: from
    the first forced order of the venue until the legs were equal again for good, by the stamps of the venues' ledger;
    0 where there was none."""

    entered: bool
    liquidated: bool
    left: Decimal
    spot_left: Decimal
    cuts: int
    closes: int
    added: Decimal
    naked_s: float = 0.0


def path(rng: random.Random, *, up: bool) -> list[Decimal]:
    """Factor of the price at each ``STEP_MS`` of the storm."""
    steps, step_s = int(STORM_S * 1000 / STEP_MS), STEP_MS / 1000
    drift = math.log(1.6 if up else 0.4) / steps
    noise, found = 0.0, []
    for step in range(steps + 1):
        found.append(Decimal(repr(round(math.exp(drift * step + noise), 8))))
        noise += rng.gauss(0.0, NOISE_PER_ROOT_S * math.sqrt(step_s))
        if rng.random() < JUMPS_PER_S * step_s:
            noise += math.log1p(rng.choice((JUMP, -JUMP)))
    return found


def storm_world(storm: Storm, seed: int, *, up: bool) -> VirtualWorld:
    """Venues and core before the entry; the prices already differ by ``BASIS``."""
    speed = {"order_us": storm.venue.order_ms * 1000.0, "rest_us": storm.venue.rest_ms * 1000.0}
    backing = QTY * MID * (1 / Decimal(storm.leverage) + storm.buffer + MARGIN_FEES)
    venues = {
        "spot": {"latency": speed},
        "futures": {"latency": speed, "leverage": storm.leverage, "balances": {"USDT": str(backing.quantize(MID))}},
    }
    listings = {FUTURES: {"risk_tiers": list(storm.risk_tiers)}} if storm.risk_tiers else {}
    exits = HedgeExitConfig(max_loss_bps=Decimal(10_000))  # what is tried here is the margin watch, alone
    hedge = HedgeConfig(leverage=Decimal(storm.leverage), margin=storm.margin, exit=exits)
    patience_ms = 4 * storm.venue.order_ms + 1000
    world = StormWorld(
        {"extends": "demo", "exchanges": {"gateio": {"venues": venues}}, "pairs": {PAIR: {"listings": listings}}},
        seed,
        settings={
            "detection": DetectionConfig(cooldown_ms=5, hedge=hedge, max_skew_ms=1000, max_age_to_trade_ms=1000),
            "risk_limits": RiskLimits(
                min_profit_margin_bps=Decimal(3), max_slippage_bps=Decimal(50), max_execution_time_ms=patience_ms
            ),
            "execution": ExecutionConfig(order_timeout_ms=patience_ms, entry_window_ms=10_000, repair_window_ms=10_000),
        },
    )
    # every book holds what one order may take, anew at each step of the path
    depth = max(QTY * storm.venue.share / LEVELS, Decimal("0.0002"))
    dear, plain = Quote(MID * BASIS, qty=QTY), Quote(MID, qty=QTY)
    world.open({(SPOT, SYMBOL): plain if up else dear, (FUTURES, SYMBOL): dear if up else plain})
    assert world.run_until(lambda: world.core.ready, limit_ms=20_000), "the core is not ready"
    world.run(2000)
    buy, sell = (SPOT, FUTURES) if up else (FUTURES, SPOT)
    offered = world.opportunity(buy, sell, PAIR, qty=QTY)
    assert offered is not None, "the prices do not cross"
    world.feed(offered)
    world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)
    for name, quote in ((SPOT, plain if up else dear), (FUTURES, dear if up else plain)):
        world.market.quote(name, SYMBOL, Quote(quote.mid, qty=depth))
    return world


def run_storm(storm: Storm, seed: int, *, up: bool) -> Outcome:
    """Entry, storm and a quiet time behind it."""
    world = storm_world(storm, seed, up=up)
    watch, ledger = world.core.margin, world.core.ledger
    hedges: list[HedgeRecord] = list(ledger.hedges.values())
    if not hedges:
        return Outcome(False, False, Decimal(0), Decimal(0), 0, 0, Decimal(0))
    whole = hedges[0].qty
    factors = path(random.Random(f"{seed}:{up}:storm"), up=up)
    began_ns = world.clock.mono_ns()
    starts = {name: world.market.quotes[name, SYMBOL].mid for name in (SPOT, FUTURES)}

    for name, start in starts.items():
        over = start - starts[FUTURES]  # the basis stays what it is: nothing to gain by leaving

        def at(elapsed_s: float, over: Decimal = over) -> Decimal:
            return over + starts[FUTURES] * factors[min(len(factors) - 1, round(elapsed_s * 1000 / STEP_MS))]

        world.market.follow([(name, SYMBOL)], at, seconds=STORM_S, step_ms=STEP_MS)
    world.run((STORM_S + AFTER_S) * 1000)
    assert world.clock.mono_ns() >= began_ns + STORM_S * NS_PER_S
    spot = world.core.positions.delta().get("BTC", Decimal(0)) - world.position(FUTURES, SYMBOL)
    return Outcome(
        entered=True,
        liquidated=bool(world.ledger.of_kind("forced")),
        left=abs(world.position(FUTURES, SYMBOL)) / whole,
        spot_left=abs(spot) / whole,
        cuts=watch.cuts,
        closes=watch.closes,
        added=watch.added,
        naked_s=naked_s(world, whole * EQUAL_SHARE),
    )


def naked_s(world: VirtualWorld, tolerance: Decimal) -> float:
    """Seconds from the first forced order until the net of all fills stays within ``tolerance`` base coins."""
    forced = world.ledger.of_kind("forced")
    if not forced:
        return 0.0
    net, equal_ns = Decimal(0), math.inf
    for row in world.ledger.of_kind("fill"):
        net += row["qty"] * (1 if row["side"] == "buy" else -1)
        if abs(net) > tolerance:
            equal_ns = math.inf
        elif equal_ns == math.inf:
            equal_ns = row["mono_ns"]
    began_ns: int = forced[0]["mono_ns"]
    return max(0.0, (equal_ns - began_ns) / NS_PER_S)
