"""ccxt over REST on the simulated Binance spot: markets, orders of every kind, trades, balances, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt

SYMBOL = "BTC/USDT"
OPTIONS = {"options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}}


@pytest.fixture(scope="module")
def box() -> Iterator[HostedSim]:
    hosted = HostedSim("four_venues")
    yield hosted
    hosted.stop()


@pytest.fixture(scope="module")
def binance(box: HostedSim) -> Any:
    exchange = point(ccxt.binance(credentials(box, "binance_spot") | OPTIONS), box, "binance_spot")
    exchange.load_markets()
    return exchange


def test_markets_and_public_lists_are_parsed(binance: Any) -> None:
    market = binance.market(SYMBOL)
    assert market["active"] and market["precision"] == market["precision"] | {"amount": 1e-5, "price": 0.01}
    assert market["limits"]["cost"]["min"] == 5 and "USDT" in binance.currencies
    book = binance.fetch_order_book(SYMBOL, 20)
    assert len(book["bids"]) == 20 and book["bids"][0][0] < book["asks"][0][0]
    ticker = binance.fetch_ticker(SYMBOL)
    assert ticker["bid"] < ticker["ask"] and ticker["last"] > 0
    assert binance.fetch_ohlcv(SYMBOL, "1m", limit=3)
    assert binance.fetch_trading_fee(SYMBOL)["taker"] == 0.0002


def test_limit_order_rests_is_found_by_both_ids_and_is_cancelled(binance: Any) -> None:
    price = round(binance.fetch_order_book(SYMBOL, 5)["bids"][0][0] * 0.97, 2)
    before = binance.fetch_balance()["USDT"]
    placed = binance.create_order(SYMBOL, "limit", "buy", 0.01, price, {"clientOrderId": "client1"})
    found = binance.fetch_order(placed["id"], SYMBOL)
    assert (found["status"], found["price"], found["amount"], found["filled"]) == ("open", price, 0.01, 0)
    assert binance.fetch_order("", SYMBOL, {"clientOrderId": "client1"})["id"] == placed["id"]
    held = binance.fetch_balance()["USDT"]
    assert held["used"] - before["used"] == pytest.approx(price * 0.01)
    assert [order["id"] for order in binance.fetch_open_orders(SYMBOL)] == [placed["id"]]
    with pytest.raises(ccxt.InvalidOrder):  # the id is in use
        binance.create_order(SYMBOL, "limit", "buy", 0.01, price, {"clientOrderId": "client1"})
    assert binance.cancel_order(placed["id"], SYMBOL)["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound):
        binance.cancel_order(placed["id"], SYMBOL)


def test_ioc_order_fills_and_its_trades_move_the_balances(binance: Any) -> None:
    before = binance.fetch_balance()
    price = round(binance.fetch_order_book(SYMBOL, 5)["asks"][0][0] * 1.01, 2)
    placed = binance.create_order(SYMBOL, "limit", "buy", 0.002, price, {"timeInForce": "IOC"})
    assert (placed["status"], placed["filled"]) == ("closed", 0.002)
    trades = [row for row in binance.fetch_my_trades(SYMBOL) if row["order"] == placed["id"]]
    assert sum(row["amount"] for row in trades) == pytest.approx(0.002)
    assert {row["fee"]["currency"] for row in trades} == {"BTC"}
    after = binance.fetch_balance()
    fee = sum(row["fee"]["cost"] for row in trades)
    assert after["BTC"]["total"] - before["BTC"]["total"] == pytest.approx(0.002 - fee, abs=1e-9)
    spent = sum(row["price"] * row["amount"] for row in trades)
    assert before["USDT"]["total"] - after["USDT"]["total"] == pytest.approx(spent)


def test_what_cannot_fill_expires_and_post_only_that_takes_is_refused(binance: Any) -> None:
    book = binance.fetch_order_book(SYMBOL, 5)
    far, near = round(book["bids"][0][0] * 0.98, 2), round(book["asks"][0][0] * 1.01, 2)
    for kind in ("IOC", "FOK"):
        missed = binance.create_order(SYMBOL, "limit", "buy", 0.01, far, {"timeInForce": kind})
        assert missed["info"]["status"] == "EXPIRED"
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        binance.create_order(SYMBOL, "limit", "buy", 0.01, near, {"postOnly": True})
    with pytest.raises(ccxt.InsufficientFunds):
        binance.create_order(SYMBOL, "limit", "buy", 20, far)


def test_wrong_secret_and_unknown_key_are_refused(box: HostedSim) -> None:
    good = credentials(box, "binance_spot") | OPTIONS
    for wrong in ({"secret": "0" * 32}, {"apiKey": "nobody"}):
        with pytest.raises(ccxt.AuthenticationError):
            point(ccxt.binance(good | wrong), box, "binance_spot").fetch_balance()
