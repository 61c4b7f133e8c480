"""Fees that an account pays in coins set aside for them: planned, booked, valued, watched; only dearer ones trip."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.execution.records import FillRecord, OperationResultRecord
from pipeline.model.config import DeductionConfig, DetectionConfig, ExecutionConfig, FeeConfig, RiskLimits
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
DEDUCTION = FeeConfig(deduction=DeductionConfig(coin="GT", discount_ppm=100_000, warn_usd=D(0), warn_days=D(0)))
PRICE = 9  # of GT


def make(
    stock: str, fees: dict[str, FeeConfig], *, coin: str = "GT", price: int | str = PRICE, enabled: bool = True
) -> VirtualWorld:
    """Gate.io takes its spot fees in ``coin``, at 0.9 of the plain ones, while there is some."""
    deduction = {"coin": coin, "price": price, "rate": "0.9", "balance": stock, "enabled": enabled}
    scenario: dict[str, Any] = {
        "extends": "demo",
        "exchanges": {"gateio": {"venues": {"spot": {"fee_deduction": deduction}}}},
    }
    settings = {
        "detection": DetectionConfig(cooldown_ms=5),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
        "execution": ExecutionConfig(),
        "fees": fees,
    }
    world = VirtualWorld(scenario, 1, settings=settings)
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


def buy_at_gate(world: VirtualWorld) -> None:
    """Gate.io becomes 40 bps cheaper for two seconds: bought there, sold at MEXC."""
    world.finder_on = True
    world.market.move("gateio_spot", "BTC_USDT", D("63744"))
    world.run(2000)
    world.finder_on = False


def records(world: VirtualWorld, kind: type) -> list[Any]:
    return [entry.record for entry in world.entries if isinstance(entry.record, kind)]


def assert_booked_as_the_venues_did(world: VirtualWorld) -> None:
    changes = world.ledger.changes()
    for (venue, asset), amount in world.core.ledger.accounts.flows.items():
        if not venue.endswith("futures"):
            assert changes[venue].get(asset, D(0)) == amount, (venue, asset)


def gate_fill(world: VirtualWorld) -> FillRecord:
    (fill,) = (record for record in records(world, FillRecord) if record.venue == "gateio_spot")
    assert isinstance(fill, FillRecord)
    return fill


def test_a_configured_coin_is_planned_with_booked_and_valued() -> None:
    world = make("3", {"gateio_spot": DEDUCTION})
    buy_at_gate(world)
    fill = gate_fill(world)
    coins = fill.qty * fill.price * D("0.00018") / PRICE
    assert fill.fees == (("GT", coins),)
    (result,) = records(world, OperationResultRecord)
    assert set(result.pnl) == {"USDT", "GT"}  # all that was bought is sold: nothing is kept back for a fee in coins
    assert result.fees["GT"] == coins
    assert result.pnl_numeraire == result.pnl["USDT"] - coins * PRICE
    assert not world.core.ledger.breakers and not world.core.ledger.dust
    assert_booked_as_the_venues_did(world)


def test_a_known_coin_that_nobody_configured_trips_nothing() -> None:
    world = make("3", {})
    buy_at_gate(world)
    assert [asset for asset, _ in gate_fill(world).fees] == ["GT"]
    assert not world.core.ledger.breakers
    assert_booked_as_the_venues_did(world)


def test_a_fee_in_two_assets_is_booked_in_both_and_dearer_ones_trip_once_the_stock_is_gone() -> None:
    world = make("0.05", {"gateio_spot": DEDUCTION})
    buy_at_gate(world)
    assert [asset for asset, _ in gate_fill(world).fees] == ["BTC", "GT"]
    assert not world.core.ledger.breakers
    assert_booked_as_the_venues_did(world)
    world.run(20_000)
    assert [alert.text for alert in world.alerts if alert.code == "fee_stock"] == [
        "gateio_spot: no GT left for fees: they are taken undiscounted, in the plain asset"
    ]
    world.market.move("gateio_spot", "BTC_USDT", D("64000"))
    world.run(500)
    buy_at_gate(world)
    assert "fee.gateio_spot.BTC_USDT" in world.core.ledger.breakers
    assert_booked_as_the_venues_did(world)


def test_a_coin_that_nobody_named_trips() -> None:
    world = make("3", {}, coin="XYZ")
    buy_at_gate(world)
    breaker = world.core.ledger.breakers["fee.gateio_spot.BTC_USDT"]
    assert "fees.gateio_spot.deduction.coin" in str(breaker)


@pytest.mark.parametrize(("ppm", "tripped"), [("100", False), ("0", False), ("400", True)])
def test_only_a_dearer_tier_trips(ppm: str, tripped: bool) -> None:
    world = make("0", {})
    world.arm(kind="change_fee", venue="gateio_spot", symbol="BTC_USDT", amount=ppm)
    buy_at_gate(world)
    assert records(world, FillRecord)
    assert ("fee.gateio_spot.BTC_USDT" in world.core.ledger.breakers) is tripped
    assert_booked_as_the_venues_did(world)


def test_a_rebate_is_booked_as_income() -> None:
    world = make("0", {"gateio_spot": FeeConfig(taker_ppm=-50)})
    world.arm(kind="change_fee", venue="gateio_spot", symbol="BTC_USDT", amount="-50")
    buy_at_gate(world)
    assert sum(amount for _, amount in gate_fill(world).fees) < 0
    assert not world.core.ledger.breakers
    assert_booked_as_the_venues_did(world)


def test_a_stock_that_is_worth_little_is_a_note_once() -> None:
    coin = DeductionConfig(coin="USDT", warn_usd=D(10**9))  # a coin that has a price without a book
    world = make("0", {"gateio_spot": FeeConfig(deduction=coin)})
    world.run(30_000)
    (note,) = [alert for alert in world.alerts if alert.code == "fee_stock"]
    assert note.severity == 0 and "below 1000000000" in note.text


def switched_off(world: VirtualWorld) -> None:
    account = next(iter(world.venues["gateio_spot"].accounts.values()))
    assert account.fee_deduction is not None
    account.fee_deduction.enabled = False


def test_a_deduction_that_is_off_at_the_venue_is_an_alarm_and_plain_fees_are_counted() -> None:
    world = make("3", {"gateio_spot": DEDUCTION}, enabled=False)
    buy_at_gate(world)
    fill = gate_fill(world)
    assert [asset for asset, _ in fill.fees] == ["BTC"]
    assert not world.core.ledger.breakers  # a plain fee is what was expected
    row = world.core.context.instruments.find("gateio_spot", "BTC_USDT")
    assert row is not None and row.spec.taker_fee_ppm == 200
    said = [alert.text for alert in world.alerts if alert.code == "fee_switch"]
    assert len(said) == 1 and "takes plain fees, configured are fees in GT" in said[0]
    sold = next(record for record in records(world, FillRecord) if record.venue == "mexc_spot")
    assert sold.qty <= fill.qty - fill.fees[0][1]  # sized with the fee kept back in the coin that is bought
    assert_booked_as_the_venues_did(world)


def test_a_deduction_that_nobody_configured_is_an_alarm_until_its_stock_is_gone() -> None:
    world = make("0.05", {})
    world.run(500)
    said = [alert.text for alert in world.alerts if alert.code == "fee_switch"]
    assert len(said) == 1 and "takes fees in GT, configured are plain fees" in said[0]
    buy_at_gate(world)
    assert [asset for asset, _ in gate_fill(world).fees] == ["BTC", "GT"]
    world.run(1000)
    assert not world.core.fee_stock.differences and not world.core.ledger.breakers  # plain again, as configured
    assert_booked_as_the_venues_did(world)


def test_a_switch_that_is_turned_while_running_is_noticed_once() -> None:
    world = make("3", {"gateio_spot": DEDUCTION})
    assert not [alert for alert in world.alerts if alert.code == "fee_switch"]
    switched_off(world)
    world.run(2000)
    assert len([alert for alert in world.alerts if alert.code == "fee_switch"]) == 1
    assert list(world.core.fee_stock.differences) == ["gateio_spot"]


def test_a_fee_in_points_is_worth_a_dollar_a_point() -> None:
    world = make("100", {"gateio_spot": FeeConfig(deduction=DeductionConfig(coin="POINT"))}, coin="POINT", price=1)
    buy_at_gate(world)
    fill = gate_fill(world)
    ((coin, points),) = fill.fees
    assert coin == "POINT" and points > 0
    (result,) = records(world, OperationResultRecord)
    assert result.pnl_numeraire == result.pnl["USDT"] - points
    assert world.core.rates.rate("POINT") == 1 and not world.core.ledger.breakers


def test_a_dearer_fee_in_points_trips() -> None:
    world = make("100", {"gateio_spot": FeeConfig(deduction=DeductionConfig(coin="POINT"))}, coin="POINT", price="0.5")
    buy_at_gate(world)
    assert "fee.gateio_spot.BTC_USDT" in world.core.ledger.breakers
