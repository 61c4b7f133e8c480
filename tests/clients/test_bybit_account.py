"""ccxt over REST on the simulated Bybit with keys: orders, positions, modes, money, refusals; spot and linear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.conformance.venue import EXCHANGE, scenario_of
from tests.worlds.client_support import HostedSim, credentials, point
from tests.worlds.later import ccxt

SYMBOLS = {"spot": "BTC/USDT", "futures": "BTC/USDT:USDT"}
BOTH = pytest.mark.parametrize("market", list(SYMBOLS))


@pytest.fixture(scope="module")
def box() -> Iterator[HostedSim]:
    scenario = scenario_of("bybit")
    scenario["exchanges"][EXCHANGE]["venues"]["spot"]["fee_rule"] = "RECEIVED"
    hosted = HostedSim(scenario)
    yield hosted
    hosted.stop()


@pytest.fixture(scope="module")
def clients(box: HostedSim) -> dict[str, Any]:
    """A client of each market's account."""
    found = {}
    for market in SYMBOLS:
        venue = f"{EXCHANGE}_{market}"
        exchange = point(ccxt.bybit(credentials(box, venue)), box, venue)
        exchange.options["createMarketBuyOrderRequiresPrice"] = False
        exchange.load_markets()
        found[market] = exchange
    return found


def bids_and_asks(client: Any, symbol: str) -> tuple[float, float]:
    book = client.fetch_order_book(symbol, 5)
    return book["bids"][0][0], book["asks"][0][0]


@BOTH
def test_an_order_rests_is_found_by_both_ids_is_changed_and_cancelled(clients: dict[str, Any], market: str) -> None:
    client, symbol = clients[market], SYMBOLS[market]
    price = round(bids_and_asks(client, symbol)[0] * 0.97, 1)
    placed = client.create_order(symbol, "limit", "buy", 0.01, price, {"clientOrderId": "client1"})
    found = client.fetch_open_order(placed["id"], symbol)
    assert (found["status"], found["price"], found["amount"], found["filled"]) == ("open", price, 0.01, 0)
    assert found["clientOrderId"] == "client1"
    assert [order["id"] for order in client.fetch_open_orders(symbol)] == [placed["id"]]
    assert client.fetch_balance()["USDT"]["total"] > 0
    with pytest.raises(ccxt.InvalidOrder, match="duplicate"):  # an id is used once
        client.create_order(symbol, "limit", "buy", 0.01, price, {"clientOrderId": "client1"})
    client.edit_order(placed["id"], symbol, "limit", "buy", 0.02, price)
    assert client.fetch_open_order(placed["id"], symbol)["amount"] == 0.02
    client.cancel_order(placed["id"], symbol)
    ended = client.fetch_closed_order(placed["id"], symbol)
    assert (ended["status"], ended["filled"]) == ("canceled", 0)
    with pytest.raises(ccxt.BaseError):
        client.cancel_order(placed["id"], symbol)
    client.create_order(symbol, "limit", "buy", 0.01, price)
    client.cancel_all_orders(symbol)
    assert client.fetch_open_orders(symbol) == []


@BOTH
def test_what_cannot_stand_is_taken_and_ends(clients: dict[str, Any], market: str) -> None:
    client, symbol = clients[market], SYMBOLS[market]
    bid, ask = bids_and_asks(client, symbol)
    taking = client.create_order(symbol, "limit", "buy", 0.01, round(ask * 1.01, 1), {"postOnly": True})
    ended = client.fetch_closed_order(taking["id"], symbol)
    assert ended["status"] == "canceled" and ended["info"]["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    unfilled = client.create_order(symbol, "limit", "buy", 0.01, round(bid * 0.98, 1), {"timeInForce": "FOK"})
    ended = client.fetch_closed_order(unfilled["id"], symbol)
    assert ended["info"]["rejectReason"] == "EC_CancelForNoFullFill"
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(symbol, "limit", "buy", 500, round(bid * 0.98, 1))


def test_spot_buys_by_cost_and_pays_its_fees(clients: dict[str, Any]) -> None:
    client, symbol = clients["spot"], SYMBOLS["spot"]
    before = client.fetch_balance()
    placed = client.create_market_buy_order_with_cost(symbol, 200)
    order = client.fetch_closed_order(placed["id"], symbol)
    trades = [row for row in client.fetch_my_trades(symbol) if row["order"] == placed["id"]]
    assert sum(row["amount"] for row in trades) == pytest.approx(order["filled"]) and order["filled"] > 0
    spent = sum(row["cost"] for row in trades)
    assert 150 < spent <= 200
    after = client.fetch_balance()
    paid = {
        coin: sum(row["fee"]["cost"] for row in trades if row["fee"]["currency"] == coin) for coin in ("BTC", "USDT")
    }
    assert sum(paid.values()) > 0
    assert after["BTC"]["total"] - before["BTC"]["total"] == pytest.approx(order["filled"] - paid["BTC"])
    assert before["USDT"]["total"] - after["USDT"]["total"] == pytest.approx(spent + paid["USDT"])
    client.create_order(symbol, "market", "sell", 0.001)


def test_a_position_follows_its_fills_and_is_closed_reduce_only(box: HostedSim, clients: dict[str, Any]) -> None:
    client, symbol = clients["futures"], SYMBOLS["futures"]
    client.set_leverage(5, symbol)
    assert client.fetch_leverage(symbol)["longLeverage"] == 5
    before = client.fetch_balance()["USDT"]["total"]
    placed = client.create_order(symbol, "market", "buy", 0.004)
    order = client.fetch_closed_order(placed["id"], symbol)
    assert (order["status"], order["filled"]) == ("closed", 0.004) and order["average"] > 0
    (position,) = client.fetch_positions([symbol])
    assert (position["side"], position["contracts"]) == ("long", 0.004)
    assert 0 < position["liquidationPrice"] < position["markPrice"] and position["leverage"] == 5
    added = client.private_post_v5_position_add_margin({"category": "linear", "symbol": "BTCUSDT", "margin": "7"})
    assert float(added["result"]["positionBalance"]) == pytest.approx(position["initialMargin"] + 7, rel=0.05)
    box.call(lambda: box.venue(f"{EXCHANGE}_futures").apply_funding("BTCUSDT"))
    (paid,) = client.fetch_funding_history(symbol)
    assert paid["code"] == "USDT" and paid["amount"] != 0
    client.create_order(symbol, "market", "sell", 0.004, None, {"reduceOnly": True})
    assert not [row for row in client.fetch_positions([symbol]) if row["contracts"]]
    with pytest.raises(ccxt.InvalidOrder):  # nothing to reduce
        client.create_order(symbol, "market", "sell", 0.004, None, {"reduceOnly": True})
    own = [row for row in client.fetch_my_trades(symbol) if row["order"] and row["info"]["execType"] == "Trade"]
    fees = sum(row["fee"]["cost"] for row in own)
    rows = client.fetch_ledger("USDT")
    kinds = {row["info"]["type"] for row in rows}
    assert {"TRADE", "SETTLEMENT"} <= kinds
    moved = sum(float(row["info"]["change"]) for row in rows if row["info"]["type"] != "TRANSFER_IN")
    assert client.fetch_balance()["USDT"]["total"] == pytest.approx(before + moved) and fees > 0


def test_modes_are_of_the_account_and_are_left_when_nothing_is_open(clients: dict[str, Any]) -> None:
    client, symbol = clients["futures"], SYMBOLS["futures"]
    client.set_position_mode(True, symbol)
    try:
        client.create_order(symbol, "market", "buy", 0.002, None, {"positionIdx": 1})
        client.create_order(symbol, "market", "sell", 0.003, None, {"positionIdx": 2})
        held = {(row["side"], row["contracts"]) for row in client.fetch_positions([symbol]) if row["contracts"]}
        assert held == {("long", 0.002), ("short", 0.003)}
        with pytest.raises(ccxt.BaseError):
            client.set_position_mode(False, symbol)
        client.create_order(symbol, "market", "sell", 0.002, None, {"positionIdx": 1, "reduceOnly": True})
        client.create_order(symbol, "market", "buy", 0.003, None, {"positionIdx": 2, "reduceOnly": True})
    finally:
        client.set_position_mode(False, symbol)
    client.private_post_v5_account_set_margin_mode({"setMarginMode": "REGULAR_MARGIN"})
    assert client.private_get_v5_account_info()["result"]["marginMode"] == "REGULAR_MARGIN"
    client.private_post_v5_account_set_margin_mode({"setMarginMode": "ISOLATED_MARGIN"})
    assert client.private_get_v5_account_info()["result"]["marginMode"] == "ISOLATED_MARGIN"


def test_fees_coins_and_a_keys_rights_are_told(clients: dict[str, Any]) -> None:
    assert clients["futures"].fetch_trading_fee(SYMBOLS["futures"])["taker"] > 0
    networks = clients["spot"].fetch_currencies()["BTC"]["networks"]
    assert [row["withdraw"] for row in networks.values()] == [True]
    rights = {market: client.private_get_v5_user_query_api()["result"] for market, client in clients.items()}
    assert rights["spot"]["permissions"]["Spot"] == ["SpotTrade"] and rights["futures"]["permissions"]["Spot"] == []


@BOTH
def test_wrong_secret_unknown_key_and_another_market_are_refused(
    box: HostedSim, clients: dict[str, Any], market: str
) -> None:
    venue = f"{EXCHANGE}_{market}"
    good = credentials(box, venue)
    for wrong in ({"secret": "0" * 32}, {"apiKey": "nobody"}):
        with pytest.raises(ccxt.AuthenticationError):
            point(ccxt.bybit(good | wrong), box, venue).fetch_balance()
    other = SYMBOLS["spot" if market == "futures" else "futures"]
    with pytest.raises(ccxt.PermissionDenied):
        clients[market].create_order(other, "limit", "buy", 0.01, 30_000)
