"""Fees that an account pays in coins set aside for them: planned, booked, valued, watched; only dearer ones trip."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.execution.external_records import ExternalFillRecord
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import FillRecord, OperationResultRecord
from pipeline.model.config import DeductionConfig, DetectionConfig, ExecutionConfig, FeeConfig, RiskLimits
from pipeline.model.enums import OrderSide
from pipeline.model.structs import Fill
from pipeline.risk.fee_stock import PLAIN_FEES
from pipeline.trade_state import Effect, executor_reasons
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from shm.metrics import Metrics
from tests.worlds.external_world import account_of, place
from workers.executor.pages import ExecutorNumbers

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


def gate_fee_ppm(world: VirtualWorld) -> int:
    row = world.core.context.instruments.find("gateio_spot", "BTC_USDT")
    assert row is not None
    return row.spec.taker_fee_ppm


def test_a_stock_below_what_the_next_orders_take_counts_the_plain_fee_until_it_is_filled_up() -> None:
    """Ten orders of 2000 USD at 0.018 % take 3.6 USD, 0.4 GT."""
    coin = DeductionConfig(coin="GT", discount_ppm=100_000, warn_usd=D(0), warn_days=D(0), price_usd=D(PRICE))
    world = make("0.3", {"gateio_spot": FeeConfig(deduction=coin)})
    assert gate_fee_ppm(world) == 180
    world.run(3000)
    assert gate_fee_ppm(world) == 200
    (text,) = world.core.fee_stock.short.values()
    assert "0.3 GT for fees, the next 10 orders take" in text
    assert [reason.effect for reason in executor_reasons(world.core) if reason.what == text] == [Effect.NOTE]
    buy_at_gate(world)
    sold = next(record for record in records(world, FillRecord) if record.venue == "mexc_spot")
    fill = gate_fill(world)
    assert sold.qty <= fill.qty * (1 - D("0.0002")), "sized as if the fee were taken of what is bought"
    world.arm(kind="deposit", venue="gateio_spot", asset="GT", amount=10)
    world.run(3000)
    assert gate_fee_ppm(world) == 180 and not world.core.fee_stock.short
    assert not world.core.ledger.breakers


def test_a_stock_that_no_book_prices_now_is_neither_filled_up_nor_short() -> None:
    """0.01 SOL at 150 USD do not pay 3.6 USD; without a price nobody knows what the next orders take."""
    coin = DeductionConfig(coin="SOL", discount_ppm=100_000, warn_usd=D(0), warn_days=D(0))
    world = make("0", {"gateio_spot": FeeConfig(deduction=coin)}, coin="SOL", price=150)
    stock, held = world.core.fee_stock, account_of(world, "gateio_spot").wallets["SOL"].total
    world.arm(kind="withdraw", venue="gateio_spot", asset="SOL", amount=float(held - D("0.01")))
    world.run(3000)
    assert not stock.short and "gateio_spot" not in stock.looked_at, "the value of the run before holds"
    world.market.quote("mexc_spot", "SOLUSDT", Quote(D(150), qty=D(100)))
    world.run(3000)
    assert list(stock.short) == ["gateio_spot"] and gate_fee_ppm(world) == 200
    world.core.rates.rate_since = lambda asset, mono_ns: None  # type: ignore[method-assign]
    world.run(3000)
    assert list(stock.short) == ["gateio_spot"] and gate_fee_ppm(world) == 200


@pytest.mark.parametrize(("stock", "plain"), [("0.6", 0), ("0.3", 1)])
def test_each_life_says_whether_fees_count_plain_as_soon_as_it_has_seen_the_stock(stock: str, plain: int) -> None:
    """0.6 GT is what a life that found too little would not take as filled up, and one that begins does: the supervisor
    keeps the value of the run before until there is another."""
    coin = DeductionConfig(coin="GT", discount_ppm=100_000, warn_usd=D(0), warn_days=D(0), price_usd=D(PRICE))
    world = make(stock, {"gateio_spot": FeeConfig(deduction=coin)})
    world.run(3000)
    metrics = Metrics.private()
    ExecutorNumbers(metrics).gauges(world.core)
    assert metrics.counters()[f"{PLAIN_FEES}gateio_spot"] == plain
    world.kill()
    world.run(3000)
    metrics = Metrics.private()
    ExecutorNumbers(metrics).gauges(world.core)
    assert metrics.counters()[f"{PLAIN_FEES}gateio_spot"] == plain


def test_a_fee_in_two_assets_is_booked_in_both_and_plain_ones_trip_nothing_once_the_stock_is_gone() -> None:
    world = make("0.05", {"gateio_spot": DEDUCTION})
    buy_at_gate(world)
    assert [asset for asset, _ in gate_fill(world).fees] == ["BTC", "GT"]
    assert not world.core.ledger.breakers
    assert_booked_as_the_venues_did(world)
    world.run(20_000)
    assert [alert.text for alert in world.alerts if alert.code == "fee_stock" and "no GT left" in alert.text] == [
        "gateio_spot: no GT left for fees: they are taken undiscounted, in the plain asset"
    ]
    assert gate_fee_ppm(world) == 200
    world.market.move("gateio_spot", "BTC_USDT", D("64000"))
    world.run(500)
    buy_at_gate(world)
    assert not world.core.ledger.breakers, "a plain fee is what was expected"
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


@pytest.mark.parametrize("coin", ["GT", "XYZ"])
def test_a_trade_by_hand_with_its_fee_in_a_coin_without_a_price_stops_no_entry(coin: str) -> None:
    world = make("3", {}, coin=coin)
    assert world.core.rates.rate(coin) is None
    place(world, "gateio_spot", "BTC_USDT", D("0.02"))
    assert world.run_until(lambda: world.core.ledger.external.trades.coins, limit_ms=8000)
    world.run(2500)
    (record,) = records(world, ExternalFillRecord)
    assert [asset for asset, _ in record.fees] == [coin]
    worth, plain_fee = world.core.risk.gate.worth, record.qty * record.price * D("0.0002")
    assert not worth.unknown
    assert world.core.ledger.external.trades.realised == {"USDT": -plain_fee}, "what was expected in quote"
    world.run(120_000)
    assert not worth.unknown and worth.foreign_in_all <= -plain_fee
    replayed = Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == world.core.ledger.digest()


def test_a_fee_of_others_in_a_coin_that_an_older_journal_did_not_value_stops_no_entry() -> None:
    world = make("3", {})
    world.core.ledger.external.trades.realised.update({"GT": D("-0.1"), "USDT": D(-5)})
    world.run(2500)
    worth = world.core.risk.gate.worth
    assert not worth.unknown and worth.foreign_in_all == -5
    world.core.ledger.external.trades.realised["EURI"] = D(-7)
    world.run(2500)
    assert list(worth.unknown) == ["EURI of others"], "what was lost in a quote counts"


def test_a_stock_that_is_worth_little_is_a_note_once() -> None:
    coin = DeductionConfig(coin="USDT", warn_usd=D(10**9))  # a coin that has a price without a book
    world = make("0", {"gateio_spot": FeeConfig(deduction=coin)})
    world.run(30_000)
    (note,) = [alert for alert in world.alerts if alert.code == "fee_stock"]
    assert note.severity == 0 and "below 1000000000" in note.text


@pytest.mark.parametrize("listed_once", [False, True])
def test_a_coin_that_its_venue_does_not_list_is_short_only_if_it_was_listed_once(listed_once: bool) -> None:
    """One that was never listed may lie in another wallet, which pays the fees."""
    coin = DeductionConfig(coin="GT", discount_ppm=100_000, warn_usd=D(0), warn_days=D(0), price_usd=D(PRICE))
    world = make("3", {"gateio_spot": FeeConfig(deduction=coin)})
    del account_of(world, "gateio_spot").wallets["GT"]
    if not listed_once:
        world.entries.clear()
    world.kill()
    world.run(30_000)
    balances, short = world.core.balances, world.core.fee_stock.short
    assert balances.reported("gateio_spot") and balances.get_balance("gateio_spot", "GT") is None
    assert list(short) == (["gateio_spot"] if listed_once else [])
    assert gate_fee_ppm(world) == (200 if listed_once else 180)
    assert any(alert.code == "fee_stock" for alert in world.alerts) is listed_once
    world.arm(kind="deposit", venue="gateio_spot", asset="GT", amount=0.01)
    world.run(3000)
    assert list(short) == ["gateio_spot"] and gate_fee_ppm(world) == 200


@pytest.mark.parametrize("came", ["never", "deposited", "bought"])
def test_a_coin_that_came_after_the_journal_began_and_is_used_up_is_short(came: str) -> None:
    """It is not listed in this run, as the venue leaves zeros out, and its first balance was zero."""
    coin = DeductionConfig(coin="GT", discount_ppm=100_000, warn_usd=D(0), warn_days=D(0), price_usd=D(PRICE))
    world = make("3", {"gateio_spot": FeeConfig(deduction=coin)})
    del account_of(world, "gateio_spot").wallets["GT"]
    world.entries.clear()
    world.kill()
    key, ledger = ("gateio_spot", "GT"), world.core.ledger
    ledger.baseline[key] = (D(0), D(0))
    ledger.accounts.fees[key], ledger.accounts.flows[key] = D("0.2"), D("-0.2")  # another wallet may have paid them
    if came == "deposited":
        ledger.accounts.external[key] = D("0.2")
    elif came == "bought":
        ledger.accounts.flows[key] += D("0.2")
    world.run(10_000)
    assert list(world.core.fee_stock.short) == ([] if came == "never" else ["gateio_spot"])
    assert gate_fee_ppm(world) == (180 if came == "never" else 200)


def test_what_others_lost_in_a_fee_coin_that_has_books_is_unknown_while_they_are_dead() -> None:
    world = make("3", {"gateio_spot": FeeConfig(deduction=DeductionConfig(coin="BTC"))})
    world.core.ledger.external.trades.realised["BTC"] = D("-0.1")
    world.run(2500)
    worth = world.core.risk.gate.worth
    assert not worth.unknown and worth.foreign_in_all == pytest.approx(-6400, rel=D("0.01"))
    world.stalled.update(world.venues)
    world.run(8000)
    assert list(worth.unknown) == ["BTC of others"]


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


def maker_fill(fee: str, asset: str) -> tuple[VirtualWorld, FillRecord]:
    """A spot buy at Gate.io as a maker, with such a fee."""
    world = make("0", {})
    buy_at_gate(world)
    return world, msgspec.structs.replace(gate_fill(world), is_maker=True, fee=D(fee), fee_asset=asset)


@pytest.mark.parametrize(("fee", "asset", "trips"), [("-0.01", "USDT", False), ("0.01", "USDT", True)])
def test_a_rebate_in_the_other_coin_of_a_pair_trips_nothing(fee: str, asset: str, trips: bool) -> None:
    """A fee is taken off what is received; a maker's rebate is paid the other way round (Bybit spot)."""
    world, record = maker_fill(fee, asset)
    row = world.core.context.instruments.find(record.venue, record.symbol)
    known = {name: getattr(record, name) for name in Fill.__struct_fields__}
    assert row is not None and record.side is OrderSide.BUY
    assert bool(world.core.fees.fault(row, Fill(**known))) is trips


def test_a_makers_fee_in_a_coin_without_a_price_is_worth_what_a_maker_pays() -> None:
    world, fill = maker_fill("2", "NEW")
    row = world.core.context.instruments.find(fill.venue, fill.symbol)
    assert row is not None
    row = msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, maker_fee_ppm=100, taker_fee_ppm=1000))
    world.core.context.instruments.update([row])
    assert world.core.fees.coin_rates([fill], "USDT") == {"NEW": fill.qty * fill.price * D("0.0001") / 2}
