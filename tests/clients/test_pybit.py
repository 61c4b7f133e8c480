"""pybit, the exchange's own client, unchanged but for its URLs, on the simulated Bybit: REST, orders, pushes."""

from __future__ import annotations

from collections.abc import Iterator
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipeline.conformance.venue import EXCHANGE, scenario_of
from tests.worlds.client_support import HostedSim
from tests.worlds.later import pybit, pybit_trade
from tests.worlds.waiting import until

WATCHDOG_S = 240
CATEGORIES = {"spot": "spot", "futures": "linear"}
BOTH = pytest.mark.parametrize("market", list(CATEGORIES))


@pytest.fixture(scope="module")
def box() -> Iterator[HostedSim]:
    hosted = HostedSim(scenario_of("bybit"))
    yield hosted
    hosted.stop()


def row_of(box: HostedSim, market: str) -> dict[str, Any]:
    return dict(box.info["venues"][f"{EXCHANGE}_{market}"])


def http(box: HostedSim, market: str) -> Any:
    row = row_of(box, market)
    client = pybit.HTTP(api_key=row["api_key"], api_secret=row["api_secret"])
    client.endpoint = row["rest"].rstrip("/")
    return client


def keys(box: HostedSim, market: str) -> dict[str, str]:
    row = row_of(box, market)
    return {"api_key": row["api_key"], "api_secret": row["api_secret"]}


def limit_order(client: Any, market: str, away: float, **more: object) -> dict[str, Any]:
    """A purchase at a price that is ``away`` times the best bid."""
    book = client.get_orderbook(category=CATEGORIES[market], symbol="BTCUSDT", limit=5)["result"]
    price = round(float(book["b"][0][0]) * away, 1)
    order = {"category": CATEGORIES[market], "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit"}
    return {**order, "qty": "0.002", "price": str(price), **more}


@BOTH
def test_orders_lists_and_money_over_rest(box: HostedSim, market: str) -> None:
    client, category = http(box, market), CATEGORIES[market]
    placed = client.place_order(**limit_order(client, market, 0.97, orderLinkId="rest-1"))["result"]
    assert placed["orderLinkId"] == "rest-1"
    (found,) = client.get_open_orders(category=category, symbol="BTCUSDT", orderLinkId="rest-1")["result"]["list"]
    assert (found["orderId"], found["orderStatus"]) == (placed["orderId"], "New")
    assert client.cancel_order(category=category, symbol="BTCUSDT", orderLinkId="rest-1")["retCode"] == 0
    taken = client.place_order(**limit_order(client, market, 1.02, timeInForce="IOC"))["result"]
    (ended,) = client.get_order_history(category=category, orderId=taken["orderId"])["result"]["list"]
    assert ended["orderStatus"] == "Filled"
    fills = client.get_executions(category=category, symbol="BTCUSDT")["result"]["list"]
    assert sum(float(row["execQty"]) for row in fills if row["orderId"] == taken["orderId"]) == 0.002
    (wallet,) = client.get_wallet_balance(accountType="UNIFIED")["result"]["list"]
    assert {row["coin"] for row in wallet["coin"]} >= {"USDT"}
    if market == "futures":
        (held,) = client.get_positions(category="linear", symbol="BTCUSDT")["result"]["list"]
        assert (held["side"], held["size"], held["positionIdx"]) == ("Buy", "0.002", 0)


class Subscriptions(dict[str, str]):
    """The client's own list of what it has asked for. It notes a subscription after having sent it, and an answer that
    is quicker ends its thread: here the answer waits for the note."""

    def __getitem__(self, request_id: str) -> str:
        until(lambda: request_id in self, "the client's note of its subscription")
        return super().__getitem__(request_id)


@BOTH
def test_orders_over_the_socket_are_answered_and_pushed(
    box: HostedSim, market: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = urlsplit(row_of(box, market)["ws_private"])
    monkeypatch.setattr(pybit_trade._load(), "TRADE_WSS", f"ws://{base.netloc}/v5/trade")
    monkeypatch.setattr(pybit._load(), "PRIVATE_WSS", f"ws://{base.netloc}/v5/private")
    client, category = http(box, market), CATEGORIES[market]
    pushed: Queue[tuple[str, dict[str, Any]]] = Queue()
    answers: Queue[dict[str, Any]] = Queue()

    def push(message: dict[str, Any]) -> None:
        for row in message["data"]:
            pushed.put((message["topic"], row))

    # By default a login is good for a second: on a busy machine it comes too late, and the client then waits for ever.
    stream = pybit.WebSocket(testnet=False, channel_type="private", private_auth_expire=60, **keys(box, market))
    entry = pybit.WebSocketTrading(testnet=False, private_auth_expire=60, **keys(box, market))
    stream.subscriptions = Subscriptions()
    try:
        stream.order_stream(push)
        stream.execution_stream(push)
        stream.wallet_stream(push)
        entry.place_order(answers.put, answers.put, **limit_order(client, market, 1.02, orderLinkId="ws-1"))
        answer = answers.get(timeout=WATCHDOG_S)
        assert (answer["retCode"], answer["data"]["orderLinkId"]) == (0, "ws-1")
        seen: dict[str, list[dict[str, Any]]] = {"order": [], "execution": [], "wallet": []}
        while not (seen["execution"] and seen["wallet"] and any(r["orderStatus"] == "Filled" for r in seen["order"])):
            topic, row = pushed.get(timeout=WATCHDOG_S)
            seen[topic].append(row)
        assert {row["orderId"] for row in seen["execution"]} == {answer["data"]["orderId"]}
        assert {row["category"] for row in seen["order"] + seen["execution"]} == {category}
        entry.cancel_order(answers.put, answers.put, category=category, symbol="BTCUSDT", orderLinkId="ws-1")
        assert answers.get(timeout=WATCHDOG_S)["retCode"] != 0  # it has filled
    finally:
        stream.exit()
        entry.exit()
