"""ccxt (binanceusdm) over REST on the simulated Binance USDⓈ-M: markets, orders, positions, modes, income, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt

VENUE = "binance_futures"
SYMBOL = "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def box() -> Iterator[HostedSim]:
    hosted = HostedSim("five_venues")
    yield hosted
    hosted.stop()


@pytest.fixture(scope="module")
def usdm(box: HostedSim) -> Any:
    exchange = point(ccxt.binanceusdm(credentials(box, VENUE)), box, VENUE)
    exchange.load_markets()
    return exchange


def flatten(usdm: Any) -> None:
    for position in usdm.fetch_positions([SYMBOL]):
        side = "sell" if position["side"] == "long" else "buy"
        usdm.create_order(SYMBOL, "market", side, position["contracts"], None, {"reduceOnly": True})


def test_markets_and_public_lists_are_parsed(usdm: Any) -> None:
    market = usdm.market(SYMBOL)
    assert market["active"] and market["linear"] and market["contractSize"] == 1
    assert market["precision"] == market["precision"] | {"amount": 0.001, "price": 0.1}
    assert market["limits"]["cost"]["min"] == 5
    book = usdm.fetch_order_book(SYMBOL, 20)
    assert len(book["bids"]) == 20 and book["bids"][0][0] < book["asks"][0][0]
    assert usdm.fetch_ticker(SYMBOL)["last"] > 0 and usdm.fetch_trades(SYMBOL)[-1]["amount"] > 0
    assert usdm.fetch_ohlcv(SYMBOL, "1m", limit=3)
    rate = usdm.fetch_funding_rate(SYMBOL)
    assert rate["fundingRate"] == 0.0001 and rate["markPrice"] > 0
    assert usdm.fetch_funding_intervals()["SOL/USDT:USDT"]["interval"] == "4h"
    assert usdm.fetch_trading_fee(SYMBOL)["taker"] == 0.0002
    assert usdm.fetch_open_interest(SYMBOL)["openInterestAmount"] >= 0


def test_leverage_tiers_are_the_brackets(usdm: Any) -> None:
    tiers = usdm.fetch_leverage_tiers([SYMBOL])[SYMBOL]
    assert [(tier["maxNotional"], tier["maintenanceMarginRate"], tier["maxLeverage"]) for tier in tiers] == [
        (50_000, 0.004, 125), (600_000, 0.005, 100), (3_000_000, 0.0065, 75),
    ]  # fmt: skip


def test_limit_order_rests_is_found_by_both_ids_is_changed_and_cancelled(usdm: Any) -> None:
    price = round(usdm.fetch_order_book(SYMBOL, 5)["bids"][0][0] * 0.97, 1)
    placed = usdm.create_order(SYMBOL, "limit", "buy", 0.01, price, {"clientOrderId": "client1"})
    found = usdm.fetch_order(placed["id"], SYMBOL)
    assert (found["status"], found["price"], found["amount"], found["filled"]) == ("open", price, 0.01, 0)
    assert usdm.fetch_order("", SYMBOL, {"clientOrderId": "client1"})["id"] == placed["id"]
    assert usdm.fetch_balance()["USDT"]["used"] > 0
    assert [order["id"] for order in usdm.fetch_open_orders(SYMBOL)] == [placed["id"]]
    with pytest.raises(ccxt.ExchangeError, match="-4116"):  # the id is in use
        usdm.create_order(SYMBOL, "limit", "buy", 0.01, price, {"clientOrderId": "client1"})
    changed = usdm.edit_order(placed["id"], SYMBOL, "limit", "buy", 0.02, price)
    assert (changed["id"], changed["amount"]) == (placed["id"], 0.02)
    assert usdm.cancel_order(placed["id"], SYMBOL)["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound):
        usdm.cancel_order(placed["id"], SYMBOL)


def test_position_follows_its_fills_and_is_closed_reduce_only(usdm: Any) -> None:
    usdm.set_margin_mode("isolated", SYMBOL)
    usdm.set_leverage(5, SYMBOL)
    assert usdm.fetch_leverage(SYMBOL)["longLeverage"] == 5
    before = usdm.fetch_balance()["USDT"]["total"]
    placed = usdm.create_order(SYMBOL, "market", "buy", 0.004)
    order = usdm.fetch_order(placed["id"], SYMBOL)
    assert (order["status"], order["filled"]) == ("closed", 0.004) and order["average"] > 0
    (position,) = usdm.fetch_positions([SYMBOL])
    assert (position["side"], position["contracts"]) == ("long", 0.004)
    assert position["marginMode"] == "isolated" and 0 < position["liquidationPrice"] < position["markPrice"]
    added = usdm.add_margin(SYMBOL, 7)
    assert added["amount"] == 7
    trades = [row for row in usdm.fetch_my_trades(SYMBOL) if row["order"] == placed["id"]]
    assert sum(row["amount"] for row in trades) == pytest.approx(0.004)
    assert {row["fee"]["currency"] for row in trades} == {"USDT"}
    flatten(usdm)
    assert usdm.fetch_positions([SYMBOL]) == []
    with pytest.raises(ccxt.ExchangeError):  # nothing to reduce
        usdm.create_order(SYMBOL, "market", "sell", 0.001, None, {"reduceOnly": True})
    own = [row for row in usdm.fetch_my_trades(SYMBOL) if int(row["order"]) >= int(placed["id"])]
    paid = sum(row["fee"]["cost"] for row in own)
    gained = sum(float(row["info"]["realizedPnl"]) for row in own)
    assert usdm.fetch_balance()["USDT"]["total"] == pytest.approx(before + gained - paid)


def test_what_cannot_fill_expires_and_what_would_take_is_refused(usdm: Any) -> None:
    book = usdm.fetch_order_book(SYMBOL, 5)
    far, near = round(book["bids"][0][0] * 0.98, 1), round(book["asks"][0][0] * 1.01, 1)
    missed = usdm.create_order(SYMBOL, "limit", "buy", 0.01, far, {"timeInForce": "IOC", "newOrderRespType": "RESULT"})
    assert missed["info"]["status"] == "EXPIRED"
    with pytest.raises(ccxt.InvalidOrder):
        usdm.create_order(SYMBOL, "limit", "buy", 0.01, near, {"postOnly": True})
    with pytest.raises(ccxt.ExchangeError, match="-2019"):
        usdm.create_order(SYMBOL, "limit", "buy", 500, far)
    with pytest.raises(ccxt.BaseError):
        usdm.create_order(SYMBOL, "limit", "buy", 0.01, far, {"positionSide": "LONG"})


def test_hedge_mode_has_two_positions_and_is_left_when_nothing_is_open(usdm: Any) -> None:
    usdm.set_position_mode(True)
    try:
        assert usdm.fetch_position_mode(SYMBOL)["hedged"]
        usdm.create_order(SYMBOL, "market", "buy", 0.002, None, {"positionSide": "LONG"})
        usdm.create_order(SYMBOL, "market", "sell", 0.003, None, {"positionSide": "SHORT"})
        held = {(row["side"], row["contracts"]) for row in usdm.fetch_positions([SYMBOL])}
        assert held == {("long", 0.002), ("short", 0.003)}
        with pytest.raises(ccxt.BaseError):
            usdm.set_position_mode(False)
        usdm.create_order(SYMBOL, "market", "sell", 0.002, None, {"positionSide": "LONG"})
        usdm.create_order(SYMBOL, "market", "buy", 0.003, None, {"positionSide": "SHORT"})
    finally:
        usdm.set_position_mode(False)
    assert not usdm.fetch_position_mode(SYMBOL)["hedged"]


def test_income_funding_and_money_from_outside_are_listed(box: HostedSim, usdm: Any) -> None:
    venue = box.venue(VENUE)
    usdm.create_order(SYMBOL, "market", "buy", 0.002)
    box.call(lambda: venue.apply_funding("BTCUSDT"))
    (paid,) = usdm.fetch_funding_history(SYMBOL)
    assert paid["code"] == "USDT" and paid["amount"] != 0
    assert usdm.fetch_funding_rate_history(SYMBOL)[-1]["fundingRate"] == 0.0001
    kinds = {row["type"] for row in usdm.fetch_ledger("USDT")}
    assert {"transfer", "fee"} <= kinds
    flatten(usdm)


def test_wrong_secret_and_unknown_key_are_refused(box: HostedSim) -> None:
    good = credentials(box, VENUE)
    for wrong in ({"secret": "0" * 32}, {"apiKey": "nobody"}):
        with pytest.raises(ccxt.AuthenticationError):
            point(ccxt.binanceusdm(good | wrong), box, VENUE).fetch_balance()
