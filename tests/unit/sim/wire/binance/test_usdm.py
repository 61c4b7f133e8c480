"""Simulated Binance USDⓈ-M on the wire: routes of streams, shapes of refusals, headers, batches, WebSocket API."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from pipeline.model.clock import wall_ms
from pipeline.sim.wire.binance.limits import FUTURES_LIMITS
from tests.worlds.exchange_world import World, world
from tests.worlds.waiting import WAIT_S

VENUE = "binance_futures"


class Wire:
    """Requests signed as the document says, and by nothing of the engine."""

    def __init__(self, box: World, client: aiohttp.ClientSession) -> None:
        self.row = box.info[VENUE]
        self.client = client
        self.headers: dict[str, str] = {}

    def _signature(self, text: str) -> str:
        return hmac.new(self.row["api_secret"].encode(), text.encode(), hashlib.sha256).hexdigest()

    async def ask(self, method: str, path: str, *, sign: bool = True, **params: object) -> Any:
        if sign:
            params |= {"timestamp": wall_ms()}
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in params.items())
        query += f"&signature={self._signature(query)}" if sign else ""
        url, headers = f"{self.row['rest']}{path}?{query}", {"X-MBX-APIKEY": self.row["api_key"]}
        async with self.client.request(method, URL(url, encoded=True), headers=headers) as answer:
            self.headers = dict(answer.headers)
            return await answer.json()

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """A frame of the WebSocket API."""
        params |= {"apiKey": self.row["api_key"], "timestamp": wall_ms()}
        text = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return {"id": 1, "method": method, "params": params | {"signature": self._signature(text)}}


def on(body: Callable[[World, Wire], Awaitable[None]]) -> None:
    async def run() -> None:
        async with world("five_venues") as box, aiohttp.ClientSession() as client:
            await body(box, Wire(box, client))

    asyncio.run(run())


ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}


def test_a_stream_on_the_wrong_route_is_acknowledged_and_silent() -> None:
    async def body(box: World, wire: Wire) -> None:
        seen: dict[str, set[str]] = {}
        for route in ("/public", "/market"):
            async with wire.client.ws_connect(f"{wire.row['ws']}{route}/ws") as stream:
                names = ["btcusdt@bookTicker", "btcusdt@markPrice@1s", "btcusdt@aggTrade", "btcusdt@depth@100ms"]
                await stream.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
                assert await stream.receive_json() == {"result": None, "id": 1}
                kinds = seen[route] = set()
                async with asyncio.timeout(WAIT_S):
                    while len(kinds) < 2:
                        kinds.add((await stream.receive_json())["e"])
        assert seen == {"/public": {"bookTicker", "depthUpdate"}, "/market": {"markPriceUpdate", "aggTrade"}}

    on(body)


@pytest.mark.parametrize(
    ("method", "path", "params", "code"),
    [
        ("GET", "/fapi/v1/nothing", {}, -1020),
        ("GET", "/fapi/v1/openOrders", {"symbol": "NOPE"}, -1121),
        ("GET", "/fapi/v1/order", {"symbol": "BTCUSDT"}, -1102),
        ("GET", "/fapi/v1/order", {"symbol": "BTCUSDT", "orderId": 1}, -2013),
        ("DELETE", "/fapi/v1/order", {"symbol": "BTCUSDT", "orderId": 1}, -2011),
        ("POST", "/fapi/v1/order", ORDER | {"price": "1.05"}, -4014),
        ("POST", "/fapi/v1/order", ORDER | {"price": "60000", "quantity": "0.0105"}, -4023),
        ("POST", "/fapi/v1/order", ORDER | {"price": "60000", "quantity": "0"}, -4003),
        ("POST", "/fapi/v1/order", ORDER | {"price": "1000"}, -4016),
        ("POST", "/fapi/v1/order", ORDER | {"price": "60000", "type": "STOP_MARKET"}, -4120),
        ("POST", "/fapi/v1/order", ORDER | {"price": "60000", "positionSide": "LONG"}, -4061),
        ("POST", "/fapi/v1/order", ORDER | {"price": "60000", "newClientOrderId": "a b"}, -4015),
        ("POST", "/fapi/v1/marginType", {"symbol": "BTCUSDT", "marginType": "CROSSED"}, -4046),
        ("POST", "/fapi/v1/positionSide/dual", {"dualSidePosition": "false"}, -4059),
        ("POST", "/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": 126}, -4028),
        ("POST", "/fapi/v1/positionMargin", {"symbol": "BTCUSDT", "amount": 1, "type": 1}, -4046),
        ("GET", "/fapi/v1/income", {"startTime": 1, "endTime": 10**10}, -4166),
    ],
)
def test_what_it_does_not_take_is_refused_in_its_own_shape(
    method: str, path: str, params: dict[str, object], code: int
) -> None:
    async def body(box: World, wire: Wire) -> None:
        answer = await wire.ask(method, path, **params)
        assert answer["code"] == code and answer["msg"] and set(answer) == {"code", "msg"}

    on(body)


def test_keys_signatures_and_windows_are_looked_at_and_a_listen_key_needs_a_key_alone() -> None:
    async def body(box: World, wire: Wire) -> None:
        assert (await wire.ask("GET", "/fapi/v3/balance", sign=False))["code"] == -1102
        answer = await wire.ask("GET", "/fapi/v3/balance", sign=False, timestamp=wall_ms(), signature="00")
        assert answer["code"] == -1022
        first = (await wire.ask("POST", "/fapi/v1/listenKey", sign=False))["listenKey"]
        assert (await wire.ask("POST", "/fapi/v1/listenKey", sign=False))["listenKey"] == first, "one an account"
        assert await wire.ask("DELETE", "/fapi/v1/listenKey", sign=False) == {}
        assert (await wire.ask("PUT", "/fapi/v1/listenKey", sign=False))["code"] == -1125
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await wire.client.ws_connect(f"{wire.row['ws']}/private/ws?listenKey={first}")
        wire.row = wire.row | {"api_key": "nobody"}
        assert (await wire.ask("POST", "/fapi/v1/listenKey", sign=False))["code"] == -2015

    on(body)


def test_the_combined_user_stream_wraps_each_event_with_its_key() -> None:
    async def body(box: World, wire: Wire) -> None:
        key = (await wire.ask("POST", "/fapi/v1/listenKey", sign=False))["listenKey"]
        async with (
            asyncio.timeout(WAIT_S),
            wire.client.ws_connect(f"{wire.row['ws']}/private/stream") as stream,
            wire.client.ws_connect(f"{wire.row['ws']}/private/stream?streams={key}") as named,
        ):
            await stream.send_json({"method": "SUBSCRIBE", "params": [key, "nosuch"], "id": 1})
            assert await stream.receive_json() == {"result": None, "id": 1}
            await stream.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
            assert await stream.receive_json() == {"result": [key, "nosuch"], "id": 2}
            placed = await wire.ask("POST", "/fapi/v1/order", **ORDER, price="60000")
            assert placed["status"] == "NEW", placed
            for each in (stream, named):
                frame = await each.receive_json()
                assert frame["stream"] == key
                assert (frame["data"]["e"], frame["data"]["o"]["x"]) == ("ORDER_TRADE_UPDATE", "NEW")
            await stream.send_json({"method": "UNSUBSCRIBE", "params": [key], "id": 3})
            assert await stream.receive_json() == {"result": None, "id": 3}
            await wire.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
            await stream.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 4})
            assert await stream.receive_json() == {"result": ["nosuch"], "id": 4}
            assert (await named.receive_json())["data"]["o"]["x"] == "CANCELED"

    on(body)


def test_answers_count_weight_and_orders_and_a_batch_mixes_orders_and_refusals() -> None:
    async def body(box: World, wire: Wire) -> None:
        price = str(box.server.venues[VENUE].mark_price("BTCUSDT").quantize(1) * 97 / 100).partition(".")[0]
        placed = await wire.ask("POST", "/fapi/v1/order", **ORDER, price=price)
        assert (placed["status"], placed["positionSide"], placed["executedQty"]) == ("NEW", "BOTH", "0")
        assert "avgPrice" not in placed and "cumQuote" not in placed
        assert {name: wire.headers[f"X-MBX-ORDER-COUNT-{name}"] for name in ("10S", "1M")} == {"10S": "1", "1M": "1"}
        listed = await wire.ask("GET", "/fapi/v1/openOrders")
        assert [row["avgPrice"] for row in listed] == ["0"] and int(wire.headers["X-MBX-USED-WEIGHT-1M"]) >= 1
        batch = [ORDER | {"price": price}, ORDER | {"price": "1.05"}]
        first, second = await wire.ask("POST", "/fapi/v1/batchOrders", batchOrders=json.dumps(batch))
        assert first["status"] == "NEW" and second["code"] == -4014
        ended = await wire.ask("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
        assert ended["code"] == 200 and await wire.ask("GET", "/fapi/v1/openOrders") == []

    on(body)


def test_too_many_orders_are_refused_until_the_window_is_over() -> None:
    async def body(box: World, wire: Wire) -> None:
        window = FUTURES_LIMITS.orders[0]
        dialect: Any = box.server.dialects["binance"]
        for _ in range(window.budget.limit):
            dialect.futures.spend.take_order(wire.row["uid"], dialect.futures.venue.now_ms())
        answer = await wire.ask("POST", "/fapi/v1/order", **ORDER, price="60000")
        assert answer["code"] == -1015 and int(wire.headers["Retry-After"]) <= 10

    on(body)


def test_the_websocket_api_takes_orders_and_has_no_user_stream() -> None:
    async def body(box: World, wire: Wire) -> None:
        async with wire.client.ws_connect(wire.row["ws_api"]) as api:

            async def ask(method: str, **params: object) -> dict[str, Any]:
                await api.send_json(wire.call(method, **params))
                answer: dict[str, Any] = await api.receive_json()
                return answer

            best = box.server.venues[VENUE].mark_price("BTCUSDT").quantize(1) * 2 // 2
            order = ORDER | {"timeInForce": "IOC", "price": str(best + 100), "newOrderRespType": "RESULT"}
            placed = await ask("order.place", **order)
            assert placed["status"] == 200 and placed["result"]["status"] == "FILLED"
            kinds = [(row["rateLimitType"], row["interval"]) for row in placed["rateLimits"]]
            assert kinds == [("ORDERS", "SECOND"), ("ORDERS", "MINUTE"), ("REQUEST_WEIGHT", "MINUTE")]
            held = (await ask("v2/account.position"))["result"]
            assert [row["positionAmt"] for row in held] == ["0.01"]
            assert (await ask("userDataStream.subscribe.signature"))["error"]["code"] == -1020

    on(body)
