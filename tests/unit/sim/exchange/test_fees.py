"""Fees in deduction coins, fees in two assets of one fill, rebates, tiers that change, and their wire rows."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from pipeline.model.enums import FeeAssetRule, TimeInForce
from pipeline.sim.exchange.events import BalanceEvent
from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.faults import BadFault, FaultPlan, FaultRule
from pipeline.sim.exchange.fees import POINTS, FeeDeduction, FillFee, fill_fee
from pipeline.sim.exchange.latency import ManualClock
from pipeline.sim.exchange.order_book import BID
from pipeline.sim.exchange.orders import SimTrade
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.sim.wire.gateio import futures_rows, spot_rows
from pipeline.sim.wire.gateio.formats import ApiRequest
from pipeline.sim.wire.gateio.wallet import WalletApi
from pipeline.sim.wire.mexc import formats as mexc
from tests.worlds.sim_support import Bench

D = Decimal


def gate_bench(coin: str, stock: str, *, futures: bool = False, **switch: Any) -> Bench:
    bench = Bench(futures=futures, rule=FeeAssetRule.QUOTE if futures else FeeAssetRule.RECEIVED)
    bench.account.fee_deduction = FeeDeduction(coin=coin, **switch)
    bench.venue.settlement.external(bench.account, coin, D(stock), "deposit")
    return bench


def last_trade(bench: Bench) -> SimTrade:
    return bench.venue.trades(bench.account)[-1]


def test_a_fee_in_gt_costs_its_rate_at_the_coins_price_and_the_plain_asset_nothing() -> None:
    bench = gate_bench("GT", "5", price=D(8), rate=D("0.9"))
    order = bench.venue.place(bench.account, bench.request("buy", "0.2", "10000.5"))
    value = D("0.2") * D("10000.5") * D("0.001")
    paid = value * D("0.9") / 8
    trade = last_trade(bench)
    assert (trade.fee, trade.fee_asset, trade.coin_fee, trade.coin_asset) == (D(0), "BTC", paid, "GT")
    assert bench.free("BTC") == D("1.2") and bench.free("GT") == 5 - paid
    row = spot_rows.trade_row(trade)
    assert (row["fee"], row["fee_currency"], row["point_fee"]) == ("0", "BTC", "0") and D(row["gt_fee"]) == paid
    shown = spot_rows.order_row(order)
    assert (shown["fee"], shown["gt_discount"]) == ("0", True) and D(shown["gt_fee"]) == paid
    push = spot_rows.trade_push(trade, 77, fees=True)
    assert D(push["gt_fee"]) == paid and push["fee"] == "0"
    bench.settle()
    reported = [one for one in bench.events if isinstance(one, BalanceEvent) and one.asset == "GT"][-1]
    assert (reported.reason, reported.change) == ("trade-fee-deduct", -paid)
    assert spot_rows.balance_push(reported, bench.account)["change_type"] == "trade-fee-deduct"
    (fill,) = bench.ledger.of_kind("fill")
    assert (fill["fee"], fill["coin_fee"], fill["coin_asset"]) == (D(0), paid, "GT")


def test_a_coin_that_runs_out_leaves_a_fee_in_two_assets_then_plain_ones() -> None:
    bench = gate_bench("GT", "0.5", price=D(1))
    bench.venue.place(bench.account, bench.request("buy", "0.2", "10000.5"))
    mixed = last_trade(bench)
    full = D("0.2") * D("10000.5") * D("0.001")
    assert mixed.coin_fee == D("0.5") and bench.free("GT") == 0
    assert mixed.fee == pytest.approx(D("0.0002") * (1 - D("0.5") / full), abs=D("1e-11")) and mixed.fee_asset == "BTC"
    row = spot_rows.trade_row(mixed)
    assert D(row["fee"]) > 0 and row["gt_fee"] == "0.5"
    bench.venue.place(bench.account, bench.request("sell", "0.1", "10000"))
    assert (last_trade(bench).fee, last_trade(bench).coin_asset) == (D(1), "")
    for asset in ("BTC", "USDT", "GT"):
        assert bench.ledger.total(bench.venue.name, "user:77", asset) == bench.account.wallet(asset).total


def test_a_venue_that_does_not_split_takes_the_whole_fee_plain() -> None:
    deduction = FeeDeduction(coin="MX", splits=False)
    assert fill_fee(D(2), "USDT", D(2), deduction, D(1)) == FillFee(D(2), "USDT")
    assert fill_fee(D(2), "USDT", D(2), deduction, D(2)) == FillFee(D(0), "USDT", D(2), "MX")
    deduction.enabled = False
    assert fill_fee(D(2), "USDT", D(2), deduction, D(2)) == FillFee(D(2), "USDT")
    assert fill_fee(D(-2), "USDT", D(-2), FeeDeduction(coin="MX"), D(2)) == FillFee(D(-2), "USDT")


def test_mexc_names_mx_as_the_commission_asset() -> None:
    bench = gate_bench("MX", "100", price=D("2.5"), splits=False)
    bench.row.fee_rule = FeeAssetRule.QUOTE
    bench.venue.place(bench.account, bench.request("sell", "0.1", "10000"))
    row = mexc.trade_row(last_trade(bench))
    assert (row["commission"], row["commissionAsset"]) == ("0.4", "MX")


def test_points_pay_futures_fees_and_never_a_forced_one() -> None:
    bench = gate_bench(POINTS, "1000", futures=True)
    bench.venue.place(bench.account, bench.request("buy", "0.4", "10000.5"))
    trade = last_trade(bench)
    paid = D("0.4") * D("10000.5") * D("0.0005")
    assert (trade.fee, trade.coin_fee, trade.coin_asset) == (D(0), paid, POINTS)
    row = futures_rows.trade_row(trade, bench.row, False)
    assert row["fee"] == "0" and D(row["point_fee"]) == paid
    account = futures_rows.account_row(bench.account, bench.venue.margin_account(bench.account), "USDT")
    assert D(account["point"]) == 1000 - paid
    assert bench.account.wallet("USDT").total == D(10_000)
    bench.venue.force_close(bench.account, "BTC_USDT", "liquidation")
    assert last_trade(bench).fee > 0 and last_trade(bench).coin_fee == 0


def test_makers_are_paid_their_rebate_in_the_plain_asset() -> None:
    bench = gate_bench(POINTS, "1000", futures=True)
    bench.venue.place(bench.account, bench.request("sell", "0.1", "10001", tif=TimeInForce.GTC))
    _, fills = bench.book.cross(BID, 20_002, bench.scale)
    bench.venue.settle_own(fills, "BTC_USDT")
    trade = last_trade(bench)
    assert trade.is_maker and trade.fee == -D("0.1") * 10_001 * D("0.0001") and trade.coin_fee == 0
    assert futures_rows.trade_row(trade, bench.row, False)["fee"] == "-0.1000100".rstrip("0")


def test_a_tier_changes_while_running() -> None:
    bench = Bench()
    venues = {bench.venue.name: bench.venue}
    bench.venue.place(bench.account, bench.request("sell", "0.1", "10000"))
    assert last_trade(bench).fee == D(1)
    apply_action(venues, FaultRule.parse({"kind": "change_fee", "symbol": "BTC_USDT", "amount": "2000", "text": "-50"}))
    bench.venue.place(bench.account, bench.request("sell", "0.1", "10000"))
    assert last_trade(bench).fee == D(2) and bench.row.maker_fee_ppm == -50
    assert spot_rows.fee_row(bench.account, bench.row, None)["taker_fee"] == "0.002"
    with pytest.raises(BadFault):
        apply_action(venues, FaultRule.parse({"kind": "change_fee", "amount": "0.5"}))


def test_a_scenario_opens_the_coins_stock_and_the_switch_is_read_and_set() -> None:
    change = {
        "gateio": {"venues": {"spot": {"fee_deduction": {"coin": "GT", "price": 9, "rate": "0.9", "balance": 3}}}}
    }
    scenario = load_scenario({"extends": "demo", "name": "gt", "exchanges": change})
    clock = ManualClock()
    venues = build_venues(scenario, clock, VenueLedger(clock.mono_ns), FaultPlan(clock, random.Random(1)), 1)
    venue = venues["gateio_spot"]
    account = next(iter(venue.accounts.values()))
    assert account.wallet("GT").free == 3
    api = WalletApi(venue, None)
    assert asyncio.run(api._debit_fee(ApiRequest(params={}, account=account))) == {"enabled": True}
    fees = spot_rows.fee_row(account, venue.instruments["BTC_USDT"], None)
    assert (fees["gt_discount"], fees["gt_taker_fee"]) == (True, "0.00018")
    asyncio.run(api._set_debit_fee(ApiRequest(params={"enabled": False}, account=account)))
    assert account.fee_deduction is not None and not account.fee_deduction.enabled
    assert spot_rows.fee_row(account, None, None)["gt_discount"] is False
