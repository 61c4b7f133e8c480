"""ccxt over REST: markets, books, balances, orders of every kind, trades, positions, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt


@pytest.fixture(scope="module")
def mexc(sim: HostedSim) -> Any:
    exchange = point(ccxt.mexc(credentials(sim, "mexc_spot")), sim, "mexc_spot")
    exchange.load_markets()
    return exchange


@pytest.fixture(scope="module")
def gate(sim: HostedSim) -> Any:
    exchange = point(ccxt.gate(credentials(sim, "gateio_spot")), sim, "gateio_spot")
    exchange.load_markets()
    return exchange


@pytest.fixture(scope="module")
def swap(sim: HostedSim) -> Iterator[Any]:
    """Gate.io perpetuals; leaves no position behind."""
    config = credentials(sim, "gateio_futures") | {"options": {"defaultType": "swap"}}
    exchange = point(ccxt.gate(config), sim, "gateio_futures")
    exchange.load_markets()
    yield exchange
    for position in exchange.fetch_positions():
        if position["contracts"]:
            side = "sell" if position["side"] == "long" else "buy"
            exchange.create_order(
                position["symbol"], "market", side, position["contracts"], params={"reduceOnly": True}
            )


SPOT = pytest.mark.parametrize("name", ["mexc", "gate"])


@SPOT
def test_spot_markets_carry_precision_minima_fees_and_currencies(name: str, request: pytest.FixtureRequest) -> None:
    exchange = request.getfixturevalue(name)
    market = exchange.market("BTC/USDT")
    assert market["spot"] and market["active"]
    assert market["precision"]["amount"] == 1e-6
    assert market["precision"]["price"] == (0.01 if name == "mexc" else 0.1)
    assert market["limits"]["cost"]["min"] == (1 if name == "mexc" else 3)
    assert market["taker"] == (0.0005 if name == "mexc" else 0.002)
    assert "USDT" in exchange.currencies
    assert exchange.currencies["NOVA"]["networks"]


def test_coin_identity_of_the_same_ticker_differs_between_the_exchanges(mexc: Any, gate: Any) -> None:
    mexc_row = next(iter(mexc.currencies["NOVA"]["networks"].values()))["info"]
    gate_row = next(iter(gate.currencies["NOVA"]["networks"].values()))["info"]
    assert mexc_row["contract"] != gate_row["addr"]
    assert mexc_row["contract"].startswith("0x") and gate_row["addr"].startswith("0x")


@SPOT
def test_public_data_is_parsed(name: str, request: pytest.FixtureRequest) -> None:
    exchange = request.getfixturevalue(name)
    book = exchange.fetch_order_book("BTC/USDT", 20)
    assert len(book["bids"]) == len(book["asks"]) == 20
    assert book["bids"][0][0] < book["asks"][0][0] and book["nonce"] > 0
    ticker = exchange.fetch_ticker("BTC/USDT")
    assert ticker["bid"] < ticker["ask"] and ticker["last"] > 0
    assert abs(exchange.fetch_time() - exchange.milliseconds()) < 5_000
    for trade in exchange.fetch_trades("BTC/USDT"):
        assert trade["side"] in ("buy", "sell") and trade["amount"] > 0


@SPOT
def test_limit_order_rests_is_found_by_both_ids_and_is_cancelled(name: str, request: pytest.FixtureRequest) -> None:
    exchange = request.getfixturevalue(name)
    book = exchange.fetch_order_book("BTC/USDT", 5)
    price = round(book["bids"][0][0] * 0.97, 1)
    client_id = "t-client1" if name == "gate" else "ab_client1"
    before = exchange.fetch_balance()["USDT"]
    placed = exchange.create_order("BTC/USDT", "limit", "buy", 0.01, price, {"clientOrderId": client_id})
    found = exchange.fetch_order(placed["id"], "BTC/USDT")
    assert (found["status"], found["price"], found["amount"], found["filled"]) == ("open", price, 0.01, 0)
    assert found["clientOrderId"] == client_id
    if name == "gate":
        assert exchange.fetch_order(client_id, "BTC/USDT")["id"] == placed["id"]
    else:
        by_client = exchange.fetch_order("", "BTC/USDT", {"clientOrderId": client_id})
        assert by_client["id"] == placed["id"]
    held = exchange.fetch_balance()["USDT"]
    assert held["used"] - before["used"] == pytest.approx(price * 0.01, rel=1e-3)
    assert placed["id"] in [order["id"] for order in exchange.fetch_open_orders("BTC/USDT")]
    cancelled = exchange.cancel_order(placed["id"], "BTC/USDT")
    assert cancelled["status"] == "canceled"
    assert exchange.fetch_open_orders("BTC/USDT") == []
    assert exchange.fetch_balance()["USDT"]["free"] == before["free"]
    with pytest.raises(ccxt.BadRequest if name == "mexc" else ccxt.InvalidOrder):
        exchange.cancel_order(placed["id"], "BTC/USDT")


@SPOT
def test_ioc_buy_fills_is_listed_with_its_trades_and_moves_the_balances(
    name: str, request: pytest.FixtureRequest
) -> None:
    exchange = request.getfixturevalue(name)
    before = exchange.fetch_balance()
    ask = exchange.fetch_order_book("ETH/USDT", 5)["asks"][0][0]
    price = round(ask * 1.01, 2)
    placed = exchange.create_order("ETH/USDT", "limit", "buy", 0.02, price, {"timeInForce": "IOC"})
    order = exchange.fetch_order(placed["id"], "ETH/USDT")
    assert (order["status"], order["filled"], order["timeInForce"]) == ("closed", 0.02, "IOC")
    trades = [trade for trade in exchange.fetch_my_trades("ETH/USDT") if trade["order"] == placed["id"]]
    assert sum(trade["amount"] for trade in trades) == pytest.approx(0.02)
    assert all(trade["takerOrMaker"] == "taker" and trade["side"] == "buy" for trade in trades)
    after = exchange.fetch_balance()
    fee = sum(trade["fee"]["cost"] for trade in trades)
    fee_asset = trades[0]["fee"]["currency"]
    assert fee_asset == ("USDT" if name == "mexc" else "ETH")
    spent = sum(trade["price"] * trade["amount"] for trade in trades) + (fee if fee_asset == "USDT" else 0)
    got = 0.02 - (fee if fee_asset == "ETH" else 0)
    assert before["USDT"]["total"] - after["USDT"]["total"] == pytest.approx(spent)
    assert after["ETH"]["total"] - before["ETH"]["total"] == pytest.approx(got)
    finder = exchange.fetch_orders if name == "mexc" else exchange.fetch_closed_orders
    assert placed["id"] in [row["id"] for row in finder("ETH/USDT")]


@SPOT
def test_market_orders_spend_quote_to_buy_and_base_to_sell(name: str, request: pytest.FixtureRequest) -> None:
    exchange = request.getfixturevalue(name)
    bought = exchange.create_order("SOL/USDT", "market", "buy", 0, None, {"cost": 150})
    order = exchange.fetch_order(bought["id"], "SOL/USDT")
    assert order["status"] == "closed" and order["type"] == "market"
    trades = [trade for trade in exchange.fetch_my_trades("SOL/USDT") if trade["order"] == bought["id"]]
    cost = sum(trade["price"] * trade["amount"] for trade in trades)
    assert 140 < cost <= 150
    sold = exchange.create_order("SOL/USDT", "market", "sell", 0.5)
    assert exchange.fetch_order(sold["id"], "SOL/USDT")["filled"] == 0.5


def test_mexc_order_kinds_end_as_the_venue_says(mexc: Any) -> None:
    book = mexc.fetch_order_book("BTC/USDT", 5)
    bid, ask = book["bids"][0][0], book["asks"][0][0]
    far = round(bid * 0.98, 2)
    missed = mexc.create_order("BTC/USDT", "limit", "buy", 0.01, far, {"timeInForce": "IOC"})
    assert mexc.fetch_order(missed["id"], "BTC/USDT")["status"] == "canceled"
    killed = mexc.create_order("BTC/USDT", "limit", "buy", 0.01, far, {"timeInForce": "FOK"})
    assert mexc.fetch_order(killed["id"], "BTC/USDT")["info"]["status"] == "CANCELED"
    maker = mexc.create_order("BTC/USDT", "limit", "buy", 0.01, far, {"postOnly": True})
    found = mexc.fetch_order(maker["id"], "BTC/USDT")
    assert (found["status"], found["info"]["type"]) == ("open", "LIMIT_MAKER")
    assert [row["id"] for row in mexc.cancel_all_orders("BTC/USDT")] == [maker["id"]]
    crossing = mexc.create_order("BTC/USDT", "limit", "buy", 0.01, round(ask * 1.01, 2), {"postOnly": True})
    assert mexc.fetch_order(crossing["id"], "BTC/USDT")["info"]["status"] == "CANCELED"


def test_gate_order_kinds_end_or_are_refused_with_labels(gate: Any) -> None:
    book = gate.fetch_order_book("BTC/USDT", 5)
    far, near = round(book["bids"][0][0] * 0.98, 1), round(book["asks"][0][0] * 1.01, 1)
    missed = gate.create_order("BTC/USDT", "limit", "buy", 0.01, far, {"timeInForce": "IOC"})
    assert (missed["status"], missed["info"]["finish_as"]) == ("canceled", "ioc")
    with pytest.raises(ccxt.ExchangeError, match="POC_FILL_IMMEDIATELY"):
        gate.create_order("BTC/USDT", "limit", "buy", 0.01, near, {"postOnly": True})
    with pytest.raises(ccxt.ExchangeError, match="FOK_NOT_FILL"):
        gate.create_order("BTC/USDT", "limit", "buy", 0.01, far, {"timeInForce": "FOK"})
    resting = gate.create_order("BTC/USDT", "limit", "buy", 0.01, far, {"postOnly": True})
    assert resting["status"] == "open"
    assert [row["id"] for row in gate.cancel_all_orders("BTC/USDT")] == [resting["id"]]


def test_refusals_raise_the_exceptions_that_ccxt_knows(mexc: Any, gate: Any) -> None:
    price = mexc.fetch_order_book("BTC/USDT", 5)["bids"][0][0]
    with pytest.raises(ccxt.InsufficientFunds, match="Oversold"):
        mexc.create_order("BTC/USDT", "limit", "sell", 20, round(price * 1.02, 2))
    with pytest.raises(ccxt.InsufficientFunds):
        mexc.create_order("BTC/USDT", "limit", "buy", 20, round(price * 0.98, 2))
    with pytest.raises(ccxt.InsufficientFunds):
        gate.create_order("BTC/USDT", "limit", "sell", 20, round(price * 1.02, 1))
    with pytest.raises(ccxt.InvalidOrder):
        mexc.create_order("BTC/USDT", "limit", "buy", 0.000001, round(price * 0.99, 2))
    with pytest.raises(ccxt.ExchangeError, match="too small"):
        gate.create_order("BTC/USDT", "limit", "buy", 0.00002, round(price * 0.99, 1))
    with pytest.raises(ccxt.ExchangeError, match="-2013"):
        mexc.fetch_order("C02__1", "BTC/USDT")
    with pytest.raises(ccxt.OrderNotFound):
        gate.fetch_order("1", "BTC/USDT")


@SPOT
def test_wrong_secret_and_unknown_key_are_refused(name: str, sim: HostedSim) -> None:
    venue = "mexc_spot" if name == "mexc" else "gateio_spot"
    kind = getattr(ccxt, name)
    good = credentials(sim, venue)
    wrong = point(kind(good | {"secret": "0" * 32}), sim, venue)
    with pytest.raises(ccxt.AuthenticationError):
        wrong.fetch_balance()
    unknown = point(kind(good | {"apiKey": "nobody"}), sim, venue)
    with pytest.raises(ccxt.BadRequest if name == "mexc" else ccxt.AuthenticationError):
        unknown.fetch_balance()


@SPOT
def test_own_fees_come_from_the_account_endpoint(name: str, request: pytest.FixtureRequest) -> None:
    exchange = request.getfixturevalue(name)
    fee = exchange.fetch_trading_fee("BTC/USDT")
    assert fee["taker"] == (0.0001 if name == "mexc" else 0.0002)


def test_swap_market_carries_contract_size_and_limits(swap: Any) -> None:
    market = swap.market("BTC/USDT:USDT")
    assert (market["contractSize"], market["precision"]["amount"], market["precision"]["price"]) == (0.0001, 1, 0.1)
    assert market["limits"]["amount"]["min"] == 1
    funding = swap.fetch_funding_rate("BTC/USDT:USDT")
    assert funding["fundingRate"] == 0.0001 and funding["markPrice"] > 0


def test_swap_book_is_in_contracts(swap: Any, sim: HostedSim) -> None:
    book = swap.fetch_order_book("BTC/USDT:USDT", 20)
    assert len(book["bids"]) == 20 and book["bids"][0][0] < book["asks"][0][0]
    assert all(float(size).is_integer() for _, size in book["bids"])


def test_swap_position_opens_is_shown_with_leverage_and_closes_reduce_only(swap: Any) -> None:
    symbol = "BTC/USDT:USDT"
    swap.set_leverage(7, symbol)
    before = swap.fetch_balance()["USDT"]
    ask = swap.fetch_order_book(symbol, 5)["asks"][0][0]
    opened = swap.create_order(symbol, "limit", "buy", 12, round(ask * 1.01, 1), {"timeInForce": "IOC"})
    assert (opened["status"], opened["filled"]) == ("closed", 12)
    (position,) = [row for row in swap.fetch_positions() if row["symbol"] == symbol]
    assert (position["side"], position["contracts"], position["leverage"]) == ("long", 12, 7)
    assert position["entryPrice"] == pytest.approx(opened["average"])
    assert swap.fetch_position(symbol)["contracts"] == 12
    trades = [row for row in swap.fetch_my_trades(symbol) if row["order"] == opened["id"]]
    assert sum(row["amount"] for row in trades) == 12 and trades[0]["fee"]["cost"] > 0
    assert swap.fetch_balance()["USDT"]["free"] < before["free"]
    closed = swap.create_order(symbol, "market", "sell", 50, params={"reduceOnly": True})
    assert closed["filled"] == 12
    assert swap.fetch_position(symbol)["contracts"] == 0
    with pytest.raises(ccxt.ExchangeError, match="INCREASE_POSITION"):
        swap.create_order(symbol, "market", "sell", 1, params={"reduceOnly": True})


def test_swap_order_rests_is_queried_and_cancelled(swap: Any) -> None:
    symbol = "ETH/USDT:USDT"
    bid = swap.fetch_order_book(symbol, 5)["bids"][0][0]
    price = round(bid * 0.98, 1)
    placed = swap.create_order(symbol, "limit", "buy", 3, price, {"postOnly": True, "clientOrderId": "t-swap1"})
    found = swap.fetch_order(placed["id"], symbol)
    assert (found["status"], found["amount"], found["remaining"], found["side"]) == ("open", 3, 3, "buy")
    assert found["clientOrderId"] == "t-swap1"
    assert [row["id"] for row in swap.fetch_open_orders(symbol)] == [placed["id"]]
    assert swap.cancel_order(placed["id"], symbol)["status"] == "canceled"
    assert placed["id"] in [row["id"] for row in swap.fetch_closed_orders(symbol)]
    with pytest.raises(ccxt.ExchangeError, match="ORDER_POC_IMMEDIATE"):
        swap.create_order(symbol, "limit", "buy", 3, round(bid * 1.02, 1), {"postOnly": True})
