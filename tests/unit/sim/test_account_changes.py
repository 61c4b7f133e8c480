"""What others do to an account: orders, modes, leverage, money in and out; and how the venues show it."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

import pytest

from pipeline.model.errors import ConfigInvalid
from pipeline.sim.exchange.fault_actions import apply_action
from pipeline.sim.exchange.fault_kinds import FAULT_KINDS
from pipeline.sim.exchange.faults import BadFault, FaultPlan, FaultRule
from pipeline.sim.exchange.latency import ManualClock
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.sim.wire.gateio import futures_rows, spot_rows
from pipeline.sim.wire.gateio.formats import ApiRequest
from pipeline.sim.wire.gateio.futures_info import FuturesInfoApi
from pipeline.sim.wire.gateio.wallet import WalletApi
from tests.worlds.sim_support import Bench

D = Decimal
SYMBOL = "BTC_USDT"


def act(bench: Bench, **fields: Any) -> int:
    where = {"symbol": SYMBOL} if "symbol" in FAULT_KINDS[fields["kind"]].fields else {}
    return apply_action({bench.venue.name: bench.venue}, FaultRule.parse({**where, **fields}))


def test_a_foreign_order_rests_at_its_price_with_its_own_id() -> None:
    bench = Bench()
    bench.venue.client_id_prefix = "t-"
    act(bench, kind="manual_order", amount="0.1", price="9000", client_id="a7x1")
    act(bench, kind="manual_order", amount="-0.1", price="+3%")
    named, unnamed = bench.venue.open_orders(bench.account)
    assert (named.client_id, named.price, named.qty) == ("t-a7x1", D(9000), D("0.1"))
    assert (unnamed.client_id, unnamed.price) == ("", D("10300.5")), "away from the mark, to the tick"
    assert spot_rows.order_row(named)["text"] == "t-a7x1" and spot_rows.order_row(unnamed)["text"] == "apiv4"
    for bad in ({"price": "soon"}, {"price": "-100%"}, {"price": "9000", "client_id": "a7x1"}):
        with pytest.raises(BadFault):
            act(bench, kind="manual_order", amount="0.1", **bad)


def test_others_change_modes_and_leverage() -> None:
    bench = Bench(futures=True)
    act(bench, kind="change_leverage", amount="3", text="cross")
    position = bench.venue.position(bench.account, SYMBOL)
    assert (position.leverage, position.is_cross) == (D(3), True)
    act(bench, kind="change_leverage", amount="4")
    assert (position.leverage, position.is_cross) == (D(4), True)
    act(bench, kind="change_mode", text="portfolio")
    row = futures_rows.account_row(bench.account, bench.venue.margin_account(bench.account), "USDT")
    assert (row["margin_mode"], row["position_mode"], row["in_dual_mode"]) == (2, "single", False)
    act(bench, kind="change_mode", text="dual")
    row = futures_rows.account_row(bench.account, bench.venue.margin_account(bench.account), "USDT")
    assert (row["position_mode"], row["in_dual_mode"]) == ("dual", True)
    act(bench, kind="change_mode", text="single")
    bench.venue.place(bench.account, bench.request("buy", "0.1"))
    for bad in (
        {"kind": "change_mode", "text": "dual"},
        {"kind": "change_mode", "text": "split"},
        {"kind": "change_leverage", "amount": "0"},
        {"kind": "change_leverage", "amount": "2", "text": "both"},
    ):
        with pytest.raises(BadFault):
            act(bench, **bad)


def test_a_scenario_opens_accounts_in_its_modes() -> None:
    change = {"gateio": {"account_mode": "single_currency", "venues": {"futures": {"position_mode": "dual"}}}}
    scenario = load_scenario({"extends": "demo", "name": "modes", "exchanges": change})
    clock = ManualClock()
    venues = build_venues(scenario, clock, VenueLedger(clock.mono_ns), FaultPlan(clock, random.Random(1)), 1)
    accounts = {name: next(iter(venue.accounts.values())) for name, venue in venues.items()}
    assert accounts["gateio_futures"].dual_side and not accounts["gateio_spot"].dual_side
    assert {name: one.account_mode for name, one in accounts.items()} == {
        "mexc_spot": "classic",
        "gateio_spot": "single_currency",
        "gateio_futures": "single_currency",
    }
    with pytest.raises(ConfigInvalid, match="account_mode"):
        load_scenario({"extends": "demo", "name": "bad", "exchanges": {"gateio": {"account_mode": "rich"}}})


def test_money_in_and_out_has_a_number_of_its_own_in_wallet_and_book() -> None:
    bench = Bench()
    act(bench, kind="deposit", asset="USDT", amount="25.5")
    act(bench, kind="withdraw", asset="BTC", amount="0.25")
    api = WalletApi(bench.venue, None)
    call = ApiRequest(params={}, account=bench.account, now_ms=bench.venue.now_ms())
    routes = api.routes()

    def get(path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = asyncio.run(routes["GET", f"/api/v4{path}"].handler(call))
        return found

    deposit, *_ = get("/wallet/deposits")
    (withdrawal,) = get("/wallet/withdrawals")
    book = {row["id"]: row for row in get("/spot/account_book")}
    assert (deposit["currency"], deposit["amount"], deposit["status"]) == ("USDT", "25.5", "DONE")
    assert (withdrawal["currency"], withdrawal["amount"]) == ("BTC", "0.25")
    assert deposit["id"].startswith("d") and withdrawal["id"].startswith("w")
    assert book[deposit["id"][1:]]["change"] == "25.5" and book[withdrawal["id"][1:]]["change"] == "-0.25"
    bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
    codes = {row["type"]: row["code"] for row in get("/spot/account_book")}
    assert codes == {"deposit": "", "withdraw": "", "order_fill": "101", "order_fee": "151"}


def test_money_moved_in_futures_is_in_the_account_book() -> None:
    bench = Bench(futures=True)
    act(bench, kind="withdraw", asset="USDT", amount="100")
    info = FuturesInfoApi(bench.venue)
    call = ApiRequest(params={"type": "dnw"}, account=bench.account, now_ms=bench.venue.now_ms())
    newest, *_ = asyncio.run(info._book(call))
    assert (newest["type"], newest["change"], newest["balance"]) == ("dnw", "-100", "9900")
