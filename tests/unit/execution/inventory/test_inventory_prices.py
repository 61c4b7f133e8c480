"""Prices of inventory follow balances, fills and the edges that were seen; alarms come once."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.economics.inventory_price import price_bps
from pipeline.execution.inventory.prices import direction_key
from pipeline.model.config import DetectionConfig, InventoryConfig, RiskLimits
from pipeline.model.enums import OpportunityType, Refusal
from pipeline.model.structs import Balance
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
MID = D(64000)
MEXC, GATEIO = "mexc_spot", "gateio_spot"


def world(**settings: Any) -> VirtualWorld:
    made = VirtualWorld(
        "demo", 1, settings={"detection": DetectionConfig(types=("spot_spot",), inventory_price=True), **settings}
    )
    made.open({(MEXC, "BTCUSDT"): Quote(MID), (GATEIO, "BTC_USDT"): Quote(MID)})
    assert made.run_until(lambda: made.core.ready, limit_ms=5000)
    made.run(100)
    return made


def ids(made: VirtualWorld) -> tuple[int, int]:
    rows = [made.core.context.instruments.find(MEXC, "BTCUSDT"), made.core.context.instruments.find(GATEIO, "BTC_USDT")]
    assert rows[0] is not None and rows[1] is not None
    return rows[0].instrument_id, rows[1].instrument_id


def stock(made: VirtualWorld, venue: str, asset: str, free: str) -> None:
    made.feed(
        Balance(
            venue=venue,
            asset=asset,
            free=D(free),
            locked=D(0),
            recv_mono_ns=made.now().mono_ns,
            source="stream",
        )
    )


def test_the_price_is_the_line_over_what_can_still_go_each_way() -> None:
    made = world()
    first, second = ids(made)
    prices = made.core.inventory_prices
    for edge_bps in (8.0, 8.0):
        prices.note_hit(first, second, edge_bps)
        prices.note_hit(second, first, edge_bps)
    stock(made, GATEIO, "BTC", "0.2")  # 12,800 can go on, 38,400 back
    onward, back = 12_800.0, 38_400.0
    x, k = (back - onward) / 2, (back + onward) / 2
    assert prices.price_bps(first, second) == pytest.approx(price_bps(x, k, 8, 8), abs=0.001) == pytest.approx(4.0)
    assert prices.price_bps(second, first) == -prices.price_bps(first, second)
    assert dict(prices.published())[direction_key(first, second)] == 4000
    stock(made, GATEIO, "BTC", "0")
    assert prices.price_bps(first, second) == pytest.approx(8.0)
    stock(made, MEXC, "BTC", "0")
    assert prices.price_bps(first, second) == 0.0, "nothing can go either way: there is nothing to price"


def test_hits_that_found_no_room_make_returns_cheaper_and_nothing_else() -> None:
    wide = {"max_slippage_bps": D(50), "max_position_size_usd": D(10**6), "max_total_exposure_usd": D(10**6)}
    made = world(risk_limits=RiskLimits(min_profit_margin_bps=D(3), max_orders_per_s=1, **wide))
    first, second = ids(made)
    prices = made.core.inventory_prices
    for _ in range(20):
        prices.note_hit(first, second, 8.0)
        prices.note_hit(second, first, 8.0)
    stock(made, GATEIO, "BTC", "0.2")
    assert (prices.price_bps(first, second), prices.price_bps(second, first)) == pytest.approx((4.0, -4.0))
    made.market.move(MEXC, "BTCUSDT", MID * (1 - D("0.0014")))
    made.run(50)
    offered = made.opportunity(MEXC, GATEIO, "BTC/USDT")
    assert offered is not None
    made.feed(offered)
    assert made.core.refusals.last.startswith("order_rate")
    stock(made, GATEIO, "BTC", "0.2000001")
    lost_bps = offered.edge_bps  # of one hit in one
    assert lost_bps > 4
    assert prices.price_bps(first, second) > 4.0 - 0.5, "forward pays as before"
    assert prices.price_bps(second, first) == 0.0, "no return is worth an order now"


def test_exits_of_hedges_that_the_detector_offers_are_no_hits_of_the_budget() -> None:
    made = world()
    first, second = ids(made)
    prices = made.core.inventory_prices
    for _ in range(4):
        prices.note_hit(first, second, 8.0)
        prices.note_hit(second, first, 8.0)
    made.market.move(MEXC, "BTCUSDT", MID * (1 - D("0.0014")))
    made.run(50)
    offered = made.opportunity(MEXC, GATEIO, "BTC/USDT")
    assert offered is not None
    prices.note_refusal(Refusal.ORDER_RATE)
    prices.after(offered)
    stock(made, GATEIO, "BTC", "0.2")
    cheap = prices.price_bps(second, first)
    assert cheap > -4.0, "one hit of one was lost"
    for _ in range(50):
        prices.after(msgspec.structs.replace(offered, type=OpportunityType.HEDGE_EXIT, edge_bps=2.0))
    stock(made, GATEIO, "BTC", "0.2")
    assert prices.price_bps(second, first) == cheap


def test_a_switched_off_price_is_zero_and_the_report_goes_on() -> None:
    made = world(detection=DetectionConfig(types=("spot_spot",), inventory_price=False))
    stock(made, GATEIO, "BTC", "0")
    assert made.core.inventory_prices.price_bps(*ids(made)) == 0.0
    assert [lane.x > 0 for lane in made.core.inventory_prices.lanes if lane.mid] == [True]


def test_alarms_come_once_until_the_balance_was_above() -> None:
    made = world(inventory=InventoryConfig(alarms={GATEIO: {"BTC": D("0.3")}}))

    def low() -> int:
        return sum(alert.code == "balance_low" for alert in made.alerts)

    stock(made, GATEIO, "BTC", "0.2")
    stock(made, GATEIO, "BTC", "0.1")
    assert low() == 1
    stock(made, GATEIO, "BTC", "0.4")
    stock(made, GATEIO, "BTC", "0.2")
    assert low() == 2


def test_a_direction_that_runs_out_within_two_transfers_is_one_alert() -> None:
    made = world()
    made.run(100)
    for _ in range(3):  # a tenth of a coin a minute, the rest in 3 minutes: a transfer takes 30
        made.arm(kind="withdraw", venue=GATEIO, asset="BTC", amount="0.1")
        made.run(61_000)
    texts = [alert.text for alert in made.alerts if alert.code == "inventory_empty_soon"]
    assert len(texts) == 1 and "buying at mexc_spot and selling at gateio_spot" in texts[0]
    (lane,) = (lane for lane in made.core.inventory_prices.lanes if lane.mid)
    assert 0 < lane.hours_to_empty() < 0.25
