"""Cycles of three pairs on one venue through the whole core, judged by the simulator's ledger."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.execution.events import Opportunity
from pipeline.execution.ledger import Operation
from pipeline.execution.records import Outcome, Purpose
from pipeline.model.config import DetectionConfig, ExecutionConfig, RiskLimits
from pipeline.model.enums import OpportunityType
from pipeline.virtual.books import offered_leg
from pipeline.virtual.market import Quote
from pipeline.virtual.world import ProcessKilled, VirtualWorld
from shm.layout import BOOK
from tests.worlds.external_world import judge, uids
from workers.demo.run_checker import venue_changes

D = Decimal
VENUE, OTHER = "gateio_spot", "mexc_spot"
BTC, ETH = D(64000), D(3200)
CROSS = ETH / BTC  # 0.05
PAIRS = ("BTC_USDT", "ETH_BTC", "ETH_USDT")
SIDES = (1, 1, -1)  # dollars to BTC to ETH to dollars
STAKE = D("0.02")  # BTC
MINIMUM_USD = D(5)  # nothing below it can be sold on these venues


def cycle_world(seed: int) -> VirtualWorld:
    """ETH is 60 bps dearer in dollars than by way of BTC."""
    settings = {
        "detection": DetectionConfig(types=("spot_spot", "triangular"), cooldown_ms=5),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
        "execution": ExecutionConfig(entry_window_ms=500, unknown_grace_ms=1000, order_timeout_ms=400),
    }
    world = VirtualWorld("demo", seed, settings=settings)
    dear = ETH * D("1.006")
    mids = {"BTC_USDT": BTC, "ETH_BTC": CROSS, "ETH_USDT": dear}
    quotes = {(VENUE, symbol): Quote(mid, qty=D(1)) for symbol, mid in mids.items()}
    quotes |= {(OTHER, symbol.replace("_", "")): Quote(mid, qty=D(1)) for symbol, mid in mids.items()}
    world.open(quotes)
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(1000)
    return world


def offered(world: VirtualWorld) -> Opportunity:
    """As the detector writes it: each leg at the best price, for what ``STAKE`` of BTC goes round."""
    rows = {row.spec.symbol: row for row in world.instruments if row.spec.venue == VENUE}
    legs = []
    for symbol, side in zip(PAIRS, SIDES, strict=True):
        row = rows[symbol]
        view = world.book(row.instrument_id)
        assert view is not None
        price_fp = view.words[BOOK.ask_price_fp if side > 0 else BOOK.bid_price_fp]
        qty = STAKE if symbol == "BTC_USDT" else STAKE / CROSS
        legs.append(offered_leg(row, side, price_fp, int(qty.scaleb(row.qty_exp)), view))
    now_ns = world.clock.mono_ns()
    kind = int(OpportunityType.TRIANGULAR)
    edge_bps, first = 54.0, legs[0].instrument_id
    return Opportunity(1, kind, -1, now_ns, now_ns, now_ns, edge_bps, edge_bps, 1.0, first, now_ns, tuple(legs))


def gone_round(world: VirtualWorld) -> Operation:
    """The one operation of a cycle, ended."""
    world.feed(offered(world))
    return ended(world)


def ended(world: VirtualWorld) -> Operation:
    assert not world.refusals, world.refusals
    (operation,) = world.core.ledger.operations.values()
    assert operation.record.type is OpportunityType.TRIANGULAR and len(operation.record.legs) == 3
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=20_000)
    world.run(300)
    assert operation.result is not None
    return operation


def gained_usd(world: VirtualWorld) -> Decimal:
    """By the venues' ledger, what is left of coins at the prices of the world."""
    marks = {"USDT": D(1), "BTC": BTC, "ETH": ETH}
    return sum((amount * marks[asset] for asset, amount in venue_changes(world.ledger.rows, uids(world)).items()), D(0))


def nothing_is_left(world: VirtualWorld) -> None:
    """Of no coin more than no venue takes an order of, and the engine knows how much."""
    judge(world)
    left = {a: q for a, q in venue_changes(world.ledger.rows, uids(world)).items() if a != "USDT"}
    marks = {"BTC": BTC, "ETH": ETH}
    assert all(abs(amount) * marks[asset] < MINIMUM_USD for asset, amount in left.items()), left
    assert not world.core.ledger.breakers


def sent(world: VirtualWorld, purpose: Purpose) -> int:
    return sum(order.intent.purpose is purpose for order in world.core.ledger.orders.values())


def test_a_whole_cycle_gains_what_it_promised_and_leaves_no_coin() -> None:
    world = cycle_world(1)
    operation = gone_round(world)
    assert operation.result is not None and operation.result.outcome is Outcome.COMPLETED
    assert (sent(world, Purpose.ENTRY), sent(world, Purpose.REPAIR)) == (3, 0)
    nothing_is_left(world)
    staked = STAKE * BTC
    assert gained_usd(world) / staked * 10_000 > 40, "60 bps less three half spreads and three fees of 2"


@pytest.mark.parametrize("leg", range(3))
@pytest.mark.parametrize("times", [1, 0], ids=["once", "always"])
def test_a_cycle_of_which_a_leg_is_refused_is_taken_back(leg: int, times: int) -> None:
    world = cycle_world(leg)
    world.arm(kind="reject", venue=VENUE, target="place", symbol=PAIRS[leg], reason="price_band", count=times)
    operation = gone_round(world)
    assert operation.result is not None and operation.result.outcome is Outcome.RECOVERED
    assert sent(world, Purpose.ENTRY) == 3 and sent(world, Purpose.REPAIR) > 0
    nothing_is_left(world)
    assert abs(gained_usd(world)) < STAKE * BTC * D("0.01")


@pytest.mark.parametrize("leg", range(3))
def test_a_cycle_of_which_a_leg_fills_in_part_leaves_no_coin(leg: int) -> None:
    """Most of what the leg wanted is taken while its order flies, and comes back later."""
    world = cycle_world(leg)
    listing = (VENUE, PAIRS[leg])
    before = world.market.quotes[listing]
    world.feed(offered(world))
    world.market.quote(*listing, Quote(before.mid, qty=STAKE / 20, step_bps=D(30)))
    world.run(50)
    world.market.quote(*listing, before)
    assert ended(world).recovered
    nothing_is_left(world)


@pytest.mark.parametrize("deaths", range(1, 24))
def test_a_cycle_in_which_the_core_dies_at_any_action_leaves_no_coin(deaths: int) -> None:
    world = cycle_world(deaths)
    world.crash_after = deaths
    try:
        world.feed(offered(world))
    except ProcessKilled:
        world.kill()
    assert world.run_until(lambda: world.core.ready and not world.core.ledger.open_operations, limit_ms=30_000)
    world.run(300)
    nothing_is_left(world)
